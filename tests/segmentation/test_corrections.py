"""Outlines are moved by little so that all points agree, and only where they can be."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sam_droplet.segmentation.corrections import corrected
from sam_droplet.segmentation.prompts import Prompt
from sam_droplet.segmentation.stars import N_RAYS, Stars


def circle(*radii: float) -> Stars:
    n = len(radii)
    return Stars(
        np.full((n, 2), 100, np.float32),
        np.repeat(np.array(radii, np.float32)[:, None], N_RAYS, axis=1),
        np.linspace(0.9, 0.5, n).astype(np.float32),
    )


def prompt(*points: tuple[float, float, int]) -> Prompt:
    """Make a prompt with a first point in the middle and others at (angle in degrees, distance, label)."""
    placed = [(100.0, 100.0)]
    for degrees, distance, _ in points:
        angle = np.deg2rad(degrees)
        placed.append((float(100 + distance * np.cos(angle)), float(100 + distance * np.sin(angle))))
    return Prompt(tuple(placed), (1, *(label for *_, label in points)))


def test_points_that_agree_move_nothing():
    assert np.array_equal(corrected(circle(20), prompt((0, 19, 1), (90, 21, 0))).radii, circle(20).radii)


def test_one_point_makes_the_outline_grow_as_a_whole():
    assert np.allclose(corrected(circle(20), prompt((30, 22, 1))).radii, 22 * 1.02, rtol=1e-3)


def test_points_that_no_growth_suits_bend_the_outline_near_them():
    asked = prompt((0, 24, 1), (180, 17, 0))
    (radii,) = corrected(circle(20), asked).radii
    assert 24 < radii[0] < 25
    assert 16 < radii[16] < 17
    assert np.allclose(radii[[7, 8, 9, 23, 24, 25]], 20)


def test_a_lone_point_far_out_bends_the_outline():
    (radii,) = corrected(circle(20), prompt((90, 27, 1))).radii
    assert 27 < radii[8] < 28
    assert np.allclose(radii[[0, 16, 24]], 20)


def test_what_would_be_another_thing_is_no_correction():
    assert len(corrected(circle(20), prompt((0, 40, 1)))) == 0
    assert len(corrected(circle(20), prompt((0, 3, 0)))) == 0
    assert len(corrected(circle(20), prompt((0, 24, 1), (1, 23, 0)))) == 0
    assert len(corrected(Stars.none(), prompt((0, 24, 1)))) == 0


def test_the_surest_outline_comes_first():
    assert corrected(circle(20, 21), prompt((0, 22, 1))).score.tolist() == np.float32([0.9, 0.5]).tolist()


@given(
    st.lists(st.tuples(st.floats(0, 360), st.floats(0.3, 1.8), st.integers(0, 1)), min_size=1, max_size=6),
    st.lists(st.floats(12, 30), min_size=N_RAYS, max_size=N_RAYS),
)
def test_every_answer_agrees_with_all_points_and_moved_by_little(points, radii):
    stars = Stars(np.full((1, 2), 100, np.float32), np.float32([radii]), np.float32([0.7]))
    asked = prompt(*((degrees, 20 * share, label) for degrees, share, label in points))
    answer = corrected(stars, asked)
    assert answer.contain(asked.positive_xy).all()
    assert not answer.contain(asked.negative_xy).any()
    assert (np.abs(np.log(answer.radii / stars.radii)) <= np.log(1.51)).all()
