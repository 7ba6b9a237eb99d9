"""Judge each outline in the light of the whole picture: noise gives thousands of them, and few droplets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Share of droplets among the proposals that RimNet learned from ...
_LEARNED_SHARE = 0.5
# ... and the least that a picture is taken to have, or else noise could outvote the clearest droplet.
_LEAST_SHARE = 0.012
# Sizes are compared in bins of a quarter octave, over about half an octave: grain says little of giants.
_BINS_PER_OCTAVE, _OCTAVES, _WIDTH_OCTAVES = 4, 12, 0.5
# Where so few proposals have a size, their share is not known any better than what was learned.
_FEW = 4.0
_ROUNDS = 50

Float32 = NDArray[np.float32]


def in_picture(score: Float32, radius_px: Float32) -> Float32:
    """Return scores corrected for how common droplets are among proposals of that size, (N,) -> (N,).

    A score answers for a picture in which as many proposals are droplets as where it was learned. Share and
    scores are estimated in turn until they agree, by expectation and maximisation after Saerens, Latinne &
    Decaestecker, Neural Computation 14 (2002) 21-41. Scores are only ever lowered.
    """
    n_bins = _BINS_PER_OCTAVE * _OCTAVES
    octave = np.log2(np.maximum(radius_px, 1.0))
    size = np.minimum(np.round(_BINS_PER_OCTAVE * octave).astype(int), n_bins - 1)
    apart = np.subtract.outer(np.arange(n_bins), np.arange(n_bins)) / _BINS_PER_OCTAVE
    near = np.exp(-0.5 * (apart / _WIDTH_OCTAVES) ** 2)
    proposals = near @ np.bincount(size, minlength=n_bins)
    odds = score.astype(np.float64) / np.maximum(1 - score.astype(np.float64), 1e-7)
    corrected = score.astype(np.float64)
    for _ in range(_ROUNDS):
        droplets = near @ np.bincount(size, weights=corrected, minlength=n_bins)
        share = (droplets + _FEW * _LEARNED_SHARE) / (proposals + _FEW)
        share = np.clip(share, _LEAST_SHARE, _LEARNED_SHARE)
        shifted = odds * (share / (1 - share) * (1 - _LEARNED_SHARE) / _LEARNED_SHARE)[size]
        corrected = shifted / (1 + shifted)
    return corrected.astype(np.float32)
