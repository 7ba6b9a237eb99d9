"""Thresholds between dark and bright droplets."""

from __future__ import annotations

import numpy as np
import pytest

from sam_droplet.errors import InputError
from sam_droplet.measurement.thresholds import otsu_threshold, propose_threshold


def amplitudes(n_dark: int, n_bright: int, seed: int = 0) -> np.ndarray:
    """Dark droplets around 3 and bright ones around 45, wide as under uneven light."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(3, 3, n_dark), np.maximum(rng.normal(50, 15, n_bright), 24)])


def test_otsu_agrees_with_scikit_image_on_integers() -> None:
    filters = pytest.importorskip("skimage.filters", reason="scikit-image is a development dependency")
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.integers(0, 60, 400), rng.integers(120, 200, 300)])
    expected = filters.threshold_otsu(values.astype(np.uint8).reshape(1, -1))
    assert np.array_equal(values >= otsu_threshold(values), values > expected)


def test_otsu_cuts_in_the_middle_of_the_gap() -> None:
    assert otsu_threshold([1, 1, 2, 10, 11]) == 6


def test_equal_values_are_all_dark() -> None:
    values = np.full(50, 7.0)
    assert not np.any(values >= otsu_threshold(values))
    assert not np.any(values >= propose_threshold(values).value)


def test_otsu_of_nothing_is_refused() -> None:
    with pytest.raises(InputError):
        otsu_threshold([])


@pytest.mark.parametrize(("n_dark", "n_bright"), [(580, 25), (500, 500), (60, 540), (2000, 12)])
def test_proposal_finds_the_bright_droplets(n_dark: int, n_bright: int) -> None:
    values = amplitudes(n_dark, n_bright)
    proposal = propose_threshold(values)
    assert proposal.method == "valley"
    assert abs(int(np.sum(values >= proposal.value)) - n_bright) <= 1
    assert proposal.rain_low <= proposal.rain_high


def test_one_population_has_no_positives() -> None:
    proposal = propose_threshold(np.random.default_rng(3).normal(30, 4, 600))
    assert proposal.method == "outlier"
    assert proposal.note is not None
    assert np.sum(np.random.default_rng(3).normal(30, 4, 600) >= proposal.value) == 0


def test_a_doubtful_proposal_has_a_band_of_rain_up_to_otsus_cut() -> None:
    rng = np.random.default_rng(5)
    # Few bright droplets of very unequal brightness among dark ones with long tails: no two clear groups.
    values = np.concatenate([3 * rng.standard_t(3, 560) + 4, rng.uniform(24, 110, 20)])
    proposal = propose_threshold(values)
    assert proposal.method == "outlier"
    assert proposal.rain_low == proposal.value
    assert proposal.rain_high == max(proposal.value, proposal.otsu)


def test_gap_among_few_bright_droplets_is_not_taken_for_the_valley() -> None:
    dark = np.random.default_rng(4).normal(4, 3.4, 560)
    bright = [21, 23, 26, 27, 29, 30, 38, 39, 45, 57, 58, 63, 65, 66, 70, 71, 73, 75, 76, 81, 89]
    values = np.concatenate([np.minimum(dark, 15), bright])
    assert np.sum(values >= propose_threshold(values).value) == len(bright)


def test_without_a_gap_the_mixture_decides() -> None:
    rng = np.random.default_rng(5)
    values = np.concatenate([rng.normal(10, 2, 3000), rng.normal(20, 2, 1500)])
    proposal = propose_threshold(values)
    assert proposal.value == proposal.mixture
    assert proposal.value == pytest.approx(15.28, abs=0.3)


@pytest.mark.parametrize("seed", range(5))
def test_one_population_under_uneven_light_has_no_positives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = 8 * rng.uniform(0.5, 1.5, 400) + rng.normal(0, 0.4, 400)
    assert not np.any(values >= propose_threshold(values).value)


def test_two_bright_droplets_among_many_are_found_as_outliers() -> None:
    values = amplitudes(600, 2)
    proposal = propose_threshold(values)
    assert np.sum(values >= proposal.value) == 2


@pytest.mark.parametrize("bright", [[200.0], [200.0, 210.0]])
def test_rare_bright_droplets_are_found_where_the_camera_cuts_off_black(bright: list[float]) -> None:
    values = np.array([0.0] * 498 + bright)
    proposal = propose_threshold(values)
    assert proposal.method == "outlier"
    assert np.array_equal(values >= proposal.value, values > 0)


def test_noise_above_cut_off_black_is_dark() -> None:
    noise = np.maximum(np.random.default_rng(1).normal(-1, 1, 500), 0.0)
    assert np.median(noise) == 0
    assert np.sum(noise >= propose_threshold(noise).value) <= 5


def test_values_between_the_methods_are_rain() -> None:
    values = np.concatenate([amplitudes(580, 25), [16.0, 18.0, 20.0]])
    proposal = propose_threshold(values)
    assert proposal.mixture is not None
    assert proposal.rain_low == min(proposal.otsu, proposal.mixture)
    assert proposal.rain_high == max(proposal.otsu, proposal.mixture)
    assert 8 < proposal.rain_low < 16 < 20 < proposal.rain_high
