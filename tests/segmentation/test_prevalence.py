"""Scores in the light of the whole picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam_droplet.segmentation.prevalence import in_picture


def _drawn(seed: int, n_droplets: int, n_noise: int) -> tuple[np.ndarray, np.ndarray]:
    """Return calibrated scores for equal shares, and which proposals are droplets."""
    rng = np.random.default_rng(seed)
    droplet = np.arange(n_droplets + n_noise) < n_droplets
    evidence = rng.normal(np.where(droplet, 2.0, -2.0), 2.0)  # log odds are evidence itself
    return (1 / (1 + np.exp(-evidence))).astype(np.float32), droplet


def _same(score: np.ndarray) -> np.ndarray:
    return np.full(len(score), 0.1, np.float32)


@pytest.mark.parametrize(("n_droplets", "n_noise"), [(900, 900), (300, 2700), (40, 3000)])
def test_scores_mean_what_they_say_however_rare_droplets_are(n_droplets: int, n_noise: int) -> None:
    score, droplet = _drawn(1, n_droplets, n_noise)
    corrected = in_picture(score, np.full(len(score), 8.0, np.float32), _same(score))
    assert corrected.sum() == pytest.approx(n_droplets, rel=0.12, abs=10)
    false_before = int((score[~droplet] > 0.5).sum())
    false_after = int((corrected[~droplet] > 0.5).sum())
    assert false_after <= false_before
    if n_noise >= 2700:
        assert false_after < false_before / 5


def test_grain_does_not_speak_about_giants() -> None:
    score = np.concatenate([np.full(3000, 0.2), np.full(3, 0.9)]).astype(np.float32)
    radius = np.concatenate([np.full(3000, 5.0), np.full(3, 120.0)]).astype(np.float32)
    corrected = in_picture(score, radius, _same(score))
    assert corrected[:3000].max() < 0.05
    assert corrected[3000:].min() == pytest.approx(0.9, abs=0.01)


def test_the_dark_of_a_picture_does_not_speak_about_its_bright_spots() -> None:
    score = np.concatenate([np.full(3000, 0.2), np.full(30, 0.6)]).astype(np.float32)
    contrast = np.concatenate([np.full(3000, 0.01), np.full(30, 0.3)]).astype(np.float32)
    corrected = in_picture(score, np.full(len(score), 9.0, np.float32), contrast)
    assert corrected[:3000].max() < 0.05
    assert corrected[3000:].min() == pytest.approx(0.6, abs=0.01)


def test_no_proposals_give_no_scores() -> None:
    assert len(in_picture(*(np.empty(0, np.float32) for _ in range(3)))) == 0


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.5, 3000)), min_size=1, max_size=60))
def test_scores_only_fall_and_keep_their_order(given_pairs: list[tuple[float, float]]) -> None:
    score, radius = np.array(given_pairs, np.float32).T
    corrected = in_picture(score, radius, _same(score))
    assert (corrected <= score + 1e-6).all()
    assert (corrected >= 0).all()
    same_size = np.full(len(score), 10.0, np.float32)
    order = np.argsort(score)
    assert (np.diff(in_picture(score, same_size, _same(score))[order]) >= 0).all()
