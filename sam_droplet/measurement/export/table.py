"""Tables: one row per droplet, as CSV with our columns or with those of ImageJ."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sam_droplet.measurement.droplets import Droplet, droplet_record
from sam_droplet.measurement.export.request import Exported, ExportRequest, scale_columns
from sam_droplet.measurement.geometry import perimeter_crofton_px
from sam_droplet.measurement.overlaps import parent_ids
from sam_droplet.measurement.statistics import rounded

if TYPE_CHECKING:
    from sam_droplet.imaging.images import Calibration

_BEFORE_CHANNELS = (
    *("image", "id", "class", "included", "exclusion_reason", "included_although", "source"),
    *("center_x_px", "center_y_px", "area_px", "diameter_px", "diameter_um", "area_um2", "volume_pl"),
    *("circularity", "feret_max_px", "feret_max_um", "feret_min_px", "feret_min_um"),
    *("aspect_ratio", "eccentricity", "solidity", "touches_edge", "edge_distance_px"),
    *("mean_intensity", "sd_intensity", "median_intensity", "min_intensity", "max_intensity"),
    "background_intensity",
)
_ASSAYS = ("positive", "n_inclusions", "parent_id")
_LAST = ("score", "model", "um_per_px", "calibration_source", "chamber_height_um", "rim_offset_px", "page")
# A part of ImageJ's results header, in its order and spelling.
_IMAGEJ_COLUMNS = (
    *(
        " ",
        "Label",
        "Area",
        "Mean",
        "StdDev",
        "Min",
        "Max",
        "X",
        "Y",
        "Perim.",
        "BX",
        "BY",
        "Width",
        "Height",
    ),
    *(
        "Major",
        "Minor",
        "Circ.",
        "Feret",
        "IntDen",
        "Median",
        "RawIntDen",
        "MinFeret",
        "AR",
        "Round",
        "Solidity",
    ),
)
# A cell that starts so would run as a formula in a spreadsheet.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def table_columns(request: ExportRequest) -> list[str]:
    """Return the column names in file order; the micrometre columns are there in any case.

    One ``mean_intensity_c0``... per channel where there are several; then what assays added.
    """
    added = dict.fromkeys(name for values in request.extra.values() for name in values)
    return columns_for(request.image.n_channels, added)


def columns_for(n_channels: int, added: Iterable[str] = ()) -> list[str]:
    """Return the column names for images with so many channels, and with what assays added."""
    channels = [f"mean_intensity_c{i}" for i in range(n_channels)] if n_channels > 1 else []
    known = [*_BEFORE_CHANNELS, *channels, *_ASSAYS, *_LAST]
    new = [name for name in added if name not in known]
    return [*_BEFORE_CHANNELS, *channels, *_ASSAYS, *new, *_LAST]


def table_rows(request: ExportRequest) -> list[dict[str, Any]]:
    """Return one row per droplet, excluded ones too, with the keys of ``table_columns``."""
    columns = table_columns(request)
    image = request.image
    rows = droplet_rows(image.name, request.droplets, request.calibration, request.rim_offset_px, image.page)
    for row, droplet in zip(rows, request.droplets, strict=True):
        row |= request.extra.get(droplet.id, {})
    return [{name: row.get(name) for name in columns} for row in rows]


def droplet_rows(
    image_name: str,
    droplets: Sequence[Droplet],
    calibration: Calibration | None,
    rim_offset_px: float = 0.0,
    page: int = 0,
) -> list[dict[str, Any]]:
    """Return each droplet's record with what only tables have: its image, page, class, parent and scale.

    rim_offset_px: of the outlines that a network drew; those drawn by hand are where they were drawn.
    """
    parents = parent_ids(droplets)
    about = scale_columns(calibration) | {"image": image_name, "class": "droplet", "page": page}
    return [
        droplet_record(droplet, calibration)
        | about
        | {
            "parent_id": parents.get(droplet.id),
            "rim_offset_px": 0.0 if droplet.source == "manual" else rim_offset_px,
        }
        for droplet in droplets
    ]


def export_csv(request: ExportRequest) -> Exported:
    """Write all droplets as CSV: UTF-8 with BOM, dot decimals, ASCII names with their units."""
    columns = table_columns(request)
    rows = ([cell(row[name]) for name in columns] for row in table_rows(request))
    return Exported(f"{request.stem}_droplets.csv", "text/csv; charset=utf-8", csv_bytes(columns, rows))


def export_imagej_csv(request: ExportRequest) -> Exported:
    """Write the included droplets with the column names of ImageJ's results table.

    Lengths and areas are in µm and µm² where calibrated, else in px and px², as in ImageJ itself.
    """
    um = 1.0 if request.calibration is None else request.calibration.um_per_px
    rows = [_imagej_row(number, d, request, um) for number, d in enumerate(request.included, 1)]
    data = csv_bytes(_IMAGEJ_COLUMNS, rows)
    return Exported(f"{request.stem}_imagej.csv", "text/csv; charset=utf-8", data)


def _imagej_row(number: int, droplet: Droplet, request: ExportRequest, um: float) -> list[Any]:
    """Return one row in the order of ``_IMAGEJ_COLUMNS``; Major and Minor are the ellipse of equal area."""
    m = droplet.measures
    x, y, width, height = (v * um for v in droplet.mask.bbox_xywh)
    major, minor = m.diameter_px * m.aspect_ratio**0.5, m.diameter_px / m.aspect_ratio**0.5
    # ImageJ divides by n - 1 where our column divides by n.
    sd = m.sd_intensity * (m.area_px / (m.area_px - 1)) ** 0.5 if m.area_px > 1 else 0.0
    values = (
        *(m.area_px * um**2, m.mean_intensity, sd, m.min_intensity, m.max_intensity),
        *(m.center_x_px * um, m.center_y_px * um, perimeter_crofton_px(droplet.mask.bits) * um),
        *(x, y, width, height, major * um, minor * um, m.circularity, m.feret_max_px * um),
        *(m.area_px * um**2 * m.mean_intensity, m.median_intensity, m.area_px * m.mean_intensity),
        *(m.feret_min_px * um, m.aspect_ratio, 1 / m.aspect_ratio, m.solidity),
    )
    return [number, cell(f"{request.image.name}:{droplet.id:05d}"), *(rounded(float(v)) for v in values)]


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
