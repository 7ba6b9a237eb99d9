"""The modes *refined* and *everything*: who draws, what is resolved, how progress is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from sam_droplet.config import load_config
from sam_droplet.errors import InputError, ModelUnavailable
from sam_droplet.imaging.images import Image, encode_png, load_image
from sam_droplet.imaging.masks import BoxXYXY, Mask, iou, mask_from_polygon
from sam_droplet.imaging.synthetic import render_scene
from sam_droplet.pipeline import FindOptions, Segmenter
from sam_droplet.segmentation.batches import BatchSize
from sam_droplet.segmentation.mobile_sam import MobileSam
from sam_droplet.segmentation.modes import find_refined
from sam_droplet.segmentation.prompts import EverythingOptions, ModelInfo, Segmentation
from sam_droplet.segmentation.stars import unit_rays

DROPLETS = ((100.0, 80.0, 20.0), (300.0, 80.0, 30.0), (1500.0, 900.0, 25.0), (900.0, 600.0, 300.0))


def disc(x: float, y: float, radius: float, score: float, hw: tuple[int, int]) -> Mask:
    mask = mask_from_polygon(np.array([x, y]) + radius * unit_rays(64), score, hw)
    assert mask is not None
    return mask


class KnownDroplets:
    """Finds the discs that it was given."""

    info = ModelInfo("known", "1" * 64, "cpu")

    def __init__(self, masks: list[Mask]) -> None:
        self.masks = masks

    def find(self, image: Image, options: FindOptions, on_progress: Any = None) -> Segmentation:
        return Segmentation(self.masks, self.info, {}, {"propose": 0.1})


class DrawsBoxes:
    """Fills each box with an ellipse a little smaller; notes which boxes it was asked in which window."""

    info = ModelInfo("mobile-sam", "2" * 64, "cpu")

    def __init__(self, shrink: float = 0.95, blind_to: tuple[int, ...] = ()) -> None:
        self.shrink, self.blind_to = shrink, blind_to
        self.batches = BatchSize("prompts", 8)
        self.asked: list[tuple[BoxXYXY, int]] = []

    def draw_boxes(self, image, window, boxes, view, on_progress=None) -> list[Mask | None]:
        drawn: list[Mask | None] = []
        for x0, y0, x1, y1 in boxes:
            centre, half = np.array([x0 + x1, y0 + y1]) / 2, self.shrink * np.array([x1 - x0, y1 - y0]) / 2
            mask = mask_from_polygon(centre + half * unit_rays(64), 0.99, (image.height, image.width))
            drawn.append(None if len(drawn) in self.blind_to else mask)
        self.asked.append((window, len(boxes)))
        if on_progress is not None:
            on_progress(len(boxes), len(boxes))
        return drawn


def blank(width: int, height: int) -> Image:
    return load_image(encode_png(np.full((height, width), 90, np.uint8)), "blank.png")


def refined(masks: list[Mask], drawer: DrawsBoxes, image: Image, on_progress: Any = None) -> Segmentation:
    options = FindOptions(mode="refined")
    return find_refined(KnownDroplets(masks), drawer, image, options, on_progress)  # type: ignore[arg-type]


def test_mobile_sam_draws_what_droplet_net_found_and_keeps_its_scores():
    image = blank(400, 200)
    masks = [disc(*droplet, 0.9 - i / 10, (200, 400)) for i, droplet in enumerate(DROPLETS[:2])]
    answer = refined(masks, DrawsBoxes(), image)
    assert [m.area_px / masks[i].area_px for i, m in enumerate(answer.masks)] == pytest.approx(
        [0.9] * 2, abs=0.03
    )
    assert [m.score for m in answer.masks] == [0.9, 0.8]
    assert answer.model.name == "mobile-sam"
    assert answer.parameters["proposals"]["name"] == "known"
    assert set(answer.timings_s) == {"propose", "draw", "resolve"}
    assert answer.message is None


def test_an_outline_stays_where_mobile_sam_draws_nothing_or_something_else():
    image = blank(400, 200)
    masks = [disc(*droplet, 0.9, (200, 400)) for droplet in DROPLETS[:2]]
    nothing = refined(masks, DrawsBoxes(blind_to=(1,)), image)
    assert any(m is masks[1] for m in nothing.masks)
    assert "1 of 2" in (nothing.message or "")
    elsewhere = refined(masks, DrawsBoxes(shrink=0.4), image)
    assert {id(m) for m in elsewhere.masks} == {id(m) for m in masks}


def test_two_drawings_of_one_droplet_are_one():
    image = blank(400, 200)
    masks = [disc(100, 80, 20, 0.9, (200, 400)), disc(104, 80, 20, 0.8, (200, 400))]
    (kept,) = refined(masks, DrawsBoxes(), image).masks
    assert kept.score == 0.9


def test_big_images_are_drawn_in_windows_that_hold_each_droplet_whole():
    image = blank(2000, 1400)
    masks = [disc(*droplet, 0.9, (1400, 2000)) for droplet in DROPLETS]
    drawer, told = DrawsBoxes(), []
    answer = refined(masks, drawer, image, lambda done, total: told.append((done, total)))
    assert len(answer.masks) == 4
    windows = dict(drawer.asked)
    assert windows.pop((0, 0, 2000, 1400)) == 1  # the giant, which no window holds
    assert sum(windows.values()) == 3
    assert {window[2] - window[0] for window, _ in drawer.asked} == {1024, 2000}
    assert told[-1] == (4, 4)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.fixture(scope="module")
def sam_segmenter(tmp_path_factory: pytest.TempPathFactory, blob_sam: MobileSam) -> Segmenter:
    folder: Path = tmp_path_factory.mktemp("modes")
    save_file(blob_sam.state_dict(), folder / "blobs.safetensors")
    settings = {"data_dir": folder, "sam_model_path": folder / "blobs.safetensors", "runtime": "torch"}
    return Segmenter(load_config({}, settings))


@pytest.fixture(scope="module")
def emulsion() -> Image:
    return load_image(encode_png(render_scene(3, "packed", 512).pixels[:300, :300]), "emulsion.png")


def test_refined_runs_with_the_real_networks(sam_segmenter, emulsion):
    told: list[tuple[Any, ...]] = []
    options = FindOptions(mode="refined")
    result = sam_segmenter.find(emulsion, options, lambda *progress: told.append(progress))
    found = sam_segmenter.find(emulsion, FindOptions())
    assert result.model.name == "mobile-sam"
    # Random weights draw elsewhere: then DropletNet's outlines are all there.
    assert 0.8 * len(found.droplets) <= len(result.droplets) <= len(found.droplets)
    done, total = zip(*(progress for progress in told if "measuring" not in progress), strict=True)
    assert list(done) == sorted(set(done))
    assert done[-1] == total[-1] > len(found.droplets)  # parts looked at, then outlines drawn
    assert told[-1] == (len(result.droplets), len(result.droplets), "measuring")
    assert result.droplets[0].measures.area_px > 0


def test_everything_runs_with_the_real_network_within_size_and_region(sam_segmenter, emulsion):
    grid = EverythingOptions(points_per_side=4, pred_iou_thresh=0.5, stability_score_thresh=0.5)
    options = FindOptions(mode="everything", everything=grid)
    told: list[tuple[Any, ...]] = []
    result = sam_segmenter.find(emulsion, options, lambda *progress: told.append(progress))
    assert len(result.droplets) > 3
    assert (16, 16) in told
    assert told[-1] == (len(result.droplets), len(result.droplets), "measuring")
    assert result.parameters["everything"]["points_per_side"] == 4
    diameters = sorted(d.measures.diameter_px for d in result.droplets)
    middle = diameters[len(diameters) // 2]
    small = sam_segmenter.find(emulsion, replace(options, diameter_max_px=middle)).droplets
    assert 0 < len(small) < len(result.droplets)
    left = sam_segmenter.find(emulsion, replace(options, roi_xyxy=(0, 0, 150, 300))).droplets
    assert 0 < len(left) < len(result.droplets)
    assert all(d.mask.box_xyxy[0] < 150 for d in left)


def test_what_progress_raises_ends_the_search(sam_segmenter, emulsion):
    class CancelledError(Exception):
        pass

    def cancel(done: int, total: int) -> None:
        raise CancelledError

    with pytest.raises(CancelledError):
        sam_segmenter.find(emulsion, FindOptions(mode="everything"), cancel)


def test_sensitivity_moves_the_thresholds_of_everything(sam_segmenter, emulsion):
    grid = EverythingOptions(points_per_side=2)
    thresholds = [
        sam_segmenter.find(
            emulsion, FindOptions(sensitivity=s, mode="everything", everything=grid)
        ).parameters["everything"]["pred_iou_thresh"]
        for s in (0.0, 0.5, 1.0)
    ]
    assert thresholds == pytest.approx([0.98, 0.88, 0.78])


@pytest.mark.parametrize("mode", ["refined", "everything"])
def test_without_weights_the_cure_is_named(mode, emulsion, tmp_path):
    segmenter = Segmenter(load_config({}, {"data_dir": tmp_path, "runtime": "torch"}))
    if any(row["name"] == "mobile-sam" and row["available"] for row in segmenter.models()):
        pytest.skip("MobileSAM's weights are on this machine")
    with pytest.raises(ModelUnavailable, match="model fetch"):
        segmenter.find(emulsion, FindOptions(mode=mode))


def test_an_unknown_mode_is_refused_with_the_modes_there_are():
    with pytest.raises(InputError, match="droplets, refined, everything"):
        FindOptions(mode="magic")


def test_the_region_of_everything_may_be_the_whole_image_or_outside_it(sam_segmenter, emulsion):
    grid = EverythingOptions(points_per_side=3, pred_iou_thresh=0.0, stability_score_thresh=0.0)
    options = FindOptions(mode="everything", everything=grid)
    whole = sam_segmenter.find(emulsion, replace(options, roi_xyxy=(0, 0, 300, 300))).droplets
    everywhere = sam_segmenter.find(emulsion, options).droplets
    assert [iou(a.mask, b.mask) for a, b in zip(whole, everywhere, strict=True)] == [1.0] * len(whole)
    outside = sam_segmenter.find(emulsion, replace(options, roi_xyxy=(400, 400, 500, 500)))
    assert outside.droplets == []
    assert "0 objects" in (outside.message or "")
