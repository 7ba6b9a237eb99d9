"""Counters are right across threads and processes, and end with their window."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sam_droplet.errors import Unavailable
from sam_droplet.service.shared_counts import SharedCounts


def test_counts_add_up_and_end_with_their_window(tmp_path):
    counts = SharedCounts(tmp_path / "counts")
    assert [counts.add("a", 60), counts.add("a", 60, 3), counts.add("b", 60)] == [1, 4, 1]
    count, ends = counts.get("a")
    assert (count, 55 < ends - time.time() <= 60) == (4, True)
    counts.add("short", 0.05, 9)
    time.sleep(0.06)
    assert counts.get("short")[0] == 0
    assert counts.add("short", 60) == 1
    assert counts.clear("a") == 1
    assert counts.get("a")[0] == 0
    assert counts.clear() == 2


def test_no_count_is_lost_between_threads_and_processes(tmp_path):
    path = tmp_path / "counts"
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_count, args=(path, 200)) for _ in range(3)]
    for process in processes:
        process.start()
    counts = SharedCounts(path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: counts.add("key", 600), range(400)))
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert counts.get("key")[0] == 1000


def _count(path: Path, times: int) -> None:
    counts = SharedCounts(path)
    for _ in range(times):
        counts.add("key", 600)


def test_an_event_that_waited_for_the_file_adds_to_a_window_begun_meanwhile(tmp_path, monkeypatch):
    counts, now = SharedCounts(tmp_path / "counts"), time.time()
    assert counts.add("a", 600, 100) == 100
    monkeypatch.setattr(time, "time", lambda: now - 3)
    assert counts.add("a", 600) == 101
    assert counts.get("a")[0] == 101


def test_a_damaged_file_is_begun_anew(tmp_path):
    path = tmp_path / "counts"
    path.write_bytes(b"not a database " * 100)
    assert SharedCounts(path).add("a", 600) == 1
    assert SharedCounts(path).add("a", 600) == 2


def test_a_file_that_cannot_be_made_is_told_until_it_can(tmp_path):
    counts = SharedCounts(tmp_path / "folder" / "counts")
    with pytest.raises(Unavailable):
        counts.add("a", 600)
    (tmp_path / "folder").mkdir()
    assert counts.add("a", 600) == 1


def test_a_clock_that_is_set_back_locks_nobody_out(tmp_path, monkeypatch):
    counts, now = SharedCounts(tmp_path / "counts"), time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86_400)
    assert counts.add("a", 3600, 100) == 100
    monkeypatch.setattr(time, "time", lambda: now)
    assert counts.get("a") == (0, now)
    assert (counts.add("a", 3600), counts.get("a")) == (1, (1, now + 3600))
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    assert counts.get("a")[0] == 0
