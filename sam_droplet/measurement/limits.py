"""How far the CV hangs on the exact place of a limit: the few droplets that lie there decide on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sam_droplet.measurement.droplets import Droplet, Filters, apply_filters
from sam_droplet.measurement.statistics import DiameterStatistics, diameter_statistics

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
        if name not in filters.ranges:
            continue
        wide, narrow = (
            _diameters(apply_filters(droplets, _moved(filters, name, by))) for by in (_MOVED, -_MOVED)
        )
        n_there = wide.n - narrow.n
        cv_wide, cv_narrow = wide.cv_percent, narrow.cv_percent
        if n_there == 0 or cv_wide is None or cv_narrow is None:
            continue
        if abs(cv_wide - cv_narrow) > _MATTERS * cv_narrow:
            lie = "droplet lies" if n_there == 1 else "droplets lie"
            notes.append(
                f"{n_there} {lie} within 1 % of a limit of the {title}: the CV is {cv_narrow:.3g} % without, "
                f"and {cv_wide:.3g} % with. Set limits between groups of droplets, not through one."
            )
    return notes


def _moved(filters: Filters, name: str, by: float) -> Filters:
    """Widen the limits of one column by a share of themselves."""
    low, high = filters.ranges[name]
    limits = (None if low is None else low * (1 - by), None if high is None else high * (1 + by))
    return replace(filters, ranges={**filters.ranges, name: limits})


def _diameters(droplets: Sequence[Droplet]) -> DiameterStatistics:
    return diameter_statistics([d.measures.diameter_px for d in droplets if d.included])
