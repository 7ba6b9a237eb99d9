"""Jobs end exactly once: through kills, cancels, retries and several workers; and nobody sees another's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sam_droplet.errors import Conflict, InputError, NotFound, TooManyRequests, Unavailable
from sam_droplet.service.database import Database
from sam_droplet.service.job_engine import LocalEngine
from sam_droplet.service.job_tables import LeaseLostError, Subject
from sam_droplet.service.jobs import MAX_ATTEMPTS, MAX_UNFINISHED_JOBS, JobQueue

WORKER = Path(__file__).parents[1] / "job_worker.py"
ROOT = WORKER.parents[1]


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path):
    database = Database(tmp_path / "jobs.sqlite3")
    yield database
    database.close()


@pytest.fixture
def queue(database: Database, clock: Clock) -> JobQueue:
    return JobQueue(database, lease_s=30, clock=clock)


def numbers(n: int) -> list[Subject]:
    return [Subject({"number": i}) for i in range(n)]


def submit(queue: JobQueue, n: int = 3, owner: str = "ada", **options):
    return queue.submit(owner, "sleep", {"seconds": 0.0}, numbers(n), **options)


def result(value: int = 1):
    return lambda connection: {"value": value}


def states(queue: JobQueue, job) -> list[str]:
    return [item.state for item in queue.job_with_items(job.owner, job.id)[1]]


def wait_until(condition, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_items_are_done_in_order_and_the_job_ends_with_the_last(queue):
    job = submit(queue, 2)
    assert (job.state, job.n_items, job.queue_position) == ("queued", 2, 0)
    first, second = queue.claim(), queue.claim()
    assert [first.position, second.position] == [0, 1]
    assert queue.claim() is None
    queue.complete(second, result(2))
    assert queue.job("ada", job.id).state == "running"
    queue.complete(first, result(1))
    job, items = queue.job_with_items("ada", job.id)
    assert (job.state, job.is_finished, job.remaining_s) == ("done", True, None)
    assert [item.result for item in items] == [{"value": 1}, {"value": 2}]


def test_jobs_take_turns_so_that_a_large_one_does_not_hold_up_a_small_one(queue, clock):
    large, small = submit(queue, 10), submit(queue, 2, owner="bob")
    taken = []
    for _ in range(5):
        clock.now += 1
        taken.append(queue.claim().job_id)
    assert taken == [large.id, small.id, large.id, small.id, large.id]


def test_the_same_request_again_is_the_same_job(queue):
    job = submit(queue, 3, idempotency_key="once")
    assert submit(queue, 3, idempotency_key="once").id == job.id
    assert submit(queue, 3, owner="bob", idempotency_key="once").id != job.id
    with pytest.raises(Conflict, match="another job"):
        submit(queue, 4, idempotency_key="once")
    assert len(queue.jobs("ada")) == 1


def test_jobs_are_listed_by_kind(queue):
    first = submit(queue)
    other = queue.submit("ada", "rest", {}, numbers(1))
    assert [job.id for job in queue.jobs("ada", kind="sleep")] == [first.id]
    assert {job.id for job in queue.jobs("ada")} == {first.id, other.id}


@pytest.mark.parametrize("more", ["", "ALTER TABLE job_items ADD COLUMN remark TEXT"])
def test_a_queue_of_before_workers_had_names_goes_on(queue, database, clock, more):
    job = submit(queue, 1)
    queue.claim()
    with database.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE job_items DROP COLUMN holder")
        connection.exec_driver_sql(more)
    newer = JobQueue(database, lease_s=30, clock=clock)
    lease = newer.claim()
    newer.complete(lease, result())
    assert (lease.attempt, newer.job("ada", job.id).state) == (2, "done")


def test_another_owners_job_is_not_there(queue):
    job = submit(queue)
    for ask in (queue.job, queue.cancel, queue.retry, queue.version):
        with pytest.raises(NotFound):
            ask("bob", job.id)
    assert queue.jobs("bob") == []


def test_too_many_items_or_jobs_are_refused(queue):
    with pytest.raises(InputError, match="1 to 5000"):
        submit(queue, 0)
    for _ in range(MAX_UNFINISHED_JOBS):
        submit(queue, 1)
    with pytest.raises(TooManyRequests) as refusal:
        submit(queue, 1)
    assert refusal.value.retry_after_s
    submit(queue, 1, owner="bob")


def test_a_cancelled_item_commits_nothing(queue, database):
    job = submit(queue, 3)
    done, running = queue.claim(), queue.claim()
    queue.complete(done, result())
    cancelled = queue.cancel("ada", job.id)
    assert (cancelled.state, cancelled.is_finished) == ("cancelled", True)
    assert states(queue, job) == ["done", "cancelled", "cancelled"]
    committed = []
    for act in (
        lambda: queue.complete(running, lambda connection: committed.append(1) or {}),
        lambda: queue.progress(running, "late"),
        lambda: queue.extend(running),
        lambda: queue.fail(running, "late"),
        lambda: queue.release(running),
    ):
        with pytest.raises(LeaseLostError):
            act()
    assert committed == []
    assert queue.cancel("ada", job.id) == cancelled


def test_a_lost_lease_is_taken_over_and_its_first_holder_commits_nothing(queue, clock):
    job = submit(queue, 1)
    slow = queue.claim()
    clock.now += 29
    assert queue.claim() is None
    queue.extend(slow)
    clock.now += 29
    assert queue.claim() is None
    clock.now += 2
    other = queue.claim()
    assert (other.position, other.attempt) == (0, 2)
    with pytest.raises(LeaseLostError):
        queue.complete(slow, result(1))
    queue.complete(other, result(2))
    _, (item,) = queue.job_with_items("ada", job.id)
    assert (item.state, item.result, item.attempts) == ("done", {"value": 2}, 2)


def test_an_item_whose_workers_all_die_fails_with_a_reason(queue, clock):
    job = submit(queue, 2)
    for _ in range(MAX_ATTEMPTS):
        assert queue.claim().position == 0
        clock.now += 31
    assert queue.claim().position == 1
    _, (dead, _) = queue.job_with_items("ada", job.id)
    assert (dead.state, dead.attempts) == ("failed", MAX_ATTEMPTS)
    assert "ended 3 times" in dead.message


def test_a_failure_is_tried_again_later_and_three_times_at_most(queue, clock):
    job = submit(queue, 1)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        lease = queue.claim()
        assert lease.attempt == attempt
        queue.fail(lease, "It broke.", again_after_s=5)
        assert queue.claim() is None
        clock.now += 6
    job, (item,) = queue.job_with_items("ada", job.id)
    assert (job.state, item.state, item.message) == ("failed", "failed", "It broke.")


def test_what_was_put_back_does_not_wait_for_a_clock_that_was_set_back(queue, clock):
    submit(queue, 1)
    clock.now += 86_400
    queue.release(queue.claim(), "busy", after_s=1e9)
    assert queue.claim() is None
    clock.now -= 86_400
    assert queue.claim() is not None


def test_what_was_put_back_does_not_count_as_an_attempt(queue, clock):
    job = submit(queue, 1)
    for _ in range(5):
        queue.release(queue.claim(), "The disk is full.", after_s=10)
        assert queue.claim() is None
        clock.now += 11
    assert queue.claim().attempt == 1
    assert queue.job("ada", job.id).state == "running"


def test_a_commit_that_raises_leaves_nothing_behind(queue, database):
    submit(queue, 1)
    with database.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE effects (number INTEGER)")

    def commit(connection):
        connection.exec_driver_sql("INSERT INTO effects VALUES (1)")
        raise NotFound("The image is gone.")

    lease = queue.claim()
    with pytest.raises(NotFound):
        queue.complete(lease, commit)
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM effects").scalar_one() == 0
    queue.complete(lease, result())


def test_what_failed_or_was_cancelled_is_done_again_and_what_is_done_stays(queue):
    job = submit(queue, 3)
    queue.complete(queue.claim(), result())
    queue.fail(queue.claim(), "No.")
    queue.cancel("ada", job.id)
    again = queue.retry("ada", job.id)
    assert (again.state, again.finished_at) == ("queued", None)
    assert states(queue, job) == ["done", "waiting", "waiting"]
    for _ in range(2):
        lease = queue.claim()
        assert lease.attempt == 1
        queue.complete(lease, result())
    assert queue.job("ada", job.id).counts["done"] == 3
    assert queue.retry("ada", job.id).state == "done"


def test_the_time_left_is_measured_on_earlier_items_and_shares_turns(queue, clock):
    job = queue.submit("ada", "sleep", {}, [Subject({}, weight=w) for w in (1.0, 2.0, 3.0)])
    assert job.remaining_s is None
    lease = queue.claim()
    clock.now += 4
    queue.complete(lease, result())
    assert queue.job("ada", job.id).remaining_s == 20.0  # 4 s per weight, 5 weights left
    other = queue.submit("bob", "sleep", {}, [Subject({}, weight=1.0)])
    assert (other.queue_position, other.remaining_s) == (0, 8.0)
    assert queue.job("ada", job.id).remaining_s == 24.0
    clock.now += 1
    later = submit(queue, 1, owner="eve")
    assert later.queue_position == 1


def test_changes_since_a_version_are_those_items_alone(queue):
    job = submit(queue, 5)
    queue.complete(queue.claim(), result())
    job, items = queue.job_with_items("ada", job.id, since=job.version)
    assert [item.position for item in items] == [0]
    assert queue.job_with_items("ada", job.id, since=job.version)[1] == []
    assert queue.version("ada", job.id) == job.version


def test_old_finished_jobs_are_forgotten_with_their_items(queue, clock, database):
    done, open_job = submit(queue, 1), submit(queue, 1)
    queue.complete(queue.claim(), result())
    clock.now += 100
    assert queue.expire(finished_for_s=200) == 0
    assert queue.expire(finished_for_s=50) == 1
    assert [job.id for job in queue.jobs("ada")] == [open_job.id]
    with database.reading() as connection:
        left = connection.exec_driver_sql("SELECT DISTINCT job_id FROM job_items").scalars().all()
    assert left == [open_job.id]
    assert done.id not in left


# The engine of one process


@pytest.fixture
def running(database: Database):
    """Start engines with a runner for the kind "sleep"; stopped at the end."""
    queue = JobQueue(database, lease_s=3)
    engines = []

    def start(runner, **options) -> tuple[JobQueue, LocalEngine]:
        engine = LocalEngine(queue, {"sleep": runner}, poll_s=0.02, backoff_s=0.02, **options)
        engines.append(engine)
        engine.start()
        return queue, engine

    yield start
    for engine in engines:
        engine.stop()


def test_two_workers_share_the_items_and_none_is_done_twice(running):
    done: list[int] = []

    def run(work):
        time.sleep(0.005)
        return lambda connection: done.append(work.subject["number"]) or {}

    queue, _ = running(run)
    running(run)
    job = submit(queue, 40)
    wait_until(lambda: queue.job("ada", job.id).is_finished)
    assert sorted(done) == list(range(40))


@pytest.mark.parametrize(
    ("error", "attempts", "sentence"),
    [
        (InputError("The image is damaged."), 1, "The image is damaged."),
        (ZeroDivisionError("secret"), MAX_ATTEMPTS, "Something broke on the server"),
    ],
)
def test_a_runner_that_raises_fails_its_item_and_no_other(running, caplog, error, attempts, sentence):
    def run(work):
        if work.subject["number"] == 1:
            raise error
        return lambda connection: {}

    queue, _ = running(run)
    job = submit(queue, 3)
    wait_until(lambda: queue.job("ada", job.id).is_finished)
    job, items = queue.job_with_items("ada", job.id)
    assert [item.state for item in items] == ["done", "failed", "done"]
    assert (items[1].attempts, job.state) == (attempts, "done")
    assert sentence in items[1].message
    assert "secret" not in items[1].message


def test_a_busy_server_makes_an_item_wait_and_no_attempt_is_lost(running):
    tries = []

    def run(work):
        tries.append(1)
        if len(tries) < 6:
            raise Unavailable("The server is busy.")
        return lambda connection: {}

    queue, _ = running(run)
    job = submit(queue, 1)
    wait_until(lambda: queue.job("ada", job.id).state == "done")
    _, (item,) = queue.job_with_items("ada", job.id)
    assert (len(tries), item.attempts) == (6, 1)


def test_cancel_stops_the_work_between_two_steps(running):
    steps, ended = [], threading.Event()

    def run(work):
        try:
            for step in range(10_000):
                work.progress(f"step {step}")
                steps.append(step)
                time.sleep(0.005)
        finally:
            ended.set()
        return lambda connection: {}

    queue, _ = running(run)
    job = submit(queue, 2)
    wait_until(lambda: len(steps) > 3)
    queue.cancel("ada", job.id)
    assert ended.wait(10)
    assert len(steps) < 5000
    assert states(queue, job) == ["cancelled", "cancelled"]


def test_a_long_item_keeps_its_lease(running):
    def run(work):
        time.sleep(5)  # longer than the lease of 3 s, without a word
        return lambda connection: {}

    queue, _ = running(run)
    job = submit(queue, 1)
    running(run)
    wait_until(lambda: queue.job("ada", job.id).is_finished)
    _, (item,) = queue.job_with_items("ada", job.id)
    assert (item.state, item.attempts) == ("done", 1)


def test_an_engine_that_stops_gives_its_item_to_the_next_at_once(running):
    started, go_on = threading.Event(), threading.Event()

    def slow(work):
        started.set()
        go_on.wait(20)
        return lambda connection: {"by": "slow"}

    queue, engine = running(slow, stop_within_s=0.1)
    job = submit(queue, 1)
    assert started.wait(10)
    engine.stop()
    running(lambda work: lambda connection: {"by": "next"})
    wait_until(lambda: queue.job("ada", job.id).is_finished)
    go_on.set()
    _, (item,) = queue.job_with_items("ada", job.id)
    assert (item.result, item.attempts) == ({"by": "next"}, 1)


# Real processes


class Workers:
    """Worker processes on one database, which may be killed at any moment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lease_s = 3600.0  # so long that only a look at the processes tells who is gone
        self.processes: list[subprocess.Popen[str]] = []

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, str(WORKER), str(self.path), str(self.lease_s)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        return process

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait(20)
            process.stdout.close()


