"""Where the rim of a rendered droplet is seen to lie, once optics and blur have moved it.

Rim convention (docs/adr/0003): the darkest line of a dark rim, the brightest of a bright one. Defocus moves
the line of a rim that decays faster outwards than inwards: the truth is read off the picture without noise.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging.extreme_line import nearest_minimum, smoothed
from sam_droplet.imaging.synthetic_layout import FloatArray, Shapes, unit_vectors

_N_RAYS = 32
_STEPS = np.linspace(0.76, 1.2, 45)
# A line this close, in radii, that stands out by this share of what is seen across the rim, is the rim.
_FARTHEST, _PROMINENT, _LEAST_CONTRAST = 0.13, 0.25, 0.2
# Shapes without a line follow the others where at least this share has one.
_COMMON = 0.3
_CHUNK = 500
# Shares of what makes a shape certain, below which it is not there for anybody; between them it is doubtful.
FAINT = 0.45
# In standard deviations of the noise: one pixel of the rim, and the whole of a rim as wide as this.
_CERTAIN_PIXEL, _CERTAIN_RIM, _RIM_WIDTH_PX = 1.6, 8.0, 2.0


def with_seen_rims(profiles: FloatArray, shapes: Shapes, *, dark: bool) -> Shapes:
    """Return the shapes grown or shrunk so that their rims run along the dark (or bright) line seen.

    profiles: (N, 45) from ``rim_profiles``. Shapes without such a line change as most of the picture's do.
    """
    if len(shapes) == 0:
        return shapes
    factor = _line(profiles if dark else -profiles)
    seen = np.isfinite(factor)
    common = np.median(factor[seen]) if seen.mean() > _COMMON else 1.0
    factor = np.where(seen, factor, common)
    return replace(
        shapes, ellipse=shapes.ellipse / factor[:, None, None], facets=shapes.facets / factor[:, None, None]
    )


def clarity(contrast: FloatArray, profiles: FloatArray, shapes: Shapes, noise_sd: float) -> FloatArray:
    """Return how clearly each drawn shape is seen, (N,): from 1 on it is certain, below FAINT nobody sees it.

    contrast: (N,) as drawn. profiles: (N, 45) from ``rim_profiles``. noise_sd: in the same grey values. Two
    things are needed: a pixel of the rim stands out as drawn, and what blur has left of the rim stands out as
    a whole, which is n pixels sqrt(n) times more than one (Rose 1948).
    """
    rim_px = _RIM_WIDTH_PX * 2 * np.pi * shapes.equivalent_radii()
    left = np.minimum(contrast, _seen_contrast(profiles)) / noise_sd * np.sqrt(rim_px)
    return np.minimum(contrast / noise_sd / _CERTAIN_PIXEL, left / _CERTAIN_RIM)


def _seen_contrast(profiles: FloatArray) -> FloatArray:
    """Return by how much grey values differ across each rim, (N,); infinite where out of sight."""
    seen = np.isfinite(profiles).any(axis=1)
    contrast = np.full(len(profiles), np.inf)
    contrast[seen] = np.nanmax(profiles[seen], axis=1) - np.nanmin(profiles[seen], axis=1)
    return contrast


def rim_profiles(picture: NDArray[np.float32], shapes: Shapes) -> FloatArray:
    """Return the median grey value over rays at each step across the rim, (N, 45); NaN where out of sight.

    picture: (H, W) without noise, blurred.
    """
    parts = [shapes.take(slice(i, i + _CHUNK)) for i in range(0, len(shapes), _CHUNK)]
    return np.concatenate([np.empty((0, len(_STEPS))), *(_profiles_of(picture, part) for part in parts)])


def _profiles_of(picture: NDArray[np.float32], shapes: Shapes) -> FloatArray:
    height, width = picture.shape
    distance = shapes.radii(_N_RAYS)[..., None] * _STEPS  # (N, 32, 45)
    x = shapes.centre_xy[:, 0, None, None] + distance * unit_vectors(_N_RAYS)[None, :, 0, None]
    y = shapes.centre_xy[:, 1, None, None] + distance * unit_vectors(_N_RAYS)[None, :, 1, None]
    flat = (len(shapes), -1)
    seen = cv2.remap(
        picture,
        (x - 0.5).astype(np.float32).reshape(flat),
        (y - 0.5).astype(np.float32).reshape(flat),
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    ).reshape(distance.shape)
    inside = ((x > 0) & (x < width) & (y > 0) & (y < height)).all(axis=2, keepdims=True)
    ordered = np.sort(np.where(inside, seen, np.inf), axis=1)
    middle = np.maximum(inside.sum(axis=1) - 1, 0) // 2  # (N, 1)
    median = np.take_along_axis(ordered, middle[:, None], axis=1)[:, 0]
    return np.where(np.isfinite(median), median, np.nan)


def _line(profile: FloatArray) -> FloatArray:
    """Return the step of the prominent minimum nearest to 1, (N,); NaN where there is none."""
    steps = _STEPS[1:-1]
    best, found = nearest_minimum(smoothed(profile), steps, _FARTHEST, _PROMINENT, _LEAST_CONTRAST)
    return np.where(found, steps[best], np.nan)
