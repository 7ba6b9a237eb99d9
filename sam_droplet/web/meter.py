"""How busy this machine is, and what this process has done; never waits for an answer."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sam_droplet import __version__

PREFIX = "samdroplet"
_SHORT_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Meter:
    """Measure how busy the machine's processors were between two looks, without ever waiting."""

    def __init__(self) -> None:
        self._process = psutil.Process(os.getpid())
        self._before = psutil.cpu_times()
        self._percent = 0.0
        self._lock = threading.Lock()

    def cpu_percent(self) -> float:
        """Return the busy share of all cores since the last look, in per cent."""
        with self._lock:
            now = psutil.cpu_times()
            total = sum(now) - sum(self._before)
            idle = now.idle - self._before.idle
            if total > 0.05:  # two looks in the same clock tick would give noise
                self._percent = round(100 * (1 - idle / total), 1)
                self._before = now
            return self._percent

    def process_memory_bytes(self) -> int:
        """Return this process's resident memory."""
        return int(self._process.memory_info().rss)


class Metrics:
    """Count what one process does; the names are the contract of the dashboard."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.registry = registry
        self.requests = Counter(
            f"{PREFIX}_requests", "Answered requests.", ["route", "code"], registry=registry
        )
        self.durations = Histogram(
            f"{PREFIX}_request_duration_seconds",
            "Time to answer.",
            ["route"],
            buckets=_SHORT_S,
            registry=registry,
        )
        self.stages = Histogram(
            f"{PREFIX}_stage_duration_seconds",
            "Time of each stage of a segmentation; 'queue' is waiting.",
            ["stage"],
            buckets=_SHORT_S,
            registry=registry,
        )
        self.rejected = Counter(
            f"{PREFIX}_rejected", "Requests sent away, by reason.", ["reason"], registry=registry
        )
        self.uploaded = Counter(f"{PREFIX}_upload_bytes", "Bytes received in bodies.", registry=registry)
        self.queue = Gauge(
            f"{PREFIX}_queue_depth",
            "Segmentations running or waiting.",
            ["state"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.jobs = Gauge(
            f"{PREFIX}_jobs",
            "Jobs that are kept, by state.",
            ["state"],
            registry=registry,
            # Every worker counts all jobs: the last count is right, a sum would not be.
            multiprocess_mode="livemostrecent",
        )
        self.loaded = Gauge(
            f"{PREFIX}_workers_ready",
            "Workers whose network is in memory.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.gpu_memory = Gauge(
            f"{PREFIX}_gpu_memory_bytes",
            "Memory of the GPU.",
            ["kind"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.cache_answers = Counter(
            f"{PREFIX}_embedding_cache",
            "What the networks made of an image, by where it came from: memory, disk, or computed anew.",
            ["result"],
            registry=registry,
        )
        self.cache_memory = Gauge(
            f"{PREFIX}_embedding_cache_memory_bytes",
            "Bytes of it in the memory of all workers.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.cache_disk = Gauge(
            f"{PREFIX}_embedding_cache_disk_bytes",
            "Bytes of it on disk, shared by all workers.",
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self._cache_counted: dict[str, int] = {}
        self._lock = threading.Lock()
        self.build = Gauge(
            f"{PREFIX}_build_info",
            "Always 1; the label says which version runs.",
            ["version"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.build.labels(__version__).set(1)

    def observe_cache_answers(self, answers: Mapping[str, int]) -> None:
        """Take in how often the cache answered since this process began, by result."""
        with self._lock:
            for result, n_answers in answers.items():
                more = n_answers - self._cache_counted.get(result, 0)
                if more > 0:  # another thread may have brought a later count already
                    self.cache_answers.labels(result).inc(more)
                    self._cache_counted[result] = n_answers

    def observe_stages(self, timings_s: Mapping[str, float]) -> None:
        """Take in the timings of a result."""
        for stage, seconds in timings_s.items():
            self.stages.labels(stage).observe(seconds)
