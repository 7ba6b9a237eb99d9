"""Assays over HTTP: set up, read, changed by curation, taken away, and held by the files."""

from __future__ import annotations

import csv
import io
import json
import zipfile

import numpy as np
import openpyxl
import pytest
import tifffile
from discs import GRID, GRID_WH, bead_png, disc_pixels, disc_png, glow_png

PAGE = {"X-SAM-Droplet": "1"}


@pytest.fixture
def field_ids(client, upload) -> tuple[str, str]:
    """Open 24 discs, and their fluorescence picture, in which six are bright; find the discs."""
    pair = upload((disc_png(GRID, GRID_WH), "discs.png"), (glow_png([0, 3, 8, 11, 17, 20]), "green.png"))
    first, second = (image["id"] for image in pair.json["images"])
    assert client.post(f"/api/images/{first}/find", json={}, headers=PAGE).status_code == 200
    return first, second


def put(client, image_id, name, **settings):
    return client.put(f"/api/images/{image_id}/assays/{name}", json=settings, headers=PAGE)


def test_ddpcr_follows_the_droplets_that_count(client, field_ids):
    first, second = field_ids
    client.patch(f"/api/images/{first}/annotation", json={"calibration": {"um_per_px": 2.0}}, headers=PAGE)
    answer = put(client, first, "ddpcr", second_image_id=second, shift_px=[0, 0], dilution=10).json
    estimate = answer["assay"]["estimate"]
    assert (estimate["n"], estimate["k"]) == (24, 6)
    assert estimate["lam"] == pytest.approx(-np.log(1 - 6 / 24))
    volume_ul = np.pi / 6 * 48**3 * 1e-9
    assert estimate["copies_per_ul"] == pytest.approx(10 * estimate["lam"] / volume_ul, rel=0.03)
    readings = answer["assay"]["droplets"]
    assert len(readings["ids"]) == len(readings["amplitude"]) == 24
    low = {"um_per_px": 2.0, "chamber_height_um": 24.0}
    client.patch(f"/api/images/{first}/annotation", json={"calibration": low}, headers=PAGE)
    flattened = client.get(f"/api/images/{first}/assays").json["assays"]["ddpcr"]["estimate"]
    volume_ul = (np.pi / 4 * 48**2 * 24 - np.pi / 12 * 24**3) * 1e-9
    assert flattened["copies_per_ul"] == pytest.approx(10 * flattened["lam"] / volume_ul, rel=0.03)
    brightest = [i for i, v in zip(readings["ids"], readings["amplitude"], strict=True) if v > 60]
    client.patch(f"/api/images/{first}/annotation", json={"exclude": brightest[:2]}, headers=PAGE)
    after = client.get(f"/api/images/{first}/assays").json["assays"]
    assert (after["ddpcr"]["estimate"]["n"], after["ddpcr"]["estimate"]["k"]) == (22, 4)
    assert after["loading"] is None
    assert after["ddpcr"]["second_name"] == "green.png"


def test_a_threshold_is_kept_and_can_be_given_back_to_the_software(client, field_ids):
    first, second = field_ids
    typed = put(client, first, "ddpcr", second_image_id=second, shift_px=[0, 0], threshold=-50).json
    assert typed["assay"]["estimate"]["state"] == "saturated"
    assert client.get(f"/api/images/{first}/assays").json["assays"]["ddpcr"]["threshold"] == -50
    again = put(client, first, "ddpcr", second_image_id=second, shift_px=[0, 0], threshold=-50).json
    assert again["revision"] == typed["revision"]  # repeated: nothing changed
    proposed = put(client, first, "ddpcr", second_image_id=second, shift_px=[0, 0]).json
    assert proposed["revision"] == typed["revision"] + 1
    assert proposed["assay"]["estimate"]["k"] == 6


@pytest.mark.parametrize(("scale", "glow"), [(1e-6, 1.0), (0.1, 0.0)])
def test_a_page_tells_the_positive_ones_by_amplitudes_however_small_or_alike(
    client, upload, field_ids, scale, glow
):
    pixels = np.asarray(disc_pixels(GRID[:4], GRID_WH) * glow + 40, np.float32) * np.float32(scale)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels)
    second = upload((buffer.getvalue(), "dim.tif")).json["images"][0]["id"]
    answer = put(client, field_ids[0], "ddpcr", second_image_id=second, shift_px=[0, 0], amplitude="mean")
    assay = answer.json["assay"]
    positive = [v for v in assay["droplets"]["amplitude"] if v >= assay["threshold"]]
    assert len(positive) == assay["n_positive"] == (4 if glow else 0)


