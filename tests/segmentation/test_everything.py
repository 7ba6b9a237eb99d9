"""The automatic mode against the reference's SamAutomaticMaskGenerator on the same weights."""

from __future__ import annotations

from dataclasses import asdict, replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from sam_droplet.errors import InputError
from sam_droplet.imaging.masks import Mask, iou, mask_from_bits
from sam_droplet.segmentation.everything import (
    EverythingOptions,
    crop_windows,
    find_everything,
    point_grid,
    suppress_boxes,
)
from sam_droplet.segmentation.mask_tidying import tidy_mask
from sam_droplet.segmentation.mobile_sam import MobileSam
from sam_droplet.segmentation.sam_masks import Arrays, MobileSamPredictor

# Thresholds at which each filter takes some masks of the blob weights and leaves some.
OPTIONS = EverythingOptions(
    points_per_side=4,
    pred_iou_thresh=0.9,
    stability_score_thresh=0.5,
    stability_score_offset=0.5,
    box_nms_thresh=0.5,
)


@pytest.fixture(scope="module")
def predictor(blob_sam: MobileSam) -> MobileSamPredictor:
    return MobileSamPredictor(blob_sam)


@pytest.fixture(scope="module")
def arrays(predictor: MobileSamPredictor, view: np.ndarray) -> Arrays:
    return predictor.encode(view)


@pytest.fixture(scope="module")
def masks(predictor: MobileSamPredictor, view: np.ndarray, arrays: Arrays) -> list[Mask]:
    return find_everything(predictor, view, OPTIONS, arrays=arrays)


def reference_masks(
    reference: ModuleType, model: Any, view: np.ndarray, options: EverythingOptions
) -> list[dict[str, Any]]:
    generator = reference.SamAutomaticMaskGenerator(model, points_per_batch=16, **asdict(options))
    found: list[dict[str, Any]] = generator.generate(view)
    return found


def assert_same(masks: list[Mask], theirs: list[dict[str, Any]]) -> None:
    """Every mask of one list has its equal in the other."""
    assert len(masks) == len(theirs)
    unmatched = list(theirs)
    for mask in masks:
        overlaps = [iou(mask, whole_mask(record)) for record in unmatched]
        best = int(np.argmax(overlaps))
        assert overlaps[best] > 0.99
        record = unmatched.pop(best)
        assert mask.score == pytest.approx(min(1.0, record["predicted_iou"]), abs=1e-4)
        # The reference measures boxes between first and last pixel.
        x, y, w, h = record["bbox"]
        np.testing.assert_allclose(mask.bbox_xywh, (x, y, w + 1, h + 1), atol=1)


def whole_mask(record: dict[str, Any]) -> Mask:
    mask = mask_from_bits(record["segmentation"], 1.0)
    assert mask is not None
    return mask


def test_accepts_the_masks_that_the_reference_accepts(
    reference: ModuleType, blob_reference: Any, view: np.ndarray, masks: list[Mask]
) -> None:
    theirs = reference_masks(reference, blob_reference, view, OPTIONS)
    assert 4 <= len(theirs) < 40
    assert_same(masks, theirs)


@pytest.mark.parametrize(
    "change",
    [
        {"pred_iou_thresh": 0.0},
        {"stability_score_thresh": 0.0},
        {"box_nms_thresh": 1.0},
    ],
)
def test_every_filter_takes_part(
    predictor: MobileSamPredictor,
    view: np.ndarray,
    arrays: Arrays,
    masks: list[Mask],
    change: dict[str, float],
) -> None:
    looser = find_everything(predictor, view, replace(OPTIONS, **change), arrays=arrays)  # type: ignore[arg-type]
    assert len(looser) > len(masks)


def test_crops_and_small_regions_agree_with_the_reference(
    reference: ModuleType, blob_reference: Any, predictor: MobileSamPredictor, view: np.ndarray
) -> None:
    options = replace(OPTIONS, points_per_side=2, crop_n_layers=1, min_mask_region_area=40)
    theirs = reference_masks(reference, blob_reference, view, options)
    crops = {tuple(record["crop_box"]) for record in theirs}
    assert len(crops) >= 3, "masks of several crops must take part"
    seen: list[tuple[int, int]] = []
    ours = find_everything(predictor, view, options, on_progress=lambda *at: seen.append(at))
    assert_same(ours, theirs)
    assert seen[-1] == (20, 20)
    assert seen == sorted(seen)


