"""Shifts between two pictures of one field, known exactly by construction."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from sam_droplet.errors import InputError
from sam_droplet.imaging.registration import estimate_shift

SHARED = Path(__file__).parents[2].parent / "shared"


def field(
    shift_xy: tuple[float, float], *, noise: float, seed: int = 0, hw: tuple[int, int] = (300, 400)
) -> np.ndarray:
    """Droplets of 18 to 26 px at random places, each with its own brightness."""
    rng = np.random.default_rng(0)
    picture = np.full(hw, 20.0, np.float32)
    for _ in range(260):
        x, y = rng.uniform(-150, hw[1] + 150), rng.uniform(-150, hw[0] + 150)
        radius, value = rng.uniform(9, 13), rng.uniform(40, 200)
        centre = (round((x + shift_xy[0]) * 16), round((y + shift_xy[1]) * 16))
        cv2.circle(picture, centre, round(radius * 16), value, -1, cv2.LINE_AA, 4)
    return picture + np.random.default_rng(1).normal(0, noise, hw).astype(np.float32)


@pytest.mark.parametrize("shift", [(0, 0), (3, -2), (-41, 30), (78, -60), (95, 70)])
def test_whole_pixel_shifts_are_found(shift: tuple[int, int]) -> None:
    found = estimate_shift(field((0, 0), noise=0), field(shift, noise=15), feature_px=22)
    assert found.rounded_at(*found.middle_xy) == shift
    assert found.reliable


@pytest.mark.parametrize("shift", [(0.25, -0.5), (10.5, 7.75)])
def test_fractions_of_a_pixel_are_found(shift: tuple[float, float]) -> None:
    found = estimate_shift(field((0, 0), noise=0), field(shift, noise=2), feature_px=22)
    assert (found.dx_px, found.dy_px) == pytest.approx(shift, abs=0.2)


def test_big_pictures_are_searched_small_and_refined_at_full_size() -> None:
    hw = (700, 1500)
    found = estimate_shift(field((0, 0), noise=0, hw=hw), field((57, -33), noise=5, hw=hw), feature_px=22)
    assert found.rounded_at(*found.middle_xy) == (57, -33)


def test_a_slight_turn_and_stretch_are_found() -> None:
    hw = (600, 700)
    still, moved = field((0, 0), noise=0, hw=hw), field((20, -12), noise=5, hw=hw)
    turn = cv2.getRotationMatrix2D((350, 300), -0.8, 1.006)  # OpenCV turns from +y towards +x
    found = estimate_shift(still, cv2.warpAffine(moved, turn, hw[::-1], flags=cv2.INTER_CUBIC), feature_px=22)
    assert found.turn_degrees == pytest.approx(0.8, abs=0.05)
    assert found.stretch_percent == pytest.approx(0.6, abs=0.1)
    for x, y in ((60.0, 60.0), (600.0, 500.0), (350.0, 80.0)):
        true = turn @ (x + 20, y - 12, 1) - (x, y)
        assert found.at(x, y) == pytest.approx(true.tolist(), abs=0.6)


def test_a_plain_shift_has_hardly_any_slope() -> None:
    hw = (600, 700)
    found = estimate_shift(field((0, 0), noise=0, hw=hw), field((31, -44), noise=15, hw=hw), feature_px=22)
    assert max(abs(v) for v in found.slopes) < 0.002


def test_perfect_lattice_is_not_reliable() -> None:
    y, x = np.mgrid[:300, :300]
    lattice = ((x % 24 - 12) ** 2 + (y % 24 - 12) ** 2 < 81).astype(np.float32)
    assert not estimate_shift(lattice, np.roll(lattice, (3, 5), (0, 1)), feature_px=18).reliable


def test_unrelated_pictures_are_not_reliable() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(0, 1, (200, 200)) for _ in range(2))
    assert not estimate_shift(a, b, feature_px=10).reliable
    assert not estimate_shift(np.zeros((200, 200)), b, feature_px=10).reliable


def spread(seed: int, n: int, hw: tuple[int, int] = (330, 420)) -> list[tuple[float, float, float]]:
    """Return up to n droplets that do not overlap, as (x, y, radius)."""
    rng = np.random.default_rng(seed)
    placed: list[tuple[float, float, float]] = []
    for _ in range(4000):
        r = rng.uniform(8, 12)
        x, y = rng.uniform(r, hw[1] - r), rng.uniform(r, hw[0] - r)
        if len(placed) < n and all(np.hypot(x - a, y - b) > r + c for a, b, c in placed):
            placed.append((x, y, r))
    return placed


def painted(droplets: list[tuple[float, float, float]], values: np.ndarray) -> np.ndarray:
    picture = np.zeros((330, 420), np.float32)
    for (x, y, r), value in zip(droplets, values, strict=True):
        cv2.circle(picture, (round(x * 16), round(y * 16)), round(r * 16), float(value), -1, cv2.LINE_AA, 4)
    return picture


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n", [30, 150])
def test_droplets_of_two_fields_are_no_pair_and_those_of_one_are(seed: int, n: int) -> None:
    here, elsewhere = spread(seed, n), spread(seed + 1000, n)
    rng = np.random.default_rng(seed)

    def glow(droplets: list[tuple[float, float, float]]) -> np.ndarray:
        values = np.where(rng.random(len(droplets)) < 0.15, 90.0, 8.0)
        picture = painted(droplets, values) + rng.normal(20, 1, (330, 420))
        return np.log(np.maximum(picture - 17, 0) + 1)

    droplets = painted(here, np.ones(len(here)))
    assert not estimate_shift(droplets, glow(elsewhere), feature_px=20).reliable
    shifted = [(x + 12, y - 9, r) for x, y, r in here]
    own = estimate_shift(droplets, glow(shifted), feature_px=20)
    assert own.reliable
    assert own.rounded_at(*own.middle_xy) == (12, -9)


def test_pictures_must_have_one_size() -> None:
    with pytest.raises(InputError, match="same size"):
        estimate_shift(np.zeros((10, 20)), np.zeros((20, 10)), feature_px=5)


def test_real_pair_is_shifted_by_seventy_eight_and_minus_eighty_five() -> None:
    brightfield, fluorescence = (SHARED / "data" / f"ddPCR_0_{i}.png" for i in range(2))
    if not brightfield.exists():
        pytest.skip("needs the shared micrographs beside the repository")
    green = cv2.imread(str(fluorescence), cv2.IMREAD_COLOR)[:, :, 1]
    truth = json.loads((SHARED / "data" / "ddPCR_0_0.circles.json").read_text())
    droplets = np.zeros(green.shape, np.float32)
    for x, y, r in [*truth["circles"], *truth["ignore"]]:
        cv2.circle(droplets, (round(x * 16), round(y * 16)), round(0.95 * r * 16), 1.0, -1, cv2.LINE_AA, 4)
    found = estimate_shift(droplets, np.log(green + 5.0), feature_px=40)
    # Checked by eye: every droplet of the brightfield picture lies on its fluorescent one.
    assert (found.dx_px, found.dy_px) == pytest.approx((78.3, -85.5), abs=1)
    assert found.reliable
