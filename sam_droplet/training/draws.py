"""Draw examples as often as their weights say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# From so many outlines on, a scene weighs as the root of their number: all are alike in what they tell.
_FEW_OUTLINES = 20


def weight_of_each(n_outlines: int) -> float:
    """Return how often each outline of a scene with so many is drawn, up to a factor."""
    return float(1 / np.sqrt(max(n_outlines, _FEW_OUTLINES)))


def drawn(rng: np.random.Generator, summed: NDArray[np.float64], n: int) -> NDArray[np.intp]:
    """Return n indices. summed: the cumulative sum of the weights."""
    place = np.searchsorted(summed, rng.random(n) * summed[-1], side="right")
    return np.asarray(np.minimum(place, len(summed) - 1), np.intp)
