"""How much is computed at once, and what happens where memory runs out: halve it, say so, go on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

import torch

from sam_droplet.errors import Unavailable

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


class BatchSize:
    """Cut work into batches; a batch that does not fit the memory is halved, for this and all later work.

    size: items at once now. halved: how often memory ran out so far. Not safe to share without a lock.
    """

    def __init__(self, name: str, size: int) -> None:
        self.name, self.size, self.halved = name, size, 0

    def run(self, count: int, work: Callable[[slice], Answer]) -> Iterator[Answer]:
        """Yield ``work(part)`` for parts of ``count`` items; Unavailable where not even one item fits."""
        start = 0
        while start < count:
            part = slice(start, min(count, start + self.size))
            answers: list[Answer] = []
            with suppress(torch.OutOfMemoryError):
                answers.append(work(part))
            # Only now, for until it is dropped the exception keeps alive what fills the memory.
            if not answers:
                self._halve()
                continue
            yield answers[0]
            start = part.stop

    def _halve(self) -> None:
        if self.size == 1:
            raise Unavailable(
                f"The GPU's memory does not hold even one of the {self.name} at a time. "
                "Close other programs that use the GPU, or set DEVICE to cpu.",
                retry_after_s=30,
            )
        self.size //= 2
        self.halved += 1
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        log.warning("The GPU's memory ran out: from now on %d %s run at once.", self.size, self.name)


def padded_to(batch: torch.Tensor, size: int) -> torch.Tensor:
    """Repeat the last of (B, ...) items until there are ``size``: GPUs prefer batches of one shape."""
    missing = size - len(batch)
    return batch if missing <= 0 else torch.cat([batch, batch[-1:].expand(missing, *batch.shape[1:])])
