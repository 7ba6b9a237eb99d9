"""Groups of droplets: by size (main droplets and satellites) and by intensity (high and low)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_droplet.errors import InputError
from sam_droplet.measurement.droplets import Droplet
from sam_droplet.measurement.mixture import Mixture, fit_mixture
from sam_droplet.measurement.statistics import (
    DiameterStatistics,
    diameter_statistics,
    flattened_cubes,
    rounded,
)
from sam_droplet.measurement.summary import describe
from sam_droplet.measurement.thresholds import otsu_threshold

GROUPS_MAX = 4
# Strong evidence on the scale of Kass and Raftery (1995).
_BIC_GAIN_MIN = 10.0
# Ashman's D: below 2 two components share one peak.
_SEPARATION_MIN = 2.0
# Between two peaks that one sees in a histogram, the density falls at least to this share of the lower one.
_DIP_MAX = 0.8
# Outliers are told from groups only where these are narrow (a CV of 10 %, the widest that is called
# monodisperse), for a broad group has tails of its own, and only while they are few.
_NARROW_LOG_SD = 0.1
_OUTLIER_SHARE_MAX = 0.25
OUTLIER = "outlier"
# A group's relative width is at least 1 %, about what counting pixels adds.
_LOG_SD_MIN = 0.01


@dataclass(frozen=True)
class Group:
    """Describe one group of sizes; shares are in percent of the included droplets."""

    name: str
    share_by_number_percent: float
    share_by_volume_percent: float
    diameter: DiameterStatistics


@dataclass(frozen=True)
class Component:
    """Hold one log-normal distribution of a mixture: its share, its median, the SD of the logarithm."""

    share: float
    median: float
    log_sd: float


@dataclass(frozen=True)
class SizeGroups:
    """Hold the groups from small to large, last the outliers where there are any, and each droplet's group.

    names_by_id: group name by droplet id. suggested: the number of groups that the data support.
    bic: by number of groups tried. "main" holds the most volume; smaller groups are "satellite"
    (numbered from the largest where several), larger ones "large". "outlier" is no group: few droplets
    of many sizes that lie apart from narrow groups.
    components: the log-normal distributions that were fitted, from small to large.
    """

    groups: tuple[Group, ...]
    names_by_id: dict[int, str]
    suggested: int
    bic: dict[int, float]
    components: tuple[Component, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the groups as JSON values, diameters in the unit of the input."""
        return {
            "suggested": self.suggested,
            "n_outliers": sum(g.diameter.n for g in self.groups if g.name == OUTLIER),
            "bic": {str(k): rounded(v) for k, v in self.bic.items()},
            "components": [{n: rounded(v) for n, v in vars(c).items()} for c in self.components],
            "groups": [
                {
                    "name": g.name,
                    "n": g.diameter.n,
                    "share_by_number_percent": rounded(g.share_by_number_percent),
                    "share_by_volume_percent": rounded(g.share_by_volume_percent),
                    "diameter": {name: rounded(value) for name, value in vars(g.diameter).items()},
                }
                for g in self.groups
            ],
        }


def size_groups(
    droplets: Sequence[Droplet],
    *,
    n_groups: int | None = None,
    scale: float = 1.0,
    chamber_height: float | None = None,
) -> SizeGroups:
    """Split the included droplets by a mixture of log-normal diameters.

    n_groups: how many, 1 to 4; without it, as many as the data support: each further group must lower
    the BIC by 10 and every two neighbours must be separate peaks (Ashman's D > 2, and a dip between them).
    scale: multiplies the diameters, so um_per_px gives groups in µm. chamber_height: in the same unit, for
    the shares by volume of droplets that are flattened.
    """
    if n_groups is not None and not 1 <= n_groups <= GROUPS_MAX:
        raise InputError(f"The number of groups must be 1 to {GROUPS_MAX}, not {n_groups}.")
    included = [d for d in droplets if d.included]
    if not included:
        return SizeGroups((), {}, 0, {})
    diameters = np.array([d.measures.diameter_px for d in included]) * scale
    fits = _fits(np.log(diameters))
    best = fits.best()
    suggested = 1 if best is None else len(best.means)
    chosen = best if n_groups is None else fits.of(n_groups)
    if n_groups is not None and chosen is None and n_groups > 1:
        raise InputError(f"{len(included)} droplets cannot be split into {n_groups} groups; try fewer.")
    labels = np.zeros(len(included), int) if chosen is None else _labels(chosen, np.log(diameters))
    volumes = flattened_cubes(diameters, chamber_height)
    n_components = 1 if chosen is None else len(chosen.means)
    names, groups = _described(diameters, volumes, labels, n_components)
    by_id = {d.id: names[label] for d, label in zip(included, labels, strict=True)}
    bic = {k: fit.bic for k in fits.plain if (fit := fits.of(k)) is not None}
    return SizeGroups(groups, by_id, suggested, bic, _components(chosen))


def _components(fit: Mixture | None) -> tuple[Component, ...]:
    if fit is None:
        return ()
    return tuple(
        Component(float(share), exp(float(mean)), float(sd))
        for share, mean, sd in zip(fit.shares, fit.means, fit.sds, strict=True)
    )


