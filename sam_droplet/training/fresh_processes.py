"""Work on every core, in processes that share nothing with this one."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_fresh_processes(work: Callable[[Sequence[T]], R], items: Sequence[T], portion: int) -> Iterator[R]:
    """Yield what ``work`` gives for each ``portion`` of the items, in order.

    What a process needs once, such as networks, is loaded once for a portion.
    """
    portions = [items[i : i + portion] for i in range(0, len(items), portion)]
    workers = min(len(portions), os.cpu_count() or 1)
    if not workers:
        return
    # A fork would copy torch's locks and the memory of its threads as they happen to be.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(work, portions)
