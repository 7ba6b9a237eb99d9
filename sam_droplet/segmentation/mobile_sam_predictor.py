"""MobileSAM behind the predictor seam: the object under the points or in the box of an image."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sam_droplet.imaging.images import Image
from sam_droplet.imaging.masks import BoxXYXY, Mask
from sam_droplet.segmentation.batches import BatchSize
from sam_droplet.segmentation.checkpoints import MOBILE_SAM, file_sha256
from sam_droplet.segmentation.embedding_cache import Arrays, EmbeddingCache
from sam_droplet.segmentation.engines import TORCH, Engines
from sam_droplet.segmentation.mobile_sam import load_mobile_sam
from sam_droplet.segmentation.prompts import ModelInfo, Progress, Prompt, Segmentation
from sam_droplet.segmentation.sam_masks import MobileSamPredictor

View = Callable[[], NDArray[np.uint8]]

# Changes whenever the embedding of the same pixels and weights would differ.
_EMBEDDING_VERSION = "1"
# An outline of more than this share of the image is more likely background than a droplet.
_BACKGROUND_SHARE = 0.5


class CachedMobileSam:
    """Answer prompts on images whose embeddings are kept."""

    def __init__(self, predictor: MobileSamPredictor, cache: EmbeddingCache, info: ModelInfo) -> None:
        self.info = info
        self.predictor, self._cache = predictor, cache

    @property
    def batches(self) -> BatchSize:
        """How many prompts run at once, and how often memory ran out."""
        return self.predictor.batches

    def embedding(self, image: Image) -> Arrays:
        """Return the cached embedding of an image, or encode its view once."""
        return self._embedding(image, (0, 0, image.width, image.height), image.view)

    def _embedding(self, image: Image, window: BoxXYXY, view: View) -> Arrays:
        # Two files with the same pixels are shown differently where their channels are named differently.
        channels = ",".join(image.channel_names)
        key = f"mobile-sam/{_EMBEDDING_VERSION}/{self.info.sha256}/{image.digest}/{channels}"
        x0, y0, x1, y1 = window
        if window != (0, 0, image.width, image.height):
            key += f"/{x0},{y0},{x1},{y1}"
        return self._cache.get_or_compute(
            key, lambda: self.predictor.encode(np.ascontiguousarray(view()[y0:y1, x0:x1]))
        )

    def draw_boxes(
        self,
        image: Image,
        window: BoxXYXY,
        boxes_xyxy: NDArray[np.float64],
        view: View,
        on_progress: Progress | None = None,
    ) -> list[Mask | None]:
        """Draw what each (N, 4) box of the image holds, as seen in a window; None for nothing.

        view: returns the image to look at, called only where the window is not cached.
        """
        x0, y0, x1, y1 = window
        corners = boxes_xyxy.reshape(-1, 2, 2) - (x0, y0)
        inside = np.clip(corners, 0, (x1 - x0, y1 - y0)).reshape(-1, 4)
        masks = self.predictor.predict_boxes(self._embedding(image, window, view), inside, on_progress)
        return [mask and _moved(mask, x0, y0) for mask in masks]

    def predict(self, image: Image, prompt: Prompt) -> Segmentation:
        """Return the object under the points or in the box; three candidates with ``multimask``.

        A lone click may mean a part, a droplet or a cluster: the network is then asked for three and
        the one that it trusts most is returned, as its authors advise.
        """
        started = time.perf_counter()
        prompt = prompt.inside(image.width, image.height)
        arrays = self.embedding(image)
        encoded = time.perf_counter()
        lone_click = len(prompt.points_xy) == 1 and prompt.box_xyxy is None
        masks = self.predictor.predict(
            arrays,
            prompt.points_xy,
            prompt.point_labels,
            prompt.box_xyxy,
            multimask=prompt.multimask or lone_click,
        )
        masks = masks if prompt.multimask else masks[:1]
        timings = {"embed": encoded - started, "decode": time.perf_counter() - encoded}
        return Segmentation(
            masks,
            self.info,
            {"prompt": asdict(prompt)},
            {stage: round(seconds, 5) for stage, seconds in timings.items()},
            _message(masks, image),
        )


def load_mobile_sam_predictor(
    path: Path,
    device: str,
    cache: EmbeddingCache,
    engines: Engines | None = None,
    *,
    name: str = MOBILE_SAM.name,
) -> CachedMobileSam:
    """Load weights from ``path`` onto a device; ModelUnavailable where they are not MobileSAM's."""
    model = load_mobile_sam(path, device)
    engines = engines or Engines(TORCH, device, torch.get_num_threads())
    predictor = MobileSamPredictor(model, device, engines=engines)
    return CachedMobileSam(predictor, cache, ModelInfo(name, file_sha256(path), predictor.place))


def _message(masks: list[Mask], image: Image) -> str | None:
    if not masks:
        return "MobileSAM drew nothing for this prompt. Click elsewhere, or drag a box."
    if masks[0].area_px > _BACKGROUND_SHARE * image.width * image.height:
        return "This covers most of the image: background? Add a negative point, or drag a box."
    return None


def _moved(mask: Mask, dx: int, dy: int) -> Mask:
    x0, y0, x1, y1 = mask.box_xyxy
    return replace(mask, box_xyxy=(x0 + dx, y0 + dy, x1 + dx, y1 + dy))
