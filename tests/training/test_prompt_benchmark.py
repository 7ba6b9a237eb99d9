"""Prompts are judged as they would be by hand, and corrections go where a user would set them."""

import numpy as np
import pytest

from sam_droplet.cli import main
from sam_droplet.imaging.images import encode_png, load_image
from sam_droplet.imaging.masks import mask_from_polygon
from sam_droplet.segmentation.stars import unit_rays
from sam_droplet.training.prompt_benchmark import PromptFigures, PromptReport, asked, largest_error

SIZE = (120, 160)
IMAGE = load_image(encode_png(np.zeros((*SIZE, 3), np.uint8)), "black.png")


def disc(x, y, radius):
    return mask_from_polygon(np.array([x, y]) + radius * unit_rays(96), 1.0, SIZE)


def test_who_draws_the_truth_gets_full_marks_and_who_draws_nothing_none():
    truth = disc(60, 50, 20)
    assert asked(lambda image, prompt: truth, IMAGE, truth, (60.0, 50.0)) == [1.0] * 4
    assert asked(lambda image, prompt: None, IMAGE, truth, (60.0, 50.0)) == [0.0] * 4


def test_a_method_is_given_what_a_user_would_give():
    truth, wide, seen = disc(60, 50, 20), disc(60, 50, 35), []

    def method(image, prompt):
        seen.append(prompt)
        return wide if len(prompt.points_xy) == 1 else truth

    scores = asked(method, IMAGE, truth, (55.0, 45.0))
    assert scores[0] == pytest.approx((20 / 35) ** 2, abs=0.02)
    assert scores[1:] == [1.0] * 3
    assert [prompt.point_labels for prompt in seen] == [(1,), (1, 0), (1, 0, 1), ()]
    x, y = seen[1].points_xy[1]
    assert 20 < np.hypot(x - 60, y - 50) < 35
    assert seen[3].box_xyxy == truth.box_xyxy


def test_the_largest_error_decides_what_is_corrected():
    truth = disc(60, 50, 20)
    assert largest_error(None, truth) == (pytest.approx((60, 50), abs=1.5), 1)
    (x, y), label = largest_error(disc(70, 50, 20), truth)
    missing = np.hypot(x - 60, y - 50) < 20
    assert (missing, np.hypot(x - 70, y - 50) < 20) == (label == 1, label == 0)
    # What nobody sees is not corrected: another click goes inside.
    assert largest_error(disc(60, 50, 21), truth) == (pytest.approx((60, 50), abs=1.5), 1)


def test_the_table_shows_methods_side_by_side():
    one = {"packed": PromptFigures(5, (0.9, 0.95, 0.96), 0.97)}
    other = {"packed": PromptFigures(5, (0.8, 0.85, 0.86), 0.87)}
    report = PromptReport({"DropletNet": one, "own MobileSAM": other})
    assert report.as_table().splitlines()[2] == (
        "| packed | 5 | 0.900 0.950 0.960; 0.970 | 0.800 0.850 0.860; 0.870 |"
    )
    assert report.as_dict()["own MobileSAM"]["packed"]["clicks"] == (0.8, 0.85, 0.86)


@pytest.mark.parametrize(
    ("option", "said"), [("--scenes", "one scene"), ("--prompts", "--prompts 1 or more")]
)
def test_nothing_to_ask_for_is_told(option, said, capsys):
    assert main(["benchmark", "accuracy", "--parts", "prompts", option, "0"]) == 1
    assert said in capsys.readouterr().err
