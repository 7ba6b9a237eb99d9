"""Training answers are exact, and turning a crop turns its answer."""

from collections import Counter

import cv2
import numpy as np
import pytest

from sam_droplet.imaging.synthetic import STRATA, Scene
from sam_droplet.imaging.synthetic_layout import (
    discs,
    plugs,
    pressed_flat,
    scattered,
    stretched,
    unit_vectors,
)
from sam_droplet.training.targets import (
    LOOK_SHARES,
    SHARES,
    CropDataset,
    draw_stratum,
    ray_distances,
    star_target,
    training_scene,
)

NOTHING = discs(np.empty((0, 2)), np.empty(0))


@pytest.mark.parametrize(
    "shapes",
    [
        discs(np.array([[30.0, 30.0]]), np.array([12.0])),
        pressed_flat(discs(np.array([[30.0, 30.0], [48.0, 30.0]]), np.array([12.0, 10.0]))),
        plugs(np.random.default_rng(0), 256, 30.0),
    ],
)
def test_rays_from_any_inner_point_end_on_the_rim(shapes):
    rng = np.random.default_rng(1)
    owner = rng.integers(0, len(shapes), 40)
    radii = shapes.radii(64)[owner, 0]
    points = shapes.centre_xy[owner] + rng.uniform(-0.3, 0.3, (40, 2)) * radii[:, None]
    distance = ray_distances(shapes, owner, points)
    ends = points[:, None] + distance[..., None] * unit_vectors(32)
    for k in range(40):
        assert shapes.gauge(owner[k], ends[k, :, 0], ends[k, :, 1]) == pytest.approx(1.0, abs=1e-4)


def test_the_centre_map_is_one_at_the_centre_and_zero_outside():
    target = star_target(discs(np.array([[33.0, 33.0]]), np.array([10.0])), NOTHING, 64)
    assert target.centre[16, 16] == pytest.approx(1.0)
    assert target.centre[0, 0] == 0
    assert target.log_radii[:, 16, 16] == pytest.approx(np.log(10.0), abs=1e-5)


def test_doubtful_things_are_not_counted():
    target = star_target(NOTHING, discs(np.array([[32.0, 32.0]]), np.array([10.0])), 64)
    assert not target.counted[16, 16]
    assert target.counted[0, 0]
    assert target.centre.max() == 0


def test_of_two_overlapping_droplets_each_owns_its_side():
    target = star_target(discs(np.array([[24.0, 32.0], [40.0, 32.0]]), np.array([12.0, 12.0])), NOTHING, 64)
    # Seen from the left centre, the rim towards -x is the left droplet's.
    assert np.exp(target.log_radii[16, 16, 12]) == pytest.approx(12.0, abs=1.5)
    assert np.exp(target.log_radii[0, 16, 20]) == pytest.approx(12.0, abs=1.5)


def test_crops_are_the_same_on_every_machine_and_differ_from_each_other():
    scenes = [training_scene(5, i) for i in range(2)]
    first, again = CropDataset(scenes, 1, 10, 128)[3], CropDataset(scenes, 1, 10, 128)[3]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], CropDataset(scenes, 1, 10, 128)[4][0])


def test_a_crop_and_its_answer_show_the_same_droplets():
    """Black ellipses on white, cut, scaled, flipped and turned: inside is where it is black."""
    rng = np.random.default_rng(0)
    centres, radii = scattered(rng, 512, rng.uniform(15, 40, 60))
    shapes = stretched(rng, discs(centres, radii), 0.6)
    pixels = np.full((512, 512, 3), 255, np.uint8)
    for polygon in shapes.polygons(96):
        cv2.fillPoly(pixels, [np.round((polygon - 0.5) * 16).astype(np.int32)], (0, 0, 0), cv2.LINE_8, 4)
    scene = Scene(pixels, shapes, NOTHING)
    for index in range(12):
        picture, centre, _, _ = CropDataset([scene], 2, 12, 128)[index]
        seen, inside = picture.mean(0).reshape(64, 2, 64, 2).mean((1, 3)), centre > 0
        assert abs(np.corrcoef(seen.ravel(), inside.ravel())[0, 1]) > 0.85


@pytest.mark.parametrize("shares", [SHARES, LOOK_SHARES])
def test_every_kind_of_scene_is_drawn_by_its_share(shares):
    rng = np.random.default_rng(0)
    counts = Counter(draw_stratum(rng, shares) for _ in range(4000))
    rest = (1 - sum(shares.values())) / len(STRATA)
    for stratum in STRATA:
        share = shares.get(stratum, 0) + rest
        assert counts[stratum] / 4000 == pytest.approx(share, abs=4 * np.sqrt(share / 4000))
