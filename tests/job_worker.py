"""A worker process for the tests of jobs: does items of the kind "sleep" until it is killed."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import sqlalchemy as sa

from sam_droplet.service.database import Database
from sam_droplet.service.job_engine import LocalEngine, Work
from sam_droplet.service.jobs import JobQueue


def run(work: Work):
    """Sleep in small steps; the effect is one row per item."""
    number = work.subject["number"]
    for step in range(10):
        work.progress("sleeping", step, 10)
        time.sleep(work.parameters["seconds"] / 10)

    def commit(connection: sa.Connection) -> dict[str, int]:
        connection.exec_driver_sql("INSERT INTO effects (number) VALUES (?)", (number,))
        return {"square": number * number}

    return commit


if __name__ == "__main__":
    queue = JobQueue(Database(Path(sys.argv[1])), lease_s=float(sys.argv[2]))
    LocalEngine(queue, {"sleep": run}, poll_s=0.05).start()
    sys.stdout.write("working\n")
    sys.stdout.flush()
    threading.Event().wait()
