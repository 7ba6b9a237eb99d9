"""The golden numbers of digital PCR and loading, to the digits that the reference prints."""

from __future__ import annotations

import json
from math import inf, log, pi

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_droplet.errors import InputError
from sam_droplet.measurement.assays import (
    clopper_pearson_interval,
    copies_per_droplet,
    ddpcr_estimate,
    loading_estimate,
    poisson_chi_square,
    polydisperse_estimate,
    stock_lambda,
    wilson_interval,
)

V50_PL = pi / 6 * 50**3 / 1000
GOLDEN_LOADING = {0: 300, 1: 150, 2: 40, 3: 10}


def digits(values: object, n: int) -> list[float]:
    return [round(float(v), n) for v in np.atleast_1d(values)]  # type: ignore[call-overload]


def test_golden_ddpcr() -> None:
    found = ddpcr_estimate(120, 500, V50_PL)
    assert found.mean_volume_pl == pytest.approx(65.449847, abs=5e-7)
    assert round(found.lam, 7) == 0.2744368
    assert digits(found.lam_wilson, 7) == [0.2289577, 0.3275695]
    assert digits(found.lam_exact, 7) == [0.2271473, 0.3283784]
    assert found.copies_per_ul is not None
    assert round(found.copies_per_ul, 2) == 4193.09
    assert digits(found.copies_per_ul_wilson, 2) == [3498.22, 5004.89]
    assert found.state == "measured"


def test_golden_ddpcr_of_a_full_well() -> None:
    found = ddpcr_estimate(8000, 20_000)
    assert round(found.lam, 7) == 0.5108256
    assert digits(found.lam_wilson, 7) == [0.4996060, 0.5222373]
    assert (found.copies_per_ul, found.copies_per_ul_wilson) == (None, None)


def test_golden_ddpcr_without_positives() -> None:
    found = ddpcr_estimate(0, 300, V50_PL)
    assert str(found.lam) == "0.0"
    assert found.lam_wilson[0] == found.lam_exact[0] == 0.0
    assert round(found.lam_wilson[1], 7) == 0.0127236
    assert round(found.lam_exact[1], 7) == 0.0122963
    assert found.state == "none_positive"
    assert "below 187.9 copies/µL" in found.statement


def test_golden_ddpcr_of_three_positives_stays_above_zero() -> None:
    found = ddpcr_estimate(3, 300)
    assert round(found.lam, 7) == 0.0100503
    assert digits(found.lam_wilson, 7) == [0.0034124, 0.0294118]


def test_golden_ddpcr_of_saturation() -> None:
    found = ddpcr_estimate(300, 300, V50_PL)
    assert round(found.lam_wilson[0], 5) == 4.37065
    # The reference prints 4.40457; the closed form at k = n, p = 0.025^(1/n), gives 4.404602.
    assert found.lam_exact[0] == pytest.approx(-log(1 - 0.025 ** (1 / 300)), rel=1e-9)
    assert found.lam_exact[0] == pytest.approx(4.40457, abs=5e-5)
    assert found.lam == found.lam_wilson[1] == found.lam_exact[1] == inf
    assert found.state == "saturated"
    assert "saturated, above" in found.statement
    as_json = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert (as_json["lam"], as_json["lam_exact"][1]) == (None, None)


def test_dilution_multiplies_the_concentration() -> None:
    plain, diluted = (ddpcr_estimate(120, 500, V50_PL, dilution=f) for f in (1, 20))
    assert diluted.copies_per_ul == pytest.approx(20 * (plain.copies_per_ul or 0))
    assert diluted.lam == plain.lam


def test_few_droplets_are_noted() -> None:
    assert any("500 droplets" in note for note in ddpcr_estimate(120, 500, V50_PL).notes)
    assert ddpcr_estimate(8000, 20_000, V50_PL).notes == ()


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_intervals_hold_the_estimate(counts: tuple[int, int]) -> None:
    k, n = counts
    for low, high in (wilson_interval(k, n), clopper_pearson_interval(k, n)):
        assert 0 <= low <= k / n <= high <= 1
    assert copies_per_droplet(k / n) >= 0


