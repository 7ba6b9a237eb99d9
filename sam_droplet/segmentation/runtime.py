"""Run DropletNet on a device: fixed padding, tiles of even size, one lock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from sam_droplet.imaging.tiles import Tile, cover
from sam_droplet.segmentation.context_net import scores_in_context
from sam_droplet.segmentation.droplet_net import (
    SIDE_MULTIPLE,
    decode_stars,
    grey_range,
    network_input,
)
from sam_droplet.segmentation.engines import TORCH, Engines
from sam_droplet.segmentation.picture_context import Seen
from sam_droplet.segmentation.rim_net import N_CHANNELS, moved, rim_input
from sam_droplet.segmentation.stars import N_RAYS, Stars
from sam_droplet.segmentation.unrolling import STEPS, unroll
from sam_droplet.segmentation.weights import Networks

# Windows of at most this many network pixels a side. The halo holds the half of any droplet that a scale
# is trusted with, and what the network wants to see round it; magnified, only small droplets are looked for.
TILE_PX = 2048
HALO_PX = 128
MAGNIFIED_HALO_PX = 64
# Outlines that RimNet sees at once; the last portion is filled up, so that answers do not depend on it.
_RIM_BATCH = 128
# An outline whose rim was moved by more than this somewhere, in log radius, may still be on its way, such as
# half a plug: it is looked at again from where it is, at most so often.
_FAR_MOVED, _MORE_LOOKS = 0.3, 2
_WORTH_A_LOOK = 0.05  # score

OnPart = Callable[[], None]  # told after each part of the work


class DropletRuntime:
    """Hold the two networks on one device; safe to call from several threads.

    engines: make what runs the network, eager torch if None. tile_px: bounds the memory of one look.
    """

    def __init__(
        self, networks: Networks, device: str, engines: Engines | None = None, *, tile_px: int = TILE_PX
    ) -> None:
        engines = engines or Engines(TORCH, device, torch.get_num_threads())
        example = torch.linspace(0, 1, 3 * 128 * 192).view(1, 3, 128, 192)
        self._engine = engines.make("droplet-net", networks.droplet_net, example, sides_vary=True)
        self._rim_engine = None
        if networks.rim_net is not None:
            example = torch.linspace(-1, 1, _RIM_BATCH * N_CHANNELS * N_RAYS * len(STEPS))
            example = example.view(_RIM_BATCH, N_CHANNELS, N_RAYS, len(STEPS))
            self._rim_engine = engines.make("rim-net", networks.rim_net, example, sides_vary=False)
        self._context_net = networks.context_net
        self.device = self._engine.place
        self._tile_px = tile_px
        self._lock = threading.Lock()

    def stars(
        self,
        pixels: NDArray[np.generic],
        scale: float,
        threshold: float,
        low_high: tuple[float, float] | None = None,
        on_part: OnPart | None = None,
    ) -> Stars:
        """Return every outline that scores above ``threshold`` when the picture is seen at ``scale``.

        pixels: (H, W, C), any bit depth. low_high: the grey values that the network sees as 0 and 1;
        without them those of ``pixels``. on_part: called after each of ``n_tiles``
        tiles; what it raises ends the look. Result in image pixels. Memory does not grow with the image,
        except for scales far below 1.
        """
        low_high = low_high or grey_range(pixels)
        if low_high[0] >= low_high[1]:  # one grey value shows nothing
            return Stars.none()
        height, width = pixels.shape[:2]
        found = []
        for window in self._windows((height, width), scale):
            x0, y0, x1, y1 = window.read_xyxy
            seen = self._window_stars(pixels[y0:y1, x0:x1], low_high, scale, threshold)
            placed = seen.scaled(1.0, (float(x0), float(y0)))
            own = _inside(placed.centre_xy, window.responsible_xyxy, (height, width))
            found.append(placed.take(own))
            if on_part is not None:
                on_part()
        with self._lock:
            self._engine.rest()
        return Stars.join(found)

    def n_tiles(self, image_hw: tuple[int, int], scale: float) -> int:
        """Return in how many parts ``stars`` looks at an image."""
        return len(self._windows(image_hw, scale))

    def n_portions(self, n_outlines: int) -> int:
        """Return in how many parts ``second_look`` judges so many outlines."""
        return 0 if self._rim_engine is None else -(-n_outlines // _RIM_BATCH)

    def _windows(self, image_hw: tuple[int, int], scale: float) -> list[Tile]:
        halo = MAGNIFIED_HALO_PX if scale > 1 else HALO_PX
        tile = round(_even_tile_px(max(image_hw) * scale, halo, self._tile_px) / scale)
        return list(cover(image_hw, tile, round(halo / scale)))

    def second_look(
        self,
        pyramid: Sequence[NDArray[Any]],
        low_high: tuple[float, float],
        stars: Stars,
        on_part: OnPart | None = None,
    ) -> tuple[Stars, NDArray[np.float32]]:
        """Judge each outline anew, one by one, and move its rim to where the picture shows it.

        pyramid: the picture (H, W, C), then successive halves. stars: in pixels of the first. on_part:
        called after each of ``n_portions`` portions; what it raises ends the look.
        Returns the outlines, and the standard deviation of what is seen round each, (N,), in shares of the
        grey range.
        """
        if self._rim_engine is None or len(stars) == 0:
            return stars, np.ones(len(stars), np.float32)
        seen, moved_by, contrast = self._look(pyramid, low_high, stars, on_part)
        for _ in range(_MORE_LOOKS):
            far = np.flatnonzero((moved_by > _FAR_MOVED) & (seen.score > _WORTH_A_LOOK))
            if len(far) == 0:
                break
            # With the score that it was proposed with: RimNet has learned from no other.
            outlines = replace(seen.take(far), score=stars.score[far])
            again, moved_by[far], contrast[far] = self._look(pyramid, low_high, outlines)
            seen = seen.replaced(far, again)
        return seen, contrast

    def in_context(self, seen: Seen, asked: NDArray[np.intp]) -> Stars:
        """Return the outlines at an index, judged by what else the picture shows."""
        stars = seen.stars.take(asked)
        if self._context_net is None:
            return stars
        return replace(stars, score=scores_in_context(self._context_net, seen, asked))

    def _look(
        self,
        pyramid: Sequence[NDArray[Any]],
        low_high: tuple[float, float],
        stars: Stars,
        on_part: OnPart | None = None,
    ) -> tuple[Stars, NDArray[np.float32], NDArray[np.float32]]:
        """Return the outlines as RimNet judges and moves them, their largest shifts, and their contrasts."""
        assert self._rim_engine is not None
        parts, moved_by, contrast = [], [], []
        for start in range(0, len(stars), _RIM_BATCH):
            part = stars.take(slice(start, start + _RIM_BATCH))
            unrolled = unroll(pyramid, low_high, part)
            seen = rim_input(unrolled, part)
            batch = np.zeros((_RIM_BATCH, *seen.shape[1:]), np.float32)
            batch[: len(part)] = seen
            with self._lock, torch.inference_mode():
                # A copy, for the next run may overwrite it.
                answer = self._rim_engine.run(torch.from_numpy(batch))[0].float().cpu().numpy().copy()
            parts.append(moved(part, answer[: len(part)]))
            moved_by.append(np.abs(answer[: len(part), 1:]).max(axis=1))
            contrast.append(unrolled.grey.std(axis=(1, 2)))
            if on_part is not None:
                on_part()
        return Stars.join(parts), np.concatenate(moved_by), np.concatenate(contrast)

    def _window_stars(
        self, pixels: NDArray[np.generic], low_high: tuple[float, float], scale: float, threshold: float
    ) -> Stars:
        picture = network_input(pixels, low_high)
        height, width = picture.shape[:2]
        if scale != 1.0:
            size = max(1, round(width * scale)), max(1, round(height * scale))
            interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            picture = np.asarray(cv2.resize(picture, size, interpolation=interpolation), np.float32)
        seen_h, seen_w = picture.shape[:2]
        stars = self._forward(_padded(picture), threshold)
        stars = stars.take((stars.centre_xy[:, 0] < seen_w) & (stars.centre_xy[:, 1] < seen_h))
        # Rounded sizes: the true factor differs from ``scale`` by less than a pixel over the window.
        factor = float(np.sqrt((width / seen_w) * (height / seen_h)))
        return stars.scaled(factor)

    def _forward(self, picture: NDArray[np.float32], threshold: float) -> Stars:
        batch = torch.from_numpy(picture).permute(2, 0, 1)[None]
        with self._lock, torch.inference_mode():
            logits, log_radii = self._engine.run(batch)
            return decode_stars(logits[0], log_radii[0], threshold)


def _even_tile_px(length_px: float, halo_px: int, most_px: int) -> int:
    """Return the side of the smallest tiles that cover a length with no more tiles than need be."""
    if length_px <= most_px:
        return most_px
    n_tiles = np.ceil((length_px - 2 * halo_px) / (most_px - 2 * halo_px))
    side = (length_px - 2 * halo_px) / n_tiles + 2 * halo_px
    return int(np.ceil(side / SIDE_MULTIPLE)) * SIDE_MULTIPLE


def _padded(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mirror the right and bottom edge until the sides are what the network takes."""
    height, width = picture.shape[:2]
    bottom, right = -height % SIDE_MULTIPLE, -width % SIDE_MULTIPLE
    if not (bottom or right):
        return picture
    return np.asarray(cv2.copyMakeBorder(picture, 0, bottom, 0, right, cv2.BORDER_REFLECT), np.float32)


def _inside(
    points_xy: NDArray[np.float32], box_xyxy: tuple[int, int, int, int], image_hw: tuple[int, int]
) -> NDArray[np.bool_]:
    """Tell which points a window answers for; the outer windows also answer for what lies outside."""
    x0, y0, x1, y1 = (float(v) for v in box_xyxy)
    x0, y0 = (-np.inf if x0 <= 0 else x0), (-np.inf if y0 <= 0 else y0)
    x1, y1 = (np.inf if x1 >= image_hw[1] else x1), (np.inf if y1 >= image_hw[0] else y1)
    x, y = points_xy[:, 0], points_xy[:, 1]
    return np.asarray((x >= x0) & (x < x1) & (y >= y0) & (y < y1))
