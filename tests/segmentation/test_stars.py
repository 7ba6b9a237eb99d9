"""Star-convex outlines: geometry against discs, and which of many proposals survive."""

import numpy as np
import pytest

from sam_droplet.segmentation.stars import (
    Stars,
    distinct,
    shared_areas,
    stars_from_outlines,
    suppress,
    unit_rays,
)


def circles(*xyrs):
    """Stars from (x, y, radius, score) rows."""
    rows = np.array(xyrs, np.float32).reshape(-1, 4)
    return Stars(rows[:, :2], np.repeat(rows[:, 2:3], 32, axis=1), rows[:, 3])


def kept(*xyrs):
    stars = circles(*xyrs)
    return sorted(suppress(stars).tolist())


def test_a_circle_has_the_area_and_mask_of_a_disc():
    star = circles((50.3, 40.7, 20.0, 0.9))
    assert star.equivalent_radii() == pytest.approx([20.0])
    (mask,) = star.masks((100, 100))
    assert mask.area_px == pytest.approx(np.pi * 400, rel=0.004)


def test_outlines_beyond_the_border_are_cut_at_it():
    (mask,) = circles((2.0, 50.0, 20.0, 0.9)).masks((100, 100))
    assert mask.box_xyxy[0] == 0
    assert mask.contour_xy.min() >= 0


def test_points_are_inside_exactly_where_the_outline_says():
    star = circles((50.0, 50.0, 10.0, 1.0))
    points = np.array([[50.0, 50.0], [59.9, 50.0], [60.1, 50.0], [50.0, 39.0]])
    assert star.contain(points).tolist() == [[True, True, False, False]]


def test_an_outline_is_the_same_seen_from_another_inner_point():
    circle = np.array([30.0, 20.0]) + 12 * unit_rays()
    star = stars_from_outlines(circle[None].astype(np.float32), np.array([0.5], np.float32))
    assert star.centre_xy[0] == pytest.approx([30.0, 20.0], abs=1e-4)
    assert star.radii[0] == pytest.approx(12.0, abs=1e-3)


def test_overlap_shares_agree_with_the_lens_of_two_discs():
    i, j, common = shared_areas(circles((0, 0, 10, 1), (10, 0, 10, 1)))
    assert sorted(zip(i.tolist(), j.tolist(), strict=True)) == [(0, 1), (1, 0)]
    lens = 2 * 100 * np.arccos(0.5) - 5 * np.sqrt(300)
    assert common * np.pi == pytest.approx(lens, abs=0.03 * np.pi * 100)


def test_the_same_droplet_seen_twice_is_kept_once():
    assert kept((50, 50, 20, 0.9), (51, 50, 21, 0.8)) == [0]


def test_touching_droplets_are_both_kept():
    assert kept((50, 50, 20, 0.9), (89, 50, 20, 0.8)) == [0, 1]


def test_a_bead_falls_to_its_droplet_even_if_it_scores_higher():
    assert kept((50, 50, 40, 0.6), (60, 50, 6, 0.9)) == [0]


def test_an_outline_round_many_droplets_falls_to_them():
    droplets = [(x, y, 10, 0.7) for x in (20, 41, 62) for y in (20, 41, 62)]
    assert kept((41, 41, 35, 0.6), *droplets) == list(range(1, 10))


def test_a_field_of_small_droplets_is_not_one_giant_that_scores_higher():
    droplets = [(x, y, 5, 0.5) for x in range(20, 100, 11) for y in range(20, 100, 11)]
    assert kept((58, 58, 50, 0.9), *droplets) == list(range(1, 1 + len(droplets)))


def test_a_droplet_that_is_surely_one_keeps_its_many_beads():
    beads = [(58 + 30 * np.cos(a), 58 + 30 * np.sin(a), 7, 0.95) for a in np.arange(12) * np.pi / 6]
    part = (70, 58, 38, 0.97)
    assert kept((58, 58, 50, 0.99), part, *beads) == [0]


def test_an_outline_that_reaches_into_all_neighbours_falls_to_the_droplet_inside_it():
    ring = [(60 + 40 * np.cos(a), 60 + 40 * np.sin(a), 19, 0.9) for a in np.arange(6) * np.pi / 3]
    assert kept((60, 60, 38, 0.6), (60, 60, 19, 0.9), *ring) == list(range(1, 8))


def test_giants_and_dwarfs_pair_whatever_their_sizes():
    i, j, _ = shared_areas(circles((100, 100, 90, 1), (150, 100, 3, 1), (400, 400, 3, 1)))
    assert sorted(zip(i.tolist(), j.tolist(), strict=True)) == [(0, 1), (1, 0)]


def test_nothing_in_gives_nothing_out():
    assert suppress(Stars.none()).tolist() == []
    assert Stars.none().masks((10, 10)) == []


def test_twins_are_looked_at_once_and_others_all():
    seen, twin, inner, neighbour = (
        (50, 50, 20, 0.7),
        (51, 50.5, 21, 0.9),
        (50, 50, 12, 0.8),
        (85, 50, 20, 0.6),
    )
    stars = circles(seen, twin, inner, neighbour)
    assert distinct(stars, stars.score).tolist() == [1, 2, 3]


def test_a_long_outline_shares_all_its_area_with_its_twin_and_half_with_one_cut_off():
    angle = np.arange(32) * (2 * np.pi / 32)
    ellipse = 1 / np.hypot(np.cos(angle) / 30, np.sin(angle) / 12)
    cut = np.where(np.cos(angle) > 0, ellipse, 0.01)
    stars = Stars(np.full((3, 2), 50, np.float32), np.array([ellipse, ellipse, cut], np.float32), np.ones(3))
    area = stars.equivalent_radii() ** 2
    share = {(a, b): float(common / area[a]) for a, b, common in zip(*shared_areas(stars), strict=True)}
    assert share[0, 1] == pytest.approx(1.0, abs=0.01)
    assert share[0, 2] == pytest.approx(0.5, abs=0.05)
    assert share[2, 0] == pytest.approx(1.0, abs=0.01)


def test_outlines_can_be_replaced_and_the_old_ones_stay_as_they_were():
    stars = circles((0, 0, 10, 0.5), (50, 0, 10, 0.6))
    after = stars.replaced(np.array([1]), circles((52, 1, 12, 0.9)))
    assert after.centre_xy.tolist() == [[0, 0], [52, 1]]
    assert after.score == pytest.approx([0.5, 0.9])
    assert stars.score == pytest.approx([0.5, 0.6])
