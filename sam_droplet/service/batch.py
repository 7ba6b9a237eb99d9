"""What jobs of images do: find droplets on one image after the other with one set of settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from sam_droplet.imaging.calibration import with_chamber
from sam_droplet.imaging.images import Calibration
from sam_droplet.measurement.droplets import Filters, checked_filters
from sam_droplet.measurement.quality import image_quality
from sam_droplet.service.job_engine import Work
from sam_droplet.service.job_tables import Commit, Subject
from sam_droplet.service.records import (
    Annotation,
    ImageRecord,
    calibration_from_dict,
    filters_as_dict,
    filters_from_dict,
)
from sam_droplet.service.replacement import replace_automatic
from sam_droplet.service.workbench import Workbench

KINDS = ("find", "batch")
_MEGAPIXEL = 1e6
# What an image costs however small it is, in megapixels: reading, writing, measuring.
_FIXED_WEIGHT = 0.2

# From the settings of a job, an image and its scale to the options of the segmenter.
MakeOptions = Callable[[Mapping[str, Any], ImageRecord, Calibration | None], Any]


def subjects(records: Sequence[ImageRecord]) -> list[Subject]:
    """Return one subject per image; its weight is its size, by which the time left is estimated."""
    return [
        Subject(
            {"image_id": r.id, "name": r.name},
            weight=_FIXED_WEIGHT + r.width * r.height / _MEGAPIXEL,
        )
        for r in records
    ]


class ImageRunner:
    """Find droplets on the image of an item, and keep them together with the job's scale and filters.

    parameters of the job: "calibration", "chamber_height_um" and "filters" (None or absent: each image keeps
    its own), and what ``make_options`` reads.
    """

    def __init__(self, workbench: Workbench, make_options: MakeOptions) -> None:
        self._workbench, self._make_options = workbench, make_options

    def __call__(self, work: Work) -> Commit:
        """Do the slow part outside any transaction, and return what writes the outcome."""
        started = time.perf_counter()
        image_id, settings = str(work.subject["image_id"]), work.parameters
        work.progress("reading")
        record, image = self._workbench.image(work.owner, image_id)
        filters = _filters(settings, record)
        options = self._make_options(settings, record, _scale(settings, record.calibration, record.name))
        work.progress("finding")

        def tell(done: int, total: int, stage: str = "finding", /) -> None:
            work.progress(stage, done, total)

        result = self._workbench.search(work.owner, image_id, image, options, tell)
        # One transaction, which nothing is told of on its way; how much there is to save is known.
        work.progress("saving", None, len(result.droplets))
        seconds = time.perf_counter() - started

        def commit(connection: sa.Connection) -> Mapping[str, Any]:
            with self._workbench.store.editing_within(connection, work.owner, image_id) as edit:
                replace_automatic(edit, result, image, options.roi_xyxy)
                # Its own scale may have been set during the search.
                edit.set_calibration(_scale(settings, edit.calibration, record.name))
                before = filters_as_dict(edit.filters)
                if filters is not None:
                    edit.set_filters(filters)
                edit.save()
                annotation = edit.annotation()
            # Of all droplets that there are now, as on the image's page: those made by hand, too.
            quality = image_quality(image, annotation.droplets).as_dict()
            told = {"seconds": round(seconds, 3)} | _replaced(before, annotation)
            return item_result(annotation, quality) | told

        return commit


def item_result(annotation: Annotation, quality: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of an image in its job: its line of the summary, at which revision."""
    return {
        "revision": annotation.revision,
        "n_channels": annotation.image.n_channels,
        "line": summary_line(annotation),
        "quality": dict(quality),
        "message": annotation.message,
    }


def summary_line(annotation: Annotation) -> dict[str, Any]:
    """Return the numbers of an image as they stand in its annotation now."""
    # Spreadsheet libraries are slow to import; a process that runs no job starts without them.
    from sam_droplet.measurement.export.combined import measured

    line, _ = measured(
        annotation.image.name, annotation.droplets, annotation.calibration, annotation.rim_offset_px
    )
    return line


def _replaced(before: Mapping[str, Any], annotation: Annotation) -> dict[str, Any]:
    """Return the filters of the image that gave way to those of the job, so that nobody loses them unseen."""
    is_any = bool(before["ranges"]) or before["exclude_edge"]
    is_other = before != filters_as_dict(annotation.filters)
    return {"replaced_filters": dict(before)} if is_any and is_other else {}


def _scale(settings: Mapping[str, Any], own: Calibration | None, name: str) -> Calibration | None:
    """Return the scale of an image after the job: what was typed for all, else its own."""
    return with_chamber(
        calibration_from_dict(settings.get("calibration")) or own,
        settings.get("chamber_height_um"),
        f"The chamber height is in µm, but {name!r} has no scale: set it on the image's page, or type one "
        "scale for all images.",
    )


def _filters(settings: Mapping[str, Any], record: ImageRecord) -> Filters | None:
    given = settings.get("filters")
    return None if given is None else checked_filters(filters_from_dict(given), record.n_channels)
