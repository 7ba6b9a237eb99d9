"""One-dimensional mixtures of normal distributions, fitted by expectation-maximisation. No randomness."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, eq=False)
class Mixture:
    """Hold k components in order of their means, all (k,) float64; shares sum to 1."""

    shares: Floats
    means: Floats
    sds: Floats
    log_likelihood: float
    n: int

    @property
    def bic(self) -> float:
        """Bayesian information criterion, smaller is better: (3k - 1)*ln(n) - 2*ln(L)."""
        return (3 * len(self.means) - 1) * log(self.n) - 2 * self.log_likelihood

    def log_density(self, values: Floats) -> Floats:
        """Return ln(share * normal density) of each value in each component, (N, k)."""
        z = (values[:, None] - self.means) / self.sds
        return np.asarray(np.log(self.shares / self.sds) - 0.5 * z**2 - 0.5 * log(2 * pi))

    def posterior(self, values: Any) -> Floats:
        """Return the probability of each component for each value, (N, k); rows sum to 1."""
        logs = self.log_density(np.asarray(values, np.float64))
        return np.exp(logs - _log_sum(logs)[:, None])

    def separation(self) -> Floats:
        """Return Ashman's D between neighbouring components, (k - 1,); two modes need D > 2."""
        spread = np.sqrt((self.sds[1:] ** 2 + self.sds[:-1] ** 2) / 2)
        return np.asarray(np.diff(self.means) / spread)


def fit_mixture(values: Any, k: int, *, sd_min: float) -> Mixture | None:
    """Fit k normal components to values (N,); None where fewer than three values fall to each.

    sd_min: no component gets narrower, so that equal values do not make an infinite likelihood.
    """
    x = np.sort(np.asarray(values, np.float64).ravel())
    if not np.all(np.isfinite(x)) or sd_min <= 0:
        raise InputError("A mixture needs finite values and a positive smallest standard deviation.")
    if len(x) < _MEMBERS_MIN * k:
        return None
    fits = [_expectation_maximisation(x, start, sd_min) for start in _starts(x, k)]
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


def _expectation_maximisation(x: Floats, responsibility: Floats, sd_min: float) -> Mixture | None:
    previous = -np.inf
    fitted: Mixture | None = None
    for _ in range(_MAX_STEPS):
        members = responsibility.sum(axis=0)
        if members.min() < _MEMBERS_MIN:
            return None
        means = x @ responsibility / members
        variances = np.einsum("nk,nk->k", responsibility, (x[:, None] - means) ** 2) / members
        sds = np.sqrt(np.maximum(variances, sd_min**2))
        fitted = Mixture(members / len(x), means, sds, 0.0, len(x))
        logs = fitted.log_density(x)
        totals = _log_sum(logs)
        likelihood = float(totals.sum())
        responsibility = np.exp(logs - totals[:, None])
        if likelihood - previous < _GAIN_MIN:
            break
        previous = likelihood
    if fitted is None:
        return None
    order = np.argsort(fitted.means, kind="stable")
    return Mixture(fitted.shares[order], fitted.means[order], fitted.sds[order], likelihood, len(x))


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
