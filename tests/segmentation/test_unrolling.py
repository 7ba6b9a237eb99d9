"""Unrolled droplets: an outline becomes a straight line, whatever its size, place and shape."""

import numpy as np
import pytest

from sam_droplet.imaging.pyramid import halved
from sam_droplet.segmentation.automatic import pyramid
from sam_droplet.segmentation.stars import N_RAYS, Stars
from sam_droplet.segmentation.unrolling import STEPS, unroll


def circles(*xyr: tuple[float, float, float]) -> Stars:
    values = np.array(xyr, np.float32)
    radii = np.repeat(values[:, 2:], N_RAYS, axis=1)
    return Stars(values[:, :2], radii, np.ones(len(values), np.float32))


def picture_of(stars: Stars, side: int) -> np.ndarray:
    """Draw bright discs on black, edges smooth over a pixel, (side, side, 1) uint16."""
    y, x = np.mgrid[:side, :side] + 0.5
    light = np.zeros((side, side))
    for (cx, cy), r in zip(stars.centre_xy, stars.equivalent_radii(), strict=True):
        light = np.maximum(light, np.clip(r - np.hypot(x - cx, y - cy) + 0.5, 0, 1))
    return (1000 + 2000 * light[..., None]).astype(np.uint16)


@pytest.mark.parametrize("radius", [6.0, 14.0, 33.0, 90.0])
def test_the_rim_of_a_disc_lies_at_step_one_at_every_size(radius):
    stars = circles((190.3, 200.8, radius))
    seen = unroll(pyramid(picture_of(stars, 400)), (1000, 3000), stars)
    assert seen.grey.shape == (1, N_RAYS, len(STEPS))
    assert seen.inside.all()
    # Where each ray falls through half height, by linear interpolation.
    crossing = [np.interp(-0.5, -ray, STEPS) for ray in seen.grey[0]]
    assert crossing == pytest.approx(np.ones(N_RAYS), abs=0.035)


def test_rays_beyond_the_border_are_marked():
    stars = circles((2.0, 40.0, 20.0))
    seen = unroll(pyramid(picture_of(stars, 128)), (1000, 3000), stars)
    towards_left, towards_right = N_RAYS // 2, 0
    assert not seen.inside[0, towards_left, -1]
    assert seen.inside[0, towards_right].all()


def test_droplets_of_one_picture_do_not_depend_on_each_other():
    stars = circles((40, 50, 12), (700, 620, 15), (300, 900, 60), (1010, 5, 30))
    levels = pyramid(picture_of(stars, 1024))
    together = unroll(levels, (1000, 3000), stars)
    for i in range(len(stars)):
        alone = unroll(levels, (1000, 3000), stars.take(np.array([i])))
        assert np.allclose(together.grey[i], alone.grey[0], atol=1e-5)


def test_the_pyramid_starts_with_the_picture_and_halves_it():
    picture = picture_of(circles((100, 100, 30)), 300)
    levels = pyramid(picture)
    assert levels[0] is picture
    assert np.array_equal(levels[1], halved(picture))
    assert min(levels[-1].shape[:2]) >= 64
