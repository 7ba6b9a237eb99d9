"""Masks: areas and outlines against geometry, run lengths against pycocotools, suppression and labels."""

from __future__ import annotations

import math
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from sam_droplet.errors import InputError
from sam_droplet.imaging.masks import (
    Mask,
    contained_share,
    intersection_px,
    iou,
    label_image,
    mask_from_bits,
    mask_from_polygon,
    non_maximum_suppression,
    pixel_outline,
    rle_decode,
    rle_encode,
)
from sam_droplet.imaging.polygons import masks_from_polygons

BITS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=24))


def full(mask: Mask, image_hw: tuple[int, int]) -> NDArray[np.bool_]:
    bits = np.zeros(image_hw, bool)
    x0, y0, x1, y1 = mask.box_xyxy
    bits[y0:y1, x0:x1] = mask.bits
    return bits


def disc(
    x: float, y: float, radius: float, image_hw: tuple[int, int] = (120, 140), score: float = 1.0
) -> Mask:
    rows, columns = np.mgrid[: image_hw[0], : image_hw[1]] + 0.5
    mask = mask_from_bits(np.hypot(columns - x, rows - y) <= radius, score)
    assert mask is not None
    return mask


def shoelace(contour_xy: NDArray[Any]) -> float:
    x, y = contour_xy.astype(float).T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def ring(x: float, y: float, radius: float, n_points: int) -> NDArray[np.float64]:
    angles = np.arange(n_points) * 2 * math.pi / n_points
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1)


@settings(deadline=None)
@given(BITS, st.integers(0, 9), st.integers(0, 9))
def test_crop_keeps_every_pixel_in_its_place(bits: NDArray[np.bool_], dx: int, dy: int) -> None:
    mask = mask_from_bits(bits, 0.5, offset_xy=(dx, dy))
    if mask is None:
        assert not bits.any()
        return
    assert np.array_equal(full(mask, (bits.shape[0] + dy, bits.shape[1] + dx))[dy:, dx:], bits)
    assert mask.area_px == bits.sum()
    assert np.any(mask.bits[:, [0, -1]], axis=0).all()
    assert np.any(mask.bits[[0, -1]], axis=1).all()
    assert mask.bbox_xywh[2:] == (mask.bits.shape[1], mask.bits.shape[0])


@settings(deadline=None)
@given(BITS)
def test_run_lengths_are_those_of_pycocotools_and_read_back(bits: NDArray[np.bool_]) -> None:
    mask = mask_from_bits(bits, 0.25)
    reference = coco_mask.encode(np.asfortranarray(bits.astype(np.uint8)))
    if mask is None:
        assert rle_decode(reference) is None
        return
    ours = rle_encode(mask, bits.shape)
    assert ours == {"size": list(bits.shape), "counts": reference["counts"].decode()}
    assert int(coco_mask.area(ours)) == mask.area_px
    assert tuple(coco_mask.toBbox(ours)) == mask.bbox_xywh
    back = rle_decode(ours, score=0.25)
    assert back is not None
    assert (back.box_xyxy, back.score) == (mask.box_xyxy, 0.25)
    assert np.array_equal(back.bits, mask.bits)


def test_run_lengths_of_a_big_image_read_back() -> None:
    rows, columns = np.mgrid[:3000, :4000]
    mask = mask_from_bits(np.hypot(columns - 2100.3, rows - 1444.8) < 1200.5, 0.5)
    assert mask is not None
    back = rle_decode(rle_encode(mask, (3000, 4000)))
    assert back is not None
    assert back.box_xyxy == mask.box_xyxy
    assert np.array_equal(back.bits, mask.bits)


@pytest.mark.parametrize(
    "counts", ["", "0", "P", "o" * 30, "é", b"\x00", [1, 2], [-1, 101], "ZZ\x7f", [10**12]]
)
def test_run_lengths_that_do_not_fit_are_the_callers_fault(counts: Any) -> None:
    with pytest.raises(InputError, match="Run lengths"):
        rle_decode({"size": [10, 10], "counts": counts})


