"""Halving keeps grey values and coordinates, whatever the size and type of the picture."""

import numpy as np
import pytest

from sam_droplet.imaging.pyramid import halved


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_each_pixel_is_the_mean_of_four(dtype, channels):
    pixels = np.random.default_rng(1).integers(0, 200, (1036, 38, channels)).astype(dtype)
    expected = pixels.reshape(518, 2, 19, 2, channels).astype(float).mean(axis=(1, 3))
    half = halved(pixels)
    assert half.dtype == np.float32
    assert half == pytest.approx(expected, abs=1e-3)


def test_odd_sides_repeat_their_last_row_and_column():
    pixels = np.arange(15, dtype=np.uint8).reshape(3, 5, 1)
    assert halved(pixels)[..., 0].tolist() == [[3, 5, 6.5], [10.5, 12.5, 14]]


def test_one_pixel_stays_one():
    assert halved(np.full((1, 1, 3), 7, np.uint16)).tolist() == [[[7, 7, 7]]]
