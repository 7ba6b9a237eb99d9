"""One archive with every file, so that a result can be read, checked and measured again."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sam_droplet.errors import InputError
from sam_droplet.measurement.export.outlines import zipped
from sam_droplet.measurement.export.provenance import methods_text
from sam_droplet.measurement.export.request import Exported, ExportRequest

Exporter = Callable[[ExportRequest], Exported]
# Windows and macOS take names for the same that differ by capitals only.
_SETTINGS = "settings.json"


def export_bundle(request: ExportRequest, exporters: Mapping[str, Exporter]) -> Exported:
    """Write a ZIP of what ``exporters`` write, with a README that says what is what."""
    files: dict[str, bytes] = {}
    lines = []
    for name, exporter in exporters.items():
        try:
            exported = exporter(request)
        except InputError as error:
            # A format that cannot hold this image must not cost the reader all the others.
            lines.append(f"{name}: left out. {error.message}")
            continue
        filename = exported.filename
        if name != "settings" and filename.lower() == _SETTINGS:  # LabelMe's file for an image of that name
            filename = f"{name}_{filename}"
        files[filename] = exported.data
        lines.append(f"{filename}: {_purpose(name, exporter)}")
    readme = "\n".join([f"SAM Droplet: {request.image.name}", "", *lines, "", methods_text(request), ""])
    return Exported(
        f"{request.stem}_bundle.zip", "application/zip", zipped({"README.txt": readme.encode(), **files})
    )


def _purpose(name: str, exporter: Exporter) -> str:
    """Return the first sentence of an exporter's documentation."""
    return (exporter.__doc__ or name).strip().splitlines()[0]
