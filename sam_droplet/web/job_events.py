"""How a job goes, as Server-Sent Events: what changed, and only that. The database holds the truth."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from sam_droplet.errors import SamDropletError
from sam_droplet.service.jobs import JobQueue

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
PING_EVERY_S = 10.0
# Short, so that a worker that is asked to end is not held up; the browser comes back by itself.
STREAM_LASTS_S = 25.0
RETRY_MS = 2000

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

# Returns the changes of a job after a version: its JSON with its changed items.
Changes = Callable[[int], dict[str, Any]]


def job_events(
    queue: JobQueue,
    owner: str,
    job_id: str,
    changes: Changes,
    closing: threading.Event,
    *,
    since: int,
    lasts_s: float = STREAM_LASTS_S,
) -> Iterator[str]:
    """Give the text of the stream: one event per change, a comment now and then, an end when it is done.

    Where the job or the database is gone, the stream ends; who comes back is told why.
    """
    yield f"retry: {RETRY_MS}\n\n"
    try:
        yield from _events(queue, owner, job_id, changes, closing, since, lasts_s)
    except SamDropletError as error:
        log.warning("The stream of job %s ended: %s", job_id, error.message)


def _events(
    queue: JobQueue,
    owner: str,
    job_id: str,
    changes: Changes,
    closing: threading.Event,
    since: int,
    lasts_s: float,
) -> Iterator[str]:
    ends_at = time.monotonic() + lasts_s
    ping_at = time.monotonic() + PING_EVERY_S
    while True:
        if queue.version(owner, job_id) > since:
            body = changes(since)
            since = int(body["job"]["version"])
            yield f"id: {since}\nevent: job\ndata: {json.dumps(body, ensure_ascii=False)}\n\n"
            if body["job"]["finished_at"] is not None:
                return
        now = time.monotonic()
        if now > ends_at or closing.wait(LOOK_EVERY_S):
            return
        if now > ping_at:
            ping_at = now + PING_EVERY_S
            yield ": still here\n\n"
