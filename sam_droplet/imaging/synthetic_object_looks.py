"""How things that are not droplets look: each is blended into a finished picture by its exact coverage.

The edge convention is that of droplets: the extreme line of the rim, half height where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging.synthetic_outlines import Outline

Rng = np.random.Generator

# Coverage is counted on a grid this much finer than pixels, for things up to a few hundred px.
_GRID, _FINE_UP_TO_PX = 4, 260
_FEWEST_PX = 9


@dataclass(frozen=True)
class Look:
    """Appearance of all things of one kind in a scene; grey levels are in units of 1/255."""

    level: float  # inside against the surroundings
    opacity: float  # how much of the background is replaced
    rim: float  # at the edge line, positive is dark
    rim_px: float
    dome: float  # brighter towards the middle
    core: float  # a spot in the middle, relative to level
    grain: float
    tint: tuple[float, float, float]
    blur_px: float


def sample_look(rng: Rng, kind: str) -> Look:
    """Draw how the things of one kind look in one scene."""
    sign = 1.0 if rng.random() < 0.5 else -1.0
    level = sign * float(rng.uniform(18, 120))
    rim = float(rng.uniform(20, 110)) * float(rng.choice([1.0, 1.0, -1.0])) if rng.random() < 0.55 else 0.0
    look = Look(
        level=level,
        opacity=float(rng.uniform(0.3, 1.0)),
        rim=rim,
        rim_px=float(rng.uniform(0.8, 2.5)),
        dome=float(rng.uniform(-0.5, 0.8)),
        core=float(rng.uniform(-1.2, 1.2)) if rng.random() < 0.4 else 0.0,
        grain=float(rng.choice([0.0, 3.0, 10.0])),
        tint=_tint(rng),
        blur_px=float(rng.choice([0.0, 0.5, 0.9, 1.4])),
    )
    if kind == "letter":
        return Look(255.0 * sign, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, look.tint, float(rng.choice([0.0, 0.5])))
    if kind == "channel":  # glass: what lies in it stays visible, and its walls are what one sees
        wall = float(rng.uniform(30, 110)) * float(rng.choice([1.0, 1.0, -0.8]))
        return Look(
            level * 0.3, 0.0, wall, float(rng.uniform(1, 3.5)), 0.0, 0.0, 0.0, (1, 1, 1), look.blur_px
        )
    return look


def _tint(rng: Rng) -> tuple[float, float, float]:
    if rng.random() < 0.8:
        return (1.0, 1.0, 1.0)
    r, g, b = rng.uniform(0.1, 1.0, 3)
    return float(r), float(g), float(b)


def draw_outline(
    rng: Rng, pixels: NDArray[np.float32], outline: Outline, look: Look
) -> NDArray[np.bool_] | None:
    """Blend one thing into a (H, W, 3) float picture, in place.

    Returns its pixels in the whole picture, (H, W) bool; None where they are too few to see.
    """
    bits = outline.filled((pixels.shape[0], pixels.shape[1]))
    rows, columns = np.flatnonzero(bits.any(axis=1)), np.flatnonzero(bits.any(axis=0))
    if len(rows) < 2 or len(columns) < 2 or np.count_nonzero(bits) < _FEWEST_PX:
        return None
    margin = int(4 + 3 * (look.rim_px + look.blur_px))
    top, left = max(0, int(rows[0]) - margin), max(0, int(columns[0]) - margin)
    window = pixels[top : rows[-1] + 1 + margin, left : columns[-1] + 1 + margin]
    cover, distance = _coverage(outline, (left, top), (window.shape[0], window.shape[1]))
    change, alpha = _light(rng, look, cover, distance, busy=float(window.std()))
    surroundings = float(np.median(window))
    window += (alpha * surroundings)[..., None] - alpha[..., None] * window
    window += change[..., None] * np.asarray(look.tint, np.float32)
    np.clip(window, 0, 255, out=window)
    return bits


def _light(
    rng: Rng, look: Look, cover: NDArray[np.float32], distance: NDArray[np.float32], busy: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what is added to the picture, and the share of it that is replaced, both (h, w)."""
    contrast = look.level
    if look.opacity:  # in a busy place a thing must stand out from more than noise
        contrast = float(np.sign(contrast)) * max(abs(contrast), 0.8 * busy)
    depth = np.clip(distance / max(float(distance.max()), 1.0), 0, 1)
    shading = 1 + look.dome * (depth - 0.5) + look.core * np.exp(-(((1 - depth) / 0.35) ** 2))
    value = contrast * shading + look.grain * rng.normal(size=depth.shape)
    change = cover * value - look.rim * np.exp(-((distance / look.rim_px) ** 2))
    change, alpha = change.astype(np.float32), (cover * look.opacity).astype(np.float32)
    if look.blur_px:
        change = np.asarray(cv2.GaussianBlur(change, (0, 0), look.blur_px), np.float32)
        alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), look.blur_px), np.float32)
    return change, alpha


def _coverage(
    outline: Outline, corner_xy: tuple[int, int], hw: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the covered share of each pixel of a window, and its distance to the edge, positive inside."""
    grid = _GRID if max(hw) <= _FINE_UP_TO_PX else 1
    height, width = hw
    fine = outline.transformed(np.eye(2) * grid, -grid * np.asarray(corner_xy, float))
    bits = fine.filled((height * grid, width * grid)).astype(np.uint8)
    inside = cv2.distanceTransform(bits, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    outside = cv2.distanceTransform(1 - bits, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # The edge lies half a step from the first and from the last pixel.
    signed = np.where(bits > 0, inside - 0.5, 0.5 - outside) / grid

    def averaged(values: NDArray[np.generic]) -> NDArray[np.float32]:
        blocks = values.reshape(height, grid, width, grid)
        return np.asarray(blocks.mean(axis=(1, 3)), np.float32)

    return averaged(bits), averaged(signed)
