"""Thresholds between dark and bright droplets: Otsu's, a two-component mixture's, and which to propose."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_droplet.errors import InputError
from sam_droplet.measurement.mixture import Mixture, crossing, fit_mixture

Floats = NDArray[np.float64]

# Ashman's D of two separate peaks, and the BIC difference that is strong evidence.
_SEPARATION_MIN = 2.0
_BIC_GAIN_MIN = 10.0
# Where there is one population only, what lies this many of its SDs above its median is bright.
_OUTLIER_SDS = 5.0


@dataclass(frozen=True)
class ThresholdProposal:
    """Hold a proposed cut; values at or above it are bright.

    method: "valley", the clear gap nearest to the mixture's cut on the way to Otsu's, or the mixture's cut
    where there is no gap; or "outlier", five robust SDs above the median where the values do not form two
    clear groups (plain SDs where the darker half is all the same).
    rain_low, rain_high: the band in which the methods disagree; what lies inside is uncertain. With
    "outlier" it reaches up to Otsu's cut where that lies higher.
    separation: Ashman's D of the two components, None where they could not be fitted.
    """

    value: float
    method: str
    otsu: float
    mixture: float | None
    rain_low: float
    rain_high: float
    separation: float | None
    note: str | None = None


def propose_threshold(values: Any) -> ThresholdProposal:
    """Propose a cut between dark and bright values (N,); InputError for none at all."""
    x = np.sort(np.asarray(values, np.float64).ravel())
    otsu = otsu_threshold(x)
    outlier = _outlier_cut(x)
    fitted = _two_populations(x)
    if fitted is None:
        return ThresholdProposal(
            outlier, "outlier", otsu, None, outlier, max(outlier, otsu), None,
            "The amplitudes do not form two clear groups, so droplets brighter than the dark ones by five "
            "of their standard deviations are called positive; check the threshold.",
        )  # fmt: skip
    mixture = crossing(fitted)
    low, high = min(otsu, mixture), max(otsu, mixture)
    return ThresholdProposal(
        _valley(x, fitted, mixture, otsu), "valley", otsu, mixture, low, high, float(fitted.separation()[0])
    )


def otsu_threshold(values: Any) -> float:
    """Return the cut that maximises the variance between the two classes (Otsu 1979).

    Exact over the sorted values, without a histogram; the middle of the gap between the classes.
    Values at or above it are the bright class. Equal values give just above them: all dark.
    """
    x = np.sort(np.asarray(values, np.float64).ravel())
    if not len(x) or not np.all(np.isfinite(x)):
        raise InputError("A threshold needs at least one droplet, and finite values only.")
    if x[0] == x[-1]:
        return float(np.nextafter(x[-1], np.inf))
    n = len(x)
    below = np.arange(1, n)
    sums = np.cumsum(x)
    mean_below, mean_above = sums[:-1] / below, (sums[-1] - sums[:-1]) / (n - below)
    between = np.where(np.diff(x) > 0, below * (n - below) * (mean_above - mean_below) ** 2, -1.0)
    best = int(np.argmax(between))
    return _middle(x[best], x[best + 1])


def _two_populations(x: Floats) -> Mixture | None:
    """Return the two-component fit where it is clearly better than one and shows two peaks."""
    sd_min = max(float(x.std()) * 0.01, 1e-9 * max(1.0, float(np.abs(x).max())))
    one, two = (fit_mixture(x, k, sd_min=sd_min) for k in (1, 2))
    if one is None or two is None:
        return None
    # Uneven light spreads one population evenly; two normals fit that better than one does.
    even = 2 * log(len(x)) + 2 * len(x) * log(max(float(x[-1] - x[0]), sd_min))
    if two.bic > min(one.bic, even) - _BIC_GAIN_MIN:
        return None
    return two if two.separation()[0] > _SEPARATION_MIN else None


def _outlier_cut(x: Floats) -> float:
    """Return the median plus five SDs, the SD from the lower half, which bright values cannot widen.

    Where the camera cuts off black, the lower half is all the same; then the SD is that of all values.
    """
    if x[0] == x[-1]:
        return float(np.nextafter(x[-1], np.inf))
    median, low = np.percentile(x, (50, 15.87))
    sd = float(median - low) or float(x.std())
    return float(median) + _OUTLIER_SDS * sd


def _valley(x: Floats, fitted: Mixture, mixture: float, otsu: float) -> float:
    """Return the middle of the clear gap nearest to the mixture's cut, or that cut where there is none.

    A gap is clear if it is at least one SD of the dark droplets wide. Few bright droplets lie far apart
    from each other, so the widest gap is often among them; the nearest is the one beside the dark ones.
    """
    low, high = min(otsu, mixture), max(otsu, mixture)
    left = max(int(np.searchsorted(x, low)) - 1, 0)
    right = min(int(np.searchsorted(x, high)) + 1, len(x))
    near = x[left:right]
    gaps = np.diff(near)
    clear = np.flatnonzero(gaps >= float(fitted.sds[0]))
    if not len(clear):
        return mixture
    away = np.maximum(0.0, np.maximum(near[clear] - mixture, mixture - near[clear + 1]))
    best = int(clear[int(np.argmin(away))])
    return _middle(near[best], near[best + 1])


def _middle(low: float, high: float) -> float:
    """Return the middle of two values, never rounded down onto the lower one."""
    middle = float(low + (high - low) / 2)
    return middle if middle > low else float(high)
