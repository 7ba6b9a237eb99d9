"""Files to take away. EXPORTERS maps a format's name to the function that writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from sam_droplet.measurement.export.labels import export_labels
from sam_droplet.measurement.export.request import Exported, ExportRequest
from sam_droplet.measurement.export.table import export_csv

__all__ = ["EXPORTERS", "ExportRequest", "Exported"]

EXPORTERS: Mapping[str, Callable[[ExportRequest], Exported]] = MappingProxyType(
    {"csv": export_csv, "labels": export_labels}
)