@settings(deadline=None)
@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=30), st.integers(1, 50))
def test_any_run_lengths_give_a_mask_or_an_input_error(counts: str, side: int) -> None:
    try:
        mask = rle_decode({"size": [side, side], "counts": counts})
    except InputError:
        mask = None
    assert mask is None or mask.area_px <= side * side


@settings(deadline=None)
@given(BITS)
def test_uncompressed_run_lengths_are_read_too(bits: NDArray[np.bool_]) -> None:
    flat = bits.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat, prepend=False)).tolist()
    counts = np.diff([0, *changes, flat.size]).tolist()
    back = rle_decode({"size": list(bits.shape), "counts": counts})
    if back is None:
        assert not bits.any()
    else:
        assert np.array_equal(full(back, bits.shape), bits)


@settings(deadline=None)
@given(BITS, BITS)
def test_overlap_numbers_are_those_of_whole_arrays(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> None:
    mask_a, mask_b = mask_from_bits(a, 1), mask_from_bits(b, 1, offset_xy=(3, 2))
    if mask_a is None or mask_b is None:
        return
    whole_a, whole_b = full(mask_a, (30, 30)), full(mask_b, (30, 30))
    shared = int((whole_a & whole_b).sum())
    assert intersection_px(mask_a, mask_b) == intersection_px(mask_b, mask_a) == shared
    assert iou(mask_a, mask_b) == pytest.approx(shared / (whole_a | whole_b).sum())
    assert contained_share(mask_a, mask_b) == pytest.approx(shared / whole_a.sum())
    assert iou(mask_a, mask_a) == 1


@settings(deadline=None)
@given(st.floats(20, 80), st.floats(20, 80), st.floats(3, 18), st.sampled_from([24, 64, 400]))
def test_filled_circle_has_the_area_of_its_polygon(x: float, y: float, radius: float, n_points: int) -> None:
    contour = ring(x, y, radius, n_points)
    mask = mask_from_polygon(contour, 0.9, (100, 100))
    assert mask is not None
    # The count of lattice points in a disc strays from its area by a few root r.
    assert abs(mask.area_px - shoelace(contour)) <= 4 * math.sqrt(radius) + 1
    assert np.array_equal(mask.outline_xy, contour.astype(np.float32))


def test_mean_area_over_many_places_is_exact() -> None:
    random = np.random.default_rng(3)
    for radius in (3.0, 8.0, 20.0):
        areas = []
        for x, y in random.uniform(40, 41, (300, 2)):
            mask = mask_from_polygon(ring(x, y, radius, 256), 1.0, (100, 100))
            assert mask is not None
            areas.append(mask.area_px)
        assert np.mean(areas) == pytest.approx(math.pi * radius**2, rel=0.006)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(-12, 32), st.floats(-12, 32)), min_size=3, max_size=14),
)
def test_a_pixel_belongs_to_a_polygon_if_its_centre_is_inside(points: list[tuple[float, float]]) -> None:
    contour = np.array(points)
    mask = mask_from_polygon(contour, 1.0, (20, 22))
    bits = np.zeros((20, 22), bool) if mask is None else full(mask, (20, 22))
    for row in range(20):
        for column in range(22):
            assert bits[row, column] == _is_inside(column + 0.5, row + 0.5, contour)


def _is_inside(x: float, y: float, contour: NDArray[np.float64]) -> bool:
    """Even-odd rule by counting the edges crossed on the way left."""
    inside = False
    for (x0, y0), (x1, y1) in zip(contour, np.roll(contour, -1, axis=0), strict=True):
        if (y0 <= y) != (y1 <= y):
            crossing = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
            # A crossing within rounding of the centre may count either way, but the same in both.
            inside ^= bool(math.ceil(crossing - 0.5) <= x - 0.5)
    return inside


