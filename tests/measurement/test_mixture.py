"""Mixtures: known components come back, and the likelihood never degenerates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_droplet.errors import InputError
from sam_droplet.measurement.mixture import Mixture, crossing, fit_mixture


def test_two_unequal_components_come_back() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 970), rng.normal(20, 2, 30)])
    fit = fit_mixture(values, 2, sd_min=0.01)
    assert fit is not None
    assert fit.shares == pytest.approx([0.97, 0.03], abs=0.002)
    assert fit.means == pytest.approx([0, 20], abs=1)
    assert fit.sds == pytest.approx([1, 2], rel=0.3)
    assert fit.separation()[0] > 5
    assert fit.posterior([0.0, 20.0]).argmax(axis=1).tolist() == [0, 1]


def test_bic_prefers_one_component_for_one_normal() -> None:
    values = np.random.default_rng(1).normal(5, 1, 500)
    one, two = (fit_mixture(values, k, sd_min=0.01) for k in (1, 2))
    assert one is not None
    assert two is not None
    assert one.bic < two.bic
    assert one.means[0] == pytest.approx(values.mean())
    assert one.sds[0] == pytest.approx(values.std())


def test_a_background_takes_up_what_is_spread_evenly() -> None:
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.normal(5, 0.1, 900), rng.uniform(0, 10, 100)])
    fit = fit_mixture(values, 1, sd_min=0.01, background=True)
    assert fit is not None
    assert fit.background_share == pytest.approx(0.1, abs=0.02)
    assert fit.shares.sum() + fit.background_share == pytest.approx(1)
    assert (fit.means[0], fit.sds[0]) == pytest.approx((5, 0.1), abs=0.01)
    assert fit.posterior([5.0, 9.0])[:, 0].round(2).tolist() == [1, 0]
    grid = np.linspace(values.min(), values.max(), 20_001)
    assert np.trapezoid(fit.density(grid), grid) == pytest.approx(1, abs=1e-3)
    plain = fit_mixture(values, 1, sd_min=0.01)
    assert plain is not None
    assert fit.bic < plain.bic
    # The log likelihood is that of the whole mixture, so BICs with and without a background compare.
    assert np.log(fit.density(values)).sum() == pytest.approx(fit.log_likelihood, abs=1e-6)
    assert fit_mixture([3.0] * 10, 1, sd_min=0.5, background=True) is None


def test_equal_values_count_as_often_as_they_occur() -> None:
    values = np.round(np.random.default_rng(3).normal(50, 3, 500))
    fit = fit_mixture(values, 1, sd_min=0.01)
    assert fit is not None
    assert (fit.n, fit.means[0], fit.sds[0]) == pytest.approx((500, values.mean(), values.std()))


def test_a_dip_lies_between_two_peaks_and_in_none() -> None:
    shares, sds = np.array([0.5, 0.5]), np.array([1.0, 1.0])
    deep, none = (Mixture(shares, np.array([0.0, gap]), sds, 0.0, 9) for gap in (6.0, 1.5))
    assert deep.dips()[0] == pytest.approx(2 * np.exp(-4.5), rel=0.01)
    assert none.dips()[0] == 1


def test_equal_values_give_the_smallest_width() -> None:
    fit = fit_mixture([3.0] * 10, 1, sd_min=0.5)
    assert fit is not None
    assert (fit.means[0], fit.sds[0]) == (3.0, 0.5)


def test_too_few_values_cannot_be_split() -> None:
    assert fit_mixture([1.0, 2.0, 3.0, 9.0], 2, sd_min=0.1) is None


def test_values_must_be_finite() -> None:
    with pytest.raises(InputError):
        fit_mixture([1.0, float("inf")], 1, sd_min=0.1)


@settings(deadline=None, max_examples=60)
@given(st.floats(0.05, 0.95), st.floats(0.5, 50), st.floats(0.1, 3), st.floats(0.1, 3))
def test_components_are_equally_likely_at_the_crossing(
    share: float, gap: float, sd_low: float, sd_high: float
) -> None:
    mixture = Mixture(np.array([share, 1 - share]), np.array([0.0, gap]), np.array([sd_low, sd_high]), 0.0, 9)
    cut = crossing(mixture)
    assert 0 <= cut <= gap
    if gap > 6 * max(sd_low, sd_high):
        assert mixture.posterior([cut])[0] == pytest.approx([0.5, 0.5], abs=1e-6)
