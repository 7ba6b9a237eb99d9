"""The results of many images in one place: a long table of all droplets, and one line per image."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from openpyxl import Workbook

from sam_droplet.measurement.export.table import cell, columns_for, droplet_rows
from sam_droplet.measurement.export.workbook import bold_cell, excel_cell
from sam_droplet.measurement.statistics import number_percentiles, rounded
from sam_droplet.measurement.summary import summarize

if TYPE_CHECKING:
    from sam_droplet.imaging.images import Calibration
    from sam_droplet.measurement.droplets import Droplet

CSV = "text/csv; charset=utf-8"
SUMMARY_COLUMNS = (
    *("image", "state", "n_found", "n_included", "n_excluded", "n_touching_edge"),
    *("mean_diameter_px", "sd_diameter_px", "cv_percent", "median_diameter_px"),
    *("min_diameter_px", "q1_diameter_px", "q3_diameter_px", "max_diameter_px"),
    *("mean_diameter_um", "sd_diameter_um", "median_diameter_um"),
    *("min_diameter_um", "q1_diameter_um", "q3_diameter_um", "max_diameter_um"),
    *("mean_volume_pl", "total_volume_pl", "um_per_px", "calibration_source", "chamber_height_um"),
    "rim_offset_px",
    *("saturated_percent", "coverage_percent", "overlap_percent", "rim_width_px", "flags"),
    *("width_px", "height_px", "bit_depth", "page", "n_pages", "digest"),
    *("model", "model_sha256", "sensitivity", "seconds", "message"),
)
# Excel has 1,048,576 rows; the first is the header.
SHEET_ROWS = 1_048_575


@dataclass(frozen=True)
class ImagePart:
    """Hold one image's share: its line of the summary, and its droplets as rows of the long table.

    summary: by ``SUMMARY_COLUMNS``; what is missing stays empty. rows: as ``droplet_rows`` gives them.
    """

    summary: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]] = field(default_factory=tuple)


def measured(
    image_name: str,
    droplets: Sequence[Droplet],
    calibration: Calibration | None,
    rim_offset_px: float = 0.0,
    page: int = 0,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the numbers of the summary line, and the rows, of one image's droplets."""
    summary = summarize(droplets, calibration)
    line = {name: summary[name] for name in ("n_found", "n_included", "n_excluded", "n_touching_edge")}
    line |= {name: summary[name] for name in ("um_per_px", "calibration_source", "chamber_height_um")}
    line["cv_percent"] = summary["diameter_px"]["cv_percent"]
    for unit in ("px", "um"):
        sizes = summary[f"diameter_{unit}"] or {}
        for name in ("mean", "sd", "median", "min", "max"):
            line[f"{name}_diameter_{unit}"] = sizes.get(name)
    line |= _quartiles([d.measures.diameter_px for d in droplets if d.included], summary["um_per_px"])
    volumes = summary["volume_pl"] or {}
    line |= {"mean_volume_pl": volumes.get("mean"), "total_volume_pl": volumes.get("total")}
    line["rim_offset_px"] = rim_offset_px
    rows = droplet_rows(image_name, droplets, calibration, rim_offset_px, page)
    return {"image": image_name, **line}, rows


def _quartiles(diameters_px: Sequence[float], um_per_px: float | None) -> dict[str, float | None]:
    """Return the first and the third quartile of the diameters, None where there are none."""
    pair = number_percentiles(diameters_px, (25, 75)).tolist() if diameters_px else (None, None)
    quartiles: dict[str, float | None] = {}
    for name, value in zip(("q1", "q3"), pair, strict=True):
        quartiles[f"{name}_diameter_px"] = rounded(value)
        in_um = None if value is None or um_per_px is None else value * um_per_px
        quartiles[f"{name}_diameter_um"] = rounded(in_um)
    return quartiles


def unique_names(names: Sequence[str]) -> list[str]:
    """Number names that come again, since the image's name tells the rows of a long table apart."""
    taken, seen = set(names), Counter[str]()
    unique = []
    for name in names:
        seen[name] += 1
        made, number = name, seen[name]
        while number > 1 and made in taken:
            made = f"{name} ({number})"
            number += 1
        taken.add(made)
        unique.append(made)
    return unique


def write_droplets_csv(stream: TextIO, parts: Iterable[ImagePart], n_channels: int) -> None:
    """Write the long table; ``stream`` is opened with newline="". n_channels: the most of any image."""
    columns = columns_for(n_channels)
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(columns)
    for part in parts:
        writer.writerows([cell(row.get(name)) for name in columns] for row in part.rows)


def write_summary_csv(stream: TextIO, parts: Iterable[ImagePart]) -> None:
    """Write one line per image."""
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(SUMMARY_COLUMNS)
    for part in parts:
        writer.writerow([cell(part.summary.get(name)) for name in SUMMARY_COLUMNS])


def combined_csv(parts: Iterable[ImagePart], n_channels: int) -> bytes:
    """Return the long table as UTF-8 with BOM, which Excel understands."""
    text = io.StringIO(newline="")
    write_droplets_csv(text, parts, n_channels)
    return text.getvalue().encode("utf-8-sig")


def combined_xlsx(
    parts: Iterable[ImagePart], n_channels: int, settings: Mapping[str, Any], *, sheet_rows: int = SHEET_ROWS
) -> bytes:
    """Return a workbook: one line per image, all droplets with an image column, and the settings.

    Image after image is written and forgotten, so memory does not grow with the droplets.
    """
    book = Workbook(write_only=True)
    images, droplets = (
        _headed(book, "Images", SUMMARY_COLUMNS),
        _LongSheet(book, columns_for(n_channels), sheet_rows),
    )
    for part in parts:
        images.append([excel_cell(part.summary.get(name)) for name in SUMMARY_COLUMNS])
        droplets.extend(part.rows)
    about = _headed(book, "Settings", ("name", "value"))
    for name, value in settings.items():
        about.append([excel_cell(name), excel_cell(value)])
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


class _LongSheet:
    """Rows on as many sheets as Excel needs for them."""

    def __init__(self, book: Workbook, columns: Sequence[str], sheet_rows: int) -> None:
        self._book, self._columns, self._sheet_rows = book, columns, sheet_rows
        self._number, self._n_rows = 1, 0
        self._sheet = _headed(book, "Droplets", columns)

    def extend(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows."""
        for row in rows:
            if self._n_rows == self._sheet_rows:
                self._number, self._n_rows = self._number + 1, 0
                self._sheet = _headed(self._book, f"Droplets {self._number}", self._columns)
            self._sheet.append([excel_cell(row.get(name)) for name in self._columns])
            self._n_rows += 1


def _headed(book: Workbook, title: str, columns: Sequence[str]) -> Any:
    sheet = book.create_sheet(title)
    sheet.freeze_panes = "B2"
    sheet.column_dimensions["A"].width = 34
    sheet.append([bold_cell(sheet, name) for name in columns])
    return sheet