def test_polygon_of_whole_pixels_is_those_pixels() -> None:
    square = np.array([[2, 3], [7, 3], [7, 5], [2, 5]])
    mask = mask_from_polygon(square, 1.0, (10, 10))
    assert mask is not None
    assert mask.box_xyxy == (2, 3, 7, 5)
    assert mask.area_px == 10


def test_polygon_outside_or_between_pixel_centres_is_no_mask() -> None:
    for contour in (
        ring(-50, 5, 3, 20),
        ring(5, 500, 3, 20),
        ring(5.0, 5.0, 0.3, 20),
        [[1, 1], [5, 5], [9, 9]],
    ):
        assert mask_from_polygon(np.asarray(contour), 1.0, (10, 10)) is None


def test_polygon_reaching_far_outside_is_clipped_to_the_image() -> None:
    for far in (1e30, 1e308):
        huge = np.array([[-far, -far], [far, -far], [far, far], [-far, far]])
        mask = mask_from_polygon(huge, 1.0, (8, 9))
        assert mask is not None
        assert mask.area_px == 72
        # Kept in 32 bits, 1e308 would be infinite, and no JSON text can hold that.
        assert np.isfinite(mask.outline_xy).all()


@pytest.mark.parametrize(
    "points",
    [[], [[1, 1], [2, 2]], [[1, 1], [2, 2], [3, math.nan]], [[0, 0], [math.inf, 0], [1, 1]], [1, 2, 3]],
)
def test_what_is_no_polygon_is_the_callers_fault(points: list[Any]) -> None:
    with pytest.raises(InputError, match="points"):
        mask_from_polygon(np.array(points, float), 1.0, (10, 10))


def test_polygon_of_a_hundred_thousand_points_is_filled_in_a_moment() -> None:
    start = time.perf_counter()
    mask = mask_from_polygon(ring(2000, 2000, 1900, 100_000), 1.0, (4000, 4000))
    assert time.perf_counter() - start < 2
    assert mask is not None
    assert mask.area_px == pytest.approx(math.pi * 1900**2, rel=1e-4)


def test_scribble_that_would_cost_gigabytes_is_refused() -> None:
    zigzag = np.stack([np.linspace(0, 9000, 9000), np.tile([0.0, 9000.0], 4500)], axis=1)
    with pytest.raises(InputError, match="fewer"):
        mask_from_polygon(zigzag, 1.0, (9000, 9000))


@settings(deadline=None)
@given(BITS)
def test_outline_of_the_only_part_without_holes_encloses_its_pixels(bits: NDArray[np.bool_]) -> None:
    mask = mask_from_bits(_grown_without_holes(bits), 1.0, offset_xy=(4, 7))
    if mask is None:
        return
    outline = pixel_outline(mask)
    assert outline.dtype == np.float32
    assert shoelace(outline) == mask.area_px
    assert np.array_equal(outline, np.round(outline))
    again = mask_from_polygon(outline, 1.0, (60, 60))
    assert again is not None
    assert again.box_xyxy == mask.box_xyxy
    assert np.array_equal(again.bits, mask.bits)


