"""The tables of many images, and small pictures of their outlines."""

from __future__ import annotations

import csv
import io

import numpy as np
import openpyxl
import pytest
from discs import DISCS, disc_pixels
from hypothesis import given
from hypothesis import strategies as st

from sam_droplet.imaging.images import Calibration, encode_png, load_image
from sam_droplet.imaging.masks import mask_from_bits
from sam_droplet.measurement.droplets import Filters, apply_filters, measure
from sam_droplet.measurement.export.combined import (
    SUMMARY_COLUMNS,
    ImagePart,
    combined_csv,
    combined_xlsx,
    measured,
    unique_names,
)
from sam_droplet.measurement.export.thumbnail import outlined_thumbnail


def discs(n: int):
    image = load_image(encode_png(disc_pixels(DISCS[:n])), f"{n}.png")
    y, x = np.mgrid[: image.height, : image.width] + 0.5
    masks = [mask_from_bits(np.hypot(x - a, y - b) <= r, 0.9) for a, b, r in DISCS[:n]]
    return image, measure(image, [m for m in masks if m is not None])


def part(n: int, name: str = "", calibration=None) -> ImagePart:
    image, droplets = discs(n)
    line, rows = measured(name or image.name, droplets, calibration)
    return ImagePart(line | {"state": "done"}, rows)


@given(st.lists(st.sampled_from(["a", "b", "a (2)", "a (3)", "b (2)"]), max_size=12))
def test_names_become_unique_and_the_first_of_each_keeps_its_own(names):
    unique = unique_names(names)
    assert len(set(unique)) == len(names)
    for name in set(names):
        assert unique[names.index(name)] == name


def test_excluded_droplets_are_in_the_table_and_not_in_the_numbers():
    _, droplets = discs(5)
    droplets = apply_filters(droplets, Filters(exclude_edge=True))
    line, rows = measured("five.png", droplets, Calibration(0.5, "typed"), page=2)
    assert {row["page"] for row in rows} == {2}
    assert (line["n_found"], line["n_included"], line["n_touching_edge"]) == (5, 4, 1)
    assert [row["included"] for row in rows].count(False) == 1
    kept = [row["diameter_um"] for row in rows if row["included"]]
    assert line["mean_diameter_um"] == round(float(np.mean(kept)), 5)
    quartiles = [line["q1_diameter_um"], line["q3_diameter_um"]]
    assert quartiles == pytest.approx(np.percentile(kept, (25, 75)), rel=1e-6)
    assert line["q3_diameter_px"] == pytest.approx(2 * line["q3_diameter_um"], rel=1e-6)
    assert set(line) <= set(SUMMARY_COLUMNS)


def test_without_droplets_or_scale_there_are_no_quartiles():
    _, droplets = discs(5)
    none, _ = measured("none.png", apply_filters(droplets, Filters({"area_px": (1e6, None)})), None)
    assert none["q1_diameter_px"] is None
    line, _ = measured("px.png", droplets, None)
    assert line["q1_diameter_px"] is not None
    assert line["q1_diameter_um"] is None


def test_a_failed_image_has_a_line_and_no_rows():
    failed = ImagePart({"image": "bad.png", "state": "failed", "message": "=cmd|' /C calc'!A0"})
    book = openpyxl.load_workbook(io.BytesIO(combined_xlsx([failed, part(2)], 1, {"a": 1})))
    lines = list(book["Images"].iter_rows(values_only=True))
    message = lines[1][SUMMARY_COLUMNS.index("message")]
    assert message == "'=cmd|' /C calc'!A0"
    assert lines[1][SUMMARY_COLUMNS.index("n_found")] is None
    assert book["Droplets"].max_row == 3


def test_rows_beyond_what_a_sheet_holds_go_on_the_next_one():
    book = openpyxl.load_workbook(io.BytesIO(combined_xlsx([part(5), part(3)], 1, {}, sheet_rows=3)))
    assert book.sheetnames == ["Images", "Droplets", "Droplets 2", "Droplets 3", "Settings"]
    ids = [row[1] for name in book.sheetnames[1:4] for row in book[name].iter_rows(2, values_only=True)]
    assert ids == [1, 2, 3, 4, 5, 1, 2, 3]


def test_images_with_more_channels_widen_the_table_for_all():
    narrow, wide = part(2), part(1)
    rows = [row | {"mean_intensity_c0": 1.0, "mean_intensity_c1": 2.0} for row in wide.rows]
    text = combined_csv([narrow, ImagePart(wide.summary, rows)], 2).decode("utf-8-sig")
    table = list(csv.DictReader(io.StringIO(text)))
    assert [row["mean_intensity_c1"] for row in table] == ["", "", "2.0"]


def test_no_image_gives_a_table_without_rows():
    assert combined_csv([], 1).decode("utf-8-sig").count("\r\n") == 1


def test_a_thumbnail_draws_what_counts_in_blue_and_the_rest_in_red():
    image, droplets = discs(5)
    droplets = apply_filters(droplets, Filters(exclude_edge=True))
    decoded = load_image(outlined_thumbnail(image, droplets, 160), "t.jpg")
    assert (decoded.width, decoded.height) == (160, 120)
    red, _, blue = (decoded.pixels[:, :, i].astype(int) for i in range(3))
    assert (blue - red > 60).sum() > 60
    reddish = np.argwhere(red - blue > 60)
    assert len(reddish) > 10
    assert reddish[:, 1].max() < 22  # around the disc at the left edge only
