"""One-dimensional mixtures of normal distributions, fitted by expectation-maximisation. No randomness.

A mixture may have an even background, which takes up outliers (Banfield and Raftery 1993).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_droplet.errors import InputError

Floats = NDArray[np.float64]

_MAX_STEPS = 500
# Steps that gain less log likelihood than this cannot change a choice that needs a gain of 10 in BIC.
_GAIN_MIN = 1e-4
# A component with fewer members than this describes outliers, not a group.
_MEMBERS_MIN = 3.0
# With a background, values farther than this from the middle of their start, in robust SDs, begin in it.
_OUTLIER_SDS = 4.0
_SD_PER_MAD = 1.4826
_DIP_STEPS = 64


@dataclass(frozen=True, eq=False)
class Mixture:
    """Hold k components in order of their means, all (k,) float64; shares and background_share sum to 1.

    background_density: of the even background, which spans all values.
    """

    shares: Floats
    means: Floats
    sds: Floats
    log_likelihood: float
    n: int
    background_share: float = 0.0
    background_density: float = 0.0

    @property
    def bic(self) -> float:
        """Bayesian information criterion, smaller is better: parameters*ln(n) - 2*ln(L)."""
        parameters = 3 * len(self.means) - (0 if self.background_density else 1)
        return parameters * log(self.n) - 2 * self.log_likelihood

    def log_density(self, values: Floats) -> Floats:
        """Return ln(share * normal density) of each value in each component, (N, k)."""
        z = (values[:, None] - self.means) / self.sds
        return np.asarray(np.log(self.shares / self.sds) - 0.5 * z**2 - 0.5 * log(2 * pi))

    def posterior(self, values: Any) -> Floats:
        """Return the probability of each component for each value, (N, k); the rest to 1 is background."""
        logs = self.log_density(np.asarray(values, np.float64))
        return np.exp(logs - self.log_total(logs)[:, None])

    def density(self, values: Any) -> Floats:
        """Return the density of the whole mixture at each value, (N,)."""
        return np.exp(self.log_total(self.log_density(np.asarray(values, np.float64))))

    def dips(self) -> Floats:
        """Return the lowest density between neighbouring means over that at the lower of them, (k - 1,)."""
        between = np.linspace(self.means[:-1], self.means[1:], _DIP_STEPS)  # (steps, k - 1)
        density = self.density(between.ravel()).reshape(between.shape)
        return np.asarray(density.min(axis=0) / np.minimum(density[0], density[-1]))

    def log_total(self, logs: Floats) -> Floats:
        """Return ln of the sum over components and background of ``log_density``, (N,)."""
        total = _log_sum(logs)
        background = self.background_share * self.background_density
        return np.logaddexp(total, log(background)) if background > 0 else total

    def separation(self) -> Floats:
        """Return Ashman's D between neighbouring components, (k - 1,); two modes need D > 2."""
        spread = np.sqrt((self.sds[1:] ** 2 + self.sds[:-1] ** 2) / 2)
        return np.asarray(np.diff(self.means) / spread)


def fit_mixture(values: Any, k: int, *, sd_min: float, background: bool = False) -> Mixture | None:
    """Fit k normal components to values (N,); None where fewer than three values fall to each.

    sd_min: no component gets narrower, so that equal values do not make an infinite likelihood.
    background: adds an even background over all values; None where all are equal.
    """
    x = np.sort(np.asarray(values, np.float64).ravel())
    if not np.all(np.isfinite(x)) or sd_min <= 0:
        raise InputError("A mixture needs finite values and a positive smallest standard deviation.")
    if len(x) < _MEMBERS_MIN * k:
        return None
    density = 0.0
    starts = _starts(x, k)
    if background:
        if x[0] == x[-1]:
            return None
        density = 1 / float(x[-1] - x[0])
        starts = [_without_outliers(x, start, sd_min) for start in starts]
    # Diameters come from whole numbers of pixels, so many are equal: each is computed once.
    values, first, counts = np.unique(x, return_index=True, return_counts=True)
    shared = [np.add.reduceat(start, first, axis=0) / counts[:, None] for start in starts]
    fits = [_expectation_maximisation(values, counts, start, sd_min, density) for start in shared]
    found = [fit for fit in fits if fit is not None]
    return max(found, key=lambda fit: fit.log_likelihood, default=None)


