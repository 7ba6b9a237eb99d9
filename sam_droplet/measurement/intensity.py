"""Intensities of one mask on the raw pixels, and the local background around it.

Never on a display view: the numbers keep the camera's own bit depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_droplet.errors import InputError
from sam_droplet.imaging.masks import BoxXYXY, Mask
from sam_droplet.measurement.geometry import equivalent_diameter_px

# The background ring starts two pixels outside the mask, past the blurred rim.
_RING_GAP_PX = 2.0
# It is a quarter of the diameter wide and four pixels at least; where neighbours leave too little
# of it, it grows once to a whole diameter.
_RING_WIDTH_SHARES = (0.25, 1.0)
_RING_WIDTH_MIN_PX = 4.0
_RING_PIXELS_MIN = 12


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
        self._pixels = pixels if pixels.ndim == 3 else pixels[:, :, None]  # (H, W, C)
        self._height, self._width = self._pixels.shape[:2]
        self._taken = np.zeros((self._height, self._width), bool)
        for mask in masks:
            x0, y0, x1, y1 = self._inside(mask)
            self._taken[y0:y1, x0:x1] |= mask.bits

    def measure(self, mask: Mask) -> Intensity:
        """Measure one mask."""
        x0, y0, x1, y1 = mask.box_xyxy
        values = self._pixels[y0:y1, x0:x1][mask.bits].astype(np.float64)  # (N, C)
        n, n_channels = values.shape
        gray = _mean_over_channels(values)  # (N,)
        mean = float(gray.sum()) / n
        deviations = gray - mean
        return Intensity(
            mean_intensity=mean,
            sd_intensity=sqrt(float(deviations @ deviations) / n),
            median_intensity=_median(gray),
            min_intensity=float(gray.min()),
            max_intensity=float(gray.max()),
            background_intensity=self._background(mask),
            mean_intensity_by_channel=(
                (mean,) if n_channels == 1 else tuple((np.ones(n) @ values / n).tolist())
            ),
        )

    def background_pixels(self, mask: Mask) -> NDArray[np.float64]:
        """Return the channel-mean values of the local ring around one mask, (N,)."""
        diameter = equivalent_diameter_px(mask.area_px)
        found = np.zeros(0)
        for share in _RING_WIDTH_SHARES:
            found = self._ring(mask, max(_RING_WIDTH_MIN_PX, share * diameter))
            if len(found) >= _RING_PIXELS_MIN:
                break
        return found

    def _background(self, mask: Mask) -> float | None:
        ring = self.background_pixels(mask)
        return _median(ring) if len(ring) else None

    def _ring(self, mask: Mask, width_px: float) -> NDArray[np.float64]:
        reach = int(_RING_GAP_PX + width_px) + 1
        x0, y0, x1, y1 = mask.box_xyxy
        left, top = max(x0 - reach, 0), max(y0 - reach, 0)
        right, bottom = min(x1 + reach, self._width), min(y1 + reach, self._height)
        outside = np.ones((bottom - top, right - left), np.uint8)
        outside[y0 - top : y1 - top, x0 - left : x1 - left][mask.bits] = 0
        distance = cv2.distanceTransform(outside, cv2.DIST_L2, 3)
        ring = (distance > _RING_GAP_PX) & (distance <= _RING_GAP_PX + width_px)
        ring &= ~self._taken[top:bottom, left:right]
        return _mean_over_channels(self._pixels[top:bottom, left:right][ring])

    def _inside(self, mask: Mask) -> BoxXYXY:
        x0, y0, x1, y1 = mask.box_xyxy
        if x0 < 0 or y0 < 0 or x1 > self._width or y1 > self._height:
            raise InputError(
                f"A mask must lie inside its image of {self._width} x {self._height} px, but its box is "
                f"{mask.box_xyxy}. Clip it to the image first."
            )
        return mask.box_xyxy


def _mean_over_channels(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return (N,) float64 from (N, C) of any dtype."""
    if values.shape[1] == 1:
        return values[:, 0].astype(np.float64)
    # A product with ones: numpy's sum over a short last axis is four times slower.
    n_channels = values.shape[1]
    return np.asarray(values.astype(np.float64) @ np.ones(n_channels) / n_channels)


def _median(values: NDArray[np.float64]) -> float:
    """Return the median; half the cost of ``np.median`` on a few hundred values."""
    middle = len(values) // 2
    if len(values) % 2:
        return float(np.partition(values, middle)[middle])
    ordered = np.partition(values, (middle - 1, middle))
    return float(ordered[middle - 1] + ordered[middle]) / 2
