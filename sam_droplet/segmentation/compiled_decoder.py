"""The fast mask decoder with its two heavy steps compiled, for processors.

Only the common case is compiled, one prompt of a point or a box and whole masks; others run as they did.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sam_droplet.segmentation.engines import Engines, Graph
from sam_droplet.segmentation.factored_keys import FactoredKeys, SharedSquare
from sam_droplet.segmentation.fast_decoder import (
    WHOLE,
    Answer,
    CellWindow,
    FastMaskDecoder,
    SharedImage,
    cells_as_image,
)
from sam_droplet.segmentation.mobile_sam import N_MASK_TOKENS, MobileSam
from sam_droplet.segmentation.tiny_vit import EMBEDDING_CHANNELS, EMBEDDING_SIDE

# A point and its padding, or the two corners of a box.
PROMPT_TOKENS = 2


class CompiledMaskDecoder(FastMaskDecoder):
    """Decode as FastMaskDecoder does, to float32 rounding, in about two thirds of its time on a processor."""

    def __init__(self, model: MobileSam, engines: Engines) -> None:
        super().__init__(model)
        embedding = torch.linspace(-1, 1, EMBEDDING_CHANNELS * EMBEDDING_SIDE**2)
        shared = self.share(embedding.view(1, EMBEDDING_CHANNELS, EMBEDDING_SIDE, EMBEDDING_SIDE))
        prompt = torch.linspace(-1, 1, PROMPT_TOKENS * EMBEDDING_CHANNELS).view(1, PROMPT_TOKENS, -1)
        example = prompt, *_flat(shared)
        self._answer_graph: Graph | None = engines.compiled("mobile-sam-answer", _Answering(self), example)
        answer = super().answer(shared, prompt)
        self._rows = answer.keys.z.shape[1]
        example = _drawn_from(shared, answer, 0, torch.arange(N_MASK_TOKENS))
        self._draw_graph: Graph | None = engines.compiled("mobile-sam-draw", _Drawing(self), example)

    def answer(self, shared: SharedImage, prompt: Tensor) -> Answer:
        """Run the transformer on (B, n, 256) embedded prompts, one by one where they are compiled."""
        if self._answer_graph is None or prompt.shape[1] != PROMPT_TOKENS:
            return super().answer(shared, prompt)
        inputs = _flat(shared)
        answers = []
        for one in torch.split(prompt, 1):
            answers.append([part.clone() for part in self._answer_graph.run(one, *inputs)])
        return _answer(*(torch.cat(parts) for parts in zip(*answers, strict=True)))

    def answers(self, shared: SharedImage, prompts: Tensor) -> Iterator[Answer]:
        """Answer (B, n, 256) embedded prompts one by one; each answer is good until the next is asked for."""
        if self._answer_graph is None or prompts.shape[1] != PROMPT_TOKENS:
            yield from super().answers(shared, prompts)
            return
        inputs = _flat(shared)
        threads = torch.get_num_threads()
        # The next prompts run on all cores while one is drawn: torch's own threads would wait for each other.
        torch.set_num_threads(1)
        try:
            for outputs in self._answer_graph.run_many((one, *inputs) for one in torch.split(prompts, 1)):
                yield _answer(*outputs)
        finally:
            torch.set_num_threads(threads)

    def draw(
        self,
        shared: SharedImage,
        answer: Answer,
        prompt: int,
        masks: Tensor,
        window: CellWindow | None = None,
    ) -> Tensor:
        """Draw chosen masks of one prompt, as FastMaskDecoder.draw does."""
        compiled = window in (None, WHOLE) and answer.keys.z.shape[1] == self._rows
        if self._draw_graph is None or not compiled:
            return super().draw(shared, answer, prompt, masks, window)
        (logits,) = self._draw_graph.run(*_drawn_from(shared, answer, prompt, masks))
        image = cells_as_image(logits.view(EMBEDDING_SIDE**2, 16, -1), (EMBEDDING_SIDE, EMBEDDING_SIDE))
        return image[: len(masks)]


def _flat(shared: SharedImage) -> tuple[Tensor, ...]:
    """List the tensors that answering needs of an image."""
    one, two = shared.square1, shared.square2
    assert two.constant is not None
    return (
        shared.k0, shared.v0, shared.q0, one.norm, *one.by_update, shared.k1, shared.v1, shared.q1,
        two.norm, *two.by_update, two.constant, shared.k2, shared.v2, shared.cells,
    )  # fmt: skip


def _answer(
    iou: Tensor, weights: Tensor, z: Tensor, base_scale: Tensor, rows: Tensor, probed: Tensor
) -> Answer:
    return Answer(iou, weights, FactoredKeys([], z, base_scale), rows, probed)


def _drawn_from(shared: SharedImage, answer: Answer, prompt: int, masks: Tensor) -> tuple[Tensor, ...]:
    """List the tensors that drawing needs; weights are padded to those of all masks, (32, 4)."""
    weights = answer.pixel_weights[prompt]
    padded = torch.zeros_like(weights)
    padded[: len(masks)] = weights[masks]
    keys = answer.keys
    return keys.z[prompt], answer.cell_rows[prompt], keys.base_scale[prompt], shared.cells, padded.T


class _Answering(nn.Module):
    """FastMaskDecoder.answer as a network of tensors."""

    def __init__(self, decoder: FastMaskDecoder) -> None:
        super().__init__()
        self.weights = decoder.decoder  # registered here, so that a change of weights is noticed
        self._decoder = decoder

    def forward(self, prompt: Tensor, *shared: Tensor) -> tuple[Tensor, ...]:
        k0, v0, q0, norm1, update1, k1, v1, q1, norm2, update2a, update2b, constant, k2, v2, cells = shared
        image = SharedImage(
            k0, v0, q0, SharedSquare(norm1, (update1,), None), k1, v1, q1,
            SharedSquare(norm2, (update2a, update2b), constant), k2, v2, cells,
        )  # fmt: skip
        answer = FastMaskDecoder.answer(self._decoder, image, prompt)
        keys = answer.keys
        weights, z, scale, rows = answer.pixel_weights, keys.z, keys.base_scale, answer.cell_rows
        probed = self._decoder.probe(z[0], rows[0], scale[0], cells, weights[0].T)
        return answer.iou, weights, z, scale, rows, probed[None]


class _Drawing(nn.Module):
    """FastMaskDecoder's drawing of all cells as a network of tensors."""

    def __init__(self, decoder: FastMaskDecoder) -> None:
        super().__init__()
        self.weights = decoder.decoder.output_upscaling
        self._decoder = decoder

    def forward(self, z: Tensor, rows: Tensor, scale: Tensor, cells: Tensor, weights: Tensor) -> Tensor:
        drawn: Tensor = self._decoder.draw_cells(z, rows, scale, cells, weights)
        return drawn
