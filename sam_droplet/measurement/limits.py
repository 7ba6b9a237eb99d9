"""How far the CV hangs on the exact place of a limit: the few droplets that lie there decide on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sam_droplet.measurement.droplets import Droplet, Filters, apply_filters

_SIZES = {"diameter_px": "diameter", "area_px": "area"}
# Limits are moved by this share of themselves, less than any calibration is sure of; a CV that changes
# by more than the second share of itself is worth a sentence.
_MOVED, _MATTERS = 0.01, 0.05


def limit_notes(droplets: Sequence[Droplet], filters: Filters) -> list[str]:
    """Return a sentence for each limited size whose limits, 1 % wider and narrower, give unlike CVs.

    droplets: as judged by ``filters``.
    """
    notes = []
    for name, title in _SIZES.items():
        low, high = filters.ranges.get(name, (None, None))
        wide, narrow = (
            [d for d in apply_filters(droplets, _moved(filters, name, low, high, by)) if d.included]
            for by in (_MOVED, -_MOVED)
        )
        n_there = len(wide) - len(narrow)
        if n_there == 0 or len(narrow) < 2:
            continue
        cv_wide, cv_narrow = _cv_percent(wide), _cv_percent(narrow)
        if abs(cv_wide - cv_narrow) > _MATTERS * cv_narrow:
            lie = "droplet lies" if n_there == 1 else "droplets lie"
            notes.append(
                f"{n_there} {lie} within 1 % of a limit of the {title}: the CV is {cv_narrow:.3g} % without, "
                f"and {cv_wide:.3g} % with. Set limits between groups of droplets, not through one."
            )
    return notes


def _moved(filters: Filters, name: str, low: float | None, high: float | None, by: float) -> Filters:
    """Widen the limits of one column by a share of themselves."""
    limits = (None if low is None else low * (1 - by), None if high is None else high * (1 + by))
    return replace(filters, ranges={**filters.ranges, name: limits})


def _cv_percent(droplets: Sequence[Droplet]) -> float:
    diameters = np.array([d.measures.diameter_px for d in droplets])
    return float(100 * diameters.std(ddof=1) / diameters.mean())
