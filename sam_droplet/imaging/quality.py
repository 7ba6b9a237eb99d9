"""Can this picture be measured? How much of it is saturated, and how wide its edges are."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging.images import Image
from sam_droplet.imaging.pixels import percentiles

# A window of this side says enough about focus, and costs the same for every image.
_FOCUS_SIDE_PX = 2048
_STEEPEST_PERCENT = 99.8
# Smooths away the noise of single pixels, and widens a perfect edge to about 2.5 px.
_SIGMA_PX = 1.0


@dataclass(frozen=True)
class Quality:
    """Hold what a picture's pixels say about how well it can be measured.

    saturated_percent: pixels at the highest value of the bit depth in any channel; None for float pixels.
    edge_width_px: the brightness range over the steepest slopes, so about the width of a sharp rim;
    None where the picture is flat. It grows with defocus.
    """

    saturated_percent: float | None
    edge_width_px: float | None


def image_quality(image: Image) -> Quality:
    """Look at the raw pixels of an image; takes milliseconds."""
    saturated = _saturated_percent(image)
    width = _edge_width_px(image)
    return Quality(
        None if saturated is None else round(saturated, 4), None if width is None else round(width, 2)
    )


def _saturated_percent(image: Image) -> float | None:
    if image.pixels.dtype.kind == "f":
        return None
    top = (1 << image.bit_depth) - 1
    at_top = np.zeros(image.pixels.shape[:2], np.bool_)
    for channel in range(image.n_channels):
        at_top |= image.pixels[:, :, channel] >= top
    return 100 * float(np.count_nonzero(at_top)) / at_top.size


def _edge_width_px(image: Image) -> float | None:
    gray = _central_gray(image)
    smooth = cv2.GaussianBlur(gray, (0, 0), _SIGMA_PX)
    low, high = percentiles(smooth, (1.0, 99.0))
    slope_x = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8)
    slope_y = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8)
    (steepest,) = percentiles(np.hypot(slope_x, slope_y), (_STEEPEST_PERCENT,))
    return (high - low) / steepest if steepest > 0 and high > low else None


def _central_gray(image: Image) -> NDArray[np.float32]:
    """Return the mean over the channels of a central window, float32."""
    height, width = min(image.height, _FOCUS_SIDE_PX), min(image.width, _FOCUS_SIDE_PX)
    top, left = (image.height - height) // 2, (image.width - width) // 2
    window = image.pixels[top : top + height, left : left + width]
    return np.ascontiguousarray(window.mean(axis=2, dtype=np.float32))
