"""Statistics of all pixels of an image, in little more memory than the image itself has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging.pixels import Pixels

_BLOCK_VALUES = 1 << 20


@dataclass(frozen=True)
class PixelStatistics:
    """Describe pixel values; ``std`` divides by n, the bins between ``histogram_edges`` are equally wide."""

    mean: float
    min: float
    max: float
    std: float
    median: float
    histogram: list[int]
    histogram_edges: list[float]


def pixel_statistics(pixels: Pixels, n_bins: int) -> PixelStatistics:
    """Return the statistics over all channels together.

    An image of 200 megapixels is allowed, and as numbers of 64 bits it would be larger than many a memory.
    """
    if pixels.dtype.kind == "u":
        return _of_counts(_counts(pixels), n_bins)
    return _of_floats(pixels.reshape(-1), n_bins)


def _counts(pixels: Pixels) -> NDArray[np.int64]:
    flat = pixels.reshape(-1)
    counts = np.zeros(1 << 8 * pixels.itemsize, np.int64)
    for start in range(0, flat.size, _BLOCK_VALUES):
        counts += np.bincount(flat[start : start + _BLOCK_VALUES], minlength=counts.size)
    return counts


def _of_counts(counts: NDArray[np.int64], n_bins: int) -> PixelStatistics:
    values = np.flatnonzero(counts)
    weights = counts[values]
    n = int(weights.sum())
    mean = float(values @ weights) / n
    # The values in the middle: one where their number is odd, else two.
    ends = np.cumsum(weights)
    middle = values[np.searchsorted(ends, [(n - 1) // 2, n // 2], side="right")]
    binned, edges = np.histogram(values, n_bins, (float(values[0]), float(values[-1])), weights=weights)
    return PixelStatistics(
        mean=mean,
        min=float(values[0]),
        max=float(values[-1]),
        std=math.sqrt(float(((values - mean) ** 2) @ weights) / n),
        median=float(middle.mean()),
        histogram=binned.astype(int).tolist(),
        histogram_edges=edges.tolist(),
    )


def _of_floats(flat: NDArray[Any], n_bins: int) -> PixelStatistics:
    blocks = [flat[start : start + _BLOCK_VALUES] for start in range(0, flat.size, _BLOCK_VALUES)]
    mean = float(flat.mean(dtype=np.float64))
    squares = sum(float(((block.astype(np.float64) - mean) ** 2).sum()) for block in blocks)
    low, high = float(flat.min()), float(flat.max())
    binned, edges = np.histogram(flat, n_bins, (low, high))
    return PixelStatistics(
        mean=mean,
        min=low,
        max=high,
        std=math.sqrt(squares / flat.size),
        median=float(np.median(flat)),
        histogram=binned.tolist(),
        histogram_edges=[float(edge) for edge in edges],
    )
