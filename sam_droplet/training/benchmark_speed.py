"""Measure speed and memory beside the stock MobileSAM, each task in a fresh process of one tree."""

from __future__ import annotations

import multiprocessing
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from sam_droplet.config import Config
from sam_droplet.imaging.images import encode_png
from sam_droplet.segmentation import checkpoints
from sam_droplet.segmentation.engines import why_no_openvino
from sam_droplet.training import speed_beside_stock, speed_runtimes, speed_tasks, stock_sam
from sam_droplet.training.emulsion_picture import emulsion_picture
from sam_droplet.training.process_meter import Pair, Times, available_cores
from sam_droplet.training.speed_report import BigRow, ComparedRow, FindRow, SpeedReport
from sam_droplet.training.speed_tasks import Task

SIZE_PX = 1024
DROPLETS = (100, 900, 3000)
BIG_SIDE_PX, BIG_DROPLETS = 10_000, 50_000
# What is measured: droplets in any number, single prompts, the stock generator, a big picture, and torch
# beside OpenVINO.
PARTS = ("find", "prompts", "generator", "big", "runtimes")
# Times faster than stock that are aimed at.
GOALS = {"embedding": 1 / 0.45, "decode": 2.0, "find": 200.0, "everything": 10.0}
_WHAT = {
    "embedding": "embedding of an image",
    "decode": "a point decoded to three 256 × 256 masks",
    "click": "a click, three candidates at full size",
    "box": "a box, one mask at full size",
    "find": "automatic: *Find droplets* on 900 droplets",
    "everything": "automatic: *everything*, same 32 × 32 points and thresholds",
    "droplet-net": "DropletNet, one look at 1024 × 1024 px",
    "encoder": "MobileSAM's encoder",
    "decoder": "our mask decoder, a point to four 256 × 256 masks",
}
STAND_INS = (
    "MobileSAM's official weights were not there: stock and ours ran with the same stand-ins, which draw a "
    "disc about each point. Arithmetic and filters are those of the real ones; how many masks pass is not."
)

Progress = Callable[[str], None]


def speed_report(
    config: Config,
    parts: Sequence[str] = PARTS,
    *,
    threads: Sequence[int] = (1, 2),
    repeats: int = 7,
    progress: Progress = print,
) -> Iterator[SpeedReport]:
    """Measure the parts with each number of threads; yields the report as it grows.

    The stock generator alone takes minutes for each number of threads.
    """
    found = checkpoints.find(checkpoints.MOBILE_SAM, config)
    sam_path = found.path if found.available else None
    settings = {"device": "cpu", "runtime": config.runtime, "droplet_model_path": config.droplet_model_path}
    report = SpeedReport(machine(), SIZE_PX)
    if {"prompts", "generator"} & set(parts):
        if not stock_sam.is_installed():
            report.notes.append("The stock MobileSAM (PyPI mobilesam-mirror) is not installed here.")
            parts = [part for part in parts if part not in ("prompts", "generator")]
        elif sam_path is None:
            report.notes.append(STAND_INS)
    for count in threads:
        for part in parts:
            if part == "big" and count != max(threads):
                continue
            progress(f"Measuring {part}, {count} threads")
            for _ in _measure(report, part, Task(b"", count, repeats, sam_path, settings)):
                yield report


def _measure(report: SpeedReport, part: str, task: Task) -> Iterator[None]:
    """Add a part to the report; yields whenever there is something new."""
    if part == "big":
        report.big = _big(task)
        yield
        return
    for n in DROPLETS if part == "find" else (900,):
        here = replace(task, png=picture_png(n))
        if part == "find":
            report.find.append(_find(n, here))
        elif part == "prompts":
            report.compared += _compare_prompts(here)
        elif part == "generator":
            report.compared += _compare_generator(here)
        elif part == "runtimes" and why_no_openvino() is None:
            measured = _in_new_process(speed_runtimes.compare_runtimes, here)
            report.runtimes += [_row(name, here.threads, pair, "") for name, pair in measured.items()]
        yield


def _find(asked: int, task: Task) -> FindRow:
    measured = _in_new_process(speed_tasks.find_droplets, task)
    with tempfile.TemporaryDirectory() as folder:
        started = replace(task, settings=task.settings | {"data_dir": folder})
        _in_new_process(speed_tasks.start_cold, started)  # converts the networks
        for cached in (Path(folder) / "embeddings").glob("*.safetensors"):
            cached.unlink()  # a new process, but also a new image
        cold: Times = _in_new_process(speed_tasks.start_cold, started)
    return FindRow(asked=asked, threads=task.threads, cold=cold, **measured)


def _compare_prompts(task: Task) -> list[ComparedRow]:
    measured = _in_new_process(speed_beside_stock.compare_prompts, task)
    place = f"encoder on {measured.pop('place')}"
    return [_row(name, task.threads, pair, place) for name, pair in measured.items()]


def _compare_generator(task: Task) -> list[ComparedRow]:
    measured = _in_new_process(speed_beside_stock.compare_everything, task)
    same = "" if measured["mean_iou"] is None else f", mean IoU {measured['mean_iou']:.4f}"
    remarks = (
        f"{measured['n_stock_masks']} masks stock, {measured['n_masks']} ours{same}; memory growth "
        f"{measured['stock_peak_growth_mib']:.0f} MiB stock, {measured['ours_peak_growth_mib']:.0f} MiB ours"
    )
    return [
        _row("find", task.threads, measured["find"], "upload decoding and measuring included"),
        _row("everything", task.threads, measured["everything"], remarks),
    ]


def _row(name: str, threads: int, pair: Pair, remarks: str) -> ComparedRow:
    return ComparedRow(_WHAT[name], threads, pair.stock, pair.ours, GOALS.get(name), remarks)


def _big(task: Task) -> BigRow:
    small = emulsion_picture(round(BIG_DROPLETS * (SIZE_PX / BIG_SIDE_PX) ** 2), SIZE_PX)
    copies = -(-BIG_SIDE_PX // SIZE_PX)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.png"
        path.write_bytes(encode_png(np.tile(small, (copies, copies, 1))[:BIG_SIDE_PX, :BIG_SIDE_PX]))
        task = replace(task, png=encode_png(small))
        measured = _in_new_process(speed_tasks.find_in_big_image, task, path)
    return BigRow(threads=task.threads, small_side_px=SIZE_PX, big_side_px=BIG_SIDE_PX, **measured)


def _in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a task in a process that has seen nothing before."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def picture_png(n_droplets: int) -> bytes:
    """Return a picture of SIZE_PX squared with about so many droplets, as PNG."""
    return encode_png(emulsion_picture(n_droplets, SIZE_PX))


def machine() -> dict[str, Any]:
    """Describe the machine and the libraries."""
    details: dict[str, Any] = {
        "processor": _processor(),
        "cores": available_cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "load": round(psutil.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    for package in ("torch", "openvino", "mobilesam-mirror"):
        try:
            details[package] = version(package)
        except PackageNotFoundError:
            details[package] = "absent"
    return details


def _processor() -> str:
    """Name the processor with what decides its speed here."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor() or platform.machine()
    rows = dict(
        [part.strip() for part in line.split(":", 1)] for line in info.read_text().splitlines() if ":" in line
    )
    flags = set(rows.get("flags", "").split())
    widest = next((name for name in ("avx512f", "avx2") if name in flags), "no AVX2")
    return f"{rows.get('model name', platform.machine())} ({widest})"
