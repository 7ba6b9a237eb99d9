"""Counters that all workers on this machine share and that forget themselves; kept in a small SQLite file."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from sam_droplet.errors import Unavailable

_BUSY_TIMEOUT_S = 5.0
# An event takes its time before it waits for the file, and by then another may have begun the window.
_LATEST_BEGIN_S = 2 * _BUSY_TIMEOUT_S
_SWEEP_EVERY_S = 300.0
_TABLE = (
    "CREATE TABLE IF NOT EXISTS windows (key TEXT PRIMARY KEY, count INTEGER, begun_at REAL, ends_at REAL)"
)
_DAMAGED = ("not a database", "malformed")


class _DamagedError(Unavailable):
    """The file is no database, or no whole one any more."""


class SharedCounts:
    """Count events per key in fixed windows; safe in any number of threads and processes.

    A counter starts with its first event and is gone when its window ends, and where a clock that is set
    back makes it begin well in the future: nobody waits out such a window. Raises Unavailable where the
    file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._swept_at = time.monotonic()
        try:
            self._execute("SELECT count(*) FROM windows", ())
        except _DamagedError:
            # Nobody misses what was counted, and a server must not stay down for it.
            self._forget_file()
        except Unavailable:
            pass  # such as on a full disk, which may heal: each count tries anew

    def add(self, key: str, window_s: float, amount: int = 1) -> int:
        """Count and return the sum within the window that is running, or in a new one."""
        now = time.time()
        self._sweep_now_and_then(now)
        rows = self._execute(
            "INSERT INTO windows VALUES (:key, :amount, :now, :end) ON CONFLICT (key) DO UPDATE SET "
            "count = CASE WHEN begun_at <= :latest AND :now < ends_at THEN count ELSE 0 END + :amount, "
            "begun_at = CASE WHEN begun_at <= :latest AND :now < ends_at THEN begun_at ELSE :now END, "
            "ends_at = CASE WHEN begun_at <= :latest AND :now < ends_at THEN ends_at ELSE :end END "
            "RETURNING count",
            {"key": key, "amount": amount, "end": now + window_s, **_times(now)},
        )
        return int(rows[0][0])

    def get(self, key: str) -> tuple[int, float]:
        """Return the count and when its window ends, in seconds since 1970; (0, now) for none."""
        now = time.time()
        rows = self._execute(
            "SELECT count, ends_at FROM windows WHERE key = :key AND begun_at <= :latest AND :now < ends_at",
            {"key": key, **_times(now)},
        )
        return (int(rows[0][0]), float(rows[0][1])) if rows else (0, now)

    def clear(self, key: str | None = None) -> int:
        """Forget one counter, or all of them; return how many."""
        rows = self._execute("DELETE FROM windows WHERE ?1 IS NULL OR key = ?1 RETURNING 1", (key,))
        return len(rows)

    def _sweep_now_and_then(self, now: float) -> None:
        if time.monotonic() - self._swept_at > _SWEEP_EVERY_S:
            self._swept_at = time.monotonic()
            self._execute("DELETE FROM windows WHERE begun_at > :latest OR ends_at <= :now", _times(now))

    def _execute(self, sql: str, values: tuple[Any, ...] | dict[str, Any]) -> list[tuple[Any, ...]]:
        try:
            return self._connection().execute(sql, values).fetchall()
        except sqlite3.Error as error:
            kind = _DamagedError if any(word in str(error) for word in _DAMAGED) else Unavailable
            raise kind(f"The request counters failed ({error}); try again.", retry_after_s=5) from error

    def _forget_file(self) -> None:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None
        for end in ("", "-wal", "-shm"):
            try:
                Path(f"{self._path}{end}").unlink(missing_ok=True)
            except OSError as error:
                raise Unavailable(f"{self._path} is damaged and cannot be removed; delete it.") from error

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
            # A count that a power cut loses harms nobody, so no write waits for the disk.
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(_TABLE)
            self._local.connection = connection
        return connection


def _times(now: float) -> dict[str, float]:
    return {"now": now, "latest": now + _LATEST_BEGIN_S}
