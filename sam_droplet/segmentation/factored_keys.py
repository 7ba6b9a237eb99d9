"""Image tokens of the two-way transformer, kept as a part shared by all prompts plus a few rows a prompt.

Algebra only: what the official decoder computes, without a 4096×256 tensor for each prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sam_droplet.segmentation.mobile_sam import HEADS, Attention
from sam_droplet.segmentation.tiny_vit import EMBEDDING_CHANNELS

# An attention of 4096 image tokens to T prompt tokens adds A·M to the image tokens, where A (4096, 8·T)
# are the attention weights and M (8·T, 256) the tokens' values behind the output projection. A layer
# normalization only shifts and scales each image token. So after block s every image token is
#
#     keys = gain · deviation · (base_scale · base + Zᵀ M) + shift,
#
# with base shared by all prompts, and every linear layer of it is a shared layer of base plus
# Zᵀ (M W). Everything is held centred over channels, so that no mean has to be taken later.
#
# The attention weights of a head sum to one, so the last token's need no row of their own: with values
# counted from that token's, A·M has 8·(T - 1) rows and one more, of ones, for the sum of the heads'
# last values.
#
# Letters: B prompts, T tokens, H = 8 heads, D = 16 channels a head, N = 4096 image tokens, R rows of Z.


@dataclass(frozen=True)
class KeyProjection:
    """One linear layer of the image tokens after a stage, split by where its input comes from.

    base: (out, 256) and base_bias: (out,) act on the embedding. lifts: one (H, D, out) for each image
    update so far, acting on the tokens' values. constant: (out,) or None. outer: (out, N) or (out, 1),
    the position and the bias, which no normalization touches.
    """

    base: Tensor
    base_bias: Tensor
    lifts: tuple[Tensor, ...]
    constant: Tensor | None
    outer: Tensor

    def rows(self, values: list[Tensor]) -> Tensor:
        """M·W of one batch: values are (B, H, T, D) of each update, relative; returns (B, R, out)."""
        lifted = [v @ lift for v, lift in zip(values, self.lifts, strict=True)]  # (B, H, T, out)
        return _with_constant(lifted, self.constant)


@dataclass(frozen=True)
class Stage:
    """The weights that make the image tokens after a block, in double precision.

    to_base: (256, 256) from embedding (plus ``embedding_bias``) to the centred shared part.
    updates: (H, D, 256) for each image update so far, centred. constant: (256,) or None, centred.
    gain, shift: (256,) of the layer normalization.
    """

    to_base: Tensor
    embedding_bias: Tensor
    updates: tuple[Tensor, ...]
    constant: Tensor | None
    gain: Tensor
    shift: Tensor

    def project(self, weight: Tensor, bias: Tensor, positions: Tensor | None = None) -> KeyProjection:
        """Fold a (out, 256) linear layer, optionally of keys + positions (N, 256), into this stage."""
        scaled = (weight * self.gain).T  # (256, out)
        outer = (weight @ self.shift + bias)[:, None]
        if positions is not None:
            outer = outer + weight @ positions.T  # (out, N)
        return self._fold(scaled, outer)

    def square(self) -> KeyProjection:
        """Return the products of the rows of M with base, for the variance; ``lifts`` give M itself."""
        rows = torch.cat([update.flatten(0, 1) for update in self.updates])
        if self.constant is not None:
            rows = torch.cat([rows, self.constant[None]])
        base = self.to_base @ rows.T  # (256, out)
        return KeyProjection(
            base=base.T.float(),
            base_bias=(self.embedding_bias @ base).float(),
            lifts=tuple(update.float() for update in self.updates),
            constant=None if self.constant is None else self.constant.float(),
            outer=torch.zeros(1, 1, device=base.device),
        )

    def _fold(self, scaled: Tensor, outer: Tensor) -> KeyProjection:
        base = self.to_base @ scaled  # (256, out)
        return KeyProjection(
            base=base.T.float(),
            base_bias=(self.embedding_bias @ base).float(),
            lifts=tuple((update @ scaled).float() for update in self.updates),
            constant=None if self.constant is None else (self.constant @ scaled).float(),
            outer=outer.float(),
        )


def first_stage(update: Attention, norm: torch.nn.LayerNorm) -> Stage:
    """Make the stage after the first block from its image-to-token attention and normalization."""
    out = update.out_proj
    return Stage(
        to_base=centring(out.weight.device),
        embedding_bias=out.bias.double(),
        updates=(_update_rows(update),),
        constant=None,
        gain=norm.weight.double(),
        shift=norm.bias.double(),
    )


def next_stage(before: Stage, update: Attention, norm: torch.nn.LayerNorm) -> Stage:
    """Make the stage after one more block."""
    out = update.out_proj
    rescale = before.gain[:, None] * centring(out.weight.device)  # gain, then centre again
    return Stage(
        to_base=before.to_base @ rescale,
        embedding_bias=before.embedding_bias,
        updates=(*(earlier @ rescale for earlier in before.updates), _update_rows(update)),
        constant=centred(before.shift + out.bias.double()),
        gain=norm.weight.double(),
        shift=norm.bias.double(),
    )


def centring(device: torch.device) -> Tensor:
    """Return the (256, 256) matrix that subtracts from each token the mean of its channels."""
    eye = torch.eye(EMBEDDING_CHANNELS, dtype=torch.float64, device=device)
    return eye - 1 / EMBEDDING_CHANNELS


def centred(rows: Tensor) -> Tensor:
    """Subtract the mean over the last axis."""
    return rows - rows.mean(dim=-1, keepdim=True)


def _update_rows(update: Attention) -> Tensor:
    """Output projection of each head, centred: (H, D, 256)."""
    return centred(update.out_proj.weight.double().T.reshape(HEADS, -1, EMBEDDING_CHANNELS))


@dataclass(frozen=True)
class FactoredKeys:
    """The image tokens of a batch of prompts after one stage.

    values: (B, H, T, D) for each update so far, relative. z: (B, R, N), already divided by the deviation.
    base_scale: (B, N), factor of the shared part, divided by the deviation too.
    """

    values: list[Tensor]
    z: Tensor
    base_scale: Tensor

    def scores(self, q: Tensor, layer: KeyProjection, shared: Tensor) -> Tensor:
        """Multiply queries (B, H, T, D) with ``layer`` of the image tokens: (B, H, T, N).

        shared: (H, D, N), the layer of base.
        """
        b, heads, t, d = q.shape
        rows = layer.rows(self.values).view(b, -1, heads, d).permute(0, 2, 3, 1)  # (B, H, D, R)
        scores = (q @ rows).flatten(1, 2) @ self.z  # (B, H · T, N)
        scores = scores.view(b, heads, t, -1)
        scores.addcmul_(by_head(q, shared), self.base_scale[:, None, None])
        return scores.add_(by_head(q, layer.outer.view(heads, d, -1)))

    def mix(self, attention: Tensor, layer: KeyProjection, shared: Tensor) -> Tensor:
        """Sum ``layer`` of the image tokens, weighted by attention (B, H, T, N): (B, H, T, D)."""
        b, heads, t, n = attention.shape
        rows = layer.rows(self.values).view(b, -1, heads, shared.shape[1]).transpose(1, 2)  # (B, H, R, D)
        by_row = attention.view(b, heads * t, n) @ self.z.transpose(1, 2)  # (B, H · T, R)
        mixed = by_row.view(b, heads, t, -1) @ rows  # (B, H, T, D)
        mixed = mixed + sum_by_head(attention * self.base_scale[:, None, None], shared)
        return mixed + layer.outer.view(heads, 1, -1)  # each row of attention sums to one


def relative(values: Tensor) -> Tensor:
    """Count values (B, H, T, D) from those of the last token, which stay what they are."""
    return torch.cat([values[:, :, :-1] - values[:, :, -1:], values[:, :, -1:]], dim=2)


def rows_of(attention: Tensor) -> Tensor:
    """Turn the weights of an update (B, H, T, N), which sum to one over T, into rows of Z: (B, R, N)."""
    ones = torch.ones_like(attention[:, 0, :1])
    return torch.cat([attention[:, :, :-1].flatten(1, 2), ones], dim=1)


def _with_constant(parts: list[Tensor], constant: Tensor | None) -> Tensor:
    """Join (B, H, T, n) parts of relative values as ``rows_of`` does: (B, R, n).

    constant: (n,), what the row of ones of the last part has beside the tokens; None for nothing.
    """
    rows = []
    for part in parts:
        rows += [part[:, :, :-1].flatten(1, 2), part[:, :, -1].sum(dim=1, keepdim=True)]
    if constant is not None:
        rows[-1] = rows[-1] + constant
    return torch.cat(rows, dim=1)


def by_head(q: Tensor, shared: Tensor) -> Tensor:
    """Multiply (B, H, T, D) with a shared (H, D, N) without copying it: (B, H, T, N)."""
    b, heads, t, d = q.shape
    product = q.transpose(0, 1).reshape(heads, b * t, d) @ shared
    return product.view(heads, b, t, -1).transpose(0, 1)


def sum_by_head(attention: Tensor, shared: Tensor) -> Tensor:
    """Sum a shared (H, D, N) weighted by (B, H, T, N): (B, H, T, D)."""
    b, heads, t, n = attention.shape
    product = attention.transpose(0, 1).reshape(heads, b * t, n) @ shared.transpose(1, 2)
    return product.view(heads, b, t, -1).transpose(0, 1)


def normalize(
    values: list[Tensor], z: Tensor, scale: Tensor | None, square: KeyProjection, shared: SharedSquare
) -> FactoredKeys:
    """Divide by each token's standard deviation, found without making the tokens.

    z: (B, R, N) and scale: (B, N) or None (one) before the division.
    Variance = (scale² |base|² + 2 scale · base·Zᵀ M + |Zᵀ M|²) / 256, all of it centred.
    """
    m = square.rows(values)  # (B, R, 256)
    inner = (m @ m.transpose(1, 2)) @ z  # (B, R, N)
    cross = [by_head(v, part) for v, part in zip(values, shared.by_update, strict=True)]
    mixed = _with_constant(cross, shared.constant)  # (B, R, N)
    if scale is None:
        total = shared.norm + inner.add_(mixed, alpha=2).mul_(z).sum(dim=1)
    else:
        inner.addcmul_(mixed, scale[:, None], value=2)
        total = shared.norm * scale**2 + inner.mul_(z).sum(dim=1)  # (B, N)
    # Rounding may leave a token that is all mean a hair below zero.
    rate = (total.clamp(min=0) / EMBEDDING_CHANNELS + 1e-5).rsqrt()
    return FactoredKeys(values, z * rate[:, None], rate if scale is None else rate * scale)


@dataclass(frozen=True)
class SharedSquare:
    """What the variance needs of one image: norm (N,) = |base|²; by_update (H, D, N) and constant (N,)
    are base times the rows of M."""

    norm: Tensor
    by_update: tuple[Tensor, ...]
    constant: Tensor | None
