"""Judge each outline in the light of the whole picture: noise gives thousands of them, and few droplets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Share of droplets among the proposals that RimNet learned from ...
_LEARNED_SHARE = 0.5
# ... and the least that a picture is taken to have, or else noise could outvote the clearest droplet.
_LEAST_SHARE = 0.002
# Sizes and contrasts are compared in bins of a quarter octave, over about a third of one: grain says little
# of giants, and the dark parts of a picture little of its bright spots.
_BINS_PER_OCTAVE, _OCTAVES, _WIDTH_OCTAVES = 4, 12, 0.35
# Where so few proposals are alike, their share is not known any better than what was learned.
_FEW = 8.0
_ROUNDS = 50

Float32 = NDArray[np.float32]


def in_picture(score: Float32, radius_px: Float32, contrast: Float32) -> Float32:
    """Return scores corrected for how common droplets are among proposals like each, (N,) -> (N,).

    A score answers for a picture in which as many proposals are droplets as where it was learned. Share and
    scores are estimated in turn until they agree, by expectation and maximisation after Saerens, Latinne &
    Decaestecker, Neural Computation 14 (2002) 21-41, apart for each size and contrast. Scores only fall.
    contrast: (N,), standard deviation of what is seen round each outline, in shares of the grey range.
    """
    size = _bins(radius_px)
    strength = _bins(contrast * 2.0 ** (_OCTAVES - 1))
    shape = (_BINS_PER_OCTAVE * _OCTAVES,) * 2
    apart = np.subtract.outer(np.arange(shape[0]), np.arange(shape[0])) / _BINS_PER_OCTAVE
    near = np.exp(-0.5 * (apart / _WIDTH_OCTAVES) ** 2)
    cell = np.ravel_multi_index((size, strength), shape)

    def around(weight: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """Sum over what is like each cell."""
        total = np.bincount(cell, weight, minlength=shape[0] * shape[1]).reshape(shape)
        return np.asarray(near @ total @ near, np.float64).ravel()

    proposals = around(None)
    corrected = score.astype(np.float64)
    odds = corrected / np.maximum(1 - corrected, 1e-7)
    for _ in range(_ROUNDS):
        share = (around(corrected) + _FEW * _LEARNED_SHARE) / (proposals + _FEW)
        share = np.clip(share, _LEAST_SHARE, _LEARNED_SHARE)
        shifted = odds * (share / (1 - share) * (1 - _LEARNED_SHARE) / _LEARNED_SHARE)[cell]
        corrected = shifted / (1 + shifted)
    return corrected.astype(np.float32)


def _bins(value: Float32) -> NDArray[np.intp]:
    """Return the bin of each value, from 1 up to 2 to the twelfth."""
    octave = np.log2(np.maximum(value, 1.0))
    return np.minimum(np.round(_BINS_PER_OCTAVE * octave), _BINS_PER_OCTAVE * _OCTAVES - 1).astype(np.intp)
