"""How fast networks learn in the course of a run."""

from __future__ import annotations

import math

from torch.optim import Optimizer


def cosine_rate(progress: float, lowest: float) -> float:
    """Return the share of the full rate at a point of the run: on a cosine from 1 at 0 to ``lowest`` at 1."""
    return lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * progress))


def warm_rate(step: int, warm_up_steps: int) -> float:
    """Return the share of the full rate at a step of the linear warm-up, 1 after it."""
    return min(1.0, (step + 1) / warm_up_steps)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Let all parameters of an optimizer learn at a rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
