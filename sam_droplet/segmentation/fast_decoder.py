"""MobileSAM's mask decoder for many prompts on one image: the official result with a quarter of the work.

What depends on the image alone is computed once; what a prompt adds is kept low-rank; masks are drawn
only for the prompts, the mask tokens and the cells that are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_droplet.segmentation.factored_keys import (
    FactoredKeys,
    KeyProjection,
    SharedSquare,
    Stage,
    by_head,
    first_stage,
    next_stage,
    normalize,
    relative,
    rows_of,
    sum_by_head,
)
from sam_droplet.segmentation.mobile_sam import HEADS, Attention, MobileSam, TwoWayBlock, split_heads
from sam_droplet.segmentation.tiny_vit import EMBEDDING_SIDE, LayerNorm2d

# More tokens than this make the low-rank form no cheaper than the plain one.
MAX_TOKENS = 16
# Cells drawn in one step: 512 · 16 · 32 floats are 1 MB and stay in a core's cache.
CELLS_PER_STEP = 512

# Cells count as present from this far below the level that matters; where there are more of them than these,
# drawing all at once is faster.
HEADROOM = 4.0
MOST_PRESENT = EMBEDDING_SIDE**2 // 3

CellWindow = tuple[int, int, int, int]  # half-open x0, y0, x1, y1 in cells of the 64×64 embedding
WHOLE: CellWindow = (0, 0, EMBEDDING_SIDE, EMBEDDING_SIDE)


@dataclass(frozen=True)
class SharedImage:
    """What the decoder needs of one image, for any prompt (27 MB).

    Each is (H, D, N) or, for the drawing, (N, 256); stage 0 is the embedding itself.
    """

    k0: Tensor
    v0: Tensor
    q0: Tensor
    square1: SharedSquare
    k1: Tensor
    v1: Tensor
    q1: Tensor
    square2: SharedSquare
    k2: Tensor
    v2: Tensor
    cells: Tensor


@dataclass(frozen=True)
class Answer:
    """What B prompts get before any mask is drawn.

    iou: (B, 4) predicted quality. pixel_weights: (B, 4, 32). keys: the final image tokens.
    cell_rows: (B, R, 256), what each row of keys.z adds to a cell. probed: (B, N, 4), one logit of each cell
    for each mask, where it comes with the answer.
    """

    iou: Tensor
    pixel_weights: Tensor
    keys: FactoredKeys
    cell_rows: Tensor
    probed: Tensor | None = None


class FastMaskDecoder:
    """Decode prompts on shared images with the weights of a MobileSam."""

    def __init__(self, model: MobileSam) -> None:
        with torch.no_grad():
            self._fold_weights(model)

    def _fold_weights(self, model: MobileSam) -> None:
        self.decoder = model.mask_decoder
        first, second = self._blocks()
        positions = model.prompt_encoder.pe_layer.dense()
        self.no_mask = model.prompt_encoder.no_mask_embed.weight[0]
        self.stage0 = _stage0_layers(first, positions)
        stage1 = first_stage(first.cross_attn_image_to_token, first.norm4)
        stage2 = next_stage(stage1, second.cross_attn_image_to_token, second.norm4)
        self.to_base = (stage1.to_base, stage2.to_base)
        self.embedding_bias = stage1.embedding_bias
        self.square1, self.square2 = stage1.square(), stage2.square()
        self.k1, self.v1 = _attended(stage1, second.cross_attn_token_to_image, positions)
        q1 = second.cross_attn_image_to_token.q_proj
        self.q1 = stage1.project(q1.weight.double(), q1.bias.double(), positions.double())
        final = self.decoder.transformer.final_attn_token_to_image
        self.k2, self.v2 = _attended(stage2, final, positions)
        self._fold_drawing(stage2)

    def _fold_drawing(self, stage2: Stage) -> None:
        """A 2×2 transposed convolution of stride 2 is a linear layer of each cell."""
        enlarge1, norm, _, enlarge2, _ = self.decoder.output_upscaling
        assert isinstance(norm, LayerNorm2d)
        self.norm_weight, self.norm_bias = norm.weight, norm.bias
        weight, bias = _as_linear(enlarge1)  # (4 · 64, 256), (4 · 64,)
        self.cells = stage2.project(weight.double(), bias.double())
        self.pixel_layer = _as_linear(enlarge2)  # (4 · 32, 64), (4 · 32,)

    def _blocks(self) -> tuple[TwoWayBlock, TwoWayBlock]:
        first, second = self.decoder.transformer.layers
        assert isinstance(first, TwoWayBlock)
        assert isinstance(second, TwoWayBlock)
        return first, second

    @torch.inference_mode()
    def share(self, embedding: Tensor) -> SharedImage:
        """Compute what all prompts on an image share, from its (1, 256, 64, 64) embedding."""
        keys = embedding.flatten(2)[0] + self.no_mask[:, None]  # (256, N)
        heads = (HEADS, -1, keys.shape[1])
        k0, v0, q0 = ((w @ keys + outer).view(heads) for w, outer in self.stage0)
        layers = [self.square1, self.k1, self.v1, self.q1, self.square2, self.k2, self.v2]
        base = torch.cat([layer.base for layer in layers]) @ keys
        base += torch.cat([layer.base_bias for layer in layers])[:, None]
        sizes = [len(layer.base) for layer in layers]
        square1, k1, v1, q1, square2, k2, v2 = torch.split(base, sizes)
        norm1, norm2 = (self._base_norm(keys, to_base) for to_base in self.to_base)
        update1, update2 = square2[:-1].chunk(2)
        return SharedImage(
            k0, v0, q0,
            SharedSquare(norm1, (square1.view(heads),), None),
            k1.view(heads), v1.view(heads), q1.view(heads),
            SharedSquare(norm2, (update1.view(heads), update2.view(heads)), square2[-1]),
            k2.view(heads), v2.view(heads),
            torch.addmm(self.cells.base_bias, keys.T, self.cells.base.T),
        )  # fmt: skip

    def _base_norm(self, keys: Tensor, to_base: Tensor) -> Tensor:
        base = to_base.T.float() @ keys + (self.embedding_bias @ to_base).float()[:, None]
        return base.square().sum(dim=0)  # (N,)

    @torch.inference_mode()
    def answer(self, shared: SharedImage, prompt: Tensor) -> Answer:
        """Run the transformer on (B, n, 256) embedded prompts; n may be at most MAX_TOKENS - 5."""
        first, second = self._blocks()
        token_pe = self.decoder.with_output_tokens(prompt)  # (B, T, 256)
        tokens = first.attend_to_each_other(token_pe, token_pe)
        q = _queries(first.cross_attn_token_to_image, tokens + token_pe)
        seen = sum_by_head(by_head(q, shared.k0).softmax(dim=-1), shared.v0)
        tokens = first.digest(tokens, _join_heads(first.cross_attn_token_to_image, seen))
        k, value1 = _token_keys(first.cross_attn_image_to_token, tokens, token_pe)
        attention = by_head(k, shared.q0).softmax(dim=2)  # (B, H, T, N)
        keys1 = normalize([relative(value1)], rows_of(attention), None, self.square1, shared.square1)

        tokens = second.attend_to_each_other(tokens, token_pe)
        look = second.cross_attn_token_to_image
        q = _queries(look, tokens + token_pe)
        attention = keys1.scores(q, self.k1, shared.k1).softmax(dim=-1)
        seen = keys1.mix(attention, self.v1, shared.v1)
        tokens = second.digest(tokens, _join_heads(look, seen))
        keys2 = self._update_twice(shared, keys1, tokens, token_pe)

        look = self.decoder.transformer.final_attn_token_to_image
        q = _queries(look, tokens + token_pe)
        attention = keys2.scores(q, self.k2, shared.k2).softmax(dim=-1)
        seen = _join_heads(look, keys2.mix(attention, self.v2, shared.v2))
        tokens = self.decoder.transformer.norm_final_attn(tokens + seen)
        weights, iou = self.decoder.read_tokens(tokens)
        return Answer(iou, weights, keys2, self.cells.rows(keys2.values))

    def answers(self, shared: SharedImage, prompts: Tensor) -> Iterator[Answer]:
        """Answer (B, n, 256) embedded prompts one by one; each answer is good until the next is asked for."""
        for one in torch.split(prompts, 1):
            yield self.answer(shared, one)

    def _update_twice(
        self, shared: SharedImage, keys1: FactoredKeys, tokens: Tensor, token_pe: Tensor
    ) -> FactoredKeys:
        """Let the image tokens look at the tokens a second time."""
        _, second = self._blocks()
        k, value2 = _token_keys(second.cross_attn_image_to_token, tokens, token_pe)
        attention = keys1.scores(k, self.q1, shared.q1).softmax(dim=2)  # (B, H, T, N)
        z = torch.cat([keys1.z, rows_of(attention)], dim=1)  # (B, R, N)
        values = [*keys1.values, relative(value2)]
        return normalize(values, z, keys1.base_scale, self.square2, shared.square2)

    @torch.inference_mode()
    def draw(
        self,
        shared: SharedImage,
        answer: Answer,
        prompt: int,
        masks: Tensor,
        window: CellWindow | None = None,
    ) -> Tensor:
        """Draw chosen masks of one prompt: (k, 256, 256) logits, or (k, 4·h, 4·w) of a window of cells.

        masks: (k,) indices in 0..3. Inside a window the logits are those of the whole mask.
        """
        x0, y0, x1, y1 = window or WHOLE
        weights = answer.pixel_weights[prompt, masks].T  # (32, k)
        steps = _rows_of_cells((x0, y0, x1, y1), shared.cells.device)
        z, scale, rows = answer.keys.z[prompt], answer.keys.base_scale[prompt], answer.cell_rows[prompt]
        parts = [
            self.draw_cells(z[:, step], rows, scale[step], shared.cells[step], weights) for step in steps
        ]
        return cells_as_image(torch.cat(parts), (y1 - y0, x1 - x0))

    @torch.inference_mode()
    def draw_present(
        self, shared: SharedImage, answer: Answer, prompt: int, masks: Tensor, level: float
    ) -> Tensor:
        """Draw chosen masks of one prompt, (k, 256, 256) logits, exactly wherever they rise above a level.

        One pixel of each cell tells where: cells next to one above ``level - HEADROOM`` are drawn, in all
        others the logits of that pixel stand for the 16. Most objects are small, and most cells not theirs.
        """
        z, scale, rows = answer.keys.z[prompt], answer.keys.base_scale[prompt], answer.cell_rows[prompt]
        if z.device.type != "cpu":  # there, to wait for where they are takes longer than to draw them all
            return self.draw(shared, answer, prompt, masks)
        weights = answer.pixel_weights[prompt, masks].T  # (32, k)
        if answer.probed is None:
            probed = self.probe(z, rows, scale, shared.cells, weights)  # (N, k)
        else:
            probed = answer.probed[prompt][:, masks]
        near = (probed.amax(dim=1) > level - HEADROOM).float().view(1, 1, EMBEDDING_SIDE, EMBEDDING_SIDE)
        present = F.max_pool2d(near, 3, stride=1, padding=1).flatten().nonzero()[:, 0]
        if len(present) > MOST_PRESENT:
            return self.draw(shared, answer, prompt, masks)
        blocks = probed.T.view(-1, EMBEDDING_SIDE, 1, EMBEDDING_SIDE, 1).expand(-1, -1, 4, -1, 4).contiguous()
        for part in torch.split(present, CELLS_PER_STEP):
            cells = self.draw_cells(z[:, part], rows, scale[part], shared.cells[part], weights)
            # A cell's 16 logits come as 2 x 2 blocks of 2 x 2: rows and columns in turn.
            cells = cells.view(-1, 2, 2, 2, 2, cells.shape[-1]).permute(5, 0, 1, 3, 2, 4)
            across = part % EMBEDDING_SIDE
            blocks.transpose(2, 3)[:, part // EMBEDDING_SIDE, across] = cells.reshape(*cells.shape[:2], 4, 4)
        return blocks.view(-1, 4 * EMBEDDING_SIDE, 4 * EMBEDDING_SIDE)

    def probe(self, z: Tensor, rows: Tensor, scale: Tensor, cells: Tensor, weights: Tensor) -> Tensor:
        """Return the logits of the pixel right and below of the centre of each cell: (N, k)."""
        # The right lower of 2 × 2, and of that the left upper.
        pixels = self._features(z, rows, scale, cells, slice(3 * len(self.norm_weight), None))
        weight, bias = self.pixel_layer
        return F.gelu(F.linear(pixels, weight[: len(weights)], bias[: len(weights)])) @ weights

    def draw_cells(self, z: Tensor, rows: Tensor, scale: Tensor, cells: Tensor, weights: Tensor) -> Tensor:
        """Return the 4×4 logits of n cells: (n, 16, k).

        z: (R, n), rows: (R, 256) and scale: (n,) of one prompt. cells: (n, 256). weights: (32, k).
        """
        pixels = self._features(z, rows, scale, cells, slice(None))  # (n · 4, 64)
        pixels = F.gelu(F.linear(pixels, *self.pixel_layer))  # (n · 4, 4 · 32)
        return (pixels.view(-1, len(weights)) @ weights).view(-1, 16, weights.shape[1])

    def _features(self, z: Tensor, rows: Tensor, scale: Tensor, cells: Tensor, part: slice) -> Tensor:
        """Return what the first enlargement makes of n cells: (n · m, 64), m the quarters in ``part``."""
        pixels = z.T @ rows[:, part]
        pixels.addcmul_(cells[:, part], scale[:, None]).add_(self.cells.outer[part, 0])
        pixels = pixels.view(-1, len(self.norm_weight))
        return F.gelu(
            F.layer_norm(pixels, self.norm_weight.shape, self.norm_weight, self.norm_bias, eps=1e-6)
        )

    @torch.inference_mode()
    def decode(self, shared: SharedImage, prompt: Tensor) -> tuple[Tensor, Tensor]:
        """Draw all four masks of (B, n, 256) prompts: logits (B, 4, 256, 256) and IoU (B, 4)."""
        answer = self.answer(shared, prompt)
        every = torch.arange(answer.iou.shape[1], device=prompt.device)
        logits = [self.draw(shared, answer, i, every) for i in range(len(prompt))]
        return torch.stack(logits), answer.iou


def cells_as_image(logits: Tensor, cells_hw: tuple[int, int]) -> Tensor:
    """Put the (h · w, 16, k) logits of cells where they lie: (k, 4·h, 4·w)."""
    height, width = cells_hw
    blocks = logits.view(height, width, 2, 2, 2, 2, -1)  # rows, columns, y, x, y, x, k
    return blocks.permute(6, 0, 2, 4, 1, 3, 5).reshape(-1, 4 * height, 4 * width)


def _rows_of_cells(window: CellWindow, device: torch.device) -> list[slice] | list[Tensor]:
    """Cut a window into steps of cells that fit a cache, in row-major order."""
    x0, y0, x1, y1 = window
    if x1 - x0 == EMBEDDING_SIDE:
        # Whole rows are neighbours in memory: slices need no copy.
        step = CELLS_PER_STEP if device.type == "cpu" else EMBEDDING_SIDE**2
        first, end = y0 * EMBEDDING_SIDE, y1 * EMBEDDING_SIDE
        return [slice(i, min(i + step, end)) for i in range(first, end, step)]
    grid = torch.arange(EMBEDDING_SIDE**2, device=device).view(EMBEDDING_SIDE, EMBEDDING_SIDE)
    return list(torch.split(grid[y0:y1, x0:x1].flatten(), CELLS_PER_STEP))


def _stage0_layers(block: TwoWayBlock, positions: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Weight and constant of the layers that read the embedding itself: (128, 256), (128, N or 1)."""
    look, update = block.cross_attn_token_to_image, block.cross_attn_image_to_token
    layers = []
    for layer, placed in ((look.k_proj, True), (look.v_proj, False), (update.q_proj, True)):
        outer = layer.bias[:, None]
        layers.append((layer.weight, outer + layer.weight @ positions.T if placed else outer))
    return layers


