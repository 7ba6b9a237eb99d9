"""The cache computes once, survives restarts and damage, and stays within its bytes."""

import multiprocessing
import os
import threading
import time

import numpy as np
import pytest

from sam_droplet.segmentation.embedding_cache import EmbeddingCache

MIB = 1 << 20


def cache(folder, *, memory=64 * MIB, disk=64 * MIB):
    return EmbeddingCache(folder, memory_bytes=memory, disk_bytes=disk)


def constant(value, size=4):
    return lambda: {"x": np.full(size, value, np.float32)}


def never():
    raise AssertionError("computed again")


def test_a_second_call_computes_nothing(tmp_path):
    first = cache(tmp_path)
    assert first.get_or_compute("a", constant(1))["x"].tolist() == [1, 1, 1, 1]
    assert first.get_or_compute("a", never)["x"].tolist() == [1, 1, 1, 1]


def test_another_process_finds_it_on_disk(tmp_path):
    cache(tmp_path).get_or_compute("a", constant(2))
    assert cache(tmp_path).get_or_compute("a", never)["x"].tolist() == [2, 2, 2, 2]


def test_it_tells_where_its_answers_came_from_and_what_it_holds(tmp_path):
    first = cache(tmp_path)
    for key in "aab":
        first.get_or_compute(key, constant(1, 1000))
    assert first.answers() == {"computed": 2, "memory": 1}
    assert first.memory_bytes == 8000
    assert 8000 <= first.disk_bytes() < 9000
    second = cache(tmp_path)
    second.get_or_compute("a", never)
    assert (second.answers(), second.memory_bytes) == ({"disk": 1}, 4000)
    assert second.disk_bytes() == first.disk_bytes()
    assert (cache(None).answers(), cache(None).disk_bytes()) == ({}, 0)


def test_without_a_folder_memory_alone_serves():
    memory = cache(None)
    memory.get_or_compute("a", constant(3))
    assert "a" in memory
    assert memory.get_or_compute("a", never)["x"][0] == 3


def test_a_disk_that_fills_up_gets_back_what_the_cache_holds(tmp_path, monkeypatch):
    shared = cache(tmp_path)
    for key in "abc":
        shared.get_or_compute(key, constant(1, 10_000))
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    monkeypatch.setattr("sam_droplet.segmentation.embedding_cache.RESERVE_BYTES", 1 << 60)
    assert shared.get_or_compute("d", constant(4))["x"][0] == 4
    assert list(tmp_path.glob("*.safetensors")) == []


