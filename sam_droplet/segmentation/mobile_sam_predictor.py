"""MobileSAM behind the predictor seam: the object under the points or in the box of an image."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from sam_droplet.imaging.images import Image
from sam_droplet.imaging.masks import Mask
from sam_droplet.segmentation.checkpoints import file_sha256
from sam_droplet.segmentation.embedding_cache import Arrays, EmbeddingCache
from sam_droplet.segmentation.mobile_sam import load_mobile_sam
from sam_droplet.segmentation.prompts import ModelInfo, Prompt, Segmentation
from sam_droplet.segmentation.sam_masks import MobileSamPredictor

# Changes whenever the embedding of the same pixels and weights would differ.
_EMBEDDING_VERSION = "1"
# An outline of more than this share of the image is more likely background than a droplet.
_BACKGROUND_SHARE = 0.5


class CachedMobileSam:
    """Answer prompts on images whose embeddings are kept."""

    def __init__(self, predictor: MobileSamPredictor, cache: EmbeddingCache, info: ModelInfo) -> None:
        self.info = info
        self.predictor, self._cache = predictor, cache

    def embedding(self, image: Image) -> Arrays:
        """Return the cached embedding of an image, or encode its view once."""
        # Two files with the same pixels are shown differently where their channels are named differently.
        channels = ",".join(image.channel_names)
        key = f"mobile-sam/{_EMBEDDING_VERSION}/{self.info.sha256}/{image.digest}/{channels}"
        return self._cache.get_or_compute(key, lambda: self.predictor.encode(image.view()))

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


def load_mobile_sam_predictor(path: Path, device: str, cache: EmbeddingCache) -> CachedMobileSam:
    """Load weights from ``path`` onto a device; ModelUnavailable where they are not MobileSAM's."""
    model = load_mobile_sam(path, device)
    info = ModelInfo("mobile-sam", file_sha256(path), device)
    return CachedMobileSam(MobileSamPredictor(model, device), cache, info)


def _message(masks: list[Mask], image: Image) -> str | None:
    if not masks:
        return "MobileSAM drew nothing for this prompt. Click elsewhere, or drag a box."
    if masks[0].area_px > _BACKGROUND_SHARE * image.width * image.height:
        return "This covers most of the image: background? Add a negative point, or drag a box."
    return None
