"""Assays on droplets: digital PCR (copies per microlitre) and loading (beads or cells per droplet)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, inf, isinf, log, log1p
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from sam_droplet.errors import InputError
from sam_droplet.measurement.statistics import rounded, significant

Floats = NDArray[np.float64]
Interval = tuple[float, float]

UL_PER_PL = 1e-6
# Commercial readers reject a well with fewer accepted droplets.
DDPCR_DROPLETS_MIN = 10_000
# Outside of each end of an interval.
_TAIL = 0.025
# 1.92: half of the 95 % point of chi-square with one degree of freedom.
_LIKELIHOOD_DROP = float(stats.chi2.ppf(0.95, 1)) / 2
# Where no droplet or every droplet is positive, that approximation fails: the limit is the concentration at
# which this happens with a probability of 2.5 %, as in the exact interval.
_LIKELIHOOD_DROP_AT_ENDS = -log(_TAIL)
_EXPECTED_MIN = 5.0


def wilson_interval(k: int, n: int) -> Interval:
    """Return Wilson's score interval (1927) of a share k/n, at 95 %."""
    _check_counts(k, n)
    z = float(stats.norm.ppf(1 - _TAIL))
    p, shrink = k / n, 1 + z**2 / n
    middle = (p + z**2 / (2 * n)) / shrink
    half = z / shrink * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    return (0.0 if k == 0 else middle - half), (1.0 if k == n else middle + half)


def clopper_pearson_interval(k: int, n: int) -> Interval:
    """Return the exact interval of Clopper and Pearson (1934) of a share k/n, at 95 %."""
    _check_counts(k, n)
    low = 0.0 if k == 0 else float(stats.beta.ppf(_TAIL, k, n - k + 1))
    high = 1.0 if k == n else float(stats.beta.ppf(1 - _TAIL, k + 1, n - k))
    return low, high


def copies_per_droplet(share_positive: float) -> float:
    """Return Poisson's lambda = -ln(1 - p); infinite where every droplet is positive."""
    return inf if share_positive >= 1 else abs(log1p(-share_positive))  # abs: no -0.0


