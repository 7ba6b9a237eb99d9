"""A changed picture shows the same things, and its truth lies where they are."""

from __future__ import annotations

import numpy as np
import pytest

from sam_droplet.imaging.images import encode_png, load_image
from sam_droplet.training.benchmark import FileCase
from sam_droplet.training.changed_pictures import CHANGES, ChangesReport, changed_cases
from sam_droplet.training.metrics import disc_iou_matrix, figures

TRUE_XYR = np.array([[120.0, 100.0, 40.0], [300.0, 280.0, 60.0]])


@pytest.fixture(scope="module")
def cases():
    y, x = np.mgrid[:400, :420] + 0.5
    picture = np.full((400, 420, 1), 60, np.uint8)
    for cx, cy, r in TRUE_XYR:
        picture[np.hypot(x - cx, y - cy) < r] = 180
    image = load_image(encode_png(picture[..., 0]), "discs.png")
    return dict(changed_cases(FileCase(image, TRUE_XYR, np.empty((0, 3)))))


def test_the_truth_lies_on_the_discs_of_every_picture(cases):
    assert {"as it is", "x 0.5", "x 2", *CHANGES} <= set(cases)
    assert "x 0.25" not in cases  # 100 px say nothing
    for name, case in cases.items():
        y, x = np.mgrid[: case.image.height, : case.image.width] + 0.5
        grey = case.image.pixels.mean(axis=2)
        for cx, cy, r in case.true_xyr:
            distance = np.hypot(x - cx, y - cy)
            inside, round_it = (
                grey[distance < 0.7 * r].mean(),
                grey[(distance > 1.3 * r) & (distance < 1.5 * r)],
            )
            assert (inside > round_it.mean()) == (name != "inverted"), name


def test_pictures_keep_their_size_unless_they_are_scaled(cases):
    assert {(cases[n].image.height, cases[n].image.width) for n in CHANGES} == {(400, 420)}
    assert (cases["x 2"].image.height, cases["x 2"].image.width) == (800, 840)
    assert cases["x 2"].true_radii == pytest.approx([80, 120])
    assert disc_iou_matrix(cases["x 2"].true_xyr / 2, TRUE_XYR).diagonal() == pytest.approx([1, 1])


def test_the_table_has_a_row_for_each_change_and_a_column_for_each_picture(cases):
    nothing = figures([cases["x 2"].compare([])])
    table = ChangesReport({"a": {"x 2": nothing, "gamma 2": nothing}, "b": {"gamma 2": nothing}}).as_table()
    assert [row.split(" | ")[0] for row in table.splitlines()[2:]] == ["| x 2", "| gamma 2"]
    assert table.splitlines()[2].endswith("| – |")
    assert "0.000, -100.0 %" in table
