"""The golden numbers of the size statistics, to the digits that the reference prints."""

from __future__ import annotations

from fractions import Fraction
from math import pi

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_droplet.errors import InputError
from sam_droplet.measurement.statistics import (
    bootstrap_intervals,
    diameter_statistics,
    edge_bias_weights,
    number_percentiles,
    recommended_n,
    significant,
    volume_percentiles,
    volumes_pl,
)

GOLDEN_UM = [48, 49, 50, 50, 51, 52, 55, 60, 20, 22]


@pytest.mark.parametrize(
    ("name", "value", "digits"),
    [
        ("n", 10, 0),
        ("mean", 45.7, 10),
        ("sd", 13.474668, 6),
        ("cv_percent", 29.485049, 6),
        ("dn10", 21.8, 10),
        ("dn50", 50.0, 10),
        ("dn90", 55.5, 10),
        ("span", 0.674, 10),
        ("d_32", 51.180026, 6),
        ("d_43", 52.194112, 6),
        ("dv10", 48.361971, 6),
        ("dv50", 51.095492, 6),
        ("dv90", 59.810335, 6),
    ],
)
def test_golden_size_statistics(name: str, value: float, digits: int) -> None:
    assert round(getattr(diameter_statistics(GOLDEN_UM), name), digits) == value


def test_pdi_and_volume_mean_diameter_are_exact() -> None:
    # The reference prints 0.086938 and 48.664977, one unit of the last digit off what exact fractions give.
    found = diameter_statistics(GOLDEN_UM)
    n, total = len(GOLDEN_UM), sum(GOLDEN_UM)
    variance = Fraction(n * sum(d * d for d in GOLDEN_UM) - total**2, n * (n - 1))
    assert found.pdi == pytest.approx(float(variance / Fraction(total, n) ** 2), rel=1e-12)
    assert found.d_30 == pytest.approx((sum(d**3 for d in GOLDEN_UM) / n) ** (1 / 3), rel=1e-12)
    assert (found.pdi, found.d_30) == (
        pytest.approx(0.086938, abs=1.5e-6),
        pytest.approx(48.664977, abs=1.5e-6),
    )


def test_median_and_extremes() -> None:
    found = diameter_statistics(GOLDEN_UM)
    assert (found.median, found.min, found.max) == (50, 20, 60)


def test_standard_error_of_the_cv_needs_two_hundred_for_five_percent() -> None:
    diameters = np.random.default_rng(0).normal(50, 2.5, 200)
    found = diameter_statistics(diameters)
    assert found.cv_percent is not None
    assert found.cv_se_percent == pytest.approx(found.cv_percent / 20)
    assert recommended_n(5.0) == 200


def test_wide_samples_need_more_droplets() -> None:
    assert recommended_n(20.0) == 1537


def test_golden_volumes_of_spheres() -> None:
    assert volumes_pl([50, 100, 117.5]) == pytest.approx([65.449847, 523.6, 850], rel=0.001)
    assert float(volumes_pl(50)) == pytest.approx(65.449847, abs=5e-7)


@pytest.mark.parametrize(("cv", "bias_percent"), [(0.05, 0.75), (0.20, 12.0)])
def test_volume_of_the_mean_diameter_is_too_small_by_three_cv_squared(cv: float, bias_percent: float) -> None:
    volume = volumes_pl(50 * (1 + cv * np.array([-1.0, 1.0]))).mean()
    assert 100 * (volume / float(volumes_pl(50)) - 1) == pytest.approx(bias_percent, abs=1e-9)


@pytest.mark.parametrize(("diameter", "height"), [(50, 49), (50, 25), (120, 80), (1000, 10)])
def test_flattened_droplets_have_the_volume_of_their_slices(diameter: float, height: float) -> None:
    """A sphere between two plates, as discs along its axis: an independent way to the same number."""
    edges = np.linspace(-height / 2, height / 2, 20_001)
    z = (edges[1:] + edges[:-1]) / 2
    discs = np.pi * ((diameter / 2) ** 2 - z**2)
    volume = discs.sum() * (edges[1] - edges[0]) / 1000
    assert float(volumes_pl(diameter, height)) == pytest.approx(volume, rel=1e-7)


@given(st.floats(0.1, 1e4), st.floats(0.1, 1e4), st.floats(0.1, 1e4))
def test_a_higher_chamber_never_holds_less_until_spheres_fit(d: float, h: float, more: float) -> None:
    sphere = float(volumes_pl(d))
    assert float(volumes_pl(d, d)) == float(volumes_pl(d, d + more)) == sphere
    assert float(volumes_pl(d, h)) <= float(volumes_pl(d, h + more)) * (1 + 1e-9)
    assert 0 < float(volumes_pl(d, h)) <= sphere
    assert float(volumes_pl(d, d * (1 - 1e-9))) == pytest.approx(sphere)


