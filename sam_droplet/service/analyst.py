"""The façade for what follows from an annotation: assays, statistics, presets, files. Stores no result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sam_droplet.errors import NotFound
from sam_droplet.measurement.droplets import Filters
from sam_droplet.measurement.presets import PRESETS, Preset, preset_filters
from sam_droplet.measurement.quality import image_quality
from sam_droplet.service.assays import AssayDesk, AssaySettings, Outcome
from sam_droplet.service.records import Annotation
from sam_droplet.service.workbench import Workbench, provenance_as_dict

if TYPE_CHECKING:
    from sam_droplet.measurement.export import Exported, ExportRequest


class Analyst:
    """Answer what a page shows beside the droplets, and write it to files: always the same numbers."""

    def __init__(self, workbench: Workbench) -> None:
        self._workbench = workbench
        self._assays = AssayDesk(workbench.image)

    def analysis(self, owner: str, image_id: str) -> tuple[Annotation, dict[str, Outcome]]:
        """Return the annotation, and the outcome of every assay that was set up for it."""
        annotation = self._workbench.annotation(owner, image_id)
        return annotation, self._assays.outcomes(owner, annotation)

    def set_assay(
        self, owner: str, image_id: str, name: str, settings: AssaySettings | None
    ) -> tuple[Outcome | None, int]:
        """Set an assay up, or take it away; return its outcome and the revision.

        Settings that do not fit the images are refused and not kept.
        """
        outcome = None
        if settings is not None:
            annotation = self._workbench.annotation(owner, image_id)
            outcome = self._assays.outcome(owner, annotation, settings)
        with self._workbench.store.editing(owner, image_id) as edit:
            edit.set_setting(name, None if outcome is None else outcome.result["settings"])
            edit.save()
            return outcome, edit.revision

    def report(self, owner: str, image_id: str) -> dict[str, Any]:
        """Return all statistics with intervals, image quality, and a paragraph for the paper; JSON values."""
        from sam_droplet.measurement.export.provenance import methods_text

        request = self._export_request(owner, image_id)
        return {
            "revision": request.provenance["revision"],
            "summary": request.summary(),
            "edge_weighted_summary": request.summary(edge_weighted=True),
            "quality": image_quality(request.image, request.droplets).as_dict(),
            "methods": methods_text(request),
        }

    def presets(self, owner: str, image_id: str) -> dict[str, tuple[Preset, Filters]]:
        """Return each preset with the filters that it means for the droplets of this image."""
        droplets = self._workbench.annotation(owner, image_id).droplets
        return {name: (preset, preset_filters(name, droplets)) for name, preset in PRESETS.items()}

    def export_names(self) -> list[str]:
        """Return the formats of ``export``."""
        from sam_droplet.measurement.export import EXPORTERS

        return list(EXPORTERS)

    def export(self, owner: str, image_id: str, format_name: str) -> Exported:
        """Write what is on screen in one of the export formats."""
        # Spreadsheet libraries are slow to import; a worker that never exports starts without them.
        from sam_droplet.measurement.export import EXPORTERS

        exporter = EXPORTERS.get(format_name)
        if exporter is None:
            raise NotFound(f"There is no export {format_name!r}; there are {', '.join(sorted(EXPORTERS))}.")
        return exporter(self._export_request(owner, image_id))

    def _export_request(self, owner: str, image_id: str) -> ExportRequest:
        from sam_droplet.measurement.export import ExportRequest

        annotation, outcomes = self.analysis(owner, image_id)
        extra: dict[int, dict[str, Any]] = {}
        for outcome in outcomes.values():
            for number, columns in outcome.by_id.items():
                extra.setdefault(number, {}).update(columns)
        _, image = self._workbench.image(owner, image_id)
        return ExportRequest(
            image=image,
            droplets=annotation.droplets,
            calibration=annotation.calibration,
            provenance=provenance_as_dict(annotation),
            filters=annotation.filters,
            extra=extra,
            assays={name: outcome.result for name, outcome in outcomes.items()},
            second=next((o.second for o in outcomes.values() if o.second is not None), None),
        )
