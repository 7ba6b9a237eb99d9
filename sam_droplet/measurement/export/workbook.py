"""An Excel workbook: droplets, summary, histogram, groups, assays, excluded droplets and settings."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.chart import BarChart, Reference
from openpyxl.styles import Font

from sam_droplet.measurement.export.outlines import zipped
from sam_droplet.measurement.export.pictures import diameter_histogram
from sam_droplet.measurement.export.provenance import methods_text, settings_dict
from sam_droplet.measurement.export.request import Exported, ExportRequest
from sam_droplet.measurement.export.table import cell, table_columns, table_rows
from sam_droplet.measurement.populations import size_groups

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_ASSAY_SHEETS = {"ddpcr": "ddPCR", "loading": "Loading", "intensity": "Intensity"}
_NAME_WIDTH, _VALUE_WIDTH = 34, 18
# What comes as a pair of limits, not of coordinates.
_IS_RANGE = re.compile(r"interval|wilson|exact|ranges|rain_concentrations")


def export_xlsx(request: ExportRequest) -> Exported:
    """Write the workbook; its numbers are those of the CSV and the summary."""
    book = Workbook(write_only=True)
    columns, rows = table_columns(request), table_rows(request)
    _table(book, "Droplets", columns, ([r[c] for c in columns] for r in rows if r["included"]))
    summary = request.summary()
    _pairs(book, "Summary", flattened(summary))
    _histogram(book, request)
    _groups(book, request)
    for name, result in request.assays.items():
        if name != "groups":
            _pairs(book, _ASSAY_SHEETS.get(name, name[:31]), flattened(result))
    _table(book, "Excluded", columns, ([r[c] for c in columns] for r in rows if not r["included"]))
    settings = flattened(settings_dict(request))
    _pairs(book, "Settings", [*settings, ("methods", methods_text(request))])
    return Exported(f"{request.stem}_droplets.xlsx", XLSX, _saved(book))


def _saved(book: Workbook) -> bytes:
    """Return the file without the time of writing, so that the same numbers give the same bytes."""
    buffer = io.BytesIO()
    book.save(buffer)
    with zipfile.ZipFile(buffer) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    properties = files["docProps/core.xml"]
    files["docProps/core.xml"] = re.sub(rb"<dcterms:(created|modified)\b.*?</dcterms:\1>", b"", properties)
    return zipped(files)


def flattened(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return nested JSON values as (dotted name, value) pairs."""
    pairs: list[tuple[str, Any]] = []
    for name, value in values.items():
        pairs.extend(_flattened_value(f"{prefix}{name}", value))
    return pairs


def _flattened_value(name: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return flattened(value, f"{name}.") or [(name, None)]
    if not isinstance(value, (list, tuple)):
        return [(name, value)]
    if not value:
        return [(name, None)]
    if len(value) == 1 and not isinstance(value[0], (Mapping, list, tuple)):
        return [(name, value[0])]
    # One cell for each, so that numbers stay numbers; a limit that is infinite is an empty cell.
    parts = ("low", "high") if len(value) == 2 and _IS_RANGE.search(name) else range(len(value))
    return [
        pair for part, v in zip(parts, value, strict=True) for pair in _flattened_value(f"{name}.{part}", v)
    ]


def _table(book: Workbook, title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    sheet = book.create_sheet(title)
    sheet.freeze_panes = "A2"
    sheet.append([bold_cell(sheet, name) for name in columns])
    for row in rows:
        sheet.append([excel_cell(value) for value in row])


def _pairs(book: Workbook, title: str, pairs: Iterable[tuple[str, Any]]) -> None:
    sheet = book.create_sheet(title)
    sheet.column_dimensions["A"].width = _NAME_WIDTH
    sheet.column_dimensions["B"].width = _VALUE_WIDTH
    sheet.append([bold_cell(sheet, "name"), bold_cell(sheet, "value")])
    for name, value in pairs:
        sheet.append([excel_cell(name), excel_cell(value)])


def _histogram(book: Workbook, request: ExportRequest) -> None:
    histogram = diameter_histogram(request)
    unit = "um" if histogram.unit == "µm" else "px"
    sheet = book.create_sheet("Histogram")
    sheet.append(
        [bold_cell(sheet, name) for name in (f"from_{unit}", f"to_{unit}", f"middle_{unit}", "droplets")]
    )
    for low, high, count in zip(histogram.edges[:-1], histogram.edges[1:], histogram.counts, strict=True):
        sheet.append([float(low), float(high), round(float(low + high) / 2, 9), int(count)])
    last = len(histogram.counts) + 1
    chart = BarChart()
    chart.add_data(Reference(sheet, min_col=4, min_row=1, max_row=last), titles_from_data=True)
    chart.set_categories(Reference(sheet, min_col=3, min_row=2, max_row=last))
    chart.gapWidth, chart.legend = 0, None
    chart.x_axis.title, chart.y_axis.title = f"Diameter ({histogram.unit})", "Droplets"
    chart.x_axis.delete = chart.y_axis.delete = False
    sheet.add_chart(chart, "F2")


def _groups(book: Workbook, request: ExportRequest) -> None:
    calibration = request.calibration
    um = None if calibration is None else calibration.um_per_px
    height = None if calibration is None else calibration.chamber_height_um
    unit = "px" if um is None else "um"
    assay = request.assays.get("groups", {})
    sheet = book.create_sheet("Groups")
    names = ("mean", "sd", "cv_percent", "median", "min", "max")
    header = ("group", "n", "share_by_number_percent", "share_by_volume_percent")
    units = [name if name == "cv_percent" else f"{name}_{unit}" for name in names]
    sheet.append([bold_cell(sheet, name) for name in (*header, *(f"diameter_{name}" for name in units))])
    if "error" in assay:
        # Droplets that no longer fall into so many groups must not cost the reader all other sheets.
        sheet.append([excel_cell(assay["error"])])
        return
    wanted = assay.get("settings", {}).get("n_groups")
    found = size_groups(request.droplets, n_groups=wanted, scale=um or 1.0, chamber_height=height)
    for group in found.groups:
        shares = (group.share_by_number_percent, group.share_by_volume_percent)
        sizes = [getattr(group.diameter, name) for name in names]
        sheet.append([excel_cell(v) for v in (group.name, group.diameter.n, *shares, *sizes)])


def bold_cell(sheet: Any, text: str) -> WriteOnlyCell:
    """Return a cell of a header."""
    made = WriteOnlyCell(sheet, value=text)
    made.font = Font(bold=True)
    return made


def excel_cell(value: Any) -> Any:
    """Return a value for a cell: real booleans and numbers, no formulas, no control characters."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return cell(ILLEGAL_CHARACTERS_RE.sub("", str(value)))
