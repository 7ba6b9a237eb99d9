"""Bright discs on a dark ground, and a real segmenter for them: a threshold and connected components."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging.images import Image, encode_png
from sam_droplet.imaging.masks import Mask, mask_from_bits
from sam_droplet.imaging.rim_offset import offset_mask
from sam_droplet.measurement.droplets import Droplet, measure

DISCS = ((30.5, 40.5, 12.0), (90.0, 40.0, 15.0), (150.5, 45.5, 10.0), (60.0, 110.0, 20.0), (8.0, 110.0, 12.0))
FIRST, SECOND = DISCS[0], DISCS[1]


def disc_pixels(
    discs: Sequence[tuple[float, float, float]] = DISCS, size_wh: tuple[int, int] = (200, 150)
) -> NDArray[np.uint8]:
    """Return (H, W) uint8: discs (x, y, radius) of brightness 180 on a ground of 40."""
    width, height = size_wh
    y, x = np.mgrid[:height, :width] + 0.5
    pixels = np.full((height, width), 40, np.uint8)
    for centre_x, centre_y, radius in discs:
        pixels[np.hypot(x - centre_x, y - centre_y) <= radius] = 180
    return pixels


def disc_png(
    discs: Sequence[tuple[float, float, float]] = DISCS, size_wh: tuple[int, int] = (200, 150)
) -> bytes:
    """Return ``disc_pixels`` as a PNG file."""
    return encode_png(disc_pixels(discs, size_wh))


# 24 alike on a grid, and a size of image that holds them.
GRID = tuple((30.0 + 40 * column, 30.0 + 40 * row, 12.0) for row in range(4) for column in range(6))
GRID_WH = (260, 180)


def glow_png(bright: Sequence[int]) -> bytes:
    """Return the fluorescence picture of ``GRID``: all glow a little, those of these indexes much."""
    y, x = np.mgrid[: GRID_WH[1], : GRID_WH[0]] + 0.5
    pixels = np.random.default_rng(0).normal(20, 1, GRID_WH[::-1])
    for index, (centre_x, centre_y, radius) in enumerate(GRID):
        pixels[np.hypot(x - centre_x, y - centre_y) < radius] += 120 if index in bright else 8 + index / 8
    return encode_png(np.clip(pixels, 0, 255).astype(np.uint8))


def bead_png(beads: Sequence[tuple[float, float]]) -> bytes:
    """Return a picture of beads at these places, bright on a dark ground, of the size of ``GRID``."""
    discs = [(x, y, 2.5) for x, y in beads]
    return encode_png(np.where(disc_pixels(discs, GRID_WH) > 100, 200, 10).astype(np.uint8))


@dataclass(frozen=True)
class ThresholdModel:
    """Name the threshold as the model that answered."""

    name: str = "threshold"
    sha256: str = "0" * 64
    device: str = "cpu"


@dataclass(frozen=True)
class ThresholdResult:
    """Hold what the threshold found."""

    droplets: list[Droplet]
    parameters: dict[str, Any]
    timings_s: dict[str, float]
    message: str | None = None
    model: ThresholdModel = ThresholdModel()


class ThresholdSegmenter:
    """Find what is brighter than Otsu's threshold; takes ``seconds`` for it."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.loaded = True
        self.cache = None

    def find(self, image: Image, options: Any, on_progress: Any = None) -> ThresholdResult:
        """Return every bright object within the size limits; says how far it is twenty times."""
        started = time.monotonic()
        for done in range(20 if self.seconds else 0):
            time.sleep(self.seconds / 20)
            if on_progress is not None:
                on_progress(done + 1, 20)
        bright = _moved(_bright_objects(image), image, options.rim_offset_px)
        masks = [m for m in bright if _fits(m, options)]
        message = None if masks else "0 droplets: nothing here is brighter than the threshold."

        def tell(done: int, total: int) -> None:
            if on_progress is not None:
                on_progress(done, total, "measuring")
            if done < total:
                time.sleep(self.seconds / 2)

        return ThresholdResult(
            measure(image, masks, model="threshold", on_progress=tell),
            asdict(options),
            {"find": time.monotonic() - started},
            message,
        )

    def predict(self, image: Image, prompt: Any, model: str = "auto") -> ThresholdResult:
        """Return the bright objects that hold every positive point, or whose middle is in the box."""
        prompt = prompt.inside(image.width, image.height)
        masks = [m for m in _bright_objects(image) if _is_meant(m, prompt)]
        masks = _moved(masks, image, prompt.rim_offset_px)
        message = None if masks else "No droplet was found here: this looks like background."
        return ThresholdResult(
            measure(image, masks, model="threshold"), {"prompt": asdict(prompt)}, {"predict": 0.0}, message
        )

    def proposals(self, image: Image) -> NDArray[np.float32]:
        """Return each bright object as the circle of its area, and twice as wide with a lower score."""
        rows = []
        for mask in _bright_objects(image):
            x, y, _, _ = mask.box_xyxy
            v, u = np.nonzero(mask.bits)
            centre, radius = (x + u.mean() + 0.5, y + v.mean() + 0.5), np.sqrt(mask.area_px / np.pi)
            rows.append([*centre, *[radius] * 32, 0.9])
            rows.append([*centre, *[2 * radius] * 32, 0.5])
        return np.array(rows, np.float32).reshape(-1, 35)

    def models(self) -> list[dict[str, Any]]:
        """List the threshold as if it were a network."""
        return [{"name": "droplet-net", "available": True, "answers": ["find", "clicks", "boxes"]}]

    def warm_up(self) -> None:
        """Need nothing."""

    def runs_on(self) -> dict[str, str]:
        return {"threshold": "cpu"}

    def gpu_memory_bytes(self) -> dict[str, int] | None:
        """Use no GPU."""
        return None


def _bright_objects(image: Image) -> list[Mask]:
    gray = np.ascontiguousarray(image.view()[:, :, 0])
    _, bright = cv2.threshold(gray, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    if gray.min() == gray.max():
        return []
    count, labels = cv2.connectedComponents(bright)
    found = [mask_from_bits(labels == label, 0.9) for label in range(1, count)]
    return sorted((m for m in found if m is not None), key=lambda m: (m.box_xyxy[1] // 24, m.box_xyxy[0]))


def _moved(masks: list[Mask], image: Image, rim_offset_px: float) -> list[Mask]:
    moved = [offset_mask(mask, rim_offset_px, (image.height, image.width)) for mask in masks]
    return [mask for mask in moved if mask is not None]


def _fits(mask: Mask, options: Any) -> bool:
    diameter = 2 * float(np.sqrt(mask.area_px / np.pi))
    low, high = options.diameter_min_px or 0, options.diameter_max_px or np.inf
    return bool(low <= diameter <= high) and _in_box(mask, options.roi_xyxy)


def _in_box(mask: Mask, box: tuple[float, float, float, float] | None) -> bool:
    if box is None:
        return True
    x0, y0, x1, y1 = mask.box_xyxy
    return box[0] <= (x0 + x1) / 2 < box[2] and box[1] <= (y0 + y1) / 2 < box[3]


def _is_meant(mask: Mask, prompt: Any) -> bool:
    x0, y0, x1, y1 = mask.box_xyxy
    for (x, y), label in zip(prompt.points_xy, prompt.point_labels, strict=True):
        inside = x0 <= x < x1 and y0 <= y < y1 and bool(mask.bits[int(y) - y0, int(x) - x0])
        if inside != bool(label):
            return False
    return _in_box(mask, prompt.box_xyxy)
