"""Tables: one row per droplet, as CSV with our columns or with those of ImageJ."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from sam_droplet.measurement.droplets import droplet_record
from sam_droplet.measurement.export.request import Exported, ExportRequest

_BEFORE_CHANNELS = (
    *("image", "id", "class", "included", "exclusion_reason", "source"),
    *("center_x_px", "center_y_px", "area_px", "diameter_px", "diameter_um", "area_um2", "volume_pl"),
    *("circularity", "feret_max_px", "feret_max_um", "feret_min_px", "feret_min_um"),
    *("aspect_ratio", "eccentricity", "solidity", "touches_edge", "edge_distance_px"),
    *("mean_intensity", "sd_intensity", "median_intensity", "min_intensity", "max_intensity"),
    "background_intensity",
)
_AFTER_CHANNELS = ("positive", "n_inclusions", "parent_id", "score", "model", "um_per_px")
# A cell that starts so would run as a formula in a spreadsheet.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def table_columns(request: ExportRequest) -> list[str]:
    """Return the column names in file order; the micrometre columns are there in any case.

    One ``mean_intensity_c0``... per channel where there are several.
    """
    n = request.image.n_channels
    channels = [f"mean_intensity_c{i}" for i in range(n)] if n > 1 else []
    return [*_BEFORE_CHANNELS, *channels, *_AFTER_CHANNELS]


def table_rows(request: ExportRequest) -> list[dict[str, Any]]:
    """Return one row per droplet, excluded ones too, with the keys of ``table_columns``."""
    columns = table_columns(request)
    um = None if request.calibration is None else request.calibration.um_per_px
    rows = []
    for droplet in request.droplets:
        record = droplet_record(droplet, request.calibration)
        record |= {"image": request.image.name, "class": "droplet", "um_per_px": um}
        record |= request.extra.get(droplet.id, {})
        rows.append({name: record.get(name) for name in columns})
    return rows


def export_csv(request: ExportRequest) -> Exported:
    """Write all droplets as CSV: UTF-8 with BOM, dot decimals, ASCII names with their units."""
    columns = table_columns(request)
    rows = ([cell(row[name]) for name in columns] for row in table_rows(request))
    return Exported(f"{request.stem}_droplets.csv", "text/csv; charset=utf-8", csv_bytes(columns, rows))


def csv_bytes(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Return a CSV file; the BOM makes Excel read it as UTF-8."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode("utf-8-sig")


def cell(value: Any) -> Any:
    """Return a value as it stands in a table: empty for None, true/false, text that is no formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value
