"""Queries of the job queue, each inside a transaction of its caller."""

from __future__ import annotations

import sqlalchemy as sa

from sam_droplet.errors import NotFound
from sam_droplet.service.holders import is_gone
from sam_droplet.service.job_tables import (
    DONE,
    JOB_STATES,
    QUEUED,
    RUNNING,
    UNFINISHED,
    WAITING,
    Item,
    Job,
    counts_from_rows,
    item_from_row,
    item_table,
    job_table,
)

NO_SUCH_JOB = "There is no job with this id; it may have been forgotten. Start it again."
# The estimate rests on so many of the last items of the same kind.
MEASURED_ITEMS = 50
# Nobody puts an item back for longer.
LONGEST_WAIT_S = 3600.0

_HELD = item_table.c.token.is_not(None)


def job(connection: sa.Connection, owner: str, job_id: str) -> Job:
    """Return one job; NotFound where there is none or it is another owner's."""
    query = sa.select(job_table).where(job_table.c.id == job_id, job_table.c.owner == owner)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(NO_SUCH_JOB)
    return _job(connection, row)


def jobs(connection: sa.Connection, owner: str, kind: str | None, limit: int) -> list[Job]:
    """Return an owner's jobs, of one kind where it is given, newest first."""
    query = sa.select(job_table).where(job_table.c.owner == owner)
    if kind is not None:
        query = query.where(job_table.c.kind == kind)
    newest = query.order_by(job_table.c.created_at.desc(), job_table.c.id).limit(limit)
    return [_job(connection, row) for row in connection.execute(newest).mappings().all()]


def job_by_key(connection: sa.Connection, owner: str, idempotency_key: str | None) -> sa.RowMapping | None:
    """Return the id and the fingerprint of the job with a key, if there is one."""
    if idempotency_key is None:
        return None
    query = sa.select(job_table.c.id, job_table.c.request_sha256).where(
        job_table.c.owner == owner, job_table.c.idempotency_key == idempotency_key
    )
    return connection.execute(query).mappings().one_or_none()


def version(connection: sa.Connection, owner: str, job_id: str) -> int:
    """Return a job's version alone."""
    query = sa.select(job_table.c.version).where(job_table.c.id == job_id, job_table.c.owner == owner)
    found = connection.execute(query).scalar_one_or_none()
    if found is None:
        raise NotFound(NO_SUCH_JOB)
    return int(found)


def items(connection: sa.Connection, job_id: str, since: int) -> list[Item]:
    """Return the items of a job that changed after a version, in order."""
    query = (
        sa.select(item_table)
        .where(item_table.c.job_id == job_id, item_table.c.version > since)
        .order_by(item_table.c.position)
    )
    return [item_from_row(row) for row in connection.execute(query).mappings()]


def item_counts(connection: sa.Connection, job_id: str) -> dict[str, int]:
    """Return how many items of a job are in each state."""
    query = (
        sa.select(item_table.c.state, sa.func.count().label("n"))
        .where(item_table.c.job_id == job_id)
        .group_by(item_table.c.state)
    )
    return counts_from_rows(connection.execute(query).mappings())


def job_counts(connection: sa.Connection) -> dict[str, int]:
    """Return how many jobs are in each state."""
    query = sa.select(job_table.c.state, sa.func.count().label("n")).group_by(job_table.c.state)
    found = {row.state: int(row.n) for row in connection.execute(query)}
    return {state: found.get(state, 0) for state in JOB_STATES}


def n_unfinished(connection: sa.Connection, owner: str) -> int:
    """Return how many jobs of an owner are not finished."""
    query = sa.select(sa.func.count()).where(job_table.c.owner == owner, job_table.c.state.in_(UNFINISHED))
    return int(connection.execute(query.select_from(job_table)).scalar_one())


def has_work(connection: sa.Connection, now: float) -> bool:
    """Whether an item can be claimed, or a dead worker's item taken back."""
    query = sa.select(sa.literal(1)).select_from(item_table).where(_claimable(now)).limit(1)
    return connection.execute(query).scalar_one_or_none() is not None or bool(orphans(connection, now))


