"""From jobs to the JSON of the page and of scripts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from flask import url_for

from sam_droplet.service.batch_results import BatchResults, ImageOutcome
from sam_droplet.service.job_tables import CANCELLED, DONE, FAILED, RUNNING, WAITING, Item, Job
from sam_droplet.web.presenters import THUMBNAIL_SIDE_PX

EXPORTS = ("csv", "xlsx")

# Builds an address from an endpoint and its values; url_for inside a request.
Link = Callable[..., str]


def job_json(job: Job, link: Link = url_for) -> dict[str, Any]:
    """Return how a job stands, without its items."""
    counts = job.counts
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "version": job.version,
        "options": dict(job.parameters),
        "created_at": _time(job.created_at),
        "started_at": _time(job.started_at),
        "finished_at": _time(job.finished_at),
        "progress": {
            "done": counts[DONE] + counts[FAILED],
            "total": job.n_items,
            "succeeded": counts[DONE],
            "failed": counts[FAILED],
            "cancelled": counts[CANCELLED],
            "running": counts[RUNNING],
            "waiting": counts[WAITING],
        },
        "queue_position": job.queue_position,
        "remaining_s": job.remaining_s,
        "url": link("jobs.show", job_id=job.id),
        "events_url": link("jobs.events", job_id=job.id),
        "page_url": link("pages.batch_job", job_id=job.id),
        "exports": {name: link("jobs.export", job_id=job.id, format_name=name) for name in EXPORTS},
    }


def items_json(
    results: BatchResults, owner: str, items: Sequence[Item], link: Link = url_for
) -> list[dict[str, Any]]:
    """Return items with the numbers of their images as they are now."""
    outcomes = results.outcomes(owner, items)
    return [_item_json(item, outcome, link) for item, outcome in zip(items, outcomes, strict=True)]


def _item_json(item: Item, outcome: ImageOutcome, link: Link) -> dict[str, Any]:
    image_id = str(item.subject["image_id"])
    running = item.state == RUNNING and item.stage is not None
    return {
        "position": item.position,
        "image_id": image_id,
        "name": item.subject["name"],
        "state": item.state,
        "attempts": item.attempts,
        "progress": {"stage": item.stage, "done": item.done, "total": item.total} if running else None,
        "seconds": item.seconds,
        "result": None if outcome.line is None else dict(outcome.line),
        "flags": list(outcome.flags),
        "message": outcome.message,
        "thumbnail_url": _thumbnail_url(image_id, outcome, link) if outcome.is_there else None,
        "image_page_url": link("pages.annotate", image_id=image_id) if outcome.is_there else None,
    }


def _thumbnail_url(image_id: str, outcome: ImageOutcome, link: Link) -> str:
    if outcome.line is None:
        return link("api.view", image_id=image_id, max_side=THUMBNAIL_SIDE_PX)
    # The revision in the address makes a browser that keeps pictures ask again after a correction.
    return link("jobs.outlined", image_id=image_id, max_side=THUMBNAIL_SIDE_PX, revision=outcome.revision)


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
