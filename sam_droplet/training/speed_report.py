"""What the speed benchmark found, as Markdown and for JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from sam_droplet.training.process_meter import Times


@dataclass(frozen=True)
class FindRow:
    """*Find droplets* on one picture: n asked for and found, times, and what memory grew by at its peak."""

    asked: int
    threads: int
    n_droplets: int
    device: str
    first: Times
    cold: Times
    warm: Times
    again: Times
    stages_s: dict[str, float]
    peak_growth_mib: float


@dataclass(frozen=True)
class ComparedRow:
    """One thing done by the stock MobileSAM and by ours. goal: the least ratio that is aimed at, or None."""

    what: str
    threads: int
    stock: Times
    ours: Times
    goal: float | None
    remarks: str = ""

    @property
    def ratio(self) -> float:
        """Return how many times longer the stock takes on the clock."""
        return self.stock.median_wall_s / self.ours.median_wall_s

    @property
    def cpu_ratio(self) -> float:
        """Return how many times more processor time the stock takes."""
        return self.stock.median_cpu_s / self.ours.median_cpu_s


@dataclass(frozen=True)
class BigRow:
    """*Find droplets* on a big picture beside a small one."""

    threads: int
    small_side_px: int
    big_side_px: int
    small_n_droplets: int
    big_n_droplets: int
    small: Times
    big: Times
    stages_s: dict[str, float]
    peak_mib: float


@dataclass
class SpeedReport:
    """Hold what was measured on which machine, and what has to be known to read it."""

    machine: dict[str, Any]
    size_px: int
    notes: list[str] = field(default_factory=list)
    find: list[FindRow] = field(default_factory=list)
    compared: list[ComparedRow] = field(default_factory=list)
    runtimes: list[ComparedRow] = field(default_factory=list)
    big: BigRow | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON; times in seconds, memory in MiB."""
        ratios = [{"ratio": row.ratio, "cpu_ratio": row.cpu_ratio} for row in self.compared]
        report = asdict(self)
        report["compared"] = [row | more for row, more in zip(report["compared"], ratios, strict=True)]
        return report

    def as_table(self) -> str:
        """Return the report as Markdown."""
        machine = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        parts = [f"Machine: {machine}.", *self.notes]
        if self.compared:
            parts.append("\n".join(self._compared_lines()))
        if self.find:
            parts.append("\n".join(self._find_lines()))
        if self.big is not None:
            parts.append("\n".join(_big_lines(self.big)))
        if self.runtimes:
            parts.append("\n".join(self._runtime_lines()))
        return "\n\n".join(parts)

    def _compared_lines(self) -> Iterator[str]:
        yield "| beside the stock MobileSAM | threads | stock | ours | ratio | of processor time | goal | |"
        yield "|---|---|---|---|---|---|---|---|"
        for row in self.compared:
            goal = "" if row.goal is None else f"{row.goal:.3g}"
            yield (
                f"| {row.what} | {row.threads} | {_both(row.stock)} | {_both(row.ours)} "
                f"| {row.ratio:.3g} | {row.cpu_ratio:.3g} | {goal} | {row.remarks} |"
            )

    def _runtime_lines(self) -> Iterator[str]:
        yield "| runtimes | threads | eager torch | OpenVINO | ratio | of processor time |"
        yield "|---|---|---|---|---|---|"
        for row in self.runtimes:
            yield (
                f"| {row.what} | {row.threads} | {_both(row.stock)} | {_both(row.ours)} "
                f"| {row.ratio:.3g} | {row.cpu_ratio:.3g} |"
            )

    def _find_lines(self) -> Iterator[str]:
        yield (
            f"| *Find droplets*, {self.size_px} × {self.size_px} px | threads | found | first start ever "
            "| new process | warm | same image again | memory growth |"
        )
        yield "|---|---|---|---|---|---|---|---|"
        for row in self.find:
            yield (
                f"| {row.asked} droplets | {row.threads} | {row.n_droplets} | {_both(row.first)} "
                f"| {_both(row.cold)} | {_both(row.warm)} | {_both(row.again)} "
                f"| {row.peak_growth_mib:.0f} MiB |"
            )


def _big_lines(row: BigRow) -> Iterator[str]:
    yield "| *Find droplets*, big | threads | found | took | memory of the whole process at its peak |"
    yield "|---|---|---|---|---|"
    small, big = row.small_side_px, row.big_side_px
    yield f"| {small} × {small} px | {row.threads} | {row.small_n_droplets} | {_both(row.small)} | |"
    yield (
        f"| {big} × {big} px | {row.threads} | {row.big_n_droplets} | {_both(row.big)} "
        f"| {row.peak_mib:.0f} MiB |"
    )
    ratio = row.big.median_wall_s / row.small.median_wall_s
    cpu_ratio = row.big.median_cpu_s / row.small.median_cpu_s
    yield f"| times longer (goal: at most 130) | | | {ratio:.0f}, by processor time {cpu_ratio:.0f} | |"


def _both(times: Times) -> str:
    """Return the median time, and in brackets that of the processors."""
    return f"{_seconds(times.median_wall_s)} ({_seconds(times.median_cpu_s)})"


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 100 else f"{value:.1f} s" if value >= 1 else f"{value * 1000:.0f} ms"
