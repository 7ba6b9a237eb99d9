"""What one process of the web application holds about jobs, made once in ``create_app``."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sam_droplet.errors import InputError
from sam_droplet.imaging.images import Calibration
from sam_droplet.pipeline import MODES, FindOptions
from sam_droplet.service.batch import KINDS, ImageRunner
from sam_droplet.service.batch_results import BatchResults
from sam_droplet.service.job_engine import Engine, LocalEngine
from sam_droplet.service.jobs import JobQueue
from sam_droplet.service.records import ImageRecord
from sam_droplet.service.store import Store
from sam_droplet.service.workbench import Workbench
from sam_droplet.web import payloads

# Each stream of progress holds a thread of the server; the servers have so many on top.
MAX_STREAMS = 8


@dataclass(frozen=True)
class JobDesk:
    """Take jobs, do them, and tell how they are; ``streams`` bounds the open streams of this process."""

    queue: JobQueue
    engine: Engine
    results: BatchResults
    streams: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(MAX_STREAMS)
    )


def open_job_desk(store: Store, workbench: Workbench) -> JobDesk:
    """Make the queue in the store's database, and an engine for it that is not started yet."""
    queue = JobQueue(store.database)
    runner = ImageRunner(workbench, find_options_of_job)
    return JobDesk(queue, LocalEngine(queue, dict.fromkeys(KINDS, runner)), BatchResults(store))


def find_options_of_job(
    settings: Mapping[str, Any], record: ImageRecord, calibration: Calibration | None
) -> FindOptions:
    """Return what to look for on one image; sizes in µm become pixels by the image's own scale.

    Raises InputError for sizes in µm on an image without a scale, and for a region outside the image.
    """
    low_um, high_um = settings.get("diameter_min_um"), settings.get("diameter_max_um")
    low_px, high_px = settings.get("diameter_min_px"), settings.get("diameter_max_px")
    if low_um is not None or high_um is not None:
        if calibration is None:
            raise InputError(
                f"The sizes to look for are in µm, but {record.name!r} has no scale: set it on the image's "
                "page, or type one scale for all images."
            )
        um = calibration.um_per_px
        low_px, high_px = (None if v is None else v / um for v in (low_um, high_um))
    return FindOptions(
        sensitivity=settings.get("sensitivity", 0.5),
        diameter_min_px=low_px,
        diameter_max_px=high_px,
        mode=settings.get("mode", MODES[0]),
        roi_xyxy=payloads.region_xyxy(settings, "roi_xyxy", (record.width, record.height)),
        magnification=settings.get("magnification", 1.0),
        rim_offset_px=settings.get("rim_offset_px", 0.0),
    )