def _grown_without_holes(bits: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the first part of 4-connected pixels and fill what it encloses."""
    kept = _flooded(bits, np.argwhere(bits)[:1])
    padded = np.pad(~kept, 1, constant_values=True)
    return ~_flooded(padded, np.array([[0, 0]]))[1:-1, 1:-1]


def _flooded(open_cells: NDArray[np.bool_], seeds: NDArray[np.intp]) -> NDArray[np.bool_]:
    reached = np.zeros_like(open_cells)
    waiting = [tuple(seed) for seed in seeds]
    while waiting:
        row, column = waiting.pop()
        is_there = 0 <= row < open_cells.shape[0] and 0 <= column < open_cells.shape[1]
        if is_there and open_cells[row, column] and not reached[row, column]:
            reached[row, column] = True
            waiting += [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
    return reached


def test_outline_is_that_of_the_largest_part_and_the_contour_where_known() -> None:
    bits = np.zeros((20, 20), bool)
    bits[1:3, 1:3], bits[8:15, 6:16], bits[10, 10] = True, True, False
    mask = mask_from_bits(bits, 1.0)
    assert mask is not None
    assert shoelace(pixel_outline(mask)) == 70
    with_contour = Mask(mask.box_xyxy, mask.bits, 1.0, np.zeros((3, 2), np.float32))
    assert with_contour.outline_xy.shape == (3, 2)
    assert mask.outline_xy.min(axis=0).tolist() == [6, 8]


def test_labels_number_masks_in_order_and_keep_smaller_ones_visible() -> None:
    inner, outer, other = disc(50, 50, 5), disc(50, 50, 20), disc(100, 90, 8)
    labels = label_image([inner, outer, other], (120, 140))
    assert labels.dtype == np.uint16
    assert labels[50, 50] == 1
    assert labels[50, 65] == 2
    assert [int((labels == i).sum()) for i in (1, 2, 3)] == [
        inner.area_px,
        outer.area_px - inner.area_px,
        other.area_px,
    ]
    assert label_image([], (3, 4)).tolist() == np.zeros((3, 4)).tolist()


def test_labels_above_65535_need_32_bits() -> None:
    pixel = np.ones((1, 1), bool)
    masks = [Mask((i % 300, i // 300, i % 300 + 1, i // 300 + 1), pixel, 1.0) for i in range(65_536)]
    labels = label_image(masks, (300, 300))
    assert labels.dtype == np.uint32
    assert labels.max() == 65_536
    assert label_image(masks[:-1], (300, 300)).dtype == np.uint16


DISCS = st.lists(
    st.tuples(st.floats(10, 130), st.floats(10, 110), st.floats(2, 30), st.floats(0, 1)), max_size=14
)


@settings(max_examples=60, deadline=None)
@given(DISCS, st.sampled_from([0.2, 0.5, 0.8]), st.sampled_from([0.6, 0.9, 1.01]))
def test_suppression_keeps_the_best_and_no_two_that_overlap(
    discs: list[tuple[float, float, float, float]], iou_threshold: float, containment: float
) -> None:
    masks = [disc(x, y, radius, score=score) for x, y, radius, score in discs]
    kept = non_maximum_suppression(masks, iou_threshold=iou_threshold, containment_threshold=containment)

    def conflict(a: Mask, b: Mask) -> bool:
        smaller, larger = sorted((a, b), key=lambda mask: mask.area_px)
        return iou(a, b) > iou_threshold or contained_share(smaller, larger) > containment

    assert len(set(kept)) == len(kept)
    assert [masks[i].score for i in kept] == sorted((masks[i].score for i in kept), reverse=True)
    for position, index in enumerate(kept):
        assert not any(conflict(masks[index], masks[other]) for other in kept[:position])
    for index in set(range(len(masks))) - set(kept):
        assert any(
            conflict(masks[index], masks[other]) and masks[other].score >= masks[index].score
            for other in kept
        )
    again = non_maximum_suppression(
        [masks[i] for i in kept], iou_threshold=iou_threshold, containment_threshold=containment
    )
    assert again == list(range(len(kept)))


def test_equal_scores_keep_the_earlier_one() -> None:
    twins = [disc(50, 50, 10), disc(50, 50, 10)]
    assert non_maximum_suppression(twins, iou_threshold=0.5) == [0]
    assert non_maximum_suppression([], iou_threshold=0.5) == []


def test_a_large_polygon_is_filled_in_a_few_bytes_a_pixel() -> None:
    corners = np.array([[0, 0], [2000, 0], [2000, 1500], [0, 1500]], np.float32)
    for fill in (mask_from_polygon, lambda *_: masks_from_polygons(corners[None], np.ones(1, np.float32))[0]):
        tracemalloc.start()
        mask = fill(corners, 1.0, (1500, 2000))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert mask is not None
        assert mask.area_px == 2000 * 1500
        assert peak < 5 * mask.area_px
