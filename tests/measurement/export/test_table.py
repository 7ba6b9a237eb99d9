"""CSV files read back by the csv module and pandas."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace

import pytest

from sam_droplet.imaging.masks import Mask
from sam_droplet.measurement.droplets import droplet_record, measure
from sam_droplet.measurement.export import EXPORTERS, ExportRequest
from sam_droplet.measurement.export.combined import measured

MakeRequest = Callable[..., ExportRequest]


def read_rows(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def test_csv_starts_with_a_bom_and_has_ascii_names(make_request: MakeRequest) -> None:
    exported = EXPORTERS["csv"](make_request())
    assert exported.filename == "field_droplets.csv"
    assert exported.data.startswith(
        b"\xef\xbb\xbfimage,id,class,included,exclusion_reason,included_although,"
    )
    header = exported.data[3:].split(b"\r\n")[0]
    assert header.isascii()
    assert header.endswith(b"model,um_per_px,calibration_source,chamber_height_um,rim_offset_px,page")


def test_csv_has_included_and_excluded_rows_with_the_records_numbers(make_request: MakeRequest) -> None:
    request = make_request(um_per_px=0.5)
    rows = read_rows(EXPORTERS["csv"](request).data)
    assert [r["included"] for r in rows] == ["false", "true", "true"]
    assert rows[0]["exclusion_reason"] == "diameter_px_below"
    for droplet, row in zip(request.droplets, rows, strict=True):
        record = droplet_record(droplet, request.calibration)
        for name in ("diameter_px", "diameter_um", "volume_pl", "circularity", "mean_intensity", "score"):
            assert float(row[name]) == record[name], name
        assert (row["um_per_px"], row["calibration_source"]) == ("0.5", "typed")


def test_csv_without_calibration_keeps_the_columns_empty(make_request: MakeRequest) -> None:
    rows = read_rows(EXPORTERS["csv"](make_request()).data)
    assert {rows[1][name] for name in ("diameter_um", "area_um2", "volume_pl", "um_per_px")} == {""}
    assert rows[1]["calibration_source"] == "none"


def test_rim_offset_is_said_of_outlines_that_were_not_drawn_by_hand(make_request: MakeRequest) -> None:
    request = make_request(provenance={"parameters": {"rim_offset_px": 2.5}})
    by_hand = replace(request.droplets[1], source="manual")
    request = replace(request, droplets=[request.droplets[0], by_hand, request.droplets[2]])
    offsets = [float(row["rim_offset_px"]) for row in read_rows(EXPORTERS["csv"](request).data)]
    assert offsets == [2.5, 0.0, 2.5]


def test_tables_say_which_droplet_a_droplet_lies_in(
    make_request: MakeRequest, make_disc: Callable[..., Mask]
) -> None:
    request = make_request()
    (inner,) = measure(request.image, [make_disc(62, 40, 5)], first_id=7)
    rows = read_rows(EXPORTERS["csv"](replace(request, droplets=[*request.droplets, inner])).data)
    assert {row["id"]: row["parent_id"] for row in rows} == {"1": "", "2": "", "3": "", "7": "2"}
    _, combined = measured("field.tif", [*request.droplets, inner], None)
    assert [row["parent_id"] for row in combined] == [None, None, None, 2]


def test_csv_reads_back_in_pandas(make_request: MakeRequest) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is a development dependency")
    request = make_request(um_per_px=2.0)
    frame = pandas.read_csv(io.BytesIO(EXPORTERS["csv"](request).data))
    assert frame["included"].tolist() == [d.included for d in request.droplets]
    assert frame["area_px"].tolist() == [d.measures.area_px for d in request.droplets]
    assert frame["diameter_um"].to_numpy() == pytest.approx(
        [2 * d.measures.diameter_px for d in request.droplets], rel=1e-6
    )


def test_assay_columns_go_into_the_table(make_request: MakeRequest) -> None:
    extra = {2: {"positive": True, "class": "main"}, 3: {"positive": False, "n_inclusions": 2}}
    rows = read_rows(EXPORTERS["csv"](make_request(extra=extra)).data)
    assert [(r["class"], r["positive"], r["n_inclusions"]) for r in rows] == [
        ("droplet", "", ""),
        ("main", "true", ""),
        ("droplet", "false", "2"),
    ]


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0.png", "+1.png", "@sum.png", "-2.png"])
def test_image_name_never_becomes_a_formula(make_request: MakeRequest, name: str) -> None:
    rows = read_rows(EXPORTERS["csv"](make_request(name=name)).data)
    assert rows[0]["image"] == f"'{name}"


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a b/c:d.tif", "c_d"), ("../../etc.png", "etc"), ("µ.png", "µ"), ("…", "image"), ("", "image")],
)
def test_file_names_are_safe(make_request: MakeRequest, name: str, stem: str) -> None:
    assert EXPORTERS["csv"](make_request(name=name)).filename == f"{stem}_droplets.csv"


def test_image_without_droplets_gives_a_header_only(make_request: MakeRequest) -> None:
    assert read_rows(EXPORTERS["csv"](make_request(droplets=[])).data) == []


def test_imagej_table_has_imagej_names_and_calibrated_values(make_request: MakeRequest) -> None:
    request = make_request(um_per_px=0.5)
    rows = read_rows(EXPORTERS["imagej_csv"](request).data)
    assert [row["Label"] for row in rows] == ["field.tif:00002", "field.tif:00003"]
    for row, droplet in zip(rows, [d for d in request.droplets if d.included], strict=True):
        m = droplet.measures
        assert float(row["Area"]) == m.area_px / 4
        assert float(row["X"]) == pytest.approx(m.center_x_px / 2, rel=1e-6)
        assert float(row["AR"]) * float(row["Round"]) == pytest.approx(1, rel=1e-6)
        assert float(row["Major"]) * float(row["Minor"]) == pytest.approx((m.diameter_px / 2) ** 2, rel=1e-6)
        assert float(row["Feret"]) == pytest.approx(m.feret_max_px / 2, rel=1e-6)
        x0, y0, x1, y1 = droplet.mask.box_xyxy
        inside = request.image.pixels[y0:y1, x0:x1, 0][droplet.mask.bits]
        assert float(row["StdDev"]) == pytest.approx(inside.std(ddof=1), rel=1e-6)
        assert float(row["RawIntDen"]) == pytest.approx(inside.sum(), rel=1e-6)


def test_columns_that_assays_add_come_before_the_last_ones(make_request: MakeRequest) -> None:
    data = EXPORTERS["csv"](make_request(extra={2: {"positive": True, "amplitude": 12.5}})).data
    header = data.decode("utf-8-sig").splitlines()[0]
    assert header.endswith(
        "amplitude,score,model,um_per_px,calibration_source,chamber_height_um,rim_offset_px,page"
    )
    assert read_rows(data)[1]["amplitude"] == "12.5"
