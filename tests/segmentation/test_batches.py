"""Where memory runs out, batches are halved, nothing is lost, and it is said."""

from __future__ import annotations

import logging
import weakref
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from torch import Tensor

from sam_droplet.errors import Unavailable
from sam_droplet.segmentation.batches import BatchSize, padded_to
from sam_droplet.segmentation.everything import EverythingOptions, find_everything
from sam_droplet.segmentation.fast_decoder import Answer
from sam_droplet.segmentation.mobile_sam import MobileSam
from sam_droplet.segmentation.sam_masks import MobileSamPredictor, OpenImage


def test_a_batch_that_does_not_fit_is_halved_and_all_items_are_answered_once(caplog):
    batches, tried = BatchSize("prompts", 8), []

    def work(part: slice) -> list[int]:
        tried.append(part.stop - part.start)
        if part.stop - part.start > 3:
            raise torch.OutOfMemoryError("full")
        return list(range(part.start, part.stop))

    with caplog.at_level(logging.WARNING):
        answers = list(batches.run(7, work))
    assert list(chain.from_iterable(answers)) == list(range(7))
    assert tried == [7, 4, 2, 2, 2, 1]
    assert (batches.size, batches.halved) == (2, 2)
    assert "from now on 2 prompts run at once" in caplog.text


def test_what_filled_the_memory_is_gone_before_the_next_try():
    batches, seen = BatchSize("prompts", 2), []

    def work(part: slice) -> bool:
        assert [reference() for reference in seen] == [None] * len(seen)
        large = torch.zeros(1000)
        seen.append(weakref.ref(large))
        if part.stop - part.start > 1:
            raise torch.OutOfMemoryError("full")
        return True

    assert list(batches.run(3, work)) == [True] * 3


def test_where_not_even_one_fits_it_says_what_to_do():
    def work(part: slice) -> None:
        raise torch.OutOfMemoryError("full")

    with pytest.raises(Unavailable, match="set DEVICE to cpu"):
        list(BatchSize("prompts", 4).run(4, work))


def test_a_short_batch_is_filled_with_its_last_item():
    batch = torch.arange(6).view(3, 2)
    assert padded_to(batch, 5).tolist() == [[0, 1], [2, 3], [4, 5], [4, 5], [4, 5]]
    assert padded_to(batch, 3) is batch


class SmallMemory(MobileSamPredictor):
    """Hold no more than two prompts at once, where all of a batch are answered in one pass as on a GPU."""

    def answer(self, image: OpenImage, points_xy: Tensor, labels: Tensor) -> Answer:
        if len(points_xy) > 2:
            raise torch.OutOfMemoryError("full")
        return super().answer(image, points_xy, labels)


def test_everything_and_boxes_are_found_with_little_memory(blob_sam: MobileSam, view: np.ndarray):
    options = EverythingOptions(points_per_side=3, stability_score_thresh=0.5, stability_score_offset=0.5)
    options = replace(options, pred_iou_thresh=0.85)
    ample, small = MobileSamPredictor(blob_sam), SmallMemory(blob_sam, at_once=True)
    arrays = ample.encode(view)
    boxes = np.array([[20.0 + 60 * i, 40, 80 + 60 * i, 100] for i in range(4)])
    for ask in (
        lambda predictor: find_everything(predictor, view, options, arrays=arrays),
        lambda predictor: predictor.predict_boxes(arrays, boxes),
    ):
        expected, found = ask(ample), ask(small)
        assert len(expected) == len(found) > 0
        for ours, theirs in zip(expected, found, strict=True):
            assert ours.box_xyxy == theirs.box_xyxy
            assert np.array_equal(ours.bits, theirs.bits)
    assert (small.batches.size, small.batches.halved) == (2, 2)
    assert ample.batches.halved == 0
