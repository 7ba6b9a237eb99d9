"""Who does the jobs: the seam, and the engine of one process. Other engines run the same runners."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from sam_droplet.errors import ModelUnavailable, OutOfMemory, SamDropletError, Unavailable
from sam_droplet.service.job_tables import Commit, Lease, LeaseLostError
from sam_droplet.service.jobs import JobQueue

log = logging.getLogger(__name__)

POLL_S = 1.0
PROGRESS_EVERY_S = 0.5
BACKOFF_S = 2.0
_BROKE = "Something broke on the server while it worked on this; its log says what."


class Engine(Protocol):
    """Carry out jobs from a queue: here in a thread, or on other machines."""

    def start(self) -> None:
        """Begin to take work."""
        ...

    def wake(self) -> None:
        """Look for work now rather than at the next poll."""
        ...

    def stop(self) -> None:
        """Take no more work, and put back what is not finished soon."""
        ...


class StoppingError(Exception):
    """The engine is stopping: leave the item to another worker."""


class Work:
    """What a runner gets: what to do, and a way to say how far it is."""

    def __init__(self, queue: JobQueue, lease: Lease, stopping: threading.Event) -> None:
        self._queue, self._lease, self._stopping = queue, lease, stopping
        self._lost = threading.Event()
        self._reported_at = -PROGRESS_EVERY_S
        self._stage: str | None = None

    @property
    def owner(self) -> str:
        """Whose job it is."""
        return self._lease.owner

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The settings of the job."""
        return self._lease.parameters

    @property
    def subject(self) -> Mapping[str, Any]:
        """What this item works on."""
        return self._lease.subject

    def progress(self, stage: str, done: int | None = None, total: int | None = None) -> None:
        """Say how far the work is; call it between steps, it is cheap.

        Raises LeaseLostError where the job was cancelled and StoppingError where the process ends:
        let both pass.
        """
        if self._lost.is_set():
            raise LeaseLostError
        if self._stopping.is_set():
            raise StoppingError
        now = time.monotonic()
        if stage == self._stage and now - self._reported_at < PROGRESS_EVERY_S:
            return
        self._queue.progress(self._lease, stage, done, total)
        self._stage, self._reported_at = stage, now

    def beat(self) -> None:
        """Keep the lease; called now and then beside the work."""
        try:
            self._queue.extend(self._lease)
        except LeaseLostError:
            self._lost.set()
        except SamDropletError as error:
            log.warning("A lease could not be extended and is tried again: %s", error.message)


# Does the work of one item, and returns what writes its effect; a SamDropletError says why it cannot.
Runner = Callable[[Work], Commit]


class LocalEngine:
    """Do jobs in one background thread of this process, with a second one that keeps the lease.

    runners: by kind of job. A process that is killed loses its lease, and another one goes on.
    """

    def __init__(
        self,
        queue: JobQueue,
        runners: Mapping[str, Runner],
        *,
        poll_s: float = POLL_S,
        backoff_s: float = BACKOFF_S,
        stop_within_s: float = 5.0,
    ) -> None:
        self._queue, self._runners = queue, runners
        self._poll_s, self._backoff_s, self._stop_within_s = poll_s, backoff_s, stop_within_s
        self._stopping, self._woken = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._current: tuple[Lease, Work] | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to take work; starting twice changes nothing."""
        with self._lock:
            if self._thread is not None:
                return
            self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)
        self._thread.start()
        threading.Thread(target=self._keep_lease, name="jobs-lease", daemon=True).start()

    def wake(self) -> None:
        """Look for work now."""
        self._woken.set()

    def stop(self) -> None:
        """Take no more work; an item that does not end soon goes back into the queue at once."""
        self._stopping.set()
        self._woken.set()
        if self._thread is None:
            return
        self._thread.join(self._stop_within_s)
        current = self._current
        if self._thread.is_alive() and current is not None:
            self._settle(lambda: self._queue.release(current[0]))

    def _run(self) -> None:
        while not self._stopping.is_set():
            lease = self._claimed()
            if lease is not None:
                self._work(lease)
                continue
            self._woken.wait(self._poll_s)
            self._woken.clear()

    def _claimed(self) -> Lease | None:
        try:
            return self._queue.claim()
        except SamDropletError as error:
            log.warning("The job queue cannot be read and is tried again: %s", error.message)
        except Exception:
            log.exception("The job queue failed and is tried again")
        return None

    def _keep_lease(self) -> None:
        while not self._stopping.wait(self._queue.lease_s / 3):
            current = self._current
            if current is not None:
                current[1].beat()

    def _work(self, lease: Lease) -> None:
        work = Work(self._queue, lease, self._stopping)
        self._current = lease, work
        try:
            self._queue.complete(lease, self._runner(lease.kind)(work))
        except LeaseLostError:
            log.info("Item %d of job %s was cancelled or taken over.", lease.position, lease.job_id)
        except StoppingError:
            self._settle(lambda: self._queue.release(lease))
        except SamDropletError as error:
            self._settle(lambda e=error: self._give_up(lease, e))  # type: ignore[misc]
        except Exception:
            log.exception("Item %d of job %s broke", lease.position, lease.job_id)
            again_after_s = self._backoff_s * 2 ** (lease.attempt - 1)
            self._settle(lambda: self._queue.fail(lease, _BROKE, again_after_s=again_after_s))
        finally:
            self._current = None

    def _runner(self, kind: str) -> Runner:
        runner = self._runners.get(kind)
        if runner is None:
            raise Unavailable(f"This server does no {kind!r} jobs; another worker may.", retry_after_s=60)
        return runner

    def _give_up(self, lease: Lease, error: SamDropletError) -> None:
        """Wait where the server is busy or full, which is not the item's fault; else it has failed."""
        if isinstance(error, OutOfMemory):  # by its own size or by what ran beside it: a few tries will tell
            again_after_s = self._backoff_s * 2 ** (lease.attempt - 1)
            self._queue.fail(lease, error.message, again_after_s=again_after_s)
        elif isinstance(error, Unavailable) and not isinstance(error, ModelUnavailable):
            self._queue.release(lease, error.message, after_s=error.retry_after_s or self._backoff_s)
        else:
            self._queue.fail(lease, error.message)

    def _settle(self, settle: Callable[[], None]) -> None:
        """Write what became of an item; where that fails its lease runs out, and it is tried again."""
        try:
            settle()
        except LeaseLostError:
            log.info("An item ended after it was cancelled or taken over.")
        except SamDropletError as error:
            log.warning("The end of a job's item could not be written: %s", error.message)
        except Exception:
            log.exception("The end of a job's item could not be written")
