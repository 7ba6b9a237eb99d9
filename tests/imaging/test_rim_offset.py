"""Outlines moved by a constant: exact on polygons, reversible, and still cut where the image cuts."""

from __future__ import annotations

from math import pi, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sam_droplet.errors import InputError
from sam_droplet.imaging.masks import Mask, mask_from_bits, mask_from_polygon
from sam_droplet.imaging.rim_offset import checked_rim_offset, offset_mask

HW = (160, 180)
CORNERS = 64


def disc(x: float, y: float, radius: float, squeeze: float = 1.0) -> Mask:
    """A polygon of ``CORNERS`` corners on a circle (squeezed: on an ellipse)."""
    angles = np.linspace(0, 2 * pi, CORNERS, endpoint=False)
    contour = np.column_stack([x + radius * np.cos(angles), y + squeeze * radius * np.sin(angles)])
    mask = mask_from_polygon(np.clip(contour, 0, (HW[1], HW[0])), 0.9, HW)
    assert mask is not None
    return mask


def pixels_only(mask: Mask) -> Mask:
    return Mask(mask.box_xyxy, mask.bits, mask.score)


def diameter(mask: Mask | None) -> float:
    assert mask is not None
    return 2 * sqrt(mask.area_px / pi)


def beyond(x: float, y: float, radius: float, offset: float) -> NDArray[np.float64]:
    """How far each pixel's centre lies outside the sides of ``disc`` moved by the offset, (H, W).

    The sides of a regular polygon move to those of another one, so this is the exact truth of the outline.
    """
    angles = (np.arange(CORNERS) + 0.5) * 2 * pi / CORNERS
    rows, columns = np.mgrid[0 : HW[0], 0 : HW[1]] + 0.5
    outside = [(columns - x) * np.cos(a) + (rows - y) * np.sin(a) for a in angles]
    return np.max(outside, axis=0) - (radius * np.cos(pi / CORNERS) + offset)


def pixels_of(mask: Mask | None) -> NDArray[np.bool_]:
    assert mask is not None
    full = np.zeros(HW, bool)
    x0, y0, x1, y1 = mask.box_xyxy
    full[y0:y1, x0:x1] = mask.bits
    return full


@settings(deadline=None, max_examples=40)
@given(st.floats(60, 100), st.floats(60, 100), st.floats(12, 40), st.floats(-6, 8))
def test_the_sides_of_a_disc_move_by_exactly_the_offset(
    x: float, y: float, radius: float, offset: float
) -> None:
    moved = offset_mask(disc(x, y, radius), offset, HW)
    assert moved is not None
    x_moved, y_moved = moved.outline_xy.astype(np.float64).T
    area = abs(float(x_moved @ np.roll(y_moved, -1) - y_moved @ np.roll(x_moved, -1))) / 2
    apothem = radius * np.cos(pi / CORNERS) + offset
    assert area == pytest.approx(CORNERS * np.tan(pi / CORNERS) * apothem**2, rel=1e-5)
    assert 2 * sqrt(area / pi) == pytest.approx(2 * (radius + offset), abs=0.1)  # which is a disc's
    truth = beyond(x, y, radius, offset)
    decided = np.abs(truth) > 1e-3  # outlines are kept in single precision
    assert np.array_equal(pixels_of(moved)[decided], (truth < 0)[decided])
    assert moved.score == 0.9


@pytest.mark.parametrize(("x", "radius"), [(60.0, 12.0), (77.7, 20.4), (90.25, 33.1)])
@pytest.mark.parametrize("offset", [-4.0, -1.0, 0.5, 3.0])
def test_pixels_alone_move_by_the_same_distance(x: float, radius: float, offset: float) -> None:
    original = disc(x, 77.3, radius)
    moved = offset_mask(pixels_only(original), offset, HW)
    # Where in its pixels the outline lay is not known any more; no pixel is wrong that is farther from it.
    wrong = pixels_of(moved) != (beyond(x, 77.3, radius, offset) < 0)
    assert np.abs(beyond(x, 77.3, radius, offset)[wrong]).max(initial=0) < 0.5
    assert diameter(moved) == pytest.approx(diameter(original) + 2 * offset, abs=0.3)


def test_the_straight_sides_of_pixels_alone_move_exactly() -> None:
    rectangle = mask_from_bits(np.ones((40, 60), bool), 1.0, offset_xy=(50, 60))
    assert rectangle is not None
    out, back = (offset_mask(rectangle, offset, HW) for offset in (3.0, -3.0))
    assert out is not None
    assert back is not None
    assert (out.box_xyxy, back.box_xyxy) == ((47, 57, 113, 103), (53, 63, 107, 97))


@pytest.mark.parametrize("direction", [1, -1])
def test_the_order_of_the_points_does_not_matter(direction: int) -> None:
    original = disc(80, 80, 20)
    assert original.contour_xy is not None
    turned = Mask(original.box_xyxy, original.bits, 1.0, original.contour_xy[::direction])
    truth = beyond(80, 80, 20, 3)
    assert np.abs(truth).min() > 1e-3
    assert np.array_equal(pixels_of(offset_mask(turned, 3, HW)), truth < 0)


def test_out_and_back_gives_the_same_outline() -> None:
    original = disc(80.3, 80.8, 30, squeeze=0.7)
    out = offset_mask(original, 2.5, HW)
    assert out is not None
    back = offset_mask(out, -2.5, HW)
    assert back is not None
    assert original.contour_xy is not None
    assert back.contour_xy is not None
    assert np.abs(back.contour_xy - original.contour_xy).max() < 1e-3


@pytest.mark.parametrize("offset", [-3.0, 3.0])
@pytest.mark.parametrize("known", ["contour", "pixels"])
@pytest.mark.parametrize(("x", "y"), [(4.0, 80.0), (176.0, 80.0), (90.0, 4.0), (90.0, 156.0)])
def test_a_droplet_that_the_image_cuts_is_still_cut(x: float, y: float, known: str, offset: float) -> None:
    original = disc(x, y, 20)
    moved = offset_mask(original if known == "contour" else pixels_only(original), offset, HW)
    assert moved is not None
    touched = [b in (0, HW[1]) for b in original.box_xyxy[::2]] + [
        b in (0, HW[0]) for b in original.box_xyxy[1::2]
    ]
    still = [b in (0, HW[1]) for b in moved.box_xyxy[::2]] + [b in (0, HW[0]) for b in moved.box_xyxy[1::2]]
    assert any(touched)
    assert still == touched
    assert (moved.area_px > original.area_px) == (offset > 0)


@pytest.mark.parametrize("known", ["contour", "pixels"])
def test_what_is_smaller_than_the_offset_vanishes(known: str) -> None:
    original = disc(80, 80, 5)
    assert offset_mask(original if known == "contour" else pixels_only(original), -6, HW) is None


def test_no_offset_is_the_very_same_mask() -> None:
    original = mask_from_bits(np.ones((3, 3), bool), 1.0)
    assert original is not None
    assert offset_mask(original, 0.0, HW) is original


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 101, -101])
def test_offsets_are_bounded(value: float) -> None:
    with pytest.raises(InputError, match="rim_offset_px"):
        checked_rim_offset(value)