def test_threads_compute_one_key_once(tmp_path):
    shared, calls = cache(tmp_path), []

    def slow():
        calls.append(1)
        time.sleep(0.2)
        return {"x": np.zeros(1, np.float32)}

    threads = [threading.Thread(target=shared.get_or_compute, args=("a", slow)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def _compute_in_process(folder, log):
    def slow():
        with log.open("a") as file:
            file.write("x")
        time.sleep(0.3)
        return {"x": np.arange(3, dtype=np.float32)}

    cache(folder).get_or_compute("a", slow)


def test_processes_compute_one_key_once(tmp_path):
    context, log = multiprocessing.get_context("spawn"), tmp_path / "log"
    workers = [context.Process(target=_compute_in_process, args=(tmp_path / "c", log)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert log.read_text() == "x"


def test_a_failing_computation_leaves_no_lock(tmp_path):
    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache(tmp_path).get_or_compute("a", fail)
    assert cache(tmp_path).get_or_compute("a", constant(1))["x"][0] == 1


def test_the_lock_of_a_dead_process_is_ignored_in_time(tmp_path):
    cache(tmp_path).get_or_compute("a", constant(1))
    (stored,) = tmp_path.glob("*.safetensors")
    stored.unlink()
    lock = stored.with_suffix(".lock")
    lock.touch()
    os.utime(lock, (time.time() - 1000,) * 2)
    assert cache(tmp_path).get_or_compute("a", constant(4))["x"][0] == 4


def test_a_lock_from_before_the_clock_was_set_back_is_ignored(tmp_path):
    """Its process cannot be told from another of that number, such as after a container's restart."""
    cache(tmp_path).get_or_compute("a", constant(1))
    (stored,) = tmp_path.glob("*.safetensors")
    stored.unlink()
    lock = stored.with_suffix(".lock")
    lock.write_text(str(os.getppid()))
    os.utime(lock, (time.time() + 86_400,) * 2)
    found = []
    waiting = threading.Thread(
        target=lambda: found.append(cache(tmp_path).get_or_compute("a", constant(2))), daemon=True
    )
    waiting.start()
    waiting.join(10)
    assert [arrays["x"].tolist() for arrays in found] == [[2, 2, 2, 2]]


def test_what_cannot_be_deleted_costs_no_answer(tmp_path):
    """As on a folder that became read-only; here, folders stand where files are to be deleted."""
    cache(tmp_path).get_or_compute("a", constant(1))
    (stored,) = tmp_path.glob("*.safetensors")
    stored.unlink()
    (stored / "x").mkdir(parents=True)

    def compute():
        lock = stored.with_suffix(".lock")
        lock.unlink()
        (lock / "x").mkdir(parents=True)
        return constant(2)()

    assert cache(tmp_path).get_or_compute("a", compute)["x"].tolist() == [2, 2, 2, 2]


def test_the_lock_of_a_killed_process_holds_nobody_up(tmp_path):
    cache(tmp_path).get_or_compute("a", constant(1))
    (stored,) = tmp_path.glob("*.safetensors")
    stored.unlink()
    ended = multiprocessing.get_context("spawn").Process(target=int)
    ended.start()
    ended.join()
    stored.with_suffix(".lock").write_text(str(ended.pid))
    started = time.monotonic()
    assert cache(tmp_path).get_or_compute("a", constant(4))["x"][0] == 4
    assert time.monotonic() - started < 10


def test_a_damaged_file_is_computed_anew(tmp_path):
    cache(tmp_path).get_or_compute("a", constant(1))
    (stored,) = tmp_path.glob("*.safetensors")
    stored.write_bytes(b"rubbish")
    assert cache(tmp_path).get_or_compute("a", constant(5))["x"][0] == 5


def test_memory_and_disk_stay_within_their_bytes(tmp_path):
    small = cache(tmp_path, memory=3 * MIB, disk=4 * MIB)
    for index in range(8):
        small.get_or_compute(str(index), constant(index, MIB // 4))  # 1 MiB each
    assert sum(path.stat().st_size for path in tmp_path.glob("*.safetensors")) <= 4 * MIB + 1000
    assert "7" in small
    assert "0" not in small


def test_a_folder_that_cannot_be_written_costs_only_the_keeping(tmp_path):
    sealed = tmp_path / "sealed"
    store = cache(sealed)
    sealed.rmdir()
    sealed.write_text("a file where the folder was")
    assert store.get_or_compute("a", constant(6))["x"][0] == 6


def test_a_folder_that_cannot_be_made_costs_only_the_keeping(tmp_path):
    (tmp_path / "file").touch()
    store = cache(tmp_path / "file" / "below")
    assert store.get_or_compute("a", constant(7))["x"][0] == 7
    assert store.disk_bytes() == 0


def test_a_new_process_deletes_what_dead_ones_left(tmp_path):
    cache(tmp_path).get_or_compute("a", constant(1))
    old, new = ([tmp_path / f"{age}.1.2.tmp", tmp_path / f"{age}.lock"] for age in ("old", "new"))
    for path in old + new:
        path.touch()
    for path in old:
        os.utime(path, (time.time() - 1000,) * 2)
    later = cache(tmp_path)
    assert [path.exists() for path in old + new] == [False, False, True, True]
    later.get_or_compute("a", never)
