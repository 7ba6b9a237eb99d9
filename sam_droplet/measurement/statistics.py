"""Statistics of droplet diameters: number and volume weighting, intervals, edge-bias weights.

Every function takes plain diameters in one unit and answers in it; docs/measurements.md has the sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_droplet.errors import InputError

Floats = NDArray[np.float64]

# Below this many droplets the volume-weighted 90th percentile rests on a handful of large ones.
DV90_DROPLETS_MIN = 300
# Resampled values that one bootstrap may draw: keeps it below a second whatever the image.
_BOOTSTRAP_DRAWS_MAX = 10_000_000
_BOOTSTRAP_CHUNK = 2_000_000
_Z_95 = 1.959963984540054


@dataclass(frozen=True)
class DiameterStatistics:
    """Describe a sample of diameters, in the unit of the input; None where n is too small.

    sd: ddof 1. cv_se_percent: standard error of the CV, CV/sqrt(2n). pdi: (sd/mean)^2, as in light
    scattering. dn*, dv*: percentiles by number and by volume. d_32, d_43, d_30: Sauter, De Brouckere
    and volume mean. span: (dn90 - dn10)/dn50.
    """

    n: int
    mean: float | None = None
    sd: float | None = None
    cv_percent: float | None = None
    cv_se_percent: float | None = None
    pdi: float | None = None
    median: float | None = None
    min: float | None = None
    max: float | None = None
    dn10: float | None = None
    dn50: float | None = None
    dn90: float | None = None
    span: float | None = None
    dv10: float | None = None
    dv50: float | None = None
    dv90: float | None = None
    d_32: float | None = None
    d_43: float | None = None
    d_30: float | None = None


def diameter_statistics(diameters: Any, weights: Any = None) -> DiameterStatistics:
    """Describe diameters (N,), each counted ``weights`` times (N,) where given."""
    d, w = _checked(diameters, weights)
    if not len(d):
        return DiameterStatistics(0)
    n, total = len(d), float(w.sum())
    # From the smallest on: equal diameters then have exactly their own mean, and no spread but 0.
    mean = float(d[0]) + float(w @ (d - d[0])) / total
    # Weights scale out: equal ones of any size give the unweighted SD with ddof 1.
    sd = sqrt(float(w @ (d - mean) ** 2) / total * n / (n - 1)) if n > 1 else None
    cv = None if sd is None else 100 * sd / mean
    moments = {k: float(w @ d**k) for k in (2, 3, 4)}
    dn10, dn50, dn90 = (float(v) for v in number_percentiles(d, (10, 50, 90), w))
    dv10, dv50, dv90 = (float(v) for v in volume_percentiles(d, (10, 50, 90), w))
    return DiameterStatistics(
        n=n,
        mean=mean,
        sd=sd,
        cv_percent=cv,
        cv_se_percent=None if cv is None else cv / sqrt(2 * n),
        pdi=None if sd is None else (sd / mean) ** 2,
        median=dn50,
        min=float(d[0]),
        max=float(d[-1]),
        dn10=dn10,
        dn50=dn50,
        dn90=dn90,
        span=(dn90 - dn10) / dn50,
        dv10=dv10,
        dv50=dv50,
        dv90=dv90,
        d_32=moments[3] / moments[2],
        d_43=moments[4] / moments[3],
        d_30=(moments[3] / total) ** (1 / 3),
    )


def number_percentiles(diameters: Any, percents: Any, weights: Any = None) -> Floats:
    """Return percentiles by number; without weights numpy's linear interpolation."""
    d, w = _checked(diameters, weights)
    middle = np.cumsum(w) - w / 2
    span = middle[-1] - middle[0]
    position = (middle - middle[0]) / span if span > 0 else np.zeros(len(d))
    return np.asarray(np.interp(np.asarray(percents) / 100, position, d))


def volume_percentiles(diameters: Any, percents: Any, weights: Any = None) -> Floats:
    """Return percentiles by volume: linear between the middles of the cumulative volume.

    Each droplet sits at x = (C - v/2)/V with C the volume up to and with it, V the total.
    """
    d, w = _checked(diameters, weights)
    v = w * d**3
    position = (np.cumsum(v) - v / 2) / v.sum()
    return np.asarray(np.interp(np.asarray(percents) / 100, position, d))


def volumes_pl(diameters_um: Any, chamber_height_um: float | None = None) -> Floats:
    """Return the volumes in picolitres of droplets of these diameters, as seen from above.

    A sphere has pi/6*d^3/1000 with d in micrometres. Between plates closer than that it is taken for a
    sphere that they cut off flat: with h the height, pi/12*(2d^3 - (d - h)^2*(2d + h))/1000.
    """
    return pi / 6000 * flattened_cubes(np.asarray(diameters_um, np.float64), chamber_height_um)


def flattened_cubes(diameters: Floats, height: float | None) -> Floats:
    """Return d^3, less what plates at this distance cut off a sphere, in units of pi/6; same shape."""
    return _flattened(diameters**3, diameters, height)


def _flattened(cubes: Floats, diameters: Floats, height: float | None) -> Floats:
    if height is None:
        return cubes
    beyond = np.maximum(diameters - height, 0.0)
    return np.asarray(cubes - beyond**2 * (2 * diameters + height) / 2)


