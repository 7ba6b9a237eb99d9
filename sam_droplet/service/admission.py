"""The bounded queue in front of a process's predictor: short requests first, too many are sent away."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sam_droplet.errors import Unavailable

FIRST_GUESS_S = 2.0


@dataclass(frozen=True)
class QueueState:
    """How busy the predictor is: running and waiting requests, rejections so far, mean service time.

    is_full: whether the next request would be refused; without any place to wait, only while one runs.
    """

    running: int
    waiting: int
    capacity: int
    rejected: int
    mean_service_s: float
    is_full: bool


class Gate:
    """Let one request at a time to the predictor and hold a few more; refuse the rest at once.

    A refused caller learns in ``retry_after_s`` when the queue should have drained. Requests marked
    ``urgent`` (a click) pass those that are not (a whole image), but never interrupt them.
    """

    def __init__(self, max_waiting: int, *, max_running: int = 1) -> None:
        self.max_waiting = max_waiting
        self.max_running = max_running
        self._condition = threading.Condition()
        self._running = 0
        self._waiting = {True: 0, False: 0}
        self._rejected = 0
        self._mean_service_s = FIRST_GUESS_S

    @contextmanager
    def enter(self, *, urgent: bool = False) -> Iterator[float]:
        """Wait for a turn and give the seconds waited; Unavailable where the queue is full."""
        asked = time.monotonic()
        self._acquire(urgent)
        started = time.monotonic()
        try:
            yield started - asked
        finally:
            self._release(time.monotonic() - started)

    def state(self) -> QueueState:
        """Return a snapshot, at once."""
        with self._condition:
            return QueueState(
                running=self._running,
                waiting=self._n_waiting(),
                capacity=self.max_waiting,
                rejected=self._rejected,
                mean_service_s=self._mean_service_s,
                is_full=self._is_full(),
            )

    def check_room(self) -> None:
        """Raise Unavailable where the queue is full, before a body is read or decoded."""
        with self._condition:
            self._check_room()

    def _acquire(self, urgent: bool) -> None:
        with self._condition:
            if self._running < self.max_running and not self._n_waiting():
                self._running += 1
                return
            self._check_room()
            self._waiting[urgent] += 1
            try:
                self._condition.wait_for(
                    lambda: self._running < self.max_running and (urgent or not self._waiting[True])
                )
            finally:
                self._waiting[urgent] -= 1
            self._running += 1

    def _release(self, service_s: float) -> None:
        with self._condition:
            self._running -= 1
            self._mean_service_s += 0.2 * (service_s - self._mean_service_s)
            self._condition.notify_all()

    def _check_room(self) -> None:
        if self._is_full():
            self._rejected += 1
            wait_s = math.ceil((self._n_waiting() + 1) * self._mean_service_s / self.max_running)
            raise Unavailable(
                f"The server is busy: {self._n_waiting()} requests wait for the network already. "
                f"Try again in about {max(1, wait_s)} s.",
                retry_after_s=max(1, wait_s),
            )

    def _is_full(self) -> bool:
        return self._running >= self.max_running and self._n_waiting() >= self.max_waiting

    def _n_waiting(self) -> int:
        return self._waiting[True] + self._waiting[False]
