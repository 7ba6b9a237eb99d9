"""Overlays and histograms: right size, right places, right counts."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL.PngImagePlugin import PngImageFile

from sam_droplet.imaging.images import Calibration
from sam_droplet.measurement.export import EXPORTERS, ExportRequest
from sam_droplet.measurement.export.pictures import (
    EXCLUDED,
    INCLUDED,
    POSITIVE,
    diameter_histogram,
    round_length,
)

MakeRequest = Callable[..., ExportRequest]
SVG = "{http://www.w3.org/2000/svg}"


def rgb(data: bytes) -> np.ndarray:
    with PillowImage.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def near(pixels: np.ndarray, colour: str) -> np.ndarray:
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.abs(pixels - wanted).max(axis=2) < 40


def test_svg_overlay_draws_every_droplet_with_its_diameter(make_request: MakeRequest) -> None:
    root = ElementTree.fromstring(EXPORTERS["overlay_svg"](make_request(um_per_px=2.0)).data)
    assert (root.get("width"), root.get("height")) == ("160", "90")
    paths = root.findall(f"{SVG}path")
    titles = {p.findtext(f"{SVG}title"): p for p in paths}
    assert len(titles) == 3
    assert "1: 23.9 µm, excluded: diameter_px_below" in titles
    assert titles["1: 23.9 µm, excluded: diameter_px_below"].get("stroke") == EXCLUDED
    assert {p.get("stroke") for p in paths} == {EXCLUDED, INCLUDED}
    assert [t.text for t in root.findall(f"{SVG}text")] == ["2 µm/px (typed)", "50 µm"]


def test_scale_bar_has_its_length(make_request: MakeRequest) -> None:
    root = ElementTree.fromstring(EXPORTERS["overlay_svg"](make_request(um_per_px=2.0)).data)
    assert root.findall(f"{SVG}rect")[1].get("width") == "25"


def test_overlay_without_calibration_has_no_scale_bar(make_request: MakeRequest) -> None:
    root = ElementTree.fromstring(EXPORTERS["overlay_svg"](make_request()).data)
    assert root.findall(f"{SVG}text") == []


def test_png_overlay_has_the_outlines_in_their_places(make_request: MakeRequest) -> None:
    request = make_request(um_per_px=2.0, extra={3: {"positive": True}})
    dark = replace(request.image, pixels=np.zeros((90, 160, 1), np.uint8))
    pixels = rgb(EXPORTERS["overlay"](replace(request, image=dark)).data)
    assert pixels.shape[:2] == (675, 1200)
    for colour, (x, y) in ((INCLUDED, (60.3, 40.6)), (POSITIVE, (120, 50))):
        rows, columns = np.nonzero(near(pixels, colour))
        assert (columns.min() + columns.max()) / 2 / 7.5 == pytest.approx(x, abs=0.5)
        assert (rows.min() + rows.max()) / 2 / 7.5 == pytest.approx(y, abs=0.5)
    assert near(pixels, EXCLUDED).any()


def test_histogram_counts_every_included_droplet(make_request: MakeRequest) -> None:
    found = diameter_histogram(make_request(um_per_px=2.0))
    assert found.counts.sum() == 2
    assert found.unit == "µm"
    assert np.diff(found.edges) == pytest.approx(np.full(len(found.counts), np.diff(found.edges)[0]))
    assert diameter_histogram(make_request(droplets=[])).counts.tolist() == [0]


def test_histogram_of_equal_droplets_has_one_bin(make_request: MakeRequest) -> None:
    request = make_request()
    same = [replace(request.droplets[1], id=i) for i in range(50)]
    found = diameter_histogram(make_request(droplets=same))
    assert found.counts.tolist() == [50]


@pytest.mark.parametrize("changes", [{}, {"um_per_px": 0.5}, {"droplets": []}])
def test_histograms_are_drawn_in_any_case(make_request: MakeRequest, changes: dict[str, object]) -> None:
    request = make_request(**changes)
    root = ElementTree.fromstring(EXPORTERS["histogram_svg"](request).data)
    texts = [t.text or "" for t in root.findall(f"{SVG}text")]
    assert any(text.startswith("Diameter (") for text in texts)
    assert rgb(EXPORTERS["histogram"](request).data).shape == (880, 1440, 3)


@pytest.mark.parametrize(("value", "length"), [(0.9, 1), (1, 1), (1.1, 2), (3, 5), (6, 10), (0.03, 0.05)])
def test_round_lengths(value: float, length: float) -> None:
    assert round_length(value) == pytest.approx(length)


@pytest.mark.parametrize("name", ["overlay", "histogram"])
def test_pictures_say_inside_what_they_are_of(make_request: MakeRequest, name: str) -> None:
    request = make_request(name="a<b>\0 µ.tif", calibration=Calibration(2.0, "line", 30.0))
    paged = replace(request, image=replace(request.image, page=1, n_pages=3))
    told = "a<b> µ.tif: page 2 of 3, 2 µm/px (line), chamber 30 µm high. SAM Droplet 1.2.3"
    png = EXPORTERS[name](paged).data
    PillowImage.open(io.BytesIO(png)).verify()  # the checksums of all chunks
    with PillowImage.open(io.BytesIO(png)) as picture:
        assert isinstance(picture, PngImageFile)
        assert picture.text == {"Description": told}
    assert ElementTree.fromstring(EXPORTERS[f"{name}_svg"](paged).data).findtext(f"{SVG}title") == told


def test_names_in_an_svg_are_escaped(make_request: MakeRequest) -> None:
    request = make_request()
    nasty = [replace(d, exclusion_reason="<script>&", included=False) for d in request.droplets]
    data = EXPORTERS["overlay_svg"](make_request(droplets=nasty)).data
    assert b"<script>" not in data
    assert len(ElementTree.fromstring(data).findall(f"{SVG}path")) == 3