def _claimable(now: float) -> sa.ColumnElement[bool]:
    """Whether an item waits for a worker alone; one that would wait for long stems from a clock set back."""
    wait_s = item_table.c.not_before - now
    return sa.and_(item_table.c.state == WAITING, sa.or_(wait_s <= 0, wait_s > LONGEST_WAIT_S + 1))


def orphans(connection: sa.Connection, now: float) -> list[sa.RowMapping]:
    """Return the job, position and attempts of items whose lease ran out or whose worker is gone."""
    query = sa.select(
        item_table.c.job_id,
        item_table.c.position,
        item_table.c.attempts,
        item_table.c.holder,
        item_table.c.lease_until,
    ).where(item_table.c.state == RUNNING)
    rows = connection.execute(query).mappings().all()
    # An older version named no holder, and it does not run beside this one.
    return [row for row in rows if row["lease_until"] < now or not row["holder"] or is_gone(row["holder"])]


def next_item(connection: sa.Connection, now: float) -> sa.RowMapping | None:
    """Return the first waiting item of the job that was served longest ago, so that jobs take turns."""
    query = (
        sa.select(
            item_table.c.job_id,
            item_table.c.position,
            item_table.c.subject,
            item_table.c.attempts,
            job_table.c.owner,
            job_table.c.kind,
            job_table.c.parameters,
            job_table.c.started_at.label("job_started_at"),
        )
        .join_from(item_table, job_table)
        .where(_claimable(now))
        .order_by(job_table.c.served_at, job_table.c.created_at, item_table.c.position)
        .limit(1)
    )
    return connection.execute(query).mappings().one_or_none()


def _job(connection: sa.Connection, row: sa.RowMapping) -> Job:
    unfinished = row["state"] in UNFINISHED
    return Job(
        id=row["id"],
        owner=row["owner"],
        kind=row["kind"],
        parameters=row["parameters"],
        state=row["state"],
        version=row["version"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        counts=item_counts(connection, row["id"]),
        queue_position=_queue_position(connection, row) if unfinished else None,
        remaining_s=_remaining_s(connection, row) if unfinished else None,
    )


def _queue_position(connection: sa.Connection, row: sa.RowMapping) -> int:
    """Count the jobs whose turn comes before this one's first; 0 once it has begun."""
    if row["state"] != QUEUED:
        return 0
    mine = (row["served_at"], row["created_at"])
    others = sa.select(sa.func.count()).where(
        job_table.c.state.in_(UNFINISHED),
        job_table.c.id != row["id"],
        sa.tuple_(job_table.c.served_at, job_table.c.created_at) < sa.tuple_(*mine),
    )
    return int(connection.execute(others.select_from(job_table)).scalar_one())


def _remaining_s(connection: sa.Connection, row: sa.RowMapping) -> float | None:
    """Estimate from the measured times of this kind: own work, and that of jobs which take turns with it."""
    seconds_per_weight = _measured(connection, row["kind"])
    if seconds_per_weight is None:
        return None
    query = (
        sa.select(item_table.c.job_id, sa.func.sum(item_table.c.weight).label("weight"))
        .where(item_table.c.state.in_((WAITING, RUNNING)))
        .group_by(item_table.c.job_id)
    )
    left = {found.job_id: float(found.weight) for found in connection.execute(query)}
    mine = left.pop(row["id"], 0.0)
    # While another job has work, every second turn is its.
    ahead = sum(min(other, mine) for other in left.values())
    running = sa.select(sa.func.count()).select_from(item_table).where(_HELD)
    workers = max(1, int(connection.execute(running).scalar_one()))
    return round((mine + ahead) * seconds_per_weight / workers, 1)


def _measured(connection: sa.Connection, kind: str) -> float | None:
    """Return the seconds per weight of the last items of a kind; None where there are none."""
    last = (
        sa.select(item_table.c.seconds, item_table.c.weight)
        .join_from(item_table, job_table)
        .where(job_table.c.kind == kind, item_table.c.state == DONE)
        .order_by(item_table.c.finished_at.desc())
        .limit(MEASURED_ITEMS)
        .subquery()
    )
    seconds, weight = connection.execute(
        sa.select(sa.func.sum(last.c.seconds), sa.func.sum(last.c.weight))
    ).one()
    return float(seconds) / float(weight) if seconds is not None and weight else None