@pytest.fixture
def workers(database: Database):
    with database.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE effects (number INTEGER)")
    workers = Workers(database.path)
    yield workers
    workers.stop()


def effects(database: Database) -> list[int]:
    with database.reading() as connection:
        return list(connection.exec_driver_sql("SELECT number FROM effects ORDER BY number").scalars())


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no SIGKILL")
def test_a_worker_that_hangs_loses_its_lease(database, workers):
    workers.lease_s = 1.0
    queue = JobQueue(database, lease_s=1.0)
    job = queue.submit("ada", "sleep", {"seconds": 0.3}, numbers(3))
    hanging = workers.start()
    wait_until(lambda: queue.job("ada", job.id).counts["running"] == 1)
    os.kill(hanging.pid, signal.SIGSTOP)
    workers.start()
    wait_until(lambda: queue.job("ada", job.id).is_finished)
    os.kill(hanging.pid, signal.SIGCONT)
    time.sleep(0.5)  # it wakes up in the middle of its item, and must not commit it
    assert effects(database) == [0, 1, 2]


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no SIGKILL")
def test_every_item_ends_exactly_once_though_workers_are_killed(database, workers):
    queue = JobQueue(database)
    job = queue.submit("ada", "sleep", {"seconds": 0.15}, numbers(40))
    alive = [workers.start(), workers.start()]
    for _ in range(4):
        before = queue.job("ada", job.id).counts["done"]
        # An item that is killed three times fails, as it should: here only first attempts are.
        wait_until(lambda before=before: _is_under_way(queue, job, more_than=before))
        victim = alive.pop(0)
        os.kill(victim.pid, signal.SIGKILL)
        alive.append(workers.start())
    wait_until(lambda: queue.job("ada", job.id).is_finished, 60)
    job, items = queue.job_with_items("ada", job.id)
    assert effects(database) == list(range(40))
    assert (job.state, job.counts["done"]) == ("done", 40)
    assert [item.result for item in items] == [{"square": i * i} for i in range(40)]
    assert max(item.attempts for item in items) > 1, "no worker was killed in the middle of an item"


def _is_under_way(queue: JobQueue, job, *, more_than: int) -> bool:
    job, items = queue.job_with_items("ada", job.id)
    running = [item for item in items if item.state == "running"]
    return (
        job.counts["done"] > more_than and len(running) == 2 and all(item.attempts == 1 for item in running)
    )


def test_a_restarted_server_goes_on_where_the_last_one_stopped(database, workers):
    queue = JobQueue(database)
    job = queue.submit("ada", "sleep", {"seconds": 0.1}, numbers(6))
    first = workers.start()
    wait_until(lambda: queue.job("ada", job.id).counts["done"] >= 2)
    first.kill()
    first.wait(20)
    assert not queue.job("ada", job.id).is_finished
    workers.start()
    wait_until(lambda: queue.job("ada", job.id).is_finished)
    assert effects(database) == list(range(6))
