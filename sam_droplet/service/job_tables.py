"""The tables of the job queue, and what is read from them. Knows nothing of what jobs do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, ForeignKey, Index, Integer, MetaData, String, Table, Text

# Apart from the other tables: a queue is made only where jobs are run.
job_metadata = MetaData()

job_table = Table(
    "jobs",
    job_metadata,
    Column("id", String(32), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("parameters", sa.JSON, nullable=False),
    Column("idempotency_key", String(128)),
    Column("request_sha256", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", sa.Float, nullable=False),
    Column("started_at", sa.Float),
    Column("finished_at", sa.Float),
    Column("served_at", sa.Float, nullable=False),
    sa.UniqueConstraint("owner", "idempotency_key"),
    Index("jobs_by_owner", "owner", "created_at"),
    Index("jobs_by_state", "state"),
)

item_table = Table(
    "job_items",
    job_metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("subject", sa.JSON, nullable=False),
    Column("weight", sa.Float, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("token", String(32)),
    Column("holder", Text),
    Column("lease_until", sa.Float),
    Column("not_before", sa.Float, nullable=False),
    Column("stage", String(32)),
    Column("done", Integer),
    Column("total", Integer),
    Column("started_at", sa.Float),
    Column("finished_at", sa.Float),
    Column("seconds", sa.Float),
    Column("result", sa.JSON),
    Column("message", Text),
    Column("version", Integer, nullable=False),
    Index("job_items_by_state", "state", "lease_until"),
)

WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
ITEM_STATES = (WAITING, RUNNING, DONE, FAILED, CANCELLED)
QUEUED = "queued"
UNFINISHED = (QUEUED, RUNNING)
JOB_STATES = (QUEUED, RUNNING, DONE, FAILED, CANCELLED)


@dataclass(frozen=True)
class Subject:
    """Say what one item works on (JSON values), and how much work it is beside the others."""

    data: Mapping[str, Any]
    weight: float = 1.0


@dataclass(frozen=True)
class Item:
    """One item of a job as it stands.

    stage, done, total: how far the work on it is; done and total are None where they are not counted.
    message: why it failed, or why it waits.
    """

    position: int
    subject: Mapping[str, Any]
    state: str
    attempts: int
    stage: str | None
    done: int | None
    total: int | None
    seconds: float | None
    result: Mapping[str, Any] | None
    message: str | None
    version: int


@dataclass(frozen=True)
class Job:
    """One job as it stands; ``version`` grows with every change of it or of its items.

    counts: items by state. queue_position: jobs that are served before it, None once it is finished.
    remaining_s: from the measured times of earlier items; None while nothing was measured yet.
    """

    id: str
    owner: str
    kind: str
    parameters: Mapping[str, Any]
    state: str
    version: int
    created_at: float
    started_at: float | None
    finished_at: float | None
    counts: Mapping[str, int]
    queue_position: int | None
    remaining_s: float | None

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen unless it is retried."""
        return self.state not in UNFINISHED

    @property
    def n_items(self) -> int:
        """How many items it has."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class Lease:
    """The right to work on one item until it runs out; whoever lost it can no longer commit."""

    token: str
    job_id: str
    position: int
    owner: str
    kind: str
    parameters: Mapping[str, Any]
    subject: Mapping[str, Any]
    attempt: int


class LeaseLostError(Exception):
    """The item was cancelled, or belongs to another worker by now: stop, and commit nothing."""


# Writes the effect of an item inside the transaction that marks it done, and returns its result.
Commit = Callable[[sa.Connection], Mapping[str, Any]]


def item_from_row(row: sa.RowMapping) -> Item:
    """Build an item from a row of ``item_table``."""
    return Item(**{name: row[name] for name in Item.__dataclass_fields__})


def counts_from_rows(rows: Iterable[sa.RowMapping]) -> dict[str, int]:
    """Build the counts by state, with the states that no item is in at 0."""
    found = {row["state"]: int(row["n"]) for row in rows}
    return {state: found.get(state, 0) for state in ITEM_STATES}
