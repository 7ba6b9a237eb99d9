"""Move outlines outwards or inwards by a constant: the outer or the inner edge of a rim, where asked for."""

from __future__ import annotations

from math import ceil, isfinite
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_droplet.errors import InputError
from sam_droplet.imaging.masks import Mask, mask_from_bits, mask_from_polygon

MOST_RIM_OFFSET_PX = 100.0
# A vertex this near the border of the image lies where the image, and not the droplet, ends.
_BORDER_PX = 0.5
_FINER, _FINER_UP_TO_PX = 4, 1024


def checked_rim_offset(value: float) -> float:
    """Return an offset in px that may be applied; InputError for one that is too large or not finite."""
    if not isfinite(value) or abs(value) > MOST_RIM_OFFSET_PX:
        raise InputError(
            f"rim_offset_px must be from -{MOST_RIM_OFFSET_PX:g} (inwards) to {MOST_RIM_OFFSET_PX:g} "
            f"(outwards), but it is {value}."
        )
    return float(value)


def offset_mask(mask: Mask, offset_px: float, image_hw: tuple[int, int]) -> Mask | None:
    """Return a mask whose outline lies offset_px farther out, or in where negative; None where none is left.

    Every point moves at right angles to the outline, so a disc's diameter changes by twice the offset. What
    lies on the image's border stays there: a droplet that the image cuts is still cut.
    """
    if offset_px == 0:
        return mask
    if offset_px <= -_depth_px(mask, image_hw):
        return None
    if mask.contour_xy is None:
        return _by_distance(mask, offset_px, image_hw)
    return mask_from_polygon(_moved(mask.contour_xy, offset_px, image_hw), mask.score, image_hw)


def _depth_px(mask: Mask, image_hw: tuple[int, int]) -> float:
    """Return how far the mask's deepest place is from its outline, the image's border not counted."""
    bits, _ = _beyond_the_border(mask, 1, image_hw)
    return float(cv2.distanceTransform(bits.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE).max()) - 0.5


def _moved(contour_xy: NDArray[Any], offset_px: float, image_hw: tuple[int, int]) -> NDArray[np.float64]:
    """Shift the edges of a polygon (K, 2) along their normals; corners come to where the edges meet."""
    points = np.asarray(contour_xy, np.float64)
    distinct = np.any(points != np.roll(points, 1, axis=0), axis=1)
    points = points[distinct] if np.count_nonzero(distinct) >= 3 else points
    x, y = points.T
    edges = np.roll(points, -1, axis=0) - points
    area_twice = float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())
    normals = np.column_stack([edges[:, 1], -edges[:, 0]]) * (1.0 if area_twice > 0 else -1.0)
    normals /= np.maximum(np.hypot(*normals.T), 1e-12)[:, None]
    before = np.roll(normals, 1, axis=0)
    # Two edges that meet at an angle need a longer step; at a sharp corner no more than twice the offset.
    reach = np.maximum(1 + (before * normals).sum(axis=1), 0.5)[:, None]
    moved = points + offset_px * (before + normals) / reach
    for axis, side in enumerate((image_hw[1], image_hw[0])):
        at_border = (points[:, axis] <= _BORDER_PX) | (points[:, axis] >= side - _BORDER_PX)
        moved[at_border, axis] = points[at_border, axis]
    return np.asarray(moved, np.float64)


def _by_distance(mask: Mask, offset_px: float, image_hw: tuple[int, int]) -> Mask | None:
    """Move the outline of a mask of which only the pixels are known, by the distance to it."""
    bits, (left, top) = _beyond_the_border(mask, ceil(abs(offset_px)) + 2, image_hw)
    # The stairs of pixels are nearer than the outline that they stand for; a finer grid takes them away.
    fine = _FINER if max(bits.shape) <= _FINER_UP_TO_PX else 1
    size = bits.shape[1] * fine, bits.shape[0] * fine
    smooth = cv2.resize(cv2.GaussianBlur(bits.astype(np.float32), (0, 0), 1.0), size) >= 0.5
    inside, outside = (
        cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        for part in (smooth, ~smooth)
    )
    # Distances run between the centres of fine pixels; the outline lies half of one before them.
    signed = np.where(smooth, 0.5 - inside, outside - 0.5) / fine
    coarse = cv2.resize(signed, (bits.shape[1], bits.shape[0]), interpolation=cv2.INTER_AREA)
    grown = np.asarray(coarse <= offset_px)
    first_y, first_x = max(-top, 0), max(-left, 0)
    grown = grown[first_y : image_hw[0] - top, first_x : image_hw[1] - left]
    return mask_from_bits(grown, mask.score, offset_xy=(left + first_x, top + first_y))


def _beyond_the_border(
    mask: Mask, margin: int, image_hw: tuple[int, int]
) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Return the bits with a margin, and where it starts; a droplet that the image cuts goes on outside."""
    x0, y0, x1, y1 = mask.box_xyxy
    wide = np.pad(mask.bits, margin)
    cut = {"left": x0 <= 0, "right": x1 >= image_hw[1], "top": y0 <= 0, "bottom": y1 >= image_hw[0]}
    if cut["left"]:
        wide[:, :margin] = wide[:, margin : margin + 1]
    if cut["right"]:
        wide[:, -margin:] = wide[:, -margin - 1 : -margin]
    if cut["top"]:
        wide[:margin] = wide[margin]
    if cut["bottom"]:
        wide[-margin:] = wide[-margin - 1]
    return wide, (x0 - margin, y0 - margin)
