"""Outlines settle on the line of the rim that the droplets of a picture agree on, or stay where they are."""

import numpy as np
import pytest

from sam_droplet.segmentation.automatic import pyramid
from sam_droplet.segmentation.rim_line import on_common_line
from sam_droplet.segmentation.stars import N_RAYS, Stars

RANGE = (0.0, 255.0)


def rings(radii: np.ndarray, depth: float, noise: float, side: int = 420) -> np.ndarray:
    """Draw a grid of rings 3 px wide on grey, darker than it for a positive depth, (side, side, 1)."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:side, :side] + 0.5
    picture = np.full((side, side), 140.0)
    for (cx, cy), r in zip(places(len(radii)), radii, strict=True):
        picture -= depth * np.exp(-0.5 * ((np.hypot(x - cx, y - cy) - r) / 1.5) ** 2)
    return np.clip(picture + rng.normal(0, noise, picture.shape), 0, 255)[..., None].astype(np.uint8)


def places(n: int) -> np.ndarray:
    return np.array([(45.3 + 82 * (i % 5), 45.8 + 82 * (i // 5)) for i in range(n)])


def outlines(radii: np.ndarray) -> Stars:
    rays = np.repeat(radii[:, None], N_RAYS, axis=1).astype(np.float32)
    return Stars(places(len(radii)).astype(np.float32), rays, np.full(len(radii), 0.9, np.float32))


@pytest.mark.parametrize("depth", [60.0, -60.0], ids=["dark rim", "bright rim"])
@pytest.mark.parametrize("off", [0.95, 1.04])
def test_outlines_a_little_off_come_to_lie_on_the_line(depth, off):
    radii = np.linspace(16, 34, 25)
    levels = pyramid(rings(radii, depth, noise=8))
    settled = on_common_line(levels, RANGE, outlines(off * radii)).equivalent_radii()
    assert np.abs(settled / radii - 1).max() < 0.02
    assert np.median(settled / radii) == pytest.approx(1, abs=0.004)


def test_an_outline_whose_line_is_hidden_follows_the_others():
    radii = np.full(25, 25.0)
    picture = rings(radii, 60, noise=4)
    picture[4:86, 4:86] = 140
    settled = on_common_line(pyramid(picture), RANGE, outlines(0.95 * radii)).equivalent_radii()
    assert settled[0] == pytest.approx(25, rel=0.01)


def test_outlines_stay_where_the_droplets_do_not_agree():
    rng = np.random.default_rng(2)
    radii = np.full(25, 25.0)
    stars = outlines(radii * np.exp(rng.uniform(-0.09, 0.09, 25)))
    assert np.array_equal(on_common_line(pyramid(rings(radii, 60, 4)), RANGE, stars).radii, stars.radii)


@pytest.mark.parametrize("n", [0, 4])
def test_a_few_outlines_are_no_agreement(n):
    radii = np.full(n, 25.0)
    stars = outlines(0.95 * radii)
    assert np.array_equal(on_common_line(pyramid(rings(radii, 60, 4)), RANGE, stars).radii, stars.radii)


def test_pure_noise_moves_nothing():
    picture = np.random.default_rng(3).normal(140, 20, (420, 420, 1)).astype(np.uint8)
    stars = outlines(np.linspace(16, 34, 25))
    assert np.array_equal(on_common_line(pyramid(picture), RANGE, stars).radii, stars.radii)
