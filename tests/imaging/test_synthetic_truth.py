"""The truth of a rendered rim is the line that is seen, wherever blur has moved it."""

import cv2
import numpy as np
import pytest

from sam_droplet.imaging.synthetic_layout import Shapes, discs
from sam_droplet.imaging.synthetic_truth import FAINT, clarity, rim_profiles, with_seen_rims

CENTRES = np.array([[60.0, 60.0], [150.5, 70.2], [90.3, 160.7]])
RADII = np.array([30.0, 24.0, 36.0])


def picture(inner: float, outer: float, blur_px: float, *, dark: bool = True) -> np.ndarray:
    """Draw rims that decay by ``inner`` and ``outer`` px, (220, 220) float32."""
    y, x = np.mgrid[:220, :220] + 0.5
    light = np.full((220, 220), 120.0)
    for (cx, cy), r in zip(CENTRES, RADII, strict=True):
        off = np.hypot(x - cx, y - cy) - r
        line = np.exp(-np.where(off < 0, -off / inner, off / outer))
        light += (-80 if dark else 80) * line
    return cv2.GaussianBlur(light.astype(np.float32), (0, 0), blur_px)


def moved(light: np.ndarray, shapes: Shapes, *, dark: bool) -> Shapes:
    return with_seen_rims(rim_profiles(light, shapes), shapes, dark=dark)


def clear(drawn: np.ndarray, light: np.ndarray, shapes: Shapes, noise_sd: float) -> np.ndarray:
    return clarity(drawn, rim_profiles(light, shapes), shapes, noise_sd)


@pytest.mark.parametrize("dark", [True, False])
def test_a_sharp_even_rim_stays_where_it_was_drawn(dark):
    seen = moved(picture(2, 2, 0.8, dark=dark), discs(CENTRES, RADII), dark=dark)
    assert seen.equivalent_radii() == pytest.approx(RADII, rel=0.01)


def test_blur_moves_an_uneven_rim_to_where_it_is_darkest():
    shapes = discs(CENTRES, RADII)
    seen = moved(picture(6, 0.8, 2.5), shapes, dark=True).equivalent_radii()
    assert (seen < 0.985 * RADII).all()
    blurred = picture(6, 0.8, 2.5)
    # Straight along +x from the first centre: the darkest place is the new rim.
    row = blurred[int(CENTRES[0, 1]), int(CENTRES[0, 0]) : int(CENTRES[0, 0] + 40)]
    assert seen[0] == pytest.approx(row.argmin() + 0.5, abs=0.8)


def test_without_a_line_nothing_moves():
    flat = np.full((220, 220), 120.0, np.float32)
    seen = moved(flat, discs(CENTRES, RADII), dark=True)
    assert seen.equivalent_radii() == pytest.approx(RADII, rel=1e-3)


def test_blur_and_noise_make_a_rim_doubtful_and_then_unseen():
    shapes, drawn = discs(CENTRES, RADII), np.full(3, 80.0)
    sharp = clear(drawn, picture(2, 2, 0.8), shapes, 4.0)
    blurred = clear(drawn, picture(2, 2, 6), shapes, 4.0)
    assert (sharp > 1).all()
    assert (blurred < sharp).all()
    assert (clear(drawn, picture(2, 2, 0.8), shapes, 80 / 1.5) < 1).all()  # less than 1.6 times the noise
    # Of the whole rim, blur of a third of the radius leaves less than noise of its pixels hides.
    assert (clear(drawn, picture(2, 2, 12), shapes, 40.0) < FAINT).all()


def test_of_two_rings_as_faint_the_larger_is_seen():
    light = picture(2, 2, 0.8)
    smaller = cv2.resize(light, None, fx=0.2, fy=0.2, interpolation=cv2.INTER_AREA)
    drawn = np.full(3, 80.0)
    assert (clear(drawn, light, discs(CENTRES, RADII), 49.0) > 1).all()
    assert (clear(drawn, smaller, discs(CENTRES / 5, RADII / 5), 49.0) < 1).all()


def test_no_shape_at_all_is_fine():
    assert len(clear(np.empty(0), picture(2, 2, 1), discs(np.empty((0, 2)), np.empty(0)), 1.0)) == 0
    assert len(moved(picture(2, 2, 1), discs(np.empty((0, 2)), np.empty(0)), dark=True)) == 0
