"""Outlines that are a little off are put on the line of the rim, and left alone where there is none."""

import numpy as np
import pytest

from sam_droplet.segmentation.rim import fit_rims
from sam_droplet.segmentation.stars import Stars

CENTRES = np.array([[40.0, 40.0], [100.3, 45.7], [60.5, 105.2], [120.0, 118.0]], np.float32)
RADII = np.array([20.0, 24.0, 18.0, 22.0], np.float32)


def picture(profile, noise=0.01):
    """Draw profile(distance to the rim in px) round each centre, (160, 160, 3) float32."""
    y, x = np.mgrid[:160, :160] + 0.5
    grey = np.full((160, 160), 0.5)
    for (cx, cy), r in zip(CENTRES, RADII, strict=True):
        distance = np.hypot(x - cx, y - cy) - r
        near = np.abs(distance) < 8
        grey[near] = profile(distance)[near]
    grey += np.random.default_rng(0).normal(0, noise, grey.shape)
    return np.repeat(grey[..., None], 3, axis=2).astype(np.float32)


def guessed(factor):
    return Stars(CENTRES, np.repeat((RADII * factor)[:, None], 32, axis=1), np.full(4, 0.9, np.float32))


def dark_line(distance):
    return 0.5 - 0.4 * np.exp(-((distance / 2.0) ** 2))


def bright_line(distance):
    return 0.5 + 0.4 * np.exp(-((distance / 2.0) ** 2))


@pytest.mark.parametrize("profile", [dark_line, bright_line])
@pytest.mark.parametrize("factor", [0.9, 0.96, 1.0, 1.06])
def test_outlines_move_onto_the_line(profile, factor):
    fitted = fit_rims(picture(profile), guessed(factor))
    assert fitted.equivalent_radii() == pytest.approx(RADII, rel=0.012)


def test_a_flank_without_a_line_moves_nothing():
    stars = guessed(0.95)
    assert fit_rims(picture(lambda d: 1 / (1 + np.exp(d))), stars) is stars


def test_noise_moves_nothing():
    stars = guessed(1.0)
    grey = np.random.default_rng(1).normal(0.5, 0.2, (160, 160, 1)).astype(np.float32)
    fitted = fit_rims(np.repeat(grey, 3, axis=2), stars)
    assert fitted.equivalent_radii() == pytest.approx(RADII, rel=0.04)


def test_droplets_that_the_border_cuts_are_fitted_by_what_is_seen():
    cut = picture(dark_line)[:, 30:]
    seen = guessed(0.95)
    stars = Stars(seen.centre_xy - np.array([30, 0], np.float32), seen.radii, seen.score)
    assert fit_rims(cut, stars).equivalent_radii() == pytest.approx(RADII, rel=0.015)


def test_nothing_in_gives_nothing_out():
    assert len(fit_rims(picture(dark_line), Stars.none())) == 0
