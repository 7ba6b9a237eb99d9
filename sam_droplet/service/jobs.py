"""The job queue of an installation: leases in the shared database, so any worker or a restarted one goes on.

Work is done at least once and committed exactly once. Knows nothing of what the jobs do.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from sam_droplet.errors import Conflict, InputError, TooManyRequests
from sam_droplet.service import job_reading as reading
from sam_droplet.service.database import Database, lacks_tables, make_tables
from sam_droplet.service.holders import this_process
from sam_droplet.service.job_tables import (
    CANCELLED,
    DONE,
    FAILED,
    QUEUED,
    RUNNING,
    UNFINISHED,
    WAITING,
    Commit,
    Item,
    Job,
    Lease,
    LeaseLostError,
    Subject,
    item_table,
    job_metadata,
    job_table,
)

LEASE_S = 30.0
MAX_ATTEMPTS = 3
MAX_ITEMS = 5000
MAX_UNFINISHED_JOBS = 20
_DIED = (
    "The server process that worked on this ended {n} times before it was finished; it may need more "
    "memory than the server has."
)


# What an item is set to when nobody works on it any more, and when it starts anew.
_FREE: dict[str, Any] = {"token": None, "holder": None, "lease_until": None}
_FRESH: dict[str, Any] = _FREE | dict.fromkeys(
    ("stage", "done", "total", "started_at", "finished_at", "seconds", "result")
)


class JobQueue:
    """Take jobs, hand out their items under leases, and keep what came of them; safe in any process.

    clock: seconds since 1970; the lease of a worker that died runs out by it.
    """

    def __init__(
        self, database: Database, *, lease_s: float = LEASE_S, clock: Callable[[], float] = time.time
    ) -> None:
        self.lease_s = lease_s
        self._database = database
        self._clock = clock
        with database.reading() as connection:
            is_old = lacks_tables(connection, job_metadata)
        if is_old:
            with database.writing() as connection:
                make_tables(connection, job_metadata)

    # What a caller does

    def submit(
        self,
        owner: str,
        kind: str,
        parameters: Mapping[str, Any],
        subjects: Sequence[Subject],
        *,
        idempotency_key: str | None = None,
    ) -> Job:
        """Queue a job with one item per subject.

        The same idempotency key with the same request gives the job that is there already, and with
        another request a Conflict. TooManyRequests where the owner has too many unfinished jobs.
        """
        if not 1 <= len(subjects) <= MAX_ITEMS:
            raise InputError(f"A job takes 1 to {MAX_ITEMS} items, not {len(subjects)}; split it.")
        fingerprint = _fingerprint(kind, parameters, subjects)
        with self._database.writing() as connection:
            known = reading.job_by_key(connection, owner, idempotency_key)
            if known is None:
                self._check_room(connection, owner)
                job_id = self._insert(connection, owner, kind, parameters, idempotency_key, fingerprint)
                self._insert_items(connection, job_id, subjects)
            elif known["request_sha256"] != fingerprint:
                raise Conflict("This idempotency_key was used for another job; choose a new one.")
            else:
                job_id = known["id"]
            return reading.job(connection, owner, job_id)

    def job(self, owner: str, job_id: str) -> Job:
        """Return one job; NotFound where there is none or it is another owner's."""
        with self._database.reading() as connection:
            return reading.job(connection, owner, job_id)

    def jobs(self, owner: str, *, kind: str | None = None, limit: int = 50) -> list[Job]:
        """Return an owner's jobs, of one kind where it is given, newest first."""
        with self._database.reading() as connection:
            return reading.jobs(connection, owner, kind, limit)

    def job_with_items(self, owner: str, job_id: str, *, since: int = -1) -> tuple[Job, list[Item]]:
        """Return a job and its items in order: all, or those that changed after version ``since``."""
        with self._database.reading() as connection:
            return reading.job(connection, owner, job_id), reading.items(connection, job_id, since)

    def version(self, owner: str, job_id: str) -> int:
        """Return the job's version alone, which is cheap to ask for often."""
        with self._database.reading() as connection:
            return reading.version(connection, owner, job_id)

    def counts(self) -> dict[str, int]:
        """Return how many jobs of everybody are in each state."""
        with self._database.reading() as connection:
            return reading.job_counts(connection)

    def cancel(self, owner: str, job_id: str) -> Job:
        """Stop a job: what is done stays, nothing more is committed. Repeating changes nothing."""
        with self._database.writing() as connection:
            job = reading.job(connection, owner, job_id)
            if not job.is_finished:
                left = item_table.c.state.in_((WAITING, RUNNING))
                self._change_items(connection, job_id, left, _FREE | {"state": CANCELLED, "message": None})
                _update_job(connection, job_id, state=CANCELLED, finished_at=self._clock())
            return reading.job(connection, owner, job_id)

    def retry(self, owner: str, job_id: str) -> Job:
        """Queue the failed and the cancelled items of a job once more, with all their attempts."""
        with self._database.writing() as connection:
            reading.job(connection, owner, job_id)
            ended = item_table.c.state.in_((FAILED, CANCELLED))
            fresh = _FRESH | {"state": WAITING, "attempts": 0, "not_before": 0.0, "message": None}
            if self._change_items(connection, job_id, ended, fresh):
                _update_job(connection, job_id, state=QUEUED, finished_at=None)
            return reading.job(connection, owner, job_id)

    def hand_over(self, from_owner: str, to_owner: str) -> int:
        """Give all jobs of one owner to another who has none yet; return how many."""
        with self._database.writing() as connection:
            return connection.execute(
                job_table.update().where(job_table.c.owner == from_owner).values(owner=to_owner)
            ).rowcount

    def expire(self, *, finished_for_s: float) -> int:
        """Forget jobs that were finished so long ago; return how many. Their effects stay."""
        with self._database.writing() as connection:
            old = job_table.c.finished_at < self._clock() - finished_for_s
            return connection.execute(
                job_table.delete().where(old, job_table.c.state.not_in(UNFINISHED))
            ).rowcount

    # What a worker does

    def claim(self) -> Lease | None:
        """Take the next item, from the job that was served longest ago; None where nothing waits.

        Items whose worker died go back into the queue, or fail after the last attempt.
        """
        now = self._clock()
        with self._database.reading() as connection:
            if not reading.has_work(connection, now):
                return None
        with self._database.writing() as connection:
            self._recover(connection, now)
            row = reading.next_item(connection, now)
            return None if row is None else self._lease(connection, row, now)

    def extend(self, lease: Lease) -> None:
        """Keep the lease for as long again; LeaseLostError where the item is no longer this worker's."""
        with self._database.writing() as connection:
            until: dict[str, Any] = {"lease_until": self._clock() + self.lease_s}
            self._change_held(connection, lease, until, bump=False)

    def progress(self, lease: Lease, stage: str, done: int | None = None, total: int | None = None) -> None:
        """Say how far the work is; keeps the lease, and raises LeaseLostError as ``extend`` does."""
        with self._database.writing() as connection:
            until = self._clock() + self.lease_s
            values = {"stage": stage, "done": done, "total": total, "lease_until": until}
            self._change_held(connection, lease, values)

    def complete(self, lease: Lease, commit: Commit) -> None:
        """Let ``commit`` write the effect and mark the item done, both in one transaction or neither.

        Raises LeaseLostError, with nothing written, where the item is no longer this worker's.
        """
        with self._database.writing() as connection:
            started = self._held(connection, lease)
            result = dict(commit(connection))
            now = self._clock()
            values: dict[str, Any] = {"state": DONE, "result": result, "message": None}
            values |= {"finished_at": now, "seconds": max(0.0, now - started)}
            self._change_held(connection, lease, _FREE | values)
            self._settle(connection, lease.job_id)

    def fail(self, lease: Lease, message: str, *, again_after_s: float | None = None) -> None:
        """Note a failure in a sentence; with ``again_after_s`` try again then, while attempts are left."""
        again = again_after_s is not None and lease.attempt < MAX_ATTEMPTS
        with self._database.writing() as connection:
            now = self._clock()
            if again:
                values = _FRESH | {"state": WAITING, "not_before": now + (again_after_s or 0.0)}
            else:
                values = _FREE | {"state": FAILED, "finished_at": now}
            self._change_held(connection, lease, values | {"message": message})
            self._settle(connection, lease.job_id)

    def release(self, lease: Lease, message: str | None = None, *, after_s: float = 0.0) -> None:
        """Put the item back without counting the attempt: it was not its fault."""
        with self._database.writing() as connection:
            values: dict[str, Any] = {"state": WAITING, "attempts": lease.attempt - 1, "message": message}
            values |= {"not_before": self._clock() + min(after_s, reading.LONGEST_WAIT_S)}
            self._change_held(connection, lease, _FRESH | values)

    # Inside a transaction

    def _check_room(self, connection: sa.Connection, owner: str) -> None:
        if reading.n_unfinished(connection, owner) >= MAX_UNFINISHED_JOBS:
            raise TooManyRequests(
                f"You have {MAX_UNFINISHED_JOBS} unfinished jobs, which is the limit; wait until one is "
                "finished, or cancel one.",
                retry_after_s=30,
            )

    def _insert(
        self,
        connection: sa.Connection,
        owner: str,
        kind: str,
        parameters: Mapping[str, Any],
        idempotency_key: str | None,
        fingerprint: str,
    ) -> str:
        job_id = uuid.uuid4().hex
        connection.execute(
            job_table.insert().values(
                id=job_id,
                owner=owner,
                kind=kind,
                parameters=dict(parameters),
                idempotency_key=idempotency_key,
                request_sha256=fingerprint,
                state=QUEUED,
                version=1,
                created_at=self._clock(),
                served_at=0.0,
            )
        )
        return job_id

    def _insert_items(self, connection: sa.Connection, job_id: str, subjects: Sequence[Subject]) -> None:
        fresh = {"state": WAITING, "attempts": 0, "not_before": 0.0, "version": 1}
        rows = [
            {"job_id": job_id, "position": i, "subject": dict(s.data), "weight": s.weight, **fresh}
            for i, s in enumerate(subjects)
        ]
        connection.execute(item_table.insert(), rows)

    def _recover(self, connection: sa.Connection, now: float) -> None:
        """Take back the items whose worker died or fell silent."""
        for row in reading.orphans(connection, now):
            where = item_table.c.position == row["position"]
            if row["attempts"] < MAX_ATTEMPTS:
                self._change_items(connection, row["job_id"], where, _FRESH | {"state": WAITING})
                continue
            failed = {"state": FAILED, "message": _DIED.format(n=row["attempts"]), "finished_at": now}
            self._change_items(connection, row["job_id"], where, _FREE | failed)
            self._settle(connection, row["job_id"])

    def _lease(self, connection: sa.Connection, row: sa.RowMapping, now: float) -> Lease:
        token, attempt = uuid.uuid4().hex, row["attempts"] + 1
        leased = {"state": RUNNING, "attempts": attempt, "token": token, "started_at": now}
        leased |= {"lease_until": now + self.lease_s, "holder": this_process()}
        self._change_items(
            connection, row["job_id"], item_table.c.position == row["position"], _FRESH | leased
        )
        first = row["job_started_at"] if row["job_started_at"] is not None else now
        _update_job(connection, row["job_id"], state=RUNNING, started_at=first, served_at=now)
        return Lease(
            token,
            row["job_id"],
            row["position"],
            row["owner"],
            row["kind"],
            row["parameters"],
            row["subject"],
            attempt,
        )

    def _held(self, connection: sa.Connection, lease: Lease) -> float:
        """Return when the lease's attempt started; LeaseLostError where it is held no more."""
        started = connection.execute(
            sa.select(item_table.c.started_at).where(item_table.c.token == lease.token)
        ).scalar_one_or_none()
        if started is None:
            raise LeaseLostError
        return float(started)

    def _change_held(
        self, connection: sa.Connection, lease: Lease, values: dict[str, Any], *, bump: bool = True
    ) -> None:
        self._held(connection, lease)
        where = item_table.c.position == lease.position
        self._change_items(connection, lease.job_id, where, values, bump=bump)

    def _change_items(
        self,
        connection: sa.Connection,
        job_id: str,
        where: sa.ColumnElement[bool],
        values: dict[str, Any],
        *,
        bump: bool = True,
    ) -> int:
        """Change items of a job under the job's next version; return how many."""
        if bump:
            values = values | {"version": _update_job(connection, job_id)}
        changed = connection.execute(
            item_table.update().where(item_table.c.job_id == job_id, where).values(**values)
        )
        return changed.rowcount

    def _settle(self, connection: sa.Connection, job_id: str) -> None:
        """End a job of which no item is left to do: failed only where nothing succeeded."""
        counts = reading.item_counts(connection, job_id)
        if counts[WAITING] or counts[RUNNING]:
            return
        state = DONE if counts[DONE] else FAILED
        _update_job(connection, job_id, state=state, finished_at=self._clock())


def _update_job(connection: sa.Connection, job_id: str, **values: Any) -> int:
    """Change a job and return its next version."""
    version: int = connection.execute(
        job_table.update()
        .where(job_table.c.id == job_id)
        .values(version=job_table.c.version + 1, **values)
        .returning(job_table.c.version)
    ).scalar_one()
    return version


def _fingerprint(kind: str, parameters: Mapping[str, Any], subjects: Sequence[Subject]) -> str:
    request = [kind, dict(parameters), [dict(s.data) for s in subjects]]
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