@dataclass(frozen=True)
class DdpcrEstimate:
    """Hold one digital PCR result; every interval is two-sided at 95 %.

    state: "measured", "none_positive" (only the upper limits mean something) or "saturated" (only the
    lower ones; the rest is infinite). copies_per_ul are of the undiluted sample; None without volumes.
    """

    n: int
    k: int
    state: str
    dilution: float
    lam: float
    lam_wilson: Interval
    lam_exact: Interval
    mean_volume_pl: float | None
    copies_per_ul: float | None
    copies_per_ul_wilson: Interval | None
    copies_per_ul_exact: Interval | None
    statement: str
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values; infinite limits become None."""
        return json_values(vars(self))


def ddpcr_estimate(k: int, n: int, volume_pl: float | None = None, *, dilution: float = 1.0) -> DdpcrEstimate:
    """Estimate copies per droplet and per µL from k positive droplets of n.

    volume_pl: mean of the droplets' volumes. dilution: how many times the sample was diluted.
    lambda = -ln(1 - k/n) and copies/µL = lambda/V*dilution; intervals of k/n are mapped the same way.
    """
    if not dilution > 0 or (volume_pl is not None and not volume_pl > 0):
        raise InputError("The dilution and the droplet volume must be positive numbers.")
    per_ul = None if volume_pl is None else dilution / (volume_pl * UL_PER_PL)
    lam = copies_per_droplet(k / n) if _check_counts(k, n) else 0.0
    wilson = _mapped(wilson_interval(k, n))
    exact = _mapped(clopper_pearson_interval(k, n))
    state = "none_positive" if k == 0 else "saturated" if k == n else "measured"
    return DdpcrEstimate(
        n=n,
        k=k,
        state=state,
        dilution=dilution,
        lam=lam,
        lam_wilson=wilson,
        lam_exact=exact,
        mean_volume_pl=volume_pl,
        copies_per_ul=None if per_ul is None else lam * per_ul,
        copies_per_ul_wilson=_scaled(wilson, per_ul),
        copies_per_ul_exact=_scaled(exact, per_ul),
        statement=_statement(state, lam, exact, per_ul),
        notes=_ddpcr_notes(n, volume_pl),
    )


@dataclass(frozen=True)
class PolydisperseEstimate:
    """Hold the concentration that uses every droplet's own volume, in copies/µL of the sample."""

    copies_per_ul: float
    copies_per_ul_interval: Interval

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values; infinite limits become None."""
        return json_values(vars(self))


def polydisperse_estimate(volumes_pl: Any, positive: Any, *, dilution: float = 1.0) -> PolydisperseEstimate:
    """Maximise sum(-c*V, negatives) + sum(ln(1 - exp(-c*V)), positives) over the concentration c.

    volumes_pl: (N,), of each droplet. positive: (N,) bool. The interval is where the log likelihood has
    dropped by 1.92. No positive gives 0 with an exact upper limit, no negative infinity with a lower one.
    """
    v = np.asarray(volumes_pl, np.float64).ravel() * UL_PER_PL
    is_positive = np.asarray(positive, bool).ravel()
    if len(v) != len(is_positive) or not len(v):
        raise InputError(f"Each droplet needs a volume and a verdict; {len(v)} and {len(is_positive)} came.")
    if not (np.all(np.isfinite(v)) and v.min() > 0):
        raise InputError("Droplet volumes must be positive finite numbers, in pL.")
    best = _most_likely(v, is_positive)
    low, high = _likelihood_interval(v, is_positive, best)
    return PolydisperseEstimate(best * dilution, (low * dilution, high * dilution))


def _log_likelihood(c: float, v: Floats, positive: NDArray[np.bool_]) -> float:
    return float(-c * v[~positive].sum() + np.log(-np.expm1(-c * v[positive])).sum())


def _most_likely(v: Floats, positive: NDArray[np.bool_]) -> float:
    if not positive.any():
        return 0.0
    if positive.all():
        return inf
    negative_volume, of_positive = float(v[~positive].sum()), v[positive]

    def slope(log_c: float) -> float:
        c = exp(log_c)
        return float((of_positive / np.expm1(np.minimum(c * of_positive, 700.0))).sum()) - negative_volume

    around = log(1 / float(v.mean()))
    return exp(optimize.brentq(slope, around - 40, around + 40, xtol=1e-12))


def _likelihood_interval(v: Floats, positive: NDArray[np.bool_], best: float) -> Interval:
    if best == 0.0:
        return 0.0, _LIKELIHOOD_DROP_AT_ENDS / float(v.sum())
    top = 0.0 if isinf(best) else _log_likelihood(best, v, positive)
    drop = _LIKELIHOOD_DROP_AT_ENDS if isinf(best) else _LIKELIHOOD_DROP

    def excess(log_c: float) -> float:
        return _log_likelihood(exp(log_c), v, positive) - top + drop

    around = log(1 / float(v.mean())) if isinf(best) else log(best)
    # Wide brackets, for volumes differ by factors of a million: one tiny droplet can hold a limit far off.
    low = exp(optimize.brentq(excess, around - 40, around + (40 if isinf(best) else 0), xtol=1e-12))
    return low, inf if isinf(best) else exp(optimize.brentq(excess, around, around + 40, xtol=1e-12))


@dataclass(frozen=True)
class LoadingEstimate:
    """Hold how many inclusions the droplets hold, against Poisson's law.

    lam_interval: exact (Garwood 1936), 95 %. lam_zero: -ln(share of empty droplets), None where none is
    empty. fano: variance (ddof 1)/mean, about 1 for Poisson, below for ordered, above for clumped loading.
    histogram: one row per count with observed and expected droplets. chi_square: None where fewer than
    three classes with five expected droplets remain.
    """

    n_droplets: int
    n_inclusions: int
    lam: float
    lam_interval: Interval
    lam_zero: float | None
    fano: float | None
    empty_share: float
    single_share: float
    multiple_share: float
    single_among_occupied: float | None
    single_among_occupied_expected: float | None
    histogram: tuple[dict[str, float], ...]
    chi_square: dict[str, float] | None
    lam_from_stock: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return json_values(vars(self))


def loading_estimate(
    droplets_by_count: Mapping[int, int], *, stock_per_ml: float | None = None, volume_pl: float | None = None
) -> LoadingEstimate:
    """Describe the loading of droplets given how many of them hold 0, 1, 2... inclusions.

    stock_per_ml with volume_pl (mean droplet volume) adds the lambda that the stock predicts.
    """
    observed = _observed(droplets_by_count)
    n = int(observed.sum())
    counts = np.arange(len(observed))
    total = int(counts @ observed)
    lam = total / n
    variance = float(observed @ (counts - lam) ** 2) / (n - 1) if n > 1 else None
    occupied = n - int(observed[0])
    single = int(observed[1]) if len(observed) > 1 else 0
    return LoadingEstimate(
        n_droplets=n,
        n_inclusions=total,
        lam=lam,
        lam_interval=poisson_mean_interval(total, n),
        lam_zero=copies_per_droplet(occupied / n) if occupied < n else None,
        fano=variance / lam if variance is not None and lam > 0 else None,
        empty_share=(n - occupied) / n,
        single_share=single / n,
        multiple_share=(occupied - single) / n,
        single_among_occupied=single / occupied if occupied else None,
        single_among_occupied_expected=lam / np.expm1(lam) if lam > 0 else None,
        histogram=tuple(
            {"count": int(c), "observed": int(observed[c]), "expected": float(e)}
            for c, e in zip(counts, n * stats.poisson.pmf(counts, lam), strict=True)
        ),
        chi_square=poisson_chi_square(observed, lam),
        lam_from_stock=None
        if stock_per_ml is None or volume_pl is None
        else stock_lambda(stock_per_ml, volume_pl),
    )


def poisson_mean_interval(total: int, n: int) -> Interval:
    """Return the exact 95 % interval of a Poisson mean: ``total`` events in n droplets (Garwood 1936)."""
    low = 0.0 if total == 0 else float(stats.chi2.ppf(_TAIL, 2 * total)) / (2 * n)
    return low, float(stats.chi2.ppf(1 - _TAIL, 2 * total + 2)) / (2 * n)


def poisson_chi_square(observed: Any, lam: float) -> dict[str, float] | None:
    """Test counts (droplets holding 0, 1, 2...) against Poisson's law of mean ``lam``.

    Counts are pooled from both ends until five droplets are expected in each class; the last class is
    open. One degree of freedom is spent on lambda. None where fewer than three classes remain.
    """
    seen = np.asarray(observed, np.float64)
    n = float(seen.sum())
    expected = n * stats.poisson.pmf(np.arange(len(seen)), lam)
    expected[-1] += n - expected.sum()
    classes = _pooled(list(zip(seen.tolist(), expected.tolist(), strict=True)))
    classes = _pooled(classes[::-1])[::-1]
    if len(classes) < 3:
        return None
    statistic = sum((o - e) ** 2 / e for o, e in classes)
    dof = len(classes) - 2
    p_value = float(stats.chi2.sf(statistic, dof))
    return {"statistic": statistic, "dof": dof, "n_classes": len(classes), "p_value": p_value}


def stock_lambda(stock_per_ml: float, volume_pl: float) -> float:
    """Return the inclusions per droplet that a stock predicts: c[1/mL]*V[pL]*1e-9."""
    if stock_per_ml < 0 or volume_pl <= 0:
        raise InputError("The stock concentration and the droplet volume must be positive numbers.")
    return stock_per_ml * volume_pl * 1e-9


def json_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping as JSON values: seven digits, lists for tuples, None for infinity."""

    def convert(value: Any) -> Any:
        if isinstance(value, float):
            return rounded(float(value)) if abs(value) < inf else None
        if isinstance(value, (tuple, list)):
            return [convert(v) for v in value]
        if isinstance(value, Mapping):
            return {str(k): convert(v) for k, v in value.items()}
        return value

    return {name: convert(value) for name, value in values.items()}


