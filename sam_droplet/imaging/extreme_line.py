"""Where a profile across a rim has its line: the prominent minimum nearest to the outline."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def smoothed(profile: Floats) -> Floats:
    """Return profiles (N, S) averaged over three steps by weights 1, 2, 1: (N, S - 2)."""
    return np.asarray((profile[:, :-2] + 2 * profile[:, 1:-1] + profile[:, 2:]) / 4)


def nearest_minimum(
    smooth: Floats, steps: Floats, farthest: float, prominent: float, least_contrast: float
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the index of each profile's prominent minimum nearest to step 1, (N,), and whether there is one.

    smooth: (N, S). steps: (S,) in radii. A minimum counts that is closer than ``farthest`` and stands out by
    more than the share ``prominent`` of what the profile ranges over, and by ``least_contrast``.
    """
    before = np.maximum.accumulate(smooth, axis=1)
    after = np.maximum.accumulate(smooth[:, ::-1], axis=1)[:, ::-1]
    prominence = np.minimum(before, after) - smooth
    needed = np.maximum(prominent * np.ptp(smooth, axis=1, keepdims=True), least_contrast)
    least = np.zeros(smooth.shape, bool)
    least[:, 1:-1] = (smooth[:, 1:-1] <= smooth[:, :-2]) & (smooth[:, 1:-1] < smooth[:, 2:])
    off = np.where(least & (prominence > needed), np.abs(steps - 1), np.inf)
    best = off.argmin(axis=1)
    return best, off[np.arange(len(off)), best] < farthest
