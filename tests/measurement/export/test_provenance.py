"""Settings that measure again to the same numbers, the methods text, and the bundle."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sam_droplet.errors import Conflict, InputError
from sam_droplet.imaging.images import Calibration
from sam_droplet.imaging.registration import NO_SHIFT
from sam_droplet.measurement.assays import ddpcr_estimate, loading_estimate
from sam_droplet.measurement.droplets import apply_filters, droplet_record
from sam_droplet.measurement.export import EXPORTERS, ExportRequest, rerun
from sam_droplet.measurement.export.provenance import calibration_of
from sam_droplet.measurement.fields import SecondPicture
from sam_droplet.measurement.statistics import volumes_pl

MakeRequest = Callable[..., ExportRequest]


def test_settings_measure_again_to_the_same_numbers(make_request: MakeRequest) -> None:
    request = make_request(um_per_px=0.5)
    edited = [replace(request.droplets[0], source="point"), *request.droplets[1:]]
    edited[0] = replace(edited[0], included_by_user=True)
    edited[2] = replace(edited[2], excluded_by_user=True)
    edited = apply_filters(edited, request.filters)
    assert [d.included_although or d.exclusion_reason for d in edited] == ["diameter_px_below", None, "user"]
    request = replace(request, droplets=edited)
    settings = json.loads(EXPORTERS["settings"](request).data)
    again = rerun(request.image, settings)
    records = [[droplet_record(d, request.calibration) for d in ds] for ds in (edited, again)]
    assert records[0] == records[1]
    assert settings["edits"] == {
        "added_by_point": 1,
        "added_by_box": 0,
        "added_by_manual": 0,
        "excluded_by_user": 1,
        "included_by_user": 1,
    }


def test_what_was_included_by_hand_is_told_with_the_reason_against_it(make_request: MakeRequest) -> None:
    request = make_request()
    before = EXPORTERS["methods"](request).data.decode()
    assert "(excluded: 1 with diameter below 20 px)" in before
    assert "although" not in before
    kept = [replace(d, included_by_user=not d.included) for d in request.droplets]
    request = replace(request, droplets=apply_filters(kept, request.filters))
    text = EXPORTERS["methods"](request).data.decode()
    assert "Of 3 droplets, 3 were included." in text
    assert "Included by hand although the filters leave them out: 1 with diameter below 20 px." in text
    rows = list(csv.DictReader(io.StringIO(EXPORTERS["csv"](request).data.decode("utf-8-sig"))))
    assert [row["included_although"] for row in rows] == ["diameter_px_below", "", ""]
    assert {row["included"] for row in rows} == {"true"}


def test_settings_of_before_know_no_inclusion_by_hand(make_request: MakeRequest) -> None:
    request = make_request()
    settings = json.loads(EXPORTERS["settings"](request).data)
    for record in settings["droplets"]:
        del record["included_by_user"]
    again = rerun(request.image, settings)
    assert [d.exclusion_reason for d in again] == ["diameter_px_below", None, None]


@pytest.mark.parametrize("name", sorted(set(EXPORTERS) - {"pair", "bundle"}))
def test_what_settings_give_again_is_the_same_file(make_request: MakeRequest, name: str) -> None:
    request = make_request(um_per_px=0.5)
    again = rerun(request.image, json.loads(EXPORTERS["settings"](request).data))
    assert EXPORTERS[name](replace(request, droplets=again)).data == EXPORTERS[name](request).data


@pytest.mark.parametrize("name", ["id", "source", "score", "model", "excluded_by_user", "segmentation"])
def test_settings_without_a_part_of_a_droplet_are_refused_in_words(
    make_request: MakeRequest, name: str
) -> None:
    request = make_request()
    settings = json.loads(EXPORTERS["settings"](request).data)
    del settings["droplets"][1][name]
    with pytest.raises(InputError, match=f"missing or damaged .*{name}"):
        rerun(request.image, settings)


@pytest.mark.parametrize("name", ["settings.png", "Settings.tif"])
def test_a_bundle_of_an_image_named_settings_holds_every_file(make_request: MakeRequest, name: str) -> None:
    request = make_request(name=name)
    with zipfile.ZipFile(io.BytesIO(EXPORTERS["bundle"](request).data)) as archive:
        names = archive.namelist()
        assert json.loads(archive.read("settings.json"))["settings_format"] == 1
        assert archive.read(f"labelme_{name[0]}ettings.json") == EXPORTERS["labelme"](request).data
    assert len({entry.lower() for entry in names}) == len(set(EXPORTERS) - {"pair", "bundle"}) + 1


@pytest.mark.parametrize(("volume_pl", "told"), [(None, False), (65.0, True)])
def test_methods_name_the_dilution_only_where_it_was_multiplied_by(
    make_request: MakeRequest, volume_pl: float | None, told: bool
) -> None:
    estimate = ddpcr_estimate(1, 3, volume_pl, dilution=20).as_dict()
    ddpcr = {"estimate": estimate, "threshold": 9.5, "n_rain": 0, "amplitude": "net"}
    text = EXPORTERS["methods"](make_request(assays={"ddpcr": ddpcr})).data.decode()
    assert ("dilution factor 20." in text) is told
    assert (f"{estimate['statement']}" in text) is not told


def test_settings_of_another_image_are_refused(make_request: MakeRequest) -> None:
    request = make_request()
    settings = json.loads(EXPORTERS["settings"](request).data)
    with pytest.raises(Conflict, match="other pixels"):
        rerun(replace(request.image, digest="0" * 64), settings)


@pytest.mark.parametrize(
    "damage",
    [
        {"image": None},
        {"droplets": [{"id": 1}]},
        {"filters": {}},
        {"calibration": {"source": "typed"}},
        {"calibration": {"um_per_px": "0,65", "source": "typed"}},
    ],
)
def test_damaged_settings_are_refused(make_request: MakeRequest, damage: dict[str, object]) -> None:
    request = make_request()
    settings = json.loads(EXPORTERS["settings"](request).data) | damage
    with pytest.raises(InputError, match="missing or damaged"):
        rerun(request.image, settings)


@pytest.mark.parametrize("damage", [{"background_intensity": "dark"}, {"id": float("inf")}])
def test_a_droplet_with_a_damaged_number_is_refused(
    make_request: MakeRequest, damage: dict[str, object]
) -> None:
    request = make_request()
    settings = json.loads(EXPORTERS["settings"](request).data)
    settings["droplets"][0] |= damage
    with pytest.raises(InputError, match="missing or damaged"):
        rerun(request.image, settings)


def test_a_limit_that_is_no_number_is_refused(make_request: MakeRequest) -> None:
    request = make_request()
    settings = json.loads(EXPORTERS["settings"](request).data)
    settings["filters"]["ranges"] = {"diameter_px": ["20", None]}
    with pytest.raises(InputError, match="limits of diameter_px must be finite numbers or null"):
        rerun(request.image, settings)


def test_methods_text_names_everything_a_reviewer_asks(make_request: MakeRequest) -> None:
    text = EXPORTERS["methods"](make_request(um_per_px=0.5)).data.decode()
    for part in (
        "SAM Droplet 1.2.3",
        "droplet-net",
        "abababababab",
        "measured on the raw pixels, at 0.5 µm per pixel (source: typed)",
        "Of 3 droplets, 2 were included (excluded: 1 with diameter below 20 px)",
        "n = 2",
        "coefficient of variation",
        "mean volume",
    ):
        assert part in text, part


def test_methods_text_names_the_model_of_the_droplets_that_are_there(make_request: MakeRequest) -> None:
    request = make_request()
    undone = {"name": "mobile-sam", "sha256": "cd" * 32}
    droplets = [replace(d, source="auto", model="droplet-net") for d in request.droplets]
    request = replace(request, droplets=droplets, provenance={**request.provenance, "model": undone})
    text = EXPORTERS["methods"](request).data.decode()
    assert "(model droplet-net)" in text
    assert "mobile-sam" not in text


def test_methods_text_says_that_lengths_are_pixels(make_request: MakeRequest) -> None:
    text = EXPORTERS["methods"](make_request()).data.decode()
    assert "measured on the raw pixels; lengths are in pixels" in text
    assert "µm" not in text


def test_methods_text_of_one_droplet_and_of_none(make_request: MakeRequest) -> None:
    request = make_request()
    assert "(n = 1)" in EXPORTERS["methods"](replace(request, droplets=request.droplets[1:2])).data.decode()
    assert "Of 0 droplets" in EXPORTERS["methods"](replace(request, droplets=[])).data.decode()


def with_pair(request: ExportRequest) -> ExportRequest:
    return replace(request, second=SecondPicture(request.image, 0, NO_SHIFT))


def test_bundle_without_a_second_picture_has_no_pair(make_request: MakeRequest) -> None:
    with zipfile.ZipFile(io.BytesIO(EXPORTERS["bundle"](make_request()).data)) as archive:
        assert "field_pair.png" not in archive.namelist()
    with pytest.raises(InputError, match="no second picture"):
        EXPORTERS["pair"](make_request())


def test_bundle_has_every_other_file_once(make_request: MakeRequest) -> None:
    request = with_pair(make_request(um_per_px=0.5))
    with zipfile.ZipFile(io.BytesIO(EXPORTERS["bundle"](request).data)) as archive:
        names = archive.namelist()
        readme = archive.read("README.txt").decode()
        csv = archive.read("field_droplets.csv")
    assert len(names) == len(set(names)) == len(EXPORTERS)
    assert "settings.json" in names
    assert all(name in readme for name in names if name != "README.txt")
    assert csv == EXPORTERS["csv"](request).data


def test_bundle_leaves_out_what_cannot_hold_the_image(make_request: MakeRequest) -> None:
    request = make_request(droplets=[])
    wide = replace(request.image, pixels=np.zeros((2, 33_000, 1), np.uint8))
    with zipfile.ZipFile(io.BytesIO(EXPORTERS["bundle"](replace(request, image=wide)).data)) as archive:
        readme = archive.read("README.txt").decode()
    assert "imagej: left out. ImageJ regions reach to 32767 px" in readme


@pytest.mark.parametrize("name", sorted(EXPORTERS))
def test_every_export_has_a_name_a_type_and_content(make_request: MakeRequest, name: str) -> None:
    exported = EXPORTERS[name](with_pair(make_request(um_per_px=0.5)))
    assert exported.data
    assert "/" in exported.mimetype
    assert "." in exported.filename
    assert "/" not in exported.filename


def test_every_file_says_the_scale_its_source_and_the_rim_offset(make_request: MakeRequest) -> None:
    roifile = pytest.importorskip("roifile")
    tifffile = pytest.importorskip("tifffile")
    parameters = {"rim_offset_px": -1.5}
    request = make_request(um_per_px=0.5, provenance={"version": "1", "parameters": parameters})
    expected = {"um_per_px": 0.5, "calibration_source": "typed", "rim_offset_px": -1.5}
    files = {name: EXPORTERS[name](request).data for name in EXPORTERS if name not in ("pair", "bundle")}
    for name in ("coco", "coco_polygons"):
        assert expected.items() <= json.loads(files[name])["images"][0].items()
    assert expected.items() <= json.loads(files["labelme"]).items()
    (first, *_) = zipfile.ZipFile(io.BytesIO(files["imagej"])).infolist()
    roi = roifile.ImagejRoi.frombytes(zipfile.ZipFile(io.BytesIO(files["imagej"])).read(first))
    with tifffile.TiffFile(io.BytesIO(files["labels"])) as tiff:
        info = tiff.imagej_metadata["Info"]
    with tifffile.TiffFile(io.BytesIO(files["ome"])) as tiff:
        ome = tiff.ome_metadata
    for text in (roi.props, info):
        assert text.splitlines() == [f"{name}: {value}" for name, value in expected.items()]
    assert all(f">{value}</M>" in ome for value in expected.values())
    yolo = zipfile.ZipFile(io.BytesIO(files["yolo"])).read("data.yaml").decode()
    for text in (yolo, files["histogram_svg"].decode()):
        assert "0.5 µm/px (typed), outlines moved by -1.5 px" in text
    assert "0.5 µm/px (typed)" in files["overlay_svg"].decode()
    methods = files["methods"].decode()
    assert "0.5 µm per pixel (source: typed)" in methods
    assert "1.5 px inside" in methods
    assert json.loads(files["settings"])["rim_offset_px"] == -1.5


def test_every_file_says_the_height_of_the_chamber(make_request: MakeRequest) -> None:
    request = make_request(um_per_px=0.5, calibration=Calibration(0.5, "typed", 4.0))
    files = {name: EXPORTERS[name](request).data for name in EXPORTERS if name not in ("pair", "bundle")}
    for name in ("coco", "labelme", "settings"):
        assert '"chamber_height_um": 4.0' in files[name].decode()
    assert calibration_of(json.loads(files["settings"])) == request.calibration
    assert "chamber 4 µm high" in files["histogram_svg"].decode()
    methods = files["methods"].decode()
    assert (
        "perimeter P; droplets wider than the chamber, 4 µm high (2 of 2), were taken for spheres cut"
        in methods
    )
    assert "volumes assume spheres" not in methods
    free = EXPORTERS["methods"](make_request(um_per_px=0.5)).data.decode()
    assert "perimeter P; volumes assume spheres." in free
    without_scale = EXPORTERS["methods"](make_request()).data.decode()
    assert "perimeter P. A droplet ends" in without_scale
    rows = list(csv.DictReader(io.StringIO(files["csv"].decode("utf-8-sig"))))
    assert {row["chamber_height_um"] for row in rows} == {"4.0"}
    volumes = volumes_pl([float(row["diameter_um"]) for row in rows], 4.0)
    assert [float(row["volume_pl"]) for row in rows] == pytest.approx(volumes.tolist(), rel=1e-5)


def test_methods_tell_what_the_assays_found(make_request: MakeRequest) -> None:
    ddpcr = {"threshold": 9.5, "n_rain": 2, "amplitude": "net"}
    ddpcr |= {"estimate": ddpcr_estimate(120, 500, 65.449847, dilution=10).as_dict()}
    loading = loading_estimate({0: 300, 1: 150, 2: 40, 3: 10}).as_dict()
    text = EXPORTERS["methods"](make_request(assays={"ddpcr": ddpcr, "loading": loading})).data.decode()
    assert "120 of 500 droplets were positive" in text
    assert "41930 copies/µL" in text
    assert "500 droplets held 260 inclusions: λ = 0.5200 (exact 95 % interval 0.4587 to 0.5872)" in text
