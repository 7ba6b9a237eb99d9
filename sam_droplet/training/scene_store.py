"""Scenes for the promptable network, rendered once to disk: by all cores before, or while, a GPU trains."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from sam_droplet.imaging.synthetic import STRATA
from sam_droplet.imaging.synthetic_objects import render_promptable
from sam_droplet.imaging.synthetic_outlines import PromptScene

_SHARE_OF_ANYTHING, _SHARE_OF_EMPTY = 0.45, 0.15


@dataclass(frozen=True)
class SceneStore:
    """Know where the scenes of a training set lie; scene ``index`` is the same on any machine.

    size_px: side of the scenes. Their seeds lie below 2**31, those of held-out scenes above.
    """

    folder: Path
    seed: int
    size_px: int

    def render(self, index: int) -> None:
        """Render scene ``index`` to disk, unless it is there."""
        path = self._path(index)
        if path.with_suffix(".npz").exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([self.seed, index, 3])
        names, draw = list(STRATA), rng.random()
        chosen = names[int(rng.integers(len(names)))]
        if draw < _SHARE_OF_ANYTHING + _SHARE_OF_EMPTY:
            chosen = "anything" if draw < _SHARE_OF_ANYTHING else "empty"
        render_promptable(int(rng.integers(1 << 31)), chosen, self.size_px).save(path)

    def load(self, index: int) -> PromptScene:
        """Read scene ``index``."""
        return PromptScene.load(self._path(index))

    def available(self) -> list[int]:
        """Return the scenes that are there, in order."""
        return sorted(
            int(path.stem) for path in self._path(0).parent.glob("[0-9]*.npz") if path.stem.isdigit()
        )

    def _path(self, index: int) -> Path:
        return self.folder / f"{self.seed}-{self.size_px}px" / f"{index:06d}"


class Rendering:
    """Render the missing scenes of a store in processes of their own, in order, until closed."""

    def __init__(self, store: SceneStore, count: int, workers: int) -> None:
        self._store = store
        there = set(store.available())
        missing = [index for index in range(count) if index not in there]
        self._pool: ProcessPoolExecutor | None = None
        self._waiting: list[Future[None]] = []
        if workers and missing:
            # Forking a process whose threads hold locks of torch or CUDA would be asking for trouble.
            self._pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _give_way)
            self._waiting = [self._pool.submit(store.render, index) for index in missing]
        else:
            for index in missing:
                store.render(index)

    def wait_for(self, count: int) -> None:
        """Return once ``count`` scenes are there, or all that were asked for."""
        missing = count - (len(self._store.available()) - sum(f.done() for f in self._waiting))
        for future in self._waiting[: max(0, missing)]:
            future.result()

    def __enter__(self) -> Rendering:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _give_way() -> None:
    """Let training and its data come first."""
    if hasattr(os, "nice"):
        os.nice(10)
