"""Masks of about the same size side by side in one array, so that hundreds are measured by one call.

Measuring masks one by one takes a hundred short numpy calls each, and most of their time is overhead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from math import log
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging.masks import Mask

# Boxes in one stack differ by at most this factor along x and along y: what is padded stays little.
_SIDE_RATIO = 1.25
# Pixels in one stack, so that what is worked on stays in a core's cache; a larger mask stands alone.
_STACK_PX = 1 << 17

T = TypeVar("T")


def measure_alike(masks: Sequence[Mask], measure: Callable[[list[Mask]], Sequence[T]]) -> list[T]:
    """Return what ``measure`` finds for each mask, in their order; it gets masks of one size together."""
    found: dict[int, T] = {}
    for group in _alike(masks):
        found.update(zip(group, measure([masks[i] for i in group]), strict=True))
    return [found[i] for i in range(len(masks))]


def _alike(masks: Sequence[Mask]) -> Iterator[list[int]]:
    """Yield the indices of masks whose boxes are about equally large, not too many at once."""
    sides = np.array([mask.bits.shape for mask in masks]).reshape(-1, 2)
    by_size = defaultdict(list)
    for index, size in enumerate(map(tuple, np.ceil(np.log(sides) / log(_SIDE_RATIO)).tolist())):
        by_size[size].append(index)
    for indices in by_size.values():
        step = max(1, _STACK_PX // int(sides[indices].max(axis=0).prod()))
        yield from (indices[start : start + step] for start in range(0, len(indices), step))


def stack_bits(masks: Sequence[Mask], margin_px: int) -> NDArray[np.bool_]:
    """Return (N, H, W) bool: each mask's box from (margin, margin) on, at least a margin of False around."""
    stack = np.zeros(_shape(masks, margin_px), bool)
    for tile, mask in zip(stack, masks, strict=True):
        height, width = mask.bits.shape
        tile[margin_px : margin_px + height, margin_px : margin_px + width] = mask.bits
    return stack


def stack_windows(array: NDArray[Any], masks: Sequence[Mask], margin_px: int) -> NDArray[Any]:
    """Return the image (H, W, ...) around each mask, laid out as ``stack_bits``; zero outside the image."""
    shape = _shape(masks, margin_px)
    stack = np.zeros((*shape, *array.shape[2:]), array.dtype)
    for tile, mask in zip(stack, masks, strict=True):
        left, top = mask.box_xyxy[0] - margin_px, mask.box_xyxy[1] - margin_px
        seen = array[max(top, 0) : top + shape[1], max(left, 0) : left + shape[2]]
        y, x = max(-top, 0), max(-left, 0)
        tile[y : y + seen.shape[0], x : x + seen.shape[1]] = seen
    return stack


def _shape(masks: Sequence[Mask], margin_px: int) -> tuple[int, int, int]:
    heights, widths = zip(*(mask.bits.shape for mask in masks), strict=True)
    return len(masks), max(heights) + 2 * margin_px, max(widths) + 2 * margin_px