def test_masks_come_best_first_and_inside_the_image(masks: list[Mask], view: np.ndarray) -> None:
    scores = [mask.score for mask in masks]
    assert scores == sorted(scores, reverse=True)
    height, width = view.shape[:2]
    for mask in masks:
        x0, y0, x1, y1 = mask.box_xyxy
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height


def test_a_region_limits_what_is_found(
    predictor: MobileSamPredictor, view: np.ndarray, arrays: Arrays, masks: list[Mask]
) -> None:
    seen: list[tuple[int, int]] = []
    inside = find_everything(
        predictor,
        view,
        OPTIONS,
        arrays=arrays,
        region_xyxy=(0, 0, 210, view.shape[0]),
        on_progress=lambda *at: seen.append(at),
    )
    assert seen[-1] == (8, 8), "points outside the region need not be asked"
    assert 0 < len(inside) < len(masks)
    assert all(mask.box_xyxy[0] < 210 for mask in inside)


def test_progress_may_end_the_search(predictor: MobileSamPredictor, view: np.ndarray, arrays: Arrays) -> None:
    def cancel(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_everything(predictor, view, OPTIONS, arrays=arrays, on_progress=cancel)


@pytest.mark.parametrize("image_hw", [(300, 420), (1024, 1024), (97, 1500)])
def test_grids_and_crops_are_those_of_the_reference(reference: ModuleType, image_hw: tuple[int, int]) -> None:
    amg = reference.automatic_mask_generator
    boxes, layers = amg.generate_crop_boxes(image_hw, 2, 512 / 1500)
    crops = crop_windows(image_hw, 2, 512 / 1500)
    assert [list(crop.box_xyxy) for crop in crops] == boxes
    assert [crop.layer for crop in crops] == layers
    np.testing.assert_allclose(point_grid(5), amg.build_all_layer_point_grids(5, 0, 1)[0])


def test_suppression_keeps_the_best_of_overlapping_boxes() -> None:
    boxes = np.array([[0, 0, 11, 11], [1, 0, 12, 11], [30, 30, 41, 41], [0, 0, 11, 11]], np.float32)
    scores = np.array([0.5, 0.9, 0.1, 0.7], np.float32)
    assert suppress_boxes(boxes, scores, 0.7) == [1, 2]
    assert suppress_boxes(boxes, scores, 0.9) == [1, 3, 2]
    assert suppress_boxes(boxes[:0], scores[:0], 0.7) == []


@pytest.mark.parametrize("seed", range(12))
def test_tidying_equals_the_reference_on_whole_images(reference: ModuleType, seed: int) -> None:
    import cv2

    rng = np.random.default_rng(seed)
    bits = cv2.GaussianBlur(rng.normal(size=(60, 80)), (0, 0), 1.6) > 0.12
    bits[:, 60:] &= seed % 2 == 0
    mask = mask_from_bits(bits, 0.5)
    assert mask is not None
    expected, holes = reference.automatic_mask_generator.remove_small_regions(bits, 25, "holes")
    expected, islands = reference.automatic_mask_generator.remove_small_regions(expected, 25, "islands")
    tidy = tidy_mask(mask, 25, (60, 80))
    painted = np.zeros_like(bits)
    x0, y0, x1, y1 = tidy.box_xyxy
    painted[y0:y1, x0:x1] = tidy.bits
    assert np.array_equal(painted, expected)
    assert (tidy is mask) == (not holes and not islands)


def test_the_last_island_stays_however_small() -> None:
    bits = np.zeros((20, 20), bool)
    bits[2:4, 2:4] = bits[10:13, 10:13] = True
    mask = mask_from_bits(bits, 1.0)
    assert mask is not None
    assert tidy_mask(mask, 100, (20, 20)).box_xyxy == (10, 10, 13, 13)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("points_per_side", 0),
        ("pred_iou_thresh", 1.5),
        ("crop_n_layers", 9),
        ("box_nms_thresh", float("nan")),
    ],
)
def test_impossible_parameters_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(InputError, match=name):
        EverythingOptions(**{name: value})  # type: ignore[arg-type]
