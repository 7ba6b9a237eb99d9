"""Measure what this process spends: seconds on the clock and on processors, memory at its peak."""

from __future__ import annotations

import gc
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import cv2
import psutil

MIB = 1 << 20
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Times:
    """Hold what repeated runs of one thing took, in seconds.

    cpu_s: of all threads of the process; on a shared machine it says more than wall_s.
    """

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def time(self, call: Callable[[], Answer]) -> Answer:
        """Run once more."""
        wall, cpu = time.perf_counter(), time.process_time()
        answer = call()
        self.wall_s.append(time.perf_counter() - wall)
        self.cpu_s.append(time.process_time() - cpu)
        return answer

    @property
    def median_wall_s(self) -> float:
        """Return the median time on the clock."""
        return statistics.median(self.wall_s)

    @property
    def median_cpu_s(self) -> float:
        """Return the median time on processors."""
        return statistics.median(self.cpu_s)


@dataclass(frozen=True)
class Pair:
    """Hold what the same thing took with something to compare with, first, and with ours."""

    stock: Times
    ours: Times


def in_turns(stock: Callable[[], object], ours: Callable[[], object], repeats: int) -> Pair:
    """Run both alternately, once to warm up, so that what else the machine does meets both."""
    pair = Pair(Times(), Times())
    stock()
    ours()
    for _ in range(repeats):
        pair.stock.time(stock)
        pair.ours.time(ours)
    return pair


def use_cores(count: int) -> None:
    """Hold this process to a number of cores, where the system can."""
    cv2.setNumThreads(count)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def available_cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def reset_peak_mib() -> float:
    """Forget the peak memory so far, where the system can, and return the memory in use in MiB."""
    gc.collect()
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")
        return _status_mib("VmRSS")
    return float(psutil.Process().memory_info().rss / MIB)


def peak_mib() -> float:
    """Return the most memory held at once, in MiB; on macOS, which does not tell, what is held now."""
    if sys.platform == "linux":
        return _status_mib("VmHWM")
    info = psutil.Process().memory_info()
    return float(getattr(info, "peak_wset", info.rss) / MIB)


def _status_mib(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024
