"""Prompts to masks at image size, against the reference predictor on the same weights."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from sam_droplet.errors import InputError
from sam_droplet.imaging.masks import Mask, contained_share, iou
from sam_droplet.segmentation.mobile_sam import MobileSam, ModelFrame
from sam_droplet.segmentation.sam_masks import Arrays, MobileSamPredictor


@pytest.fixture(scope="module")
def predictor(blob_sam: MobileSam) -> MobileSamPredictor:
    return MobileSamPredictor(blob_sam)


@pytest.fixture(scope="module")
def arrays(predictor: MobileSamPredictor, view: np.ndarray) -> Arrays:
    return predictor.encode(view)


@pytest.fixture(scope="module")
def reference_predictor(reference: ModuleType, blob_reference: Any, view: np.ndarray) -> Any:
    predictor = reference.SamPredictor(blob_reference)
    predictor.set_image(view)
    return predictor


def to_reference(points_xy: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """Move image-corner points to what the reference adds half a model pixel to."""
    scale = ModelFrame(*hw).to_model_xy(np.ones(2))
    return np.asarray(points_xy - 0.5 / scale)


def same_pixels(mask: Mask, full: np.ndarray) -> float:
    """IoU of a mask with a whole-image one."""
    painted = np.zeros_like(full)
    x0, y0, x1, y1 = mask.box_xyxy
    painted[y0:y1, x0:x1] = mask.bits
    return float((painted & full).sum() / (painted | full).sum())


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize(
    ("points_xy", "labels", "box"),
    [
        ([[60.5, 58.5]], [1], None),
        ([[205.0, 205.0], [90.0, 205.0]], [1, 0], None),
        ([], [], [150.0, 60.0, 220.0, 140.0]),
        ([[200.0, 100.0]], [1], [150.0, 60.0, 220.0, 140.0]),
        ([[30.0 + 20 * i, 150.0] for i in range(14)], [1, 0] * 7, None),
    ],
    ids=["point", "negative", "box", "both", "many"],
)
def test_masks_equal_those_of_the_reference_predictor(
    predictor: MobileSamPredictor,
    arrays: Arrays,
    reference_predictor: Any,
    view: np.ndarray,
    points_xy: list[list[float]],
    labels: list[int],
    box: list[float] | None,
    multimask: bool,
) -> None:
    hw = view.shape[:2]
    corners = None if box is None else to_reference(np.array(box).reshape(2, 2), hw).reshape(4)
    full, theirs, _ = reference_predictor.predict(
        point_coords=to_reference(np.array(points_xy), hw) if points_xy else None,
        point_labels=np.array(labels) if labels else None,
        box=corners,
        multimask_output=multimask,
    )
    masks = predictor.predict(arrays, points_xy, labels, box, multimask)
    order = [i for i in np.argsort(-theirs, kind="stable") if full[i].any()]
    assert len(masks) == len(order)
    assert len(masks) > 0
    for mask, i in zip(masks, order, strict=True):
        assert mask.score == pytest.approx(np.clip(theirs[i], 0, 1), abs=1e-4)
        assert same_pixels(mask, full[i]) > 0.999
    assert [mask.score for mask in masks] == sorted((mask.score for mask in masks), reverse=True)


def test_a_point_gives_a_local_mask_round_it(predictor: MobileSamPredictor, arrays: Arrays) -> None:
    (mask,) = predictor.predict(arrays, [[210.0, 150.0]], [1])
    x0, y0, x1, y1 = mask.box_xyxy
    assert x0 < 210 < x1
    assert y0 < 150 < y1
    assert 200 < mask.area_px < 20_000


def test_boxes_in_windows_give_what_each_box_gives_alone(
    predictor: MobileSamPredictor, arrays: Arrays
) -> None:
    centres = [(60, 60), (200, 60), (340, 100), (100, 200), (250, 220), (400, 280)]
    boxes = np.array([[x - 25, y - 25, x + 25, y + 25] for x, y in 2 * centres], float)
    seen: list[tuple[int, int]] = []
    together = predictor.predict_boxes(arrays, boxes, lambda done, total: seen.append((done, total)))
    assert seen == [(8, 12), (12, 12)]
    compared = 0
    for box, mask in zip(boxes, together, strict=True):
        alone = predictor.predict(arrays, [], [], box)
        assert (mask is None) == (not alone) or mask is None
        if mask is not None:
            assert mask.score == pytest.approx(alone[0].score, abs=1e-5)
            # Inside its window the mask is the same; specks far from the box are left out.
            assert contained_share(mask, alone[0]) > 0.999
            assert iou(mask, alone[0]) > 0.8
            compared += 1
    assert compared >= 4


def test_boxes_of_no_box_are_no_masks(predictor: MobileSamPredictor, arrays: Arrays) -> None:
    assert predictor.predict_boxes(arrays, np.empty((0, 4))) == []


def test_the_same_image_is_shared_once_and_few_are_kept(
    blob_sam: MobileSam, arrays: Arrays, view: np.ndarray
) -> None:
    predictor = MobileSamPredictor(blob_sam, open_images=1)
    opened = predictor.open(arrays)
    assert predictor.open({name: value.copy() for name, value in arrays.items()}) is opened
    other = predictor.encode(view[:200])
    assert predictor.open(other) is not opened
    assert predictor.open(arrays) is not opened, "only one image was to be kept"


def test_encoding_twice_gives_the_same_bytes(
    predictor: MobileSamPredictor, arrays: Arrays, view: np.ndarray
) -> None:
    again = predictor.encode(view)
    assert {name: value.tobytes() for name, value in again.items()} == {
        name: value.tobytes() for name, value in arrays.items()
    }
    assert again["embedding"].dtype == np.float32
    assert tuple(again["image_hw"]) == view.shape[:2]


def test_prompts_without_points_or_with_other_labels_are_refused(
    predictor: MobileSamPredictor, arrays: Arrays
) -> None:
    with pytest.raises(InputError, match="labels"):
        predictor.predict(arrays, [[1.0, 2.0]], [1, 0])
    with pytest.raises(InputError, match="a box"):
        predictor.predict(arrays, [], [])
