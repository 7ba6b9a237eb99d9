"""Measuring and drawing low-resolution masks against the official enlargement of whole masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sam_droplet.segmentation.mask_resampling import MaskResampler
from sam_droplet.segmentation.mobile_sam import ModelFrame

SIZES = [(1024, 1024), (600, 800), (333, 97), (1500, 1501), (2600, 700), (12, 9)]


def enlarged(logits: Tensor, image_hw: tuple[int, int]) -> Tensor:
    """Enlarge whole masks in two bilinear steps, (n, H, W)."""
    input_h, input_w = ModelFrame(*image_hw).input_hw
    model = F.interpolate(logits[None], (1024, 1024), mode="bilinear", align_corners=False)
    return F.interpolate(model[..., :input_h, :input_w], image_hw, mode="bilinear", align_corners=False)[0]


def smooth_logits(n: int, scale: float) -> Tensor:
    """Random masks with blobs of a few low-resolution pixels, and one with a single hot pixel."""
    rng = torch.Generator().manual_seed(11)
    coarse = torch.randn(1, n, 30, 30, generator=rng)
    logits = F.interpolate(coarse, (256, 256), mode="bicubic", align_corners=False)[0] * scale
    logits[1] = -3
    logits[1, 5, 7] = 4
    return logits


@pytest.mark.parametrize("image_hw", SIZES)
def test_measures_equal_those_of_whole_masks(image_hw: tuple[int, int]) -> None:
    logits = smooth_logits(5, 3.0)
    measured = MaskResampler(image_hw).measure(logits, offset=1.0)
    for i, full in enumerate(enlarged(logits, image_hw)):
        area = int((full > 0).sum())
        assert abs(int(measured.area_px[i]) - area) <= 1
        if area == 0:
            assert measured.boxes_xyxy[i].tolist() == [0, 0, 0, 0]
            continue
        ys, xs = torch.nonzero(full > 0, as_tuple=True)
        box = [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]
        assert measured.boxes_xyxy[i].tolist() == box
        stability = (full > 1).sum() / (full > -1).sum()
        assert measured.stability[i] == pytest.approx(float(stability), abs=2e-6 + 1 / area)


@pytest.mark.parametrize("image_hw", SIZES)
def test_drawn_bits_equal_those_of_whole_masks(image_hw: tuple[int, int]) -> None:
    logits = smooth_logits(4, 3.0)
    resampler = MaskResampler(image_hw)
    boxes = resampler.measure(logits).boxes_xyxy.tolist()
    drawn = 0
    for mask, box, full in zip(logits.numpy(), boxes, enlarged(logits, image_hw).numpy(), strict=True):
        x0, y0, x1, y1 = box
        if x1 <= x0:
            continue
        crop = resampler.crop(mask, (x0, y0, x1, y1))
        bits = resampler.draw(crop, (x0, y0, x1, y1))
        expected = full[y0:y1, x0:x1] > 0
        assert np.count_nonzero(bits != expected) <= 1
        drawn += 1
    assert drawn >= 3


def test_a_crop_holds_no_more_than_its_mask_needs() -> None:
    logits = np.full((256, 256), -1, np.float32)
    logits[100:104, 50:60] = 1
    resampler = MaskResampler((1024, 1024))
    box: Any = tuple(resampler.measure(torch.from_numpy(logits)[None]).boxes_xyxy[0].tolist())
    crop = resampler.crop(logits, box)
    assert crop.values.shape == (6, 12)


def test_masks_all_inside_or_all_outside() -> None:
    logits = torch.stack([torch.full((256, 256), 5.0), torch.full((256, 256), -5.0)])
    measured = MaskResampler((300, 200)).measure(logits, offset=1.0)
    assert measured.area_px.tolist() == [60_000, 0]
    assert measured.boxes_xyxy.tolist() == [[0, 0, 200, 300], [0, 0, 0, 0]]
    assert measured.stability[0] == 1
    assert torch.isnan(measured.stability[1])


@pytest.mark.parametrize("hw", [(1024, 1024), (300, 420), (37, 2000)])
def test_the_outer_box_holds_every_pixel_and_hardly_more(hw: tuple[int, int]) -> None:
    resampler = MaskResampler(hw)
    rng = np.random.default_rng(5)
    for _ in range(20):
        logits = np.full((256, 256), -3.0, np.float32)
        y, x = rng.integers(0, 256, 2)
        h, w = rng.integers(1, 40, 2)
        logits[y : y + h, x : x + w] = rng.normal(1, 2, logits[y : y + h, x : x + w].shape)
        exact = resampler.measure(torch.from_numpy(logits)[None]).boxes_xyxy[0].tolist()
        box = resampler.outer_box(logits)
        if exact[2] == 0:
            continue
        assert box is not None
        assert all(outer <= inner for outer, inner in zip(box[:2], exact[:2], strict=True))
        assert all(outer >= inner for outer, inner in zip(box[2:], exact[2:], strict=True))
        # One logit spans max(hw) / 256 pixels, and a pixel reads up to two beyond its own.
        assert max(abs(a - b) for a, b in zip(box, exact, strict=True)) <= 3 * max(hw) / 256 + 2


def test_no_positive_logit_has_no_box() -> None:
    assert MaskResampler((50, 60)).outer_box(np.full((256, 256), -1.0, np.float32)) is None
