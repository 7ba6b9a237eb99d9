"""A picture and its turned or mirrored copies are looked at the same way up, and give the same outlines."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sam_droplet.imaging.masks import label_image
from sam_droplet.imaging.synthetic import render_sample
from sam_droplet.segmentation.orientation import Laying, chosen_laying
from sam_droplet.segmentation.stars import N_RAYS, Stars

EVERY_WAY = [Laying(*flags) for flags in itertools.product((False, True), repeat=3)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_all_eight_copies_are_laid_down_alike(dtype):
    pixels = render_sample("emulsion").astype(dtype)[:300, :420]
    laid = chosen_laying(pixels).of(pixels)
    for way in EVERY_WAY:
        copy = way.of(pixels)
        assert np.array_equal(chosen_laying(copy).of(copy), laid), way


def test_copies_side_by_side_are_laid_down_as_one():
    pixels = render_sample("emulsion")
    assert chosen_laying(np.tile(pixels, (2, 3, 1))) == chosen_laying(pixels)


def test_parts_of_a_high_picture_leave_no_step_out():
    pixels = np.zeros((600, 5, 1), np.uint8)
    pixels[256:] = 200  # the only step lies between two parts
    assert chosen_laying(pixels) == Laying(transposed=True)
    assert chosen_laying(pixels[::-1]) == Laying(mirrored_y=True, transposed=True)


@pytest.mark.parametrize("way", EVERY_WAY)
def test_outlines_come_back_to_where_they_were(way):
    height, width = 90, 130
    rng = np.random.default_rng(4)
    lopsided = (12 + 6 * np.cumsum(rng.normal(0, 0.1, (2, N_RAYS)), axis=1)).clip(4, 25)
    seen = Stars(np.float32([[40, 33], [52, 60]]), np.float32(lopsided), np.float32([0.9, 0.4]))
    laid_hw = (width, height) if way.transposed else (height, width)
    brought = way.back(seen, (height, width))
    assert list(brought.score) == list(seen.score)
    for index in ([0], [1]):
        there = label_image(seen.take(np.array(index)).masks(laid_hw), laid_hw)
        here = label_image(brought.take(np.array(index)).masks((height, width)), (height, width))
        assert there.any()
        assert np.array_equal(way.of(here[..., None])[..., 0], there)


def test_an_even_picture_is_left_as_it_is():
    assert chosen_laying(np.full((40, 60, 3), 7, np.uint8)) == Laying()