def test_settings_of_assays_are_undone_and_redone_by_an_edit(client, field_ids):
    first, second = field_ids
    settings = put(client, first, "ddpcr", second_image_id=second, shift_px=[0, 0], dilution=10).json[
        "assay"
    ]["settings"]
    address = f"/api/images/{first}/annotation"

    def edit(assays):
        return client.patch(address, json={"assays": assays}, headers=PAGE)

    assert edit({"ddpcr": None}).status_code == 200
    assert client.get(f"/api/images/{first}/assays").json["assays"]["ddpcr"] is None
    again = edit({"ddpcr": settings, "groups": {"n_groups": 2}}).json
    assert edit({"ddpcr": settings}).json["revision"] == again["revision"]  # repeated: nothing changed
    found = client.get(f"/api/images/{first}/assays").json["assays"]
    assert found["ddpcr"]["settings"] == settings
    assert found["ddpcr"]["estimate"]["dilution"] == 10
    assert found["groups"]["settings"] == {"n_groups": 2}
    for wrong in ({"nonsense": None}, {"ddpcr": {"dilution": -1}}, {"groups": {"colour": "red"}}, 7):
        assert edit(wrong).status_code == 400
    assert client.get(f"/api/images/{first}/assays").json["revision"] == again["revision"]


def test_the_files_hold_the_assays_on_screen(client, field_ids):
    first, second = field_ids
    put(client, first, "ddpcr", second_image_id=second, shift_px=[0, 0])
    put(client, first, "intensity", threshold=179.5)
    put(client, first, "groups")
    text = client.get(f"/api/images/{first}/export/csv").data.decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert sum(row["positive"] == "true" for row in rows) == 6
    assert {row["class"] for row in rows} == {"main"}
    assert {row["intensity_class"] for row in rows} == {"high"}
    book = openpyxl.load_workbook(io.BytesIO(client.get(f"/api/images/{first}/export/xlsx").data))
    values = dict(book["ddPCR"].iter_rows(min_row=2, values_only=True))
    assert (values["estimate.n"], values["estimate.k"]) == (24, 6)
    assert values["settings.second_image_id"] == second
    archive = zipfile.ZipFile(io.BytesIO(client.get(f"/api/images/{first}/export/bundle").data))
    assert "discs_pair.png" in archive.namelist()
    assert json.loads(archive.read("settings.json"))["assays"]["ddpcr"]["n_positive"] == 6
    assert client.get(f"/api/images/{first}/export/pair").data.startswith(b"\x89PNG")


def test_loading_counts_what_lies_in_each_droplet(client, upload):
    beads = bead_png([(30, 30), (25, 34), (70, 30), (5, 170)])
    pair = upload((disc_png(GRID, GRID_WH), "discs.png"), (beads, "beads.png"))
    first, second = (image["id"] for image in pair.json["images"])
    client.post(f"/api/images/{first}/find", json={}, headers=PAGE)
    assay = put(client, first, "loading", second_image_id=second, stock_per_ml=1e6).json["assay"]
    assert (assay["n_droplets"], assay["n_inclusions"], assay["n_outside"]) == (24, 3, 1)
    assert sorted(assay["droplets"]["n_inclusions"], reverse=True)[:3] == [2, 1, 0]
    told, unscaled = assay["notes"]
    assert told == "1 of 4 inclusions lie in no included droplet."
    assert unscaled.startswith("Without a calibration")
    assert len(assay["inclusions_xyxy"]) == 4
    client.patch(f"/api/images/{first}/annotation", json={"calibration": {"um_per_px": 2.0}}, headers=PAGE)
    again = client.get(f"/api/images/{first}/assays").json["assays"]["loading"]
    assert again["lam_from_stock"] == pytest.approx(np.pi / 6 * 48**3 * 1e-6, rel=0.03)
    assert again["notes"] == [told]


def test_the_droplets_own_image_will_do(client, image_id):
    client.post(f"/api/images/{image_id}/find", json={}, headers=PAGE)
    assay = put(client, image_id, "ddpcr", amplitude="mean").json["assay"]
    assert (assay["second_name"], assay["shift"]["dx_px"]) == ("discs.png", 0)
    assert set(assay["droplets"]["amplitude"]) == {180}


def test_groups_say_their_shares_by_number_and_volume(client, upload):
    sizes = tuple((x, y, 12.0 if i % 4 else 5.0) for i, (x, y, _) in enumerate(GRID))
    image_id = upload((disc_png(sizes, GRID_WH), "two.png")).json["images"][0]["id"]
    client.post(f"/api/images/{image_id}/find", json={}, headers=PAGE)
    assay = put(client, image_id, "groups").json["assay"]
    assert assay["suggested"] == 2
    small, main = assay["groups"]
    assert (small["name"], small["n"], main["name"], main["n"]) == ("satellite", 6, "main", 18)
    share = 100 * 6 * 5**3 / (6 * 5**3 + 18 * 12**3)
    assert small["share_by_volume_percent"] == pytest.approx(share, rel=0.05)
    assert [round(c["share"], 2) for c in assay["components"]] == [0.25, 0.75]
    assert put(client, image_id, "groups", n_groups=1).json["assay"]["groups"][0]["n"] == 24


