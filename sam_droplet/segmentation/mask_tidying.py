"""Remove the small holes and islands of a mask, looking no further than its box."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging.masks import Mask, mask_from_bits


def tidy_mask(mask: Mask, min_area_px: int, image_hw: tuple[int, int]) -> Mask:
    """Fill holes and drop islands smaller than ``min_area_px``; return the same object if there are none.

    The largest island stays even if it is small. Pixels connect also diagonally.
    """
    height, width = image_hw
    x0, y0, x1, y1 = mask.box_xyxy
    # A margin shows what is background outside; at the border of the image there is no outside.
    margin = ((int(y0 > 0), int(y1 < height)), (int(x0 > 0), int(x1 < width)))
    bits = np.pad(mask.bits, margin)
    filled = _fill_holes(bits, min_area_px, margin)
    tidy = _drop_islands(filled, min_area_px)
    if np.array_equal(tidy, bits):
        return mask
    cropped = mask_from_bits(tidy, mask.score, offset_xy=(x0 - margin[1][0], y0 - margin[0][0]))
    return mask if cropped is None else cropped


def _fill_holes(
    bits: NDArray[np.bool_], min_area_px: int, margin: tuple[tuple[int, int], tuple[int, int]]
) -> NDArray[np.bool_]:
    labels, areas = _components(~bits)
    small = areas < min_area_px
    small[0] = False
    (top, bottom), (left, right) = margin
    outside = [
        labels[:top],
        labels[len(labels) - bottom :],
        labels[:, :left],
        labels[:, labels.shape[1] - right :],
    ]
    for part in outside:
        small[np.unique(part)] = False
    return bits | small[labels]


def _drop_islands(bits: NDArray[np.bool_], min_area_px: int) -> NDArray[np.bool_]:
    labels, areas = _components(bits)
    large = areas >= min_area_px
    large[0] = False
    if not large.any() and len(areas) > 1:
        large[1 + int(np.argmax(areas[1:]))] = True
    return large[labels]


def _components(bits: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Label the 8-connected parts: (H, W) labels, 0 where False, and the area of each label."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(bits.astype(np.uint8), connectivity=8)
    return np.asarray(labels, np.int32), np.asarray(stats[:count, cv2.CC_STAT_AREA], np.int64)
