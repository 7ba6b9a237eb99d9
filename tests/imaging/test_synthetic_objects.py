"""Things to point at lie exactly where their outlines say, in every kind, and survive the disk."""

import numpy as np
import pytest

from sam_droplet.imaging.synthetic_object_looks import Look, draw_outline
from sam_droplet.imaging.synthetic_object_shapes import SHAPES, letters
from sam_droplet.imaging.synthetic_objects import render_promptable
from sam_droplet.imaging.synthetic_outlines import KINDS, Outline, PromptScene

PLAIN = Look(100.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, (1.0, 1.0, 1.0), 0.0)


@pytest.mark.parametrize("kind", [kind for kind in SHAPES if kind != "channel"])
def test_a_thing_is_drawn_where_its_outline_says(kind):
    rng = np.random.default_rng(3)
    solids = tuple(solid + np.array([61.3, 58.7]) for solid in SHAPES[kind](rng, 24.0))
    pixels = np.full((120, 120, 3), 60, np.float32)
    bits = draw_outline(rng, pixels, Outline(kind, solids), PLAIN)
    seen = pixels[..., 0] > 110  # half height
    assert bits is not None
    assert (seen & bits).sum() / (seen | bits).sum() > 0.97


def test_the_extreme_line_of_a_rim_is_the_edge():
    circle = Outline("bead", tuple(solid + 50.0 for solid in SHAPES["bead"](np.random.default_rng(0), 20.0)))
    pixels = np.full((100, 100, 3), 150, np.float32)
    look = Look(0.01, 0.0, 90.0, 1.5, 0.0, 0.0, 0.0, (1.0, 1.0, 1.0), 0.0)
    draw_outline(np.random.default_rng(0), pixels, circle, look)
    row = pixels[49:51, 50:, 0].mean(axis=0)
    assert abs(row.argmin() + 0.5 - 20.0) <= 0.5


def test_letters_have_their_holes():
    glyphs = {len(holes) for seed in range(40) for _, holes in letters(np.random.default_rng(seed), 400)}
    assert {0, 1} <= glyphs
    for seed in range(40):
        for solids, holes in letters(np.random.default_rng(seed), 400):
            outline = Outline("letter", solids, holes)
            for hole in holes:
                middle = np.floor(hole.mean(axis=0)).astype(int)
                if (middle >= 0).all() and (middle < 400).all() and np.ptp(hole, axis=0).min() > 4:
                    assert not outline.filled((400, 400))[middle[1], middle[0]]
                    return
    pytest.fail("no letter with a hole was drawn")


def test_every_kind_turns_up_and_the_same_seed_gives_the_same_scene():
    scenes = [render_promptable(seed, "inclusions", 192) for seed in range(9)]
    assert {thing.kind for scene in scenes for thing in scene.things} == set(KINDS)
    again = render_promptable(4, "inclusions", 192)
    assert np.array_equal(again.pixels, scenes[4].pixels)
    assert [t.kind for t in again.things] == [t.kind for t in scenes[4].things]


def test_a_group_is_the_union_of_its_droplets():
    scenes = [render_promptable(seed, "inclusions", 256, kinds=()) for seed in range(12)]
    groups = [(scene, t) for scene in scenes for t in scene.things if t.kind == "group"]
    assert groups
    for scene, group in groups:
        droplets = np.zeros((256, 256), bool)
        for thing in scene.things:
            if thing.kind == "droplet":
                droplets |= thing.filled((256, 256))
        inside = group.filled((256, 256))
        assert len(group.solids) >= 2
        assert (inside & droplets).sum() > 0.97 * inside.sum()


def test_a_scene_survives_the_disk(tmp_path):
    scene = render_promptable(2, "inclusions", 256)
    scene.save(tmp_path / "000007")
    back = PromptScene.load(tmp_path / "000007")
    assert np.array_equal(back.pixels, scene.pixels)
    assert len(back.things) == len(scene.things) > 3
    for a, b in zip(scene.things, back.things, strict=True):
        assert a.kind == b.kind
        assert (a.filled((256, 256)) ^ b.filled((256, 256))).sum() <= 2  # float32 outlines


def test_a_scene_without_things_survives_the_disk(tmp_path):
    scene = PromptScene(np.zeros((8, 8, 3), np.uint8), ())
    scene.save(tmp_path / "0")
    assert PromptScene.load(tmp_path / "0").things == ()
    assert scene.boxes_xyxy.shape == (0, 4)


def test_turning_an_outline_turns_its_pixels():
    rng = np.random.default_rng(1)
    outline = Outline("blob", tuple(solid + 32.0 for solid in SHAPES["blob"](rng, 20.0)))
    flipped = outline.transformed(np.diag([-1.0, 1.0]), np.array([64.0, 0.0]))
    assert np.array_equal(flipped.filled((64, 64)), outline.filled((64, 64))[:, ::-1])