@pytest.mark.parametrize(("k", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(k: int, n: int) -> None:
    with pytest.raises(InputError):
        ddpcr_estimate(k, n)


@pytest.mark.parametrize(("volume_pl", "dilution"), [(0.0, 1.0), (-1.0, 1.0), (50.0, 0.0)])
def test_impossible_volumes_and_dilutions_are_refused(volume_pl: float, dilution: float) -> None:
    with pytest.raises(InputError):
        ddpcr_estimate(1, 5, volume_pl, dilution=dilution)


def test_golden_polydisperse_ddpcr() -> None:
    volumes = pi / 6 * np.repeat([40.0, 60.0], 100) ** 3 / 1000
    positive = np.zeros(200, bool)
    positive[:20] = positive[100:150] = True
    found = polydisperse_estimate(volumes, positive)
    assert round(found.copies_per_ul, 2) == 6275.31
    assert digits(found.copies_per_ul_interval, 2) == [4901.30, 7893.26]
    by_mean_volume = ddpcr_estimate(70, 200, float(volumes.mean()))
    by_mean_diameter = ddpcr_estimate(70, 200, V50_PL)
    assert digits([by_mean_volume.copies_per_ul, by_mean_diameter.copies_per_ul], 2) == [5876.68, 6581.88]


def test_polydisperse_estimate_of_equal_droplets_is_the_plain_one() -> None:
    found = polydisperse_estimate(np.full(500, V50_PL), np.arange(500) < 120, dilution=3)
    assert found.copies_per_ul == pytest.approx(3 * 4193.0899, rel=1e-5)


def test_polydisperse_estimate_at_both_ends() -> None:
    none = polydisperse_estimate([50.0, 60.0], [False, False])
    assert none.copies_per_ul == none.copies_per_ul_interval[0] == 0
    # Nothing positive in 110 pL has a probability of 2.5 % there.
    assert np.exp(-none.copies_per_ul_interval[1] * 110e-6) == pytest.approx(0.025)
    every = polydisperse_estimate([50.0, 60.0], [True, True])
    assert every.copies_per_ul == every.copies_per_ul_interval[1] == inf
    chances = -np.expm1(-every.copies_per_ul_interval[0] * np.array([50e-6, 60e-6]))
    assert np.prod(chances) == pytest.approx(0.025)


def test_polydisperse_limits_are_found_however_small_a_droplet_is() -> None:
    volumes = np.repeat([V50_PL, V50_PL * 1e-3], [100, 10])
    every = polydisperse_estimate(volumes, np.ones(110, bool)).copies_per_ul_interval
    assert np.prod(-np.expm1(-every[0] * volumes * 1e-6)) == pytest.approx(0.025)
    # What a droplet of a millionth of the volume says stands alone against a thousand positive ones.
    volumes = np.repeat([V50_PL, V50_PL * 1e-6], [1000, 1])
    found = polydisperse_estimate(volumes, volumes == V50_PL)
    high = found.copies_per_ul_interval[1]
    assert (high - found.copies_per_ul) * V50_PL * 1e-12 == pytest.approx(1.92, abs=0.01)


@pytest.mark.parametrize("k", [0, 300])
def test_both_ends_of_equal_droplets_have_the_exact_limits(k: int) -> None:
    plain = ddpcr_estimate(k, 300, V50_PL)
    own = polydisperse_estimate(np.full(300, V50_PL), np.arange(300) < k)
    assert own.copies_per_ul_interval == pytest.approx(plain.copies_per_ul_exact)


def test_polydisperse_interval_covers_the_truth_in_most_simulations() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(200):
        volumes = pi / 6 * rng.uniform(20, 80, 200) ** 3 / 1000
        positive = rng.random(200) < -np.expm1(-5000 * volumes * 1e-6)
        low, high = polydisperse_estimate(volumes, positive).copies_per_ul_interval
        covered += low <= 5000 <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_golden_loading() -> None:
    found = loading_estimate(GOLDEN_LOADING)
    assert (found.n_droplets, found.n_inclusions, round(found.lam, 10)) == (500, 260, 0.52)
    assert digits(found.lam_interval, 6) == [0.458708, 0.587201]
    assert round(found.lam_zero or 0, 6) == 0.510826
    assert round(found.fano or 0, 6) == 1.020503
    assert digits([row["expected"] for row in found.histogram], 2) == [297.26, 154.58, 40.19, 6.97]
    assert found.single_among_occupied == 0.75
    assert round(found.single_among_occupied_expected or 0, 6) == 0.762432
    assert (found.empty_share, found.single_share, found.multiple_share) == (0.6, 0.3, 0.1)


def test_golden_stock_prediction() -> None:
    assert round(stock_lambda(1e6, V50_PL), 7) == 0.0654498
    found = loading_estimate(GOLDEN_LOADING, stock_per_ml=1e6, volume_pl=V50_PL)
    assert found.lam_from_stock == pytest.approx(0.0654498, abs=5e-8)


def test_chi_square_pools_the_open_tail() -> None:
    found = poisson_chi_square([300, 150, 40, 10], 0.52)
    assert found is not None
    # Counts of three and more: 500 - 297.26 - 154.58 - 40.19 = 7.97 droplets expected, so four classes.
    assert (found["n_classes"], found["dof"]) == (4, 2)
    expected = [297.2603, 154.5753, 40.1896, 7.9748]
    statistic = sum((o - e) ** 2 / e for o, e in zip([300, 150, 40, 10], expected, strict=True))
    assert found["statistic"] == pytest.approx(statistic, rel=1e-3)
    assert found["p_value"] > 0.5


def test_chi_square_finds_clumping_and_needs_three_classes() -> None:
    clumped = loading_estimate({0: 450, 1: 10, 2: 10, 3: 10, 10: 20})
    assert clumped.fano is not None
    assert clumped.fano > 2
    assert clumped.chi_square is not None
    assert clumped.chi_square["p_value"] < 1e-6
    assert loading_estimate({0: 10, 1: 2}).chi_square is None


def test_poisson_loading_is_accepted_about_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(6)
    p_values = []
    for _ in range(300):
        counts = np.bincount(rng.poisson(1.2, 400))
        found = loading_estimate(dict(enumerate(counts.tolist()))).chi_square
        assert found is not None
        p_values.append(found["p_value"])
    assert 0.02 < np.mean(np.array(p_values) < 0.05) < 0.09


@pytest.mark.parametrize("counts", [{0: 5}, {3: 5}, {0: 1, 1: 0}])
def test_loading_at_its_ends_is_finite_json(counts: dict[int, int]) -> None:
    found = loading_estimate(counts).as_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize("counts", [{}, {0: 0}, {-1: 3}, {1: -3}])
def test_loading_of_nothing_is_refused(counts: dict[int, int]) -> None:
    with pytest.raises(InputError):
        loading_estimate(counts)