def _attended(stage: Stage, look: Attention, positions: Tensor) -> tuple[KeyProjection, KeyProjection]:
    """Fold the key and value layers of an attention to the image tokens."""
    k, v = look.k_proj, look.v_proj
    return (
        stage.project(k.weight.double(), k.bias.double(), positions.double()),
        stage.project(v.weight.double(), v.bias.double()),
    )


def _as_linear(enlarge: nn.Module) -> tuple[Tensor, Tensor]:
    """Write a 2×2, stride 2 transposed convolution as weight (4 · out, in) and bias (4 · out,)."""
    assert isinstance(enlarge, nn.ConvTranspose2d)
    assert enlarge.bias is not None
    weight = enlarge.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (y, x, out, in) as (4 · out, in)
    return weight.contiguous(), enlarge.bias.repeat(4)


def _queries(attention: Attention, tokens: Tensor) -> Tensor:
    """Scaled queries of the tokens, (B, H, T, D)."""
    q = split_heads(attention.q_proj(tokens))
    return q / math.sqrt(q.shape[-1])


def _token_keys(attention: Attention, tokens: Tensor, token_pe: Tensor) -> tuple[Tensor, Tensor]:
    """Scaled keys and values of the tokens, for the image to look at: (B, H, T, D) both."""
    k = split_heads(attention.k_proj(tokens + token_pe))
    return k / math.sqrt(k.shape[-1]), split_heads(attention.v_proj(tokens))


def _join_heads(attention: Attention, mixed: Tensor) -> Tensor:
    """Bring (B, H, T, D) through the output layer: (B, T, 256)."""
    out: Tensor = attention.out_proj(mixed.transpose(1, 2).flatten(2))
    return out
