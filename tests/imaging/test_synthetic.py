"""Rendered micrographs are reproducible and their truth is where the picture says."""

import numpy as np
import pytest

from sam_droplet.imaging.synthetic import SAMPLES, STRATA, render_sample, render_scene
from sam_droplet.imaging.synthetic_layout import discs, pressed_flat, stretched, without_overlaps


@pytest.mark.parametrize("stratum", STRATA)
def test_the_same_seed_gives_the_same_scene(stratum):
    first, second = render_scene(7, stratum, 192), render_scene(7, stratum, 192)
    assert np.array_equal(first.pixels, second.pixels)
    assert np.array_equal(first.shapes.centre_xy, second.shapes.centre_xy)


def test_different_seeds_give_different_scenes():
    assert not np.array_equal(render_scene(1, size=192).pixels, render_scene(2, size=192).pixels)


def test_an_empty_scene_asks_for_no_droplet():
    assert all(len(render_scene(seed, "empty", 192).shapes) == 0 for seed in range(5))


def test_the_true_edge_is_the_darkest_line_of_a_dark_rim():
    """Rendered without blur, noise or neighbours, the profile across the rim is lowest at the edge."""
    from dataclasses import replace

    from sam_droplet.imaging.synthetic_optics import Canvas, draw_droplets, sample_optics

    shapes = discs(np.array([[64.0, 64.0]]), np.array([30.0]))
    look = replace(
        sample_optics(np.random.default_rng(0), "brightfield"),
        rim=80.0, rim_one_sided=0.0, inner_ring=0.0, outer_halo=0.0, level=10.0, dome=0.0, lens=(0.0, 0.0),
        spot=0.0, waves=0.0, second_rim=0.0,
    )  # fmt: skip
    canvas = Canvas.blank(128)
    draw_droplets(np.random.default_rng(1), canvas, shapes, look)
    row = canvas.combined()[63, 64:]  # pixel i has its centre at 64.5 + i
    assert abs(np.argmin(row) + 64.5 - (64 + 30)) <= 0.75


def test_radii_of_an_ellipse_keep_its_area():
    shapes = stretched(np.random.default_rng(0), discs(np.zeros((5, 2)), np.full(5, 20.0)), 0.6)
    assert shapes.equivalent_radii() == pytest.approx(20.0, rel=2e-3)


def test_pressed_droplets_share_a_flat_contact():
    shapes = pressed_flat(discs(np.array([[0.0, 0.0], [18.0, 0.0]]), np.array([10.0, 10.0])))
    radii = shapes.radii(8)
    assert radii[0, 0] == pytest.approx(9.0)
    assert radii[1, 4] == pytest.approx(9.0)
    assert radii[0, 4] == pytest.approx(10.0)


def test_discs_shrink_until_they_only_overlap_as_allowed():
    rng = np.random.default_rng(3)
    centres, radii = rng.uniform(0, 200, (60, 2)), np.full(60, 20.0)
    shrunk = without_overlaps(centres, radii, 0.05)
    distance = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1)) + np.eye(60) * 1e9
    assert (distance >= 0.95 * (shrunk[:, None] + shrunk[None]) - 1e-9).all()
    assert (shrunk <= radii).all()


def test_flipping_shapes_flips_their_outlines():
    shapes = render_scene(3, "polydisperse", 256).shapes
    flipped = shapes.transformed(np.diag([-1.0, 1.0]), np.array([256.0, 0.0]))
    original = shapes.polygons(64)[..., 0].max(axis=1)
    assert flipped.polygons(64)[..., 0].min(axis=1) == pytest.approx(256 - original, abs=1e-6)


@pytest.mark.parametrize("name", [sample.name for sample in SAMPLES])
def test_every_sample_renders_with_droplets_in_it(name):
    info = next(sample for sample in SAMPLES if sample.name == name)
    assert render_sample(name).shape == (info.size, info.size, 3)
    assert len(render_scene(info.seed, info.stratum, info.size).shapes) >= 10
