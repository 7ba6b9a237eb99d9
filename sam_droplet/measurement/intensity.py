"""Intensities of masks on the raw pixels, and the local background around each.

Never on a display view: the numbers keep the camera's own bit depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_droplet.errors import InputError
from sam_droplet.imaging.masks import BoxXYXY, Mask
from sam_droplet.measurement.geometry import equivalent_diameter_px
from sam_droplet.measurement.stacks import measure_alike, stack_bits, stack_windows

# The background ring starts two pixels outside the mask, past the blurred rim.
_RING_GAP_PX = 2.0
# It is a quarter of the diameter wide and four pixels at least; where neighbours leave too little
# of it, it grows once to a whole diameter.
_RING_WIDTH_SHARES = (0.25, 1.0)
_RING_WIDTH_MIN_PX = 4.0
_RING_PIXELS_MIN = 12

_Numbers = tuple[float, float, float, float, float]


@dataclass(frozen=True)
class Intensity:
    """Raw pixel values under one mask; of several channels, the mean over channels per pixel.

    sd_intensity: population SD (ddof 0) over the pixels. background_intensity: median of the local
    ring, None where other masks leave no such pixel. mean_intensity_by_channel: one per channel.
    """

    mean_intensity: float
    sd_intensity: float
    median_intensity: float
    min_intensity: float
    max_intensity: float
    background_intensity: float | None
    mean_intensity_by_channel: tuple[float, ...]


class Intensities:
    """Measure masks on one image; knows where all masks lie to keep them out of the background."""

    def __init__(self, pixels: NDArray[Any], masks: Sequence[Mask]) -> None:
        pixels = pixels if pixels.ndim == 3 else pixels[:, :, None]
        self._pixels = np.ascontiguousarray(pixels)  # (H, W, C)
        self._free: NDArray[np.bool_] = np.ones(self._pixels.shape[:2], bool)
        for mask in masks:
            x0, y0, x1, y1 = self._inside(mask)
            self._free[y0:y1, x0:x1] &= ~mask.bits

    def backgrounds(self, masks: Sequence[Mask]) -> list[float | None]:
        """Return the median of the local ring around each mask; None where other masks leave none."""
        return measure_alike(masks, self._backgrounds)

    def measure_alike(self, masks: Sequence[Mask]) -> list[Intensity]:
        """Measure masks of about the same size, in their order."""
        return [
            Intensity(*numbers, background, tuple(means))
            for (numbers, means), background in zip(
                self._values(masks), self._backgrounds(masks), strict=True
            )
        ]

    def _backgrounds(self, masks: Sequence[Mask]) -> list[float | None]:
        found: list[float | None] = [None] * len(masks)
        missing = list(range(len(masks)))
        for share in _RING_WIDTH_SHARES:
            rings = self._rings(share, [masks[i] for i in missing])
            for index, (median, _) in zip(missing, rings, strict=True):
                found[index] = median
            missing = [i for i, (_, n) in zip(missing, rings, strict=True) if n < _RING_PIXELS_MIN]
            if not missing:
                break
        return found

    def _values(self, masks: Sequence[Mask]) -> list[tuple[_Numbers, list[float]]]:
        """Return mean, SD, median, minimum and maximum of each mask, and the mean of each channel."""
        inside = np.flatnonzero(stack_bits(masks, 0))
        n_channels = self._pixels.shape[2]
        # np.take: ten times faster than indexing where rows are as short as channels are few.
        values = np.take(stack_windows(self._pixels, masks, 0).reshape(-1, n_channels), inside, axis=0)
        channels = _by_channel(values)
        gray = channels.mean(axis=0)
        counts = np.array([mask.area_px for mask in masks])
        starts = np.cumsum(counts) - counts
        mean = np.add.reduceat(gray, starts) / counts
        sd = np.sqrt(np.add.reduceat((gray - np.repeat(mean, counts)) ** 2, starts) / counts)
        median = _medians(gray, counts)  # sorts each mask's values
        columns = (mean, sd, median, gray[starts], gray[starts + counts - 1])
        numbers = zip(*(column.tolist() for column in columns), strict=True)
        means = np.add.reduceat(channels, starts, axis=1) / counts
        return list(zip(numbers, means.T.tolist(), strict=True))

    def _rings(self, share: float, masks: Sequence[Mask]) -> list[tuple[float | None, int]]:
        """Return the median of the ring around each mask and how many pixels it has."""
        diameters = [equivalent_diameter_px(mask.area_px) for mask in masks]
        outer_px = [_RING_GAP_PX + max(_RING_WIDTH_MIN_PX, share * diameter) for diameter in diameters]
        # A pixel more than any ring reaches, so that a mask is out of reach of its neighbours in the stack.
        reach = int(max(outer_px)) + 1
        bits = stack_bits(masks, reach)
        height, width = bits.shape[1:]
        outside = (~bits).view(np.uint8).reshape(-1, width)
        distance = np.asarray(cv2.distanceTransform(outside, cv2.DIST_L2, 3)).reshape(bits.shape)
        ring = np.asarray(distance <= np.array(outer_px, np.float32)[:, None, None])
        ring &= distance > _RING_GAP_PX
        ring &= stack_windows(self._free, masks, reach)
        found = np.flatnonzero(ring)
        tiles = np.arange(len(masks) + 1) * (height * width)
        counts = np.diff(np.searchsorted(found, tiles))
        # From places in the stack to places in the image, with one slow division.
        left, top = np.array([mask.box_xyxy[:2] for mask in masks]).T - reach
        image_width = self._free.shape[1]
        found -= np.repeat(tiles[:-1], counts)
        found += found // width * (image_width - width) + np.repeat(top * image_width + left, counts)
        values = np.take(self._pixels.reshape(-1, self._pixels.shape[2]), found, axis=0)
        medians = _medians(_by_channel(values).mean(axis=0), counts).tolist()
        return [(median if n else None, n) for median, n in zip(medians, counts.tolist(), strict=True)]

    def _inside(self, mask: Mask) -> BoxXYXY:
        x0, y0, x1, y1 = mask.box_xyxy
        height, width = self._free.shape
        if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
            raise InputError(
                f"A mask must lie inside its image of {width} x {height} px, but its box is "
                f"{mask.box_xyxy}. Clip it to the image first."
            )
        return mask.box_xyxy


def background_reach_px(mask: Mask) -> float:
    """Return how far from a mask its background may be read."""
    widest = _RING_WIDTH_SHARES[-1] * equivalent_diameter_px(mask.area_px)
    return _RING_GAP_PX + max(_RING_WIDTH_MIN_PX, widest)


def _by_channel(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return (C, M) from (M, C): sums over a long last axis are far faster than over a short one."""
    return np.array(values.T, np.float64, order="C")


def _medians(values: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sort each run of ``counts`` values in place and return its median, NaN for an empty run."""
    ends = np.cumsum(counts)
    starts = ends - counts
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        values[start:end].sort()
    medians = np.full(len(counts), np.nan)
    some = counts > 0
    low, high = (starts + (counts - 1) // 2)[some], (starts + counts // 2)[some]
    medians[some] = (values[low] + values[high]) / 2
    return medians
