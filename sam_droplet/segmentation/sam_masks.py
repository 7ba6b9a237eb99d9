"""Prompts on an encoded image to masks at image size: MobileSAM behind numpy arrays, for any caller.

Holds what a few images share between prompts; knows nothing of caches on disk, requests or droplets.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sam_droplet.errors import InputError
from sam_droplet.imaging.masks import Mask, mask_from_bits
from sam_droplet.segmentation.batches import BatchSize, padded_to
from sam_droplet.segmentation.compiled_decoder import CompiledMaskDecoder
from sam_droplet.segmentation.engines import OPENVINO, Engine, Engines
from sam_droplet.segmentation.fast_decoder import (
    MAX_TOKENS,
    Answer,
    CellWindow,
    FastMaskDecoder,
    SharedImage,
)
from sam_droplet.segmentation.mask_resampling import MaskResampler
from sam_droplet.segmentation.mobile_sam import (
    LOW_RES_SIDE,
    N_MASK_TOKENS,
    MobileSam,
    ModelFrame,
    prompt_points,
)
from sam_droplet.segmentation.tiny_vit import EMBEDDING_SIDE, IMAGE_SIDE

Arrays = dict[str, NDArray[np.generic]]

# On a processor, prompts are answered one by one; a batch is what is drawn before masks are filtered.
CPU_BATCH, GPU_BATCH = 8, 64
# Cells seen round a box before the window grows: a mask may be somewhat larger than its box.
MARGIN_CELLS = 2
# The output tokens that join every prompt: quality and four masks.
_OUTPUT_TOKENS = 1 + N_MASK_TOKENS


@dataclass(frozen=True)
class OpenImage:
    """What prompts on one image share: its frame, embedding, decoder parts and enlargement."""

    frame: ModelFrame
    embedding: Tensor
    shared: SharedImage
    resampler: MaskResampler


class MobileSamPredictor:
    """Encode views, answer prompts; safe to call from several threads, which take turns on ``lock``.

    open_images: how many images stay ready between prompts, about 35 MB each.
    engines: make the one that runs the encoder; without them it is the model itself.
    at_once: answer all prompts of a batch in one pass; None: on a GPU, where it is faster.
    """

    def __init__(
        self,
        model: MobileSam,
        device: str | torch.device = "cpu",
        *,
        open_images: int = 4,
        engines: Engines | None = None,
        at_once: bool | None = None,
    ) -> None:
        self.device = torch.device(device)
        self._at_once = self.device.type != "cpu" if at_once is None else at_once
        self.model = model.to(self.device).eval().requires_grad_(False)
        self._encoder: Engine | None = None
        self.place = str(self.device)
        if engines is not None:
            example = torch.linspace(-2, 2, 3 * IMAGE_SIDE**2).view(1, 3, IMAGE_SIDE, IMAGE_SIDE)
            encoder = self.model.image_encoder
            self._encoder = engines.make("mobile-sam-encoder", encoder, example, sides_vary=False)
            self.place = self._encoder.place
        self.decoder = decoder_for(self.model, engines)
        self.batches = BatchSize("prompts", CPU_BATCH if self.device.type == "cpu" else GPU_BATCH)
        self._most_open = open_images
        self._open: OrderedDict[bytes, OpenImage] = OrderedDict()
        self.lock = threading.RLock()

    def encode(self, view: NDArray[np.uint8]) -> Arrays:
        """Embed a (H, W, 3) uint8 RGB view into arrays to cache.

        embedding: (256, 64, 64) float32. image_hw: (2,) int64. digest: (16,) uint8 of both.
        """
        with self.lock:
            embedding = self._encoded(view)[0].float().cpu().numpy().copy()
        hw = np.array(view.shape[:2], np.int64)
        digest = hashlib.blake2b(embedding.tobytes() + hw.tobytes(), digest_size=16).digest()
        return {"embedding": embedding, "image_hw": hw, "digest": np.frombuffer(digest, np.uint8).copy()}

    def _encoded(self, view: NDArray[np.uint8]) -> Tensor:
        if self._encoder is None:
            return self.model.encode(view)
        return self._encoder.run(self.model.preprocess(view))[0]

    def open(self, arrays: Arrays) -> OpenImage:
        """Return what prompts on an encoded image share, computed at its first prompt."""
        key = arrays["digest"].tobytes()
        with self.lock:
            opened = self._open.get(key)
            if opened is None:
                opened = self._open[key] = self.share(arrays)
            self._open.move_to_end(key)
            while len(self._open) > self._most_open:
                self._open.popitem(last=False)
        return opened

    def share(self, arrays: Arrays) -> OpenImage:
        """Compute what prompts on an encoded image share, without keeping it."""
        height, width = (int(side) for side in arrays["image_hw"])
        embedding = torch.from_numpy(np.array(arrays["embedding"], np.float32))[None].to(self.device)
        return OpenImage(
            ModelFrame(height, width),
            embedding,
            self.decoder.share(embedding),
            MaskResampler((height, width), self.device),
        )

    def predict(
        self,
        arrays: Arrays,
        points_xy: ArrayLike,
        point_labels: ArrayLike,
        box_xyxy: ArrayLike | None = None,
        multimask: bool = False,
    ) -> list[Mask]:
        """Return the masks of one prompt, best predicted IoU (their score, cut to [0, 1]) first.

        points_xy: (N, 2) and box_xyxy in image-corner pixels; point_labels: (N,) of 1 and 0.
        One mask, or up to three with ``multimask``; none where the network draws nothing.
        """
        labels = np.asarray(point_labels).reshape(-1)
        points = np.asarray(points_xy, np.float64).reshape(-1, 2)
        if len(points) != len(labels) or (len(points) == 0 and box_xyxy is None):
            raise InputError(
                f"A prompt needs as many labels as points, or a box: "
                f"{len(points)} points and {len(labels)} labels came."
            )
        wanted = slice(1, N_MASK_TOKENS) if multimask else slice(0, 1)
        with self.lock:
            image = self.open(arrays)
            corners = None if box_xyxy is None else np.asarray(box_xyxy, np.float64).reshape(2, 2)
            model_box = None if corners is None else image.frame.to_model_xy(corners)
            model_points, kinds = prompt_points(image.frame.to_model_xy(points), labels, model_box)
            logits, iou = self._decode(image, model_points, kinds, wanted)
        masks = masks_at_full_size(image.resampler, logits, iou)
        return sorted((mask for mask in masks if mask is not None), key=lambda mask: -mask.score)

    def _decode(
        self, image: OpenImage, points_xy: NDArray[np.float32], labels: NDArray[np.int64], wanted: slice
    ) -> tuple[Tensor, Tensor]:
        """Return logits (k, 256, 256) and IoU (k,) of the wanted masks of one prompt."""
        points, kinds = torch.from_numpy(points_xy)[None], torch.from_numpy(labels)[None]
        points, kinds = points.to(self.device), kinds.to(self.device)
        if len(labels) + _OUTPUT_TOKENS > MAX_TOKENS:
            logits, iou = self.model.decode(image.embedding, points, kinds)
            return logits[0, wanted], iou[0, wanted]
        answer = self.answer(image, points, kinds)
        masks = torch.arange(N_MASK_TOKENS, device=self.device)[wanted]
        return self.decoder.draw(image.shared, answer, 0, masks), answer.iou[0, wanted]

    @torch.inference_mode()
    def answer(self, image: OpenImage, points_xy: Tensor, labels: Tensor) -> Answer:
        """Run the transformer for (B, N, 2) model-frame points with (B, N) labels."""
        return self.decoder.answer(image.shared, self.model.prompt_encoder(points_xy, labels))

    def answers(
        self, image: OpenImage, points_xy: Tensor, labels: Tensor
    ) -> Iterator[tuple[Answer, int, Tensor]]:
        """Yield for each prompt an answer, its place in that, and the predicted IoU of its masks, (4,).

        Each is good until the next is asked for. Takes as many prompts as a batch holds.
        """
        if not self._at_once:
            with torch.inference_mode():
                prompts = self.model.prompt_encoder(points_xy, labels)
            for answer in self.decoder.answers(image.shared, prompts):
                yield answer, 0, answer.iou[0]
            return
        padded = (padded_to(part, self.batches.size).to(self.device) for part in (points_xy, labels))
        answer = self.answer(image, *padded)
        quality = answer.iou.cpu()  # once, or else the GPU would be waited for at each prompt
        for i in range(len(points_xy)):
            yield answer, i, quality[i]

    def predict_boxes(
        self,
        arrays: Arrays,
        boxes_xyxy: ArrayLike,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Mask | None]:
        """Return one mask for each (N, 4) image-corner box, None where the network draws nothing.

        Masks are drawn in a window round their box, which grows while they reach its border; parts
        that lie apart from it are left out. on_progress(done, total) is called after each batch.
        """
        boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 2, 2)
        masks: list[Mask | None] = []

        def draw(part: slice) -> list[Mask | None]:
            with self.lock:
                image = self.open(arrays)
                return self._predict_box_batch(image, image.frame.to_model_xy(boxes[part]))

        for drawn in self.batches.run(len(boxes), draw):
            masks += drawn
            if on_progress is not None:
                on_progress(len(masks), len(boxes))
        return masks

    def _predict_box_batch(self, image: OpenImage, corners: NDArray[np.float32]) -> list[Mask | None]:
        """Draw what (B, 2, 2) boxes in the model frame hold."""
        prompts = [prompt_points(np.empty((0, 2)), np.empty(0), box) for box in corners]
        points = torch.from_numpy(np.stack([points for points, _ in prompts]))
        kinds = torch.from_numpy(np.stack([labels for _, labels in prompts]))
        logits, iou = [], []
        for (answer, i, quality), box in zip(self.answers(image, points, kinds), corners, strict=True):
            logits.append(self._draw_round_box(image, answer, i, box))
            iou.append(float(quality[0]))
        return masks_at_full_size(image.resampler, torch.stack(logits), torch.tensor(iou))

    def _draw_round_box(
        self, image: OpenImage, answer: Answer, prompt: int, box: NDArray[np.float32]
    ) -> Tensor:
        """Draw mask 0 of one prompt in a growing window; the rest of the (256, 256) is background."""
        cell_px = IMAGE_SIDE // EMBEDDING_SIDE
        low = (box.min(axis=0) // cell_px).astype(int) - MARGIN_CELLS
        high = -(-box.max(axis=0) // cell_px).astype(int) + MARGIN_CELLS
        first = torch.zeros(1, dtype=torch.long, device=self.device)
        while True:
            low, high = low.clip(0, EMBEDDING_SIDE - 1), high.clip(1, EMBEDDING_SIDE)
            window: CellWindow = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
            logits = self.decoder.draw(image.shared, answer, prompt, first, window)[0]
            grow_low, grow_high = _touched(logits, window)
            if not (grow_low.any() or grow_high.any()):
                break
            step = np.maximum(MARGIN_CELLS, (high - low) // 2)
            low, high = low - step * grow_low, high + step * grow_high
        x0, y0, x1, y1 = (4 * side for side in window)
        whole = logits.new_full((LOW_RES_SIDE, LOW_RES_SIDE), -1.0)
        whole[y0:y1, x0:x1] = logits
        return whole


def decoder_for(model: MobileSam, engines: Engines | None) -> FastMaskDecoder:
    """Return the decoder that suits what runs the networks."""
    if engines is None or engines.runtime != OPENVINO:
        return FastMaskDecoder(model)
    return CompiledMaskDecoder(model, engines)


def _touched(logits: Tensor, window: CellWindow) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell on which sides (x, y) of a window, low and high, a mask goes on beyond it."""
    x0, y0, x1, y1 = window
    inside = (logits > 0).cpu().numpy()
    low = np.array([inside[:, 0].any() and x0 > 0, inside[0].any() and y0 > 0])
    high = np.array([inside[:, -1].any() and x1 < EMBEDDING_SIDE, inside[-1].any() and y1 < EMBEDDING_SIDE])
    return low, high


def masks_at_full_size(resampler: MaskResampler, logits: Tensor, iou: Tensor) -> list[Mask | None]:
    """Draw (k, 256, 256) logits as masks of the image, each inside its box; None for an empty one."""
    masks: list[Mask | None] = []
    for values, score in zip(logits.cpu().numpy(), iou.clamp(0, 1).tolist(), strict=True):
        box, mask = resampler.outer_box(values), None
        if box is not None:
            bits = resampler.draw(resampler.crop(values, box), box)
            mask = mask_from_bits(bits, score, offset_xy=(box[0], box[1]))
        masks.append(mask)
    return masks
