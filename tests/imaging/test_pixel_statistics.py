"""Statistics of pixels are those of the plain formulas, and cost little memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from sam_droplet.imaging.pixel_statistics import pixel_statistics


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 1), (7, 9, 3), (40, 50, 2)])
@pytest.mark.parametrize("spread", [0, 3, 200])
def test_they_are_those_of_all_values(dtype, shape, spread):
    pixels = (np.random.default_rng(1).integers(0, spread + 1, shape) + 20).astype(dtype)
    found, values = pixel_statistics(pixels, 50), pixels.astype(np.float64).ravel()
    counts, edges = np.histogram(values, 50)
    assert (found.min, found.max, found.median) == (values.min(), values.max(), np.median(values))
    assert found.mean == pytest.approx(values.mean(), rel=1e-12)
    assert found.std == pytest.approx(values.std(), rel=1e-9, abs=1e-9)
    assert found.histogram == counts.tolist()
    assert found.histogram_edges == pytest.approx(edges.tolist())
    assert all(isinstance(value, (int, float)) for value in (found.mean, *found.histogram))


@pytest.mark.parametrize(("dtype", "times"), [(np.uint8, 4), (np.uint16, 2), (np.float32, 2)])
def test_a_large_image_takes_little_more_memory_than_it_has(dtype, times):
    """In numbers of 64 bits, and a copy of them, it took 16 times as much for 8 bits."""
    pixels = np.random.default_rng(1).integers(0, 200, (2000, 2000, 1)).astype(dtype)
    tracemalloc.start()
    pixel_statistics(pixels, 50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < times * pixels.nbytes