def _pooled(classes: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Merge (observed, expected) classes from the end until the last one expects enough."""
    merged = list(classes)
    while len(merged) > 1 and merged[-1][1] < _EXPECTED_MIN:
        o, e = merged.pop()
        merged[-1] = (merged[-1][0] + o, merged[-1][1] + e)
    return merged


def _observed(droplets_by_count: Mapping[int, int]) -> NDArray[np.int64]:
    if not droplets_by_count or any(c < 0 or n < 0 for c, n in droplets_by_count.items()):
        raise InputError("Loading needs the numbers of droplets with 0, 1, 2... inclusions, none negative.")
    observed = np.zeros(max(max(droplets_by_count), 1) + 1, np.int64)
    for count, n in droplets_by_count.items():
        observed[count] = n
    if not observed.sum():
        raise InputError("Loading needs at least one droplet.")
    return observed


def _check_counts(k: int, n: int) -> bool:
    if n < 1 or not 0 <= k <= n:
        raise InputError(f"Digital PCR needs 0 <= positives <= droplets and one droplet, not {k} of {n}.")
    return True


def _mapped(share: Interval) -> Interval:
    return copies_per_droplet(share[0]), copies_per_droplet(share[1])


def _scaled(interval: Interval, factor: float | None) -> Interval | None:
    return None if factor is None else (interval[0] * factor, interval[1] * factor)


def _statement(state: str, lam: float, exact: Interval, per_ul: float | None) -> str:
    unit = "copies per droplet" if per_ul is None else "copies/µL"
    most_likely, low, high = (significant(value * (per_ul or 1.0), 4) for value in (lam, *exact))
    if state == "none_positive":
        return f"No droplet is positive: below {high} {unit} (exact 95 % limit)."
    if state == "saturated":
        return f"Every droplet is positive: saturated, above {low} {unit} (exact 95 % limit)."
    return f"{most_likely} {unit} (exact 95 % interval {low} to {high})."


def _ddpcr_notes(n: int, volume_pl: float | None) -> tuple[str, ...]:
    notes = []
    if n < DDPCR_DROPLETS_MIN:
        notes.append(f"{n} droplets; commercial readers ask for {DDPCR_DROPLETS_MIN} per well.")
    if volume_pl is None:
        notes.append("Without a calibration there are no volumes and so no copies per microlitre.")
    return tuple(notes)
