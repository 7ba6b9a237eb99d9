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


def with_seen_rims(picture: NDArray[np.float32], shapes: Shapes, *, dark: bool) -> Shapes:
    """Return the shapes grown or shrunk so that their rims run along the dark (or bright) line seen.

    picture: (H, W) without noise. Shapes without such a line change as most of the picture's do.
    """
    if len(shapes) == 0:
        return shapes
    sign = 1.0 if dark else -1.0
    profiles = [
        sign * _profiles(picture, shapes.take(slice(i, i + _CHUNK))) for i in range(0, len(shapes), _CHUNK)
    ]
    factor = _line(np.concatenate(profiles))
    seen = np.isfinite(factor)
    common = np.median(factor[seen]) if seen.mean() > _COMMON else 1.0
    factor = np.where(seen, factor, common)
    return replace(
        shapes, ellipse=shapes.ellipse / factor[:, None, None], facets=shapes.facets / factor[:, None, None]
    )


def _profiles(picture: NDArray[np.float32], shapes: Shapes) -> FloatArray:
    """Return the median grey value over rays at each step across the rim, (N, 45); NaN where out of sight."""
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
