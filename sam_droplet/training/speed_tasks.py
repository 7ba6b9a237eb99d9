"""What the speed benchmark measures of *Find droplets*, each task in a process of its own."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sam_droplet.config import Config, load_config
from sam_droplet.imaging.images import Limits, encode_png, load_image, load_image_file
from sam_droplet.pipeline import Result, Segmenter
from sam_droplet.training.process_meter import Times, peak_mib, reset_peak_mib, use_cores

_NO_LIMITS = Limits(max_bytes=1 << 40, max_pixels=1 << 40)


@dataclass(frozen=True)
class Task:
    """Say on which picture, with how many threads and how often something is measured.

    png: the picture as uploaded. threads: cores that the process may use. repeats: warm runs.
    sam_path: MobileSAM's weights, None for stand-ins. settings: the configuration's overrides.
    """

    png: bytes
    threads: int
    repeats: int
    sam_path: Path | None
    settings: dict[str, Any]


def find_droplets(task: Task) -> dict[str, Any]:
    """Time *Find droplets* from the uploaded bytes to measured droplets: first, warm, again."""
    use_cores(task.threads)
    first, warm, again = Times(), Times(), Times()
    with tempfile.TemporaryDirectory() as folder:
        first.time(lambda: find(segmenter_in(Path(folder), task), task.png))
        segmenter = segmenter_in(Path(folder), task)
        segmenter.warm_up()
        pictures = [changed(task.png, i + 1) for i in range(task.repeats + 1)]
        before_mib = reset_peak_mib()
        find(segmenter, pictures[0])
        growth_mib = peak_mib() - before_mib
        result = [warm.time(partial(find, segmenter, png)) for png in pictures[1:]][-1]
        restarted = segmenter_in(Path(folder), task)
        restarted.warm_up()
        second = again.time(lambda: find(restarted, pictures[-1]))
    assert len(second.droplets) == len(result.droplets)
    return {
        "device": result.model.device,
        "n_droplets": len(result.droplets),
        "first": first,
        "warm": warm,
        "again": again,
        "stages_s": result.timings_s,
        "peak_growth_mib": growth_mib,
    }


def start_cold(task: Task) -> Times:
    """Time a new process whose networks were converted earlier: imports, loading and the first image."""
    use_cores(task.threads)
    cold = Times()
    cold.time(lambda: find(segmenter_in(Path(task.settings["data_dir"]), task), task.png))
    return cold


def find_in_big_image(task: Task, big: Path) -> dict[str, Any]:
    """Time *Find droplets* on the picture of the task, and on a big one in a file."""
    use_cores(task.threads)
    small_times, big_times = Times(), Times()
    with tempfile.TemporaryDirectory() as folder:
        segmenter = segmenter_in(Path(folder), task)
        segmenter.warm_up()
        pictures = [changed(task.png, i + 1) for i in range(task.repeats)]
        small = [small_times.time(partial(find, segmenter, png)) for png in pictures][-1]
        reset_peak_mib()
        found = big_times.time(lambda: segmenter.find(load_image_file(big, _NO_LIMITS)))
        return {
            "small": small_times,
            "small_n_droplets": len(small.droplets),
            "big": big_times,
            "big_n_droplets": len(found.droplets),
            "stages_s": found.timings_s,
            "peak_mib": peak_mib(),
        }


def find(segmenter: Segmenter, png: bytes) -> Result:
    """Decode an upload, find and measure its droplets."""
    return segmenter.find(load_image(png, "picture.png"))


def configuration(folder: Path, task: Task) -> Config:
    """Return the configuration of a task, with its data in a folder."""
    return load_config({}, {"data_dir": folder, "omp_num_threads": task.threads} | task.settings)


def segmenter_in(folder: Path, task: Task) -> Segmenter:
    """Return a façade that has loaded nothing yet."""
    return Segmenter(configuration(folder, task))


def changed(png: bytes, number: int) -> bytes:
    """Return the picture with one pixel changed, so that no cache knows it."""
    pixels = load_image(png, "picture.png").pixels.copy()
    pixels[0, 0] = number
    return encode_png(np.ascontiguousarray(pixels))
