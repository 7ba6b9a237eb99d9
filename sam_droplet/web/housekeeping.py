"""What a server does now and then: forget old images, sweep stray files, write the usage of keys."""

from __future__ import annotations

import logging
import threading

from sam_droplet.errors import SamDropletError
from sam_droplet.web.services import Services

log = logging.getLogger(__name__)

EVERY_S = 3600.0
FIRST_AFTER_S = 60.0
DAY_S = 86_400.0
JOBS_KEPT_DAYS = 90


def start_housekeeping(services: Services) -> threading.Thread:
    """Tidy up in the background for as long as the process lives; safe in several workers at once."""
    thread = threading.Thread(target=_run, args=(services,), name="housekeeping", daemon=True)
    thread.start()
    return thread


def tidy_up(services: Services) -> None:
    """Do it once, now."""
    days = services.config.retention_days
    if days > 0:
        n_expired = services.store.expire(unused_for_s=days * DAY_S)
        if n_expired:
            log.info("Deleted %d images that were not used for %g days.", n_expired, days)
    services.jobs.queue.expire(finished_for_s=JOBS_KEPT_DAYS * DAY_S)
    n_swept = services.store.sweep_files()
    if n_swept:
        log.info("Deleted %d stray files.", n_swept)
    services.key_ring.flush_usage()


def _run(services: Services) -> None:
    wait_s = FIRST_AFTER_S
    while not services.closing.wait(wait_s):
        wait_s = EVERY_S
        try:
            tidy_up(services)
        except SamDropletError as error:
            log.warning("Tidying up failed and is tried again: %s", error.message)
        except Exception:
            # Else one bad moment of a disk would end tidying up until the next restart.
            log.exception("Tidying up broke and is tried again")
