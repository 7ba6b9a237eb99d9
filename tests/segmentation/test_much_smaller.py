"""What is far smaller than droplets of one size is left out, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam_droplet.segmentation.much_smaller import much_smaller, usual_radius
from sam_droplet.segmentation.stars import N_RAYS, Stars

HW = (1000, 1000)


def _circles(radius: np.ndarray, centre_xy: np.ndarray | None = None) -> Stars:
    radius = np.asarray(radius, np.float32)
    if centre_xy is None:
        centre_xy = np.random.default_rng(0).uniform(200, 800, (len(radius), 2))
    rays = np.repeat(radius[:, None], N_RAYS, axis=1)
    return Stars(np.asarray(centre_xy, np.float32), rays, np.full(len(radius), 0.9, np.float32))


def _of_one_size(n: int, n_small: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.concatenate([rng.normal(40, 2, n), np.full(n_small, 10.0)])


def test_few_small_ones_among_droplets_of_one_size_are_left_out() -> None:
    assert np.flatnonzero(much_smaller(_circles(_of_one_size(100, 5)), HW)).tolist() == [
        100,
        101,
        102,
        103,
        104,
    ]


@pytest.mark.parametrize(
    "radius",
    [
        _of_one_size(100, 40),  # a second size, not a few stray ones
        _of_one_size(12, 1),  # too few droplets to know their size
        np.random.default_rng(2).lognormal(3, 0.5, 300),  # all sizes
        np.concatenate([np.full(200, 20.0), [90.0]]),  # one giant makes no droplet small
        np.concatenate([np.full(100, 40.0), np.full(5, 14.0)]),  # not that much smaller
        np.empty(0),
    ],
)
def test_everything_else_stays(radius: np.ndarray) -> None:
    assert not much_smaller(_circles(radius), HW).any()


def test_what_the_border_cuts_stays() -> None:
    radius = _of_one_size(100, 2)
    centre = np.random.default_rng(0).uniform(200, 800, (len(radius), 2))
    centre[100] = (3.0, 500.0)
    assert np.flatnonzero(much_smaller(_circles(radius, centre), HW)).tolist() == [101]


@given(st.lists(st.floats(1, 400), min_size=1, max_size=200))
def test_the_usual_radius_is_that_of_a_droplet_with_half_of_the_area_above(radius: list[float]) -> None:
    given_radius = np.array(radius, np.float32)
    usual = usual_radius(given_radius)
    area = given_radius.astype(np.float64) ** 2
    assert usual in given_radius.tolist()
    assert area[given_radius >= usual].sum() >= area.sum() / 2 * (1 - 1e-9)
    assert area[given_radius > usual].sum() <= area.sum() / 2 * (1 + 1e-9)
