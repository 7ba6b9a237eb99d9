"""Bright spots: counted, placed and cut apart."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sam_droplet.errors import InputError
from sam_droplet.imaging.spots import find_spots


def picture(
    centres_xy: list[tuple[float, float]], *, diameter: float = 9, hw: tuple[int, int] = (220, 300)
) -> np.ndarray:
    """Blurred discs of value 200, one pixel wider as OpenCV draws them, on uneven, noisy ground."""
    spots = np.zeros(hw, np.float32)
    for x, y in centres_xy:
        cv2.circle(
            spots, (round((x - 0.5) * 16), round((y - 0.5) * 16)), round(diameter * 8), 1, -1, cv2.LINE_AA, 4
        )
    ground = 15 + np.linspace(0, 12, hw[1], dtype=np.float32) + np.random.default_rng(0).normal(0, 1, hw)
    return np.clip(200 * cv2.GaussianBlur(spots, (0, 0), 1.0) + ground, 0, 255).astype(np.uint8)


GRID = [(20.0 + 25 * i, 25.0 + 30 * j) for i in range(11) for j in range(6)]


def test_single_spots_are_found_where_they_are() -> None:
    masks = find_spots(picture(GRID))
    centres = sorted(
        (m.box_xyxy[0] + m.bits.nonzero()[1].mean() + 0.5, m.box_xyxy[1] + m.bits.nonzero()[0].mean() + 0.5)
        for m in masks
    )
    assert len(masks) == len(GRID)
    assert np.abs(np.array(centres) - np.array(sorted(GRID))).max() < 0.5
    assert np.median([m.area_px for m in masks]) == pytest.approx(np.pi / 4 * 100, rel=0.1)


@pytest.mark.parametrize(
    ("cluster", "n"),
    [
        ([(0, 0), (9, 0)], 2),
        ([(0, 0), (7, 4)], 2),
        ([(0, 0), (9, 0), (18, 1)], 3),
        ([(0, 0), (10, 0), (5, 9)], 3),
        ([(0, 0), (10, 0), (0, 10), (10, 10)], 4),
    ],
)
def test_touching_spots_are_cut_apart(cluster: list[tuple[float, float]], n: int) -> None:
    centres = [*GRID, *[(45 + 12.5 + x - 4, 40 + y - 4) for x, y in cluster]]
    assert len(find_spots(picture(centres))) == len(GRID) + n


def test_one_large_thing_among_spots_stays_whole() -> None:
    pixels = picture(GRID)
    cv2.circle(pixels, (57, 40), 10, 220, -1)
    assert len(find_spots(pixels)) == len(GRID) + 1


def test_dark_and_noisy_channels_have_no_spots() -> None:
    assert find_spots(np.zeros((50, 60), np.uint16)) == []
    noise = np.random.default_rng(1).normal(100, 5, (200, 200)).astype(np.float32)
    assert find_spots(noise) == []


def test_threshold_and_diameter_can_be_given() -> None:
    pixels = np.zeros((40, 60), np.uint16)
    pixels[10:20, 10:20] = 3000
    pixels[10:20, 30:50] = 900
    assert len(find_spots(pixels, threshold=1000)) == 1
    assert len(find_spots(pixels, threshold=500, diameter_px=20)) == 2
    assert len(find_spots(pixels, threshold=500, diameter_px=10)) == 3


def test_spots_are_found_in_one_channel_only() -> None:
    with pytest.raises(InputError):
        find_spots(np.zeros((5, 5, 3)))
