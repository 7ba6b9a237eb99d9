"""Files to take away. EXPORTERS maps a format's name to the function that writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from sam_droplet.measurement.export.bundle import export_bundle
from sam_droplet.measurement.export.labels import export_label_stack, export_labels, export_ome
from sam_droplet.measurement.export.outlines import (
    export_coco,
    export_coco_polygons,
    export_imagej,
    export_labelme,
    export_yolo,
)
from sam_droplet.measurement.export.pair import export_pair
from sam_droplet.measurement.export.pictures import (
    export_histogram_png,
    export_histogram_svg,
    export_overlay_png,
    export_overlay_svg,
)
from sam_droplet.measurement.export.provenance import export_methods, export_settings, rerun
from sam_droplet.measurement.export.request import Exported, ExportRequest
from sam_droplet.measurement.export.table import export_csv, export_imagej_csv
from sam_droplet.measurement.export.workbook import export_xlsx

__all__ = ["EXPORTERS", "ONE_PICTURE_FORMATS", "ExportRequest", "Exported", "rerun"]

_FILES: Mapping[str, Callable[[ExportRequest], Exported]] = MappingProxyType(
    {
        "csv": export_csv,
        "imagej_csv": export_imagej_csv,
        "xlsx": export_xlsx,
        "imagej": export_imagej,
        "labels": export_labels,
        "label_stack": export_label_stack,
        "ome": export_ome,
        "coco": export_coco,
        "coco_polygons": export_coco_polygons,
        "labelme": export_labelme,
        "yolo": export_yolo,
        "overlay": export_overlay_png,
        "overlay_svg": export_overlay_svg,
        "histogram": export_histogram_png,
        "histogram_svg": export_histogram_svg,
        "methods": export_methods,
        "settings": export_settings,
    }
)


def _export_bundle(request: ExportRequest) -> Exported:
    """Write one ZIP archive with the files of every other format."""
    return export_bundle(request, _FILES if request.second is None else {**_FILES, "pair": export_pair})


EXPORTERS: Mapping[str, Callable[[ExportRequest], Exported]] = MappingProxyType(
    {**_FILES, "pair": export_pair, "bundle": _export_bundle}
)
# The formats that need no second picture.
ONE_PICTURE_FORMATS = (*_FILES, "bundle")
