"""Discs with exact truth, and images to measure them on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sam_droplet.imaging.images import Calibration, Image
from sam_droplet.imaging.masks import Mask, mask_from_bits
from sam_droplet.imaging.pixels import pixel_digest


def ellipse_bits(
    cx: float, cy: float, rx: float, ry: float, hw: tuple[int, int], angle: float = 0.0
) -> NDArray[np.bool_]:
    y, x = np.mgrid[: hw[0], : hw[1]] + 0.5
    u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
    v = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
    return (u / rx) ** 2 + (v / ry) ** 2 < 1


@pytest.fixture
def make_disc() -> Callable[..., Mask]:
    """A disc of radius r around (cx, cy) in the image-corner frame; an ellipse where ry is given."""

    def make(
        cx: float, cy: float, r: float, ry: float | None = None, *, angle: float = 0.0, score: float = 0.9
    ) -> Mask:
        reach = int(np.ceil(max(r, ry or r))) + 1
        left, top = max(int(cx) - reach, 0), max(int(cy) - reach, 0)
        hw = (int(cy) + reach + 1 - top, int(cx) + reach + 1 - left)
        bits = ellipse_bits(cx - left, cy - top, r, ry or r, hw, angle)
        mask = mask_from_bits(bits, score, offset_xy=(left, top))
        assert mask is not None
        return mask

    return make


@pytest.fixture
def make_image() -> Callable[..., Image]:
    """An image of an array (H, W) or (H, W, C), or of a constant value."""

    def make(
        pixels: NDArray[Any] | tuple[int, int], *, um_per_px: float | None = None, name: str = "field.tif"
    ) -> Image:
        array = np.full((*pixels, 1), 100, np.uint8) if isinstance(pixels, tuple) else pixels
        array = array if array.ndim == 3 else array[:, :, None]
        names = ("gray",) if array.shape[2] == 1 else tuple(f"c{i}" for i in range(array.shape[2]))
        calibration = None if um_per_px is None else Calibration(um_per_px, "typed")
        bits = {"uint8": 8, "uint16": 16, "float32": 32}[str(array.dtype)]
        return Image(array, pixel_digest(array), name, "tiff", bits, calibration, channel_names=names)

    return make