def test_groups_that_no_longer_fit_are_told_and_cost_no_file(client, upload):
    crowd = [(20 + 26 * (i % 8), 20 + 26 * (i // 8), 8 if i % 4 else 4) for i in range(32)]
    image_id = upload((disc_png(crowd, (230, 130)), "two.png")).json["images"][0]["id"]
    client.post(f"/api/images/{image_id}/find", json={}, headers=PAGE)
    put(client, image_id, "groups", n_groups=2)
    filters = {"ranges": {"diameter_px": [None, 1]}, "exclude_edge": False}
    client.patch(f"/api/images/{image_id}/annotation", json={"filters": filters}, headers=PAGE)
    every = [d["id"] for d in client.get(f"/api/images/{image_id}/annotation").json["droplets"]]
    client.patch(f"/api/images/{image_id}/annotation", json={"include_anyway": every[:3]}, headers=PAGE)
    error = client.get(f"/api/images/{image_id}/assays").json["assays"]["groups"]["error"]
    file = client.get(f"/api/images/{image_id}/export/xlsx")
    assert file.status_code == 200, file.json
    book = openpyxl.load_workbook(io.BytesIO(file.data))
    assert [row[0] for row in book["Groups"].iter_rows(values_only=True)] == ["group", error]
    assert book["Droplets"].max_row == 4
    with zipfile.ZipFile(io.BytesIO(client.get(f"/api/images/{image_id}/export/bundle").data)) as archive:
        assert "two_droplets.xlsx" in archive.namelist()


def test_an_assay_is_taken_away(client, field_ids):
    first, second = field_ids
    put(client, first, "ddpcr", second_image_id=second, shift_px=[0, 0])
    assert client.delete(f"/api/images/{first}/assays/ddpcr", headers=PAGE).status_code == 200
    assert client.get(f"/api/images/{first}/assays").json["assays"]["ddpcr"] is None
    refused = client.get(f"/api/images/{first}/export/pair")
    assert refused.status_code == 400
    assert "no second picture" in refused.json["error"]


def test_what_cannot_be_is_told_and_not_kept(client, field_ids, upload):
    first, second = field_ids
    other = upload((disc_png(), "small.png")).json["images"][0]["id"]
    assert "same size" in put(client, first, "ddpcr", second_image_id=other).json["error"]
    assert put(client, first, "ddpcr", second_image_id="0" * 32).status_code == 404
    assert "channel" in put(client, first, "ddpcr", second_image_id=second, channel=5).json["error"]
    assert put(client, first, "colour").status_code == 404
    for column in ("colour", "mean_intensity_cfoo"):
        assert put(client, first, "intensity", column=column).status_code == 400
    assert put(client, first, "ddpcr", shift_px=[1]).status_code == 400
    assert client.get(f"/api/images/{first}/assays").json["assays"]["ddpcr"] is None


def test_a_deleted_second_picture_is_told_and_hides_nothing_else(client, field_ids):
    first, second = field_ids
    put(client, first, "ddpcr", second_image_id=second, shift_px=[0, 0])
    put(client, first, "groups")
    client.delete(f"/api/images/{second}", headers=PAGE)
    found = client.get(f"/api/images/{first}/assays").json["assays"]
    assert "deleted" in found["ddpcr"]["error"]
    assert found["groups"]["groups"][0]["n"] == 24
    assert client.get(f"/api/images/{first}/export/xlsx").status_code == 200


def test_the_report_has_intervals_quality_and_words(client, field_ids):
    first, _ = field_ids
    report = client.get(f"/api/images/{first}/report").json
    low, high = report["summary"]["intervals_95"]["diameter_px"]["mean"]
    assert low <= report["summary"]["diameter_px"]["mean"] <= high
    assert report["edge_weighted_summary"]["edge_bias_weights"] is True
    assert report["quality"]["coverage_percent"] == pytest.approx(
        100 * 24 * np.pi * 144 / (260 * 180), rel=0.03
    )
    assert "24 were included" in report["methods"]


def test_presets_come_with_limits_for_this_image(client, field_ids):
    first, _ = field_ids
    found = {p["name"]: p for p in client.get(f"/api/images/{first}/presets").json["presets"]}
    assert set(found) == {"monodisperse", "polydisperse", "ddpcr", "particles"}
    low, high = found["monodisperse"]["filters"]["ranges"]["diameter_px"]
    assert (low, high) == pytest.approx((0.7 * 24, 1.3 * 24), rel=0.02)
    edited = client.patch(
        f"/api/images/{first}/annotation", json={"filters": found["ddpcr"]["filters"]}, headers=PAGE
    )
    assert edited.json["n_included"] == 24


def two_channels_two_pages() -> bytes:
    """Page 0: discs bright in channel 1 and flat in channel 0. Page 1: half as many. 0.5 µm per pixel."""
    planes = [np.full(GRID_WH[::-1], 40, np.uint8), disc_pixels(GRID, GRID_WH)]
    second = [np.full(GRID_WH[::-1], 40, np.uint8), disc_pixels(GRID[:12], GRID_WH)]
    buffer = io.BytesIO()
    stack = np.stack([np.stack(planes), np.stack(second)])
    options = {"resolution": (2, 2), "metadata": {"axes": "ZCYX", "unit": "um"}}
    tifffile.imwrite(buffer, stack, imagej=True, **options)
    return buffer.getvalue()


def test_a_channel_is_chosen_for_finding_and_all_are_measured(client, upload):
    image_id = upload((two_channels_two_pages(), "stack.tif")).json["images"][0]["id"]
    edit = {"channel": 0}
    client.patch(f"/api/images/{image_id}/annotation", json=edit, headers=PAGE)
    assert client.post(f"/api/images/{image_id}/find", json={}, headers=PAGE).json["summary"]["n_found"] == 0
    client.patch(f"/api/images/{image_id}/annotation", json={"channel": 1}, headers=PAGE)
    found = client.post(f"/api/images/{image_id}/find", json={}, headers=PAGE).json
    assert (found["channel"], found["summary"]["n_found"]) == (1, 24)
    droplet = found["droplets"][0]
    assert (droplet["mean_intensity_c0"], droplet["mean_intensity_c1"]) == (40, 180)
    clicked = client.post(f"/api/images/{image_id}/predict", json={"points": [[30, 30]]}, headers=PAGE).json[
        "candidates"
    ]
    assert clicked[0]["mean_intensity_c1"] == 180
    wrong = client.patch(f"/api/images/{image_id}/annotation", json={"channel": 2}, headers=PAGE)
    assert wrong.status_code == 400


def test_another_page_is_an_image_of_its_own_with_the_same_scale(client, upload):
    image_id = upload((two_channels_two_pages(), "stack.tif")).json["images"][0]["id"]
    client.patch(f"/api/images/{image_id}/annotation", json={"calibration": {"um_per_px": 0.7}}, headers=PAGE)
    opened = client.post(f"/api/images/{image_id}/pages/1", headers=PAGE).json["image"]
    assert (opened["page"], opened["n_pages"]) == (1, 2)
    assert opened["calibration"] == {"um_per_px": 0.5, "source": "imagej"}  # the file's own comes first
    again = client.post(f"/api/images/{image_id}/pages/1", headers=PAGE).json["image"]
    assert again["id"] == opened["id"]
    assert client.post(f"/api/images/{image_id}/pages/0", headers=PAGE).json["image"]["id"] == image_id
    assert client.post(f"/api/images/{image_id}/pages/7", headers=PAGE).status_code == 404


def test_the_files_of_another_page_say_which_page_and_scale_they_are_of(client, upload):
    image_id = upload((two_channels_two_pages(), "stack.tif")).json["images"][0]["id"]
    page = client.post(f"/api/images/{image_id}/pages/1", headers=PAGE).json["image"]["id"]
    scale = {"um_per_px": 0.7, "source": "line"}
    client.patch(f"/api/images/{page}/annotation", json={"calibration": scale, "channel": 1}, headers=PAGE)
    assert client.post(f"/api/images/{page}/find", json={}, headers=PAGE).json["summary"]["n_found"] > 0
    archive = zipfile.ZipFile(io.BytesIO(client.get(f"/api/images/{page}/export/bundle").data))
    files = {name: archive.read(name) for name in archive.namelist()}
    named = [name for name in files if name.startswith("stack_page2")]
    assert set(files) - set(named) == {"README.txt", "settings.json"}
    rows = list(csv.DictReader(io.StringIO(files["stack_page2_droplets.csv"].decode("utf-8-sig"))))
    about = {(r["image"], r["page"], r["um_per_px"], r["calibration_source"]) for r in rows}
    assert about == {("stack.tif", "1", "0.7", "line")}
    for name in ("stack_page2_coco.json", "stack_page2.json"):
        text = files[name].decode()
        assert '"um_per_px": 0.7, "calibration_source": "line"' in text
        assert '"page": 1, "n_pages": 2' in text
    assert "Droplets on page 2 of 2 of stack.tif" in files["stack_page2_methods.txt"].decode()
    assert "page 2 of 2, 0.7 µm/px (line)" in files["stack_page2_histogram.svg"].decode()
    settings = json.loads(files["settings.json"])
    assert (settings["image"]["page"], settings["calibration"]["um_per_px"]) == (1, 0.7)