@dataclass(frozen=True, eq=False)
class _Fits:
    """Hold the fits by number of groups: without outliers and, where these may be told apart, with some.

    even_bic: BIC of diameters that are spread evenly, without any peak.
    """

    plain: dict[int, Mixture]
    apart: dict[int, Mixture]
    even_bic: float

    def best(self) -> Mixture | None:
        """Return the fit with as many groups as the data support."""
        return _apart_if_better(_best(self.plain, self.even_bic), _best(self.apart, self.even_bic))

    def of(self, k: int) -> Mixture | None:
        """Return the fit of k groups, beside outliers only where there is strong evidence of some."""
        return _apart_if_better(self.plain.get(k), self.apart.get(k))


def _fits(log_diameters: NDArray[np.float64]) -> _Fits:
    plain, apart = {}, {}
    for k in range(1, GROUPS_MAX + 1):
        fit = fit_mixture(log_diameters, k, sd_min=_LOG_SD_MIN)
        if fit is not None:
            plain[k] = fit
        fit = fit_mixture(log_diameters, k, sd_min=_LOG_SD_MIN, background=True)
        if fit is not None and fit.sds.max() <= _NARROW_LOG_SD and fit.background_share <= _OUTLIER_SHARE_MAX:
            apart[k] = fit
    return _Fits(plain, apart, _even_bic(log_diameters))


def _even_bic(log_diameters: NDArray[np.float64]) -> float:
    """Return the BIC of an even spread from the smallest to the largest, of logarithms or of diameters."""
    diameters = np.exp(log_diameters)
    ranges = float(np.ptp(log_diameters)), float(np.ptp(diameters))
    if min(ranges) <= 0:
        return np.inf  # all are equal: one peak
    n = len(diameters)
    in_logs = -n * log(ranges[0])
    in_diameters = float(log_diameters.sum()) - n * log(ranges[1])
    return 2 * log(n) - 2 * max(in_logs, in_diameters)


def _best(fits: dict[int, Mixture], even_bic: float) -> Mixture | None:
    """Return the fit of most groups that are separate peaks, with strong evidence of each.

    Several peaks must tell more than an even spread does, which any row of peaks can imitate.
    """
    best = None
    for fit in fits.values():
        if len(fit.means) > 1 and fit.bic >= even_bic:
            continue
        is_separate = np.all(fit.separation() > _SEPARATION_MIN) and np.all(fit.dips() < _DIP_MAX)
        if is_separate and (best is None or _is_better(fit, best)):
            best = fit
    return best


def _apart_if_better(plain: Mixture | None, apart: Mixture | None) -> Mixture | None:
    return apart if apart is not None and plain is not None and _is_better(apart, plain) else plain


def _is_better(fit: Mixture, other: Mixture) -> bool:
    return fit.bic < other.bic - _BIC_GAIN_MIN


def _labels(fit: Mixture, log_diameters: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the likeliest component of each droplet, (N,); one more than the last for outliers."""
    posterior = fit.posterior(log_diameters)
    background = 1 - posterior.sum(axis=1)
    return np.asarray(np.column_stack([posterior, background]).argmax(axis=1))


def _described(
    diameters: NDArray[np.float64],
    volumes: NDArray[np.float64],
    labels: NDArray[np.intp],
    n_components: int,
) -> tuple[dict[int, str], tuple[Group, ...]]:
    """Return the name of each label, and the groups from small to large, then the outliers."""
    grouped = sorted(
        set(labels[labels < n_components].tolist()),
        key=lambda label: float(diameters[labels == label].mean()),
    )
    volume_of = {label: float(volumes[labels == label].sum()) for label in set(labels.tolist())}
    main = grouped.index(max(grouped, key=lambda label: volume_of[label]))
    names = {
        label: _name(position - main, main, len(grouped) - 1 - main) for position, label in enumerate(grouped)
    }
    if np.any(labels == n_components):
        names[n_components] = OUTLIER
    groups = tuple(
        Group(
            names[label],
            100 * float(np.mean(labels == label)),
            100 * volume_of[label] / float(volumes.sum()),
            diameter_statistics(diameters[labels == label]),
        )
        for label in names
    )
    return names, groups


def _name(steps_from_main: int, n_smaller: int, n_larger: int) -> str:
    if steps_from_main == 0:
        return "main"
    name, n = ("satellite", n_smaller) if steps_from_main < 0 else ("large", n_larger)
    return name if n == 1 else f"{name}_{abs(steps_from_main)}"


def intensity_classes(
    droplets: Sequence[Droplet], *, threshold: float | None = None, column: str = "mean_intensity"
) -> dict[str, Any]:
    """Split the included droplets into high (at or above the threshold) and low intensity.

    threshold: by Otsu's method where None. Returns threshold, whether it was proposed, ids and a
    description of both classes; intensities are raw pixel values.
    """
    included = [d for d in droplets if d.included]
    found = [(d, d.measures.column(column)) for d in included]
    values = np.array([v for _, v in found if v is not None])
    if threshold is None and len(values):
        threshold = otsu_threshold(values)
    result: dict[str, Any] = {"column": column, "threshold": threshold}
    for name in ("high", "low"):
        members = [
            (d, v)
            for d, v in found
            if v is not None and threshold is not None and (v >= threshold) == (name == "high")
        ]
        result[name] = {
            "ids": [d.id for d, _ in members],
            "n": len(members),
            "intensity": describe(np.array([v for _, v in members])),
            "diameter_px": describe(np.array([d.measures.diameter_px for d, _ in members])),
        }
    return result