def test_the_interval_of_the_mean_volume_is_that_of_the_flattened_droplets() -> None:
    diameters = np.random.default_rng(5).normal(100, 8, 300)
    low, high = bootstrap_intervals(diameters, chamber_height=60)["mean_cube"]
    mean = volumes_pl(diameters, 60).mean()
    assert pi / 6000 * low < mean < pi / 6000 * high
    assert high - low < 0.1 * mean / (pi / 6000)


@pytest.mark.parametrize(("diameter", "weight"), [(40, 1.08), (100, 1.21), (300, 1.90)])
def test_golden_edge_bias_weights(diameter: float, weight: float) -> None:
    assert round(float(edge_bias_weights([diameter], [diameter], (1280, 960))[0]), 2) == weight


def test_edge_bias_weights_recover_the_share_of_large_droplets() -> None:
    rng = np.random.default_rng(1)
    d = np.where(rng.random(200_000) < 0.5, 20.0, 200.0)
    x, y = rng.uniform(-200, 1000, len(d)), rng.uniform(-200, 700, len(d))
    r = d / 2
    whole = (x > r) & (x < 800 - r) & (y > r) & (y < 500 - r)
    seen = d[whole]
    weights = edge_bias_weights(seen, seen, (800, 500))
    assert diameter_statistics(seen).mean == pytest.approx(78.3, abs=1)
    assert diameter_statistics(seen, weights).mean == pytest.approx(110, abs=1)


def test_weights_of_droplets_as_large_as_the_image_are_refused() -> None:
    with pytest.raises(InputError):
        edge_bias_weights([100], [50], (100, 100))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(1, 1000), min_size=1, max_size=40), st.floats(0.1, 10))
def test_equal_weights_change_nothing(diameters: list[float], weight: float) -> None:
    plain, weighted = (diameter_statistics(diameters, w) for w in (None, np.full(len(diameters), weight)))
    for name, value in vars(plain).items():
        if value is None:
            assert vars(weighted)[name] is None
        else:
            assert vars(weighted)[name] == pytest.approx(value, rel=1e-9, abs=1e-9), name


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(1, 1000), min_size=1, max_size=40), st.floats(0.01, 100))
def test_statistics_scale_with_the_calibration(diameters: list[float], scale: float) -> None:
    plain = diameter_statistics(diameters)
    scaled = diameter_statistics(np.array(diameters) * scale)
    assert scaled.mean == pytest.approx((plain.mean or 0) * scale)
    assert scaled.dv90 == pytest.approx((plain.dv90 or 0) * scale)
    assert scaled.cv_percent == pytest.approx(plain.cv_percent, abs=1e-5)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(1, 1000), min_size=2, max_size=40))
def test_percentiles_by_number_are_those_of_numpy(diameters: list[float]) -> None:
    found = number_percentiles(diameters, (10, 50, 90))
    assert found == pytest.approx(np.percentile(diameters, (10, 50, 90)))
    assert np.all(np.diff(volume_percentiles(diameters, (10, 50, 90))) >= 0)


def test_one_droplet_has_no_spread_and_none_has_nothing() -> None:
    one = diameter_statistics([42.0])
    assert (one.mean, one.dn90, one.dv10, one.sd, one.cv_percent) == (42, 42, 42, None, None)
    assert diameter_statistics([]).mean is None


@pytest.mark.parametrize("diameters", [[0.0], [-1.0, 2.0], [float("nan")]])
def test_diameters_must_be_positive(diameters: list[float]) -> None:
    with pytest.raises(InputError):
        diameter_statistics(diameters)


def test_bootstrap_is_seeded_and_brackets_every_statistic() -> None:
    diameters = np.random.default_rng(3).lognormal(4, 0.2, 300)
    intervals = bootstrap_intervals(diameters)
    assert intervals == bootstrap_intervals(diameters)
    assert intervals != bootstrap_intervals(diameters, seed=1)
    found = vars(diameter_statistics(diameters))
    for name, (low, high) in intervals.items():
        value = float(np.mean(diameters**3)) if name == "mean_cube" else found[name]
        assert low < value < high, name


def test_bootstrap_of_the_mean_agrees_with_the_normal_interval() -> None:
    diameters = np.random.default_rng(4).normal(50, 5, 1000)
    low, high = bootstrap_intervals(diameters, resamples=4000)["mean"]
    half = 1.96 * diameters.std(ddof=1) / np.sqrt(1000)
    assert (low, high) == pytest.approx((diameters.mean() - half, diameters.mean() + half), abs=0.02)


def test_bootstrap_rows_agree_with_the_plain_statistics() -> None:
    # All resamples of one repeated value are that value.
    assert bootstrap_intervals([7.0, 7.0, 7.0])["dv90"] == pytest.approx((7.0, 7.0))
    assert bootstrap_intervals([5.0]) == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [(43.0, "43.00"), (1236.23, "1236"), (41930.9, "41930"), (1.22e6, "1220000"), (0.051562, "0.05156")],
)
def test_significant_digits_have_no_exponent_and_keep_their_zeros(value: float, text: str) -> None:
    assert significant(value, 4) == text
