"""Crops and their answers agree, clicks lie in what they ask for, and a seed gives the same crop anywhere."""

import cv2
import numpy as np
import pytest

from sam_droplet.imaging.synthetic_layout import discs, scattered, stretched
from sam_droplet.imaging.synthetic_outlines import Outline, PromptScene
from sam_droplet.training.prompt_crops import CELL_PX, DENSE_STRIDE, MASK_STRIDE, PromptCrops, cut_crop
from sam_droplet.training.scene_store import Rendering, SceneStore


def ellipses(size=512):
    """Black ellipses on white."""
    rng = np.random.default_rng(0)
    centres, radii = scattered(rng, size, rng.uniform(15, 40, 40))
    things = [Outline("droplet", (p,)) for p in stretched(rng, discs(centres, radii), 0.6).polygons(96)]
    pixels = np.full((size, size, 3), 255, np.uint8)
    for thing in things:
        pixels[thing.filled((size, size))] = 0
    return PromptScene(pixels, tuple(things))


@pytest.mark.parametrize("size", [128, 1024])
def test_a_crop_and_its_answers_show_the_same_things(size):
    """Cut, scaled, flipped, turned and toned: what is asked for is what stands out from its surroundings."""
    scene, checked = ellipses(), 0
    for seed in range(6):
        crop = cut_crop(np.random.default_rng(seed), scene, size, 4)
        grey = crop.picture.mean(axis=0)
        grey = cv2.resize(grey, (size // MASK_STRIDE,) * 2, interpolation=cv2.INTER_AREA)
        for k in np.flatnonzero(crop.counted):
            inside = crop.masks[k] == MASK_STRIDE**2
            x0, y0, x1, y1 = (crop.boxes_xyxy[k] / MASK_STRIDE).round().astype(int)
            rows, columns = np.nonzero(crop.masks[k])
            box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert np.abs(np.subtract(box, (x0, y0, x1, y1))).max() <= 1
            ring = cv2.dilate(crop.masks[k], np.ones((3, 3), np.uint8), iterations=2) > 0
            ring &= cv2.dilate(crop.masks[k], np.ones((3, 3), np.uint8)) == 0
            rows, columns = np.nonzero(ring)
            ring[rows, columns] = (rows < crop.seen_hw[0] // 2) & (columns < crop.seen_hw[1] // 2)
            if inside.sum() > 50 and ring.sum() > 50:
                spread = grey[inside].std() + 1
                assert abs(np.median(grey[inside]) - np.median(grey[ring])) > spread
                checked += 1
    assert checked > 8


def test_first_clicks_lie_in_what_they_ask_for():
    scene = ellipses()
    for seed in range(8):
        crop = cut_crop(np.random.default_rng(seed), scene, 128, 4)
        for k in np.flatnonzero(crop.counted):
            x, y = (crop.first_xy[k] / MASK_STRIDE).astype(int)
            assert crop.masks[k, y, x] > 0


def test_the_dense_answer_is_where_the_things_are():
    crop = cut_crop(np.random.default_rng(2), ellipses(), 128, 64)
    asked = crop.masks.max(axis=0)[:: DENSE_STRIDE // MASK_STRIDE, :: DENSE_STRIDE // MASK_STRIDE] > 0
    something, central, log_radius, *way = crop.dense.astype(np.float32)
    assert (something[asked] > 0).mean() > 0.9
    assert central[something == 0].max(initial=0) == 0
    assert np.exp(log_radius[something > 0]).max() < 120
    y, x = np.nonzero(something)
    centre_x, centre_y = (
        np.rint(at + w[y, x] * CELL_PX / DENSE_STRIDE) for at, w in zip((x, y), way, strict=True)
    )
    assert (central[centre_y.astype(int), centre_x.astype(int)] > 0.9).mean() > 0.9


def test_scenes_are_rendered_once_and_crops_repeat_on_any_machine(tmp_path):
    store = SceneStore(tmp_path, 5, 128)
    with Rendering(store, 2, 0) as rendering:
        rendering.wait_for(2)
    before = [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*.npz"))]
    with Rendering(store, 2, 0):
        assert [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*.npz"))] == before
    assert store.available() == [0, 1]
    first, again = (PromptCrops(store, 1, 64, 2, 10)[3] for _ in range(2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["picture"], PromptCrops(store, 1, 64, 2, 10)[4]["picture"])


def test_scenes_rendered_by_processes_are_the_same(tmp_path):
    here, there = SceneStore(tmp_path / "here", 5, 64), SceneStore(tmp_path / "there", 5, 64)
    with Rendering(here, 2, 0), Rendering(there, 2, 1) as rendering:
        rendering.wait_for(2)
    assert there.available() == [0, 1]
    assert all(np.array_equal(here.load(i).pixels, there.load(i).pixels) for i in (0, 1))
