"""Prompts are checked once, in words, before any network sees them."""

import math
from dataclasses import replace

import pytest

from sam_droplet.errors import InputError
from sam_droplet.segmentation.prompts import FindOptions, Prompt


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"points_xy": ((1, 1),), "point_labels": ()}, "one label"),
        ({"points_xy": ((1, 1),), "point_labels": (2,)}, "1 \\(inside\\) or 0"),
        ({}, "at least one positive point"),
        ({"points_xy": ((1, 1),), "point_labels": (0,)}, "at least one positive point"),
        ({"points_xy": ((math.nan, 1),), "point_labels": (1,)}, "finite"),
        ({"box_xyxy": (0, 0, math.inf, 5)}, "finite"),
    ],
)
def test_a_wrong_prompt_is_refused_in_words(fields, says):
    with pytest.raises(InputError, match=says):
        Prompt(**fields)


def test_a_box_drawn_from_right_to_left_is_put_in_order_and_cut_to_the_image():
    assert Prompt(box_xyxy=(90, 40, -5, 10)).inside(80, 60).box_xyxy == (0, 10, 80, 40)


def test_a_box_put_in_order_asks_for_the_same_else():
    prompt = Prompt(((20, 20),), (1,), (90, 40, -5, 10), multimask=True, rim_offset_px=1.5)
    assert prompt.inside(80, 60) == replace(prompt, box_xyxy=(0, 10, 80, 40))


@pytest.mark.parametrize("box", [(10, 10, 10.5, 40), (200, 10, 300, 40)])
def test_a_box_without_a_pixel_is_refused(box):
    with pytest.raises(InputError, match="less than one pixel"):
        Prompt(box_xyxy=box).inside(100, 100)


def test_a_point_beside_the_image_is_refused():
    with pytest.raises(InputError, match="outside the image of 100 x 80 px"):
        Prompt(points_xy=((101, 5),), point_labels=(1,)).inside(100, 80)


@pytest.mark.parametrize(
    "options",
    [{"sensitivity": 1.5}, {"diameter_min_px": -1}, {"diameter_min_px": 9, "diameter_max_px": 3}]
    + [{"roi_xyxy": box} for box in ((9, 0, 3, 9), (0, 9, 9, 9), (0, 0, math.nan, 9))],
)
def test_wrong_find_options_are_refused(options):
    with pytest.raises(InputError):
        FindOptions(**options)