def edge_bias_weights(feret_x_px: Any, feret_y_px: Any, image_wh: tuple[int, int]) -> Floats:
    """Return Miles-Lantuejoul weights (N,) of droplets that do not touch the image border.

    w = W*H / ((W - Fx)*(H - Fy)): the larger a droplet, the less often it lies whole in the image.
    """
    width, height = image_wh
    fx, fy = np.asarray(feret_x_px, np.float64), np.asarray(feret_y_px, np.float64)
    if np.any(fx >= width) or np.any(fy >= height):
        raise InputError("Edge-bias weights need droplets smaller than the image; exclude those at the edge.")
    return np.asarray(width * height / ((width - fx) * (height - fy)))


def recommended_n(cv_percent: float) -> int:
    """Return how many droplets a report of this CV needs.

    Enough for the mean to lie within 1 % at 95 % confidence, (1.96*CV/1 %)^2, and for the CV's standard
    error to be a twentieth of the CV, which takes 200.
    """
    return max(200, ceil((_Z_95 * cv_percent) ** 2))


def bootstrap_intervals(
    diameters: Any,
    *,
    seed: int = 0,
    resamples: int = 1000,
    chamber_height: float | None = None,
) -> dict[str, tuple[float, float]]:
    """Return 95 % percentile intervals of mean, sd, cv_percent, the percentiles, the moments and mean_cube.

    mean_cube times pi/6 is the mean volume, between plates at the distance chamber_height where it is given,
    in the unit of the diameters.
    Seeded, so the same droplets give the same interval. Above 10,000 droplets fewer resamples are drawn.
    Empty below two droplets.
    """
    d, _ = _checked(diameters, None)
    n = len(d)
    if n < 2:
        return {}
    resamples = max(100, min(resamples, _BOOTSTRAP_DRAWS_MAX // n))
    rng = np.random.default_rng(seed)
    rows = max(1, _BOOTSTRAP_CHUNK // n)
    chunks = []
    for start in range(0, resamples, rows):
        drawn = rng.integers(0, n, (min(rows, resamples - start), n), np.int32)
        drawn.sort(axis=1)  # d is sorted, so sorted indices give sorted samples
        chunks.append(_row_statistics(d[drawn], chamber_height))
    intervals = {}
    for name in chunks[0]:
        low, high = np.percentile(np.concatenate([c[name] for c in chunks]), (2.5, 97.5))
        intervals[name] = (float(low), float(high))
    return intervals


def _row_statistics(samples: Floats, chamber_height: float | None) -> dict[str, Floats]:
    """Return the statistics of each sorted row of (B, n), as (B,) each."""
    n = samples.shape[1]
    mean, sd = samples.mean(axis=1), samples.std(axis=1, ddof=1)
    squares = samples**2
    cubes = squares * samples
    m2, m3, m4 = squares.sum(axis=1), cubes.sum(axis=1), (squares**2).sum(axis=1)
    by_volume = (np.cumsum(cubes, axis=1) - cubes / 2) / m3[:, None]
    result = {
        "mean": mean,
        "sd": sd,
        "cv_percent": 100 * sd / mean,
        "d_32": m3 / m2,
        "d_43": m4 / m3,
        "d_30": (m3 / n) ** (1 / 3),
        "mean_cube": _flattened(cubes, samples, chamber_height).mean(axis=1),
    }
    for percent in (10, 50, 90):
        result[f"dn{percent}"] = _interpolated(samples, np.full(len(samples), (n - 1) * percent / 100))
        below = (by_volume < percent / 100).sum(axis=1)
        left = np.clip(below - 1, 0, n - 2)
        rows = np.arange(len(samples))
        x0, x1 = by_volume[rows, left], by_volume[rows, left + 1]
        share = np.clip((percent / 100 - x0) / (x1 - x0), 0, 1)
        result[f"dv{percent}"] = _interpolated(samples, left + share)
    return result


def _interpolated(samples: Floats, position: Floats) -> Floats:
    """Return each row's value (B,) at a fractional column position (B,)."""
    rows = np.arange(len(samples))
    left = np.minimum(position.astype(np.intp), samples.shape[1] - 2)
    share = position - left
    return np.asarray(samples[rows, left] * (1 - share) + samples[rows, left + 1] * share)


def _checked(diameters: Any, weights: Any) -> tuple[Floats, Floats]:
    """Return sorted diameters and their weights, both (N,) float64."""
    d = np.asarray(diameters, np.float64).ravel()
    w = np.ones(len(d)) if weights is None else np.asarray(weights, np.float64).ravel()
    if len(w) != len(d):
        raise InputError(f"There must be one weight per diameter, but {len(w)} came for {len(d)}.")
    if len(d) and not (np.all(np.isfinite(d)) and d.min() > 0 and w.min() > 0):
        raise InputError("Diameters and weights must be positive finite numbers.")
    order = np.argsort(d, kind="stable")
    return d[order], w[order]


def significant(value: float, digits: int) -> str:
    """Write a number with so many significant digits, zeros at the end kept and never with an exponent."""
    text = np.format_float_positional(value, precision=digits, unique=False, fractional=False, trim="k")
    return text.rstrip(".")


def rounded(value: float | None) -> Any:
    """Round a float to seven significant digits; integers, flags and None stay as they are."""
    return float(f"{value:.7g}") if isinstance(value, float) else value