def _starts(x: Floats, k: int) -> list[Floats]:
    """Return first responsibilities, (N, k) each: cut by rank, by value, and at the widest gaps."""
    n = len(x)
    by_rank = np.arange(n) * k // n
    edges = np.linspace(x[0], x[-1], k + 1)[1:-1]
    by_value = np.searchsorted(edges, x, side="right")
    # Gaps inside the outermost values only: a single outlier is no group.
    margin = min(int(_MEMBERS_MIN), max(n // (2 * k), 1))
    gaps = np.diff(x)[margin - 1 : n - margin]
    widest = np.sort(np.argsort(gaps, kind="stable")[::-1][: k - 1]) + margin
    by_gap = np.searchsorted(widest, np.arange(n), side="right")
    return [np.eye(k)[labels] for labels in (by_rank, by_value, by_gap)]


def _without_outliers(x: Floats, start: Floats, sd_min: float) -> Floats:
    """Leave to the background what lies far from the median of its component."""
    kept = start.copy()
    for labels in kept.T:  # views: (N,) each
        members = x[labels > 0]
        if not len(members):
            continue
        middle = float(np.median(members))
        sd = max(_SD_PER_MAD * float(np.median(np.abs(members - middle))), sd_min)
        labels[np.abs(x - middle) > _OUTLIER_SDS * sd] = 0.0
    return kept


def _expectation_maximisation(
    x: Floats, counts: NDArray[np.intp], responsibility: Floats, sd_min: float, background_density: float
) -> Mixture | None:
    """Fit from first responsibilities (N, k) of values (N,) that occur so many times each."""
    n, previous = int(counts.sum()), -np.inf
    fitted: Mixture | None = None
    for _ in range(_MAX_STEPS):
        weights = responsibility * counts[:, None]
        members = weights.sum(axis=0)
        if members.min() < _MEMBERS_MIN:
            return None
        means = x @ weights / members
        variances = np.einsum("nk,nk->k", weights, (x[:, None] - means) ** 2) / members
        sds = np.sqrt(np.maximum(variances, sd_min**2))
        outside = max(0.0, 1 - float(members.sum()) / n) if background_density else 0.0
        fitted = Mixture(members / n, means, sds, 0.0, n, outside, background_density)
        logs = fitted.log_density(x)
        totals = fitted.log_total(logs)
        likelihood = float(counts @ totals)
        responsibility = np.exp(logs - totals[:, None])
        if likelihood - previous < _GAIN_MIN:
            break
        previous = likelihood
    if fitted is None:
        return None
    order = np.argsort(fitted.means, kind="stable")
    return replace(
        fitted,
        shares=fitted.shares[order],
        means=fitted.means[order],
        sds=fitted.sds[order],
        log_likelihood=likelihood,
    )


def crossing(mixture: Mixture) -> float:
    """Return where the two components of a mixture are equally likely, between their means.

    The middle of the means where they do not cross there.
    """
    (low_share, high_share), (m1, m2), (s1, s2) = (
        tuple(float(v) for v in values) for values in (mixture.shares, mixture.means, mixture.sds)
    )
    a = 1 / s2**2 - 1 / s1**2
    b = 2 * (m1 / s1**2 - m2 / s2**2)
    c = m2**2 / s2**2 - m1**2 / s1**2 + 2 * log(low_share * s2 / (high_share * s1))
    roots = [-c / b] if a == 0 else _real_roots(a, b, c)
    between = [root for root in roots if m1 <= root <= m2]
    return between[0] if between else (m1 + m2) / 2


def _real_roots(a: float, b: float, c: float) -> list[float]:
    discriminant = b * b - 4 * a * c
    if discriminant < 0:
        return []
    # The stable form: no difference of nearly equal numbers when a is tiny.
    q = -(b + (sqrt(discriminant) if b >= 0 else -sqrt(discriminant))) / 2
    return [q / a] + ([c / q] if q else [])


def _log_sum(logs: Floats) -> Floats:
    top = logs.max(axis=1)
    return np.asarray(top + np.log(np.exp(logs - top[:, None]).sum(axis=1)))
