"""The workbook read back by openpyxl and pandas."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

import openpyxl
import pytest

from sam_droplet.measurement.assays import ddpcr_estimate, loading_estimate
from sam_droplet.measurement.droplets import summarize
from sam_droplet.measurement.export import EXPORTERS, ExportRequest
from sam_droplet.measurement.export.table import table_columns, table_rows

MakeRequest = Callable[..., ExportRequest]


def sheet_rows(request: ExportRequest, title: str) -> list[tuple[object, ...]]:
    book = openpyxl.load_workbook(io.BytesIO(EXPORTERS["xlsx"](request).data))
    return list(book[title].iter_rows(values_only=True))


def test_sheets_are_those_of_the_reference(make_request: MakeRequest) -> None:
    ddpcr = {"estimate": ddpcr_estimate(1, 3).as_dict(), "threshold": 9.5, "n_rain": 0, "amplitude": "net"}
    assays = {"ddpcr": ddpcr, "loading": loading_estimate({0: 2, 1: 1}).as_dict()}
    book = openpyxl.load_workbook(io.BytesIO(EXPORTERS["xlsx"](make_request(assays=assays)).data))
    expected = ["Droplets", "Summary", "Histogram", "Groups", "ddPCR", "Loading", "Excluded", "Settings"]
    assert book.sheetnames == expected


def test_workbook_does_not_tell_when_it_was_written(make_request: MakeRequest) -> None:
    with zipfile.ZipFile(io.BytesIO(EXPORTERS["xlsx"](make_request()).data)) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert b"W3CDTF" not in archive.read("docProps/core.xml")


def test_droplets_and_excluded_hold_the_tables_rows(make_request: MakeRequest) -> None:
    request = make_request(um_per_px=0.5)
    header, *rows = sheet_rows(request, "Droplets")
    assert list(header) == table_columns(request)
    table = table_rows(request)
    assert [list(row) for row in rows] == [[r[c] for c in header] for r in table if r["included"]]
    (excluded,) = sheet_rows(request, "Excluded")[1:]
    assert dict(zip(header, excluded, strict=True))["exclusion_reason"] == "diameter_px_below"


def test_summary_sheet_has_the_summarys_numbers(make_request: MakeRequest) -> None:
    request = make_request(um_per_px=0.5)
    pairs = dict(sheet_rows(request, "Summary")[1:])
    summary = summarize(request.droplets, request.calibration)
    assert pairs["n_found"] == 3
    assert pairs["excluded_by_reason.diameter_px_below"] == 1
    assert pairs["diameter_um.mean"] == summary["diameter_um"]["mean"]
    assert pairs["diameter_um.dv90"] == summary["diameter_um"]["dv90"]
    assert pairs["volume_pl.mean"] == summary["volume_pl"]["mean"]


def test_limits_are_numbers_in_cells_of_their_own_and_empty_where_infinite(make_request: MakeRequest) -> None:
    ddpcr = {"estimate": ddpcr_estimate(3, 3).as_dict(), "threshold": 9.5, "n_rain": 0, "amplitude": "net"}
    request = make_request(um_per_px=0.5, assays={"ddpcr": ddpcr})
    low, high = request.summary()["intervals_95"]["diameter_um"]["mean"]
    summary = dict(sheet_rows(request, "Summary")[1:])
    assert summary["intervals_95.diameter_um.mean.low"] == low
    assert summary["intervals_95.diameter_um.mean.high"] == high
    assay = dict(sheet_rows(request, "ddPCR")[1:])
    assert assay["estimate.lam_exact.low"] == ddpcr["estimate"]["lam_exact"][0]
    assert assay["estimate.lam_exact.high"] is None
    settings = dict(sheet_rows(request, "Settings")[1:])
    assert (settings["filters.ranges.diameter_px.low"], settings["filters.ranges.diameter_px.high"]) == (
        20,
        None,
    )


def test_settings_sheet_names_version_weights_and_calibration(make_request: MakeRequest) -> None:
    pairs = dict(sheet_rows(make_request(um_per_px=0.5), "Settings")[1:])
    assert pairs["version"] == "1.2.3"
    assert pairs["provenance.model.sha256"] == "ab" * 32
    assert (pairs["calibration.um_per_px"], pairs["calibration.source"]) == (0.5, "typed")
    assert pairs["edits.excluded_by_user"] == 0
    assert "Droplets in field.tif" in str(pairs["methods"])


def test_histogram_and_groups_count_the_included(make_request: MakeRequest) -> None:
    request = make_request()
    header, *bins = sheet_rows(request, "Histogram")
    assert header[:4] == ("from_px", "to_px", "middle_px", "droplets")
    assert sum(int(str(row[3])) for row in bins) == 2
    groups = sheet_rows(request, "Groups")
    assert groups[1][:2] == ("main", 2)


@pytest.mark.parametrize("name", ["=1+1.png", "bad\x07name.png"])
def test_names_become_neither_formulas_nor_damage(make_request: MakeRequest, name: str) -> None:
    rows = sheet_rows(make_request(name=name), "Droplets")
    assert rows[1][0] in {"'=1+1.png", "badname.png"}


def test_workbook_of_no_droplets_opens(make_request: MakeRequest) -> None:
    assert len(sheet_rows(make_request(droplets=[]), "Droplets")) == 1


def test_workbook_reads_back_in_pandas(make_request: MakeRequest) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is a development dependency")
    request = make_request(um_per_px=2.0)
    frame = pandas.read_excel(io.BytesIO(EXPORTERS["xlsx"](request).data), sheet_name="Droplets")
    assert frame["area_px"].tolist() == [d.measures.area_px for d in request.droplets if d.included]
