"""The shift between two pictures of one field, taken one after the other through different filters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import atan2, degrees, hypot
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from sam_droplet.errors import InputError

Floats = NDArray[np.float32]

_LARGEST_SHIFT_SHARE = 0.25
# The search runs on pictures reduced to this longest side; the peak is then refined at full size.
_SEARCH_SIDE_PX = 640
# A droplet lattice matches itself, and others like it, at every lattice step: the true peak must stand out.
# Wrong pairs stand out by up to 7 %, true ones by 13 % and more where all droplets glow at least a bit.
_PEAK_RATIO_MIN = 1.08
# The best of all shifts between two fields scores up to 0.17 by chance; that of one field 0.2 and more, even
# where a seventh of 150 droplets glows and nothing else does.
_SCORE_MIN = 0.18
_CLIP_SDS = 3.0
# A slight turn or stretch is seen in how the shift changes between parts of the picture this wide.
_PART_FEATURES = 5.0
_PARTS_MIN = 6
_PARTS_MAX_PER_SIDE = 6
# A part may lie this share of a feature away from the common shift; more would be the next droplet.
_PART_REACH_FEATURES = 0.4
_PART_SCORE_MIN = 0.25
# Stronger turns and stretches than this are no drift between two exposures but a wrong fit.
_SLOPE_MAX = 0.05

Slopes = tuple[float, float, float, float]


@dataclass(frozen=True)
class Shift:
    """Say where a point of the reference lies in the moving picture.

    dx_px, dy_px: the shift in the middle of the picture, middle_xy. slopes: how it changes from there,
    (ddx/dx, ddx/dy, ddy/dx, ddy/dy), for a slight turn or stretch; zeros where only a shift was looked for.
    score: normalised cross-correlation at the shift. runner_up: its best value elsewhere.
    reliable: the score is high enough and stands out by 8 % or more.
    """

    dx_px: float
    dy_px: float
    score: float
    runner_up: float
    reliable: bool
    middle_xy: tuple[float, float] = (0.0, 0.0)
    slopes: Slopes = (0.0, 0.0, 0.0, 0.0)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the shift at a point of the reference, in px."""
        u, v = x - self.middle_xy[0], y - self.middle_xy[1]
        xx, xy, yx, yy = self.slopes
        return self.dx_px + xx * u + xy * v, self.dy_px + yx * u + yy * v

    def rounded_at(self, x: float, y: float) -> tuple[int, int]:
        """Return the shift at a point of the reference, in whole pixels."""
        dx, dy = self.at(x, y)
        return round(dx), round(dy)

    @property
    def turn_degrees(self) -> float:
        """Angle by which the moving picture is turned, from +x towards +y."""
        xx, xy, yx, yy = self.slopes
        return degrees(atan2(yx - xy, 2 + xx + yy))

    @property
    def stretch_percent(self) -> float:
        """How much larger the moving picture shows things."""
        xx, xy, yx, yy = self.slopes
        return 100 * (hypot(2 + xx + yy, yx - xy) / 2 - 1)


NO_SHIFT = Shift(0.0, 0.0, 1.0, 0.0, True)


def estimate_shift(reference: NDArray[Any], moving: NDArray[Any], *, feature_px: float) -> Shift:
    """Estimate by how much ``moving`` is shifted against ``reference``.

    reference, moving: (H, W) of the same size, any type, where the same things are bright (a map of the
    droplets, a fluorescence channel). feature_px: diameter of the things that both show. Shifts of up to a
    quarter of each side are sought. Only the overlap counts at every shift (Padfield 2012), so large shifts
    are not at a disadvantage. Sub-pixel by a parabola. Where the shift is reliable, a slight turn and stretch
    follow from the shifts of parts of the picture.
    """
    if reference.shape != moving.shape or reference.ndim != 2:
        raise InputError(
            f"Both pictures of a field must have the same size, not {reference.shape[::-1]} and "
            f"{moving.shape[::-1]}; choose the pair again."
        )
    scale = min(1.0, _SEARCH_SIDE_PX / max(reference.shape), max(6.0 / feature_px, 0.05) * 2)
    small = [_band_passed(_reduced(p, scale), feature_px * scale) for p in (reference, moving)]
    surface = _correlation_surface(small[0], small[1])
    (dx, dy), score, runner_up = _peak(surface, feature_px * scale)
    full = small
    if scale < 1:
        full = [_band_passed(_reduced(p, 1.0), feature_px) for p in (reference, moving)]
    x, y, score_full = _refined(full[0], full[1], (dx / scale, dy / scale), 2 / scale)
    reliable = score >= _SCORE_MIN and score >= _PEAK_RATIO_MIN * max(runner_up, 1e-9)
    middle_xy = reference.shape[1] / 2, reference.shape[0] / 2
    shift = Shift(x, y, score_full, runner_up, bool(reliable), middle_xy)
    return _with_slopes(full[0], full[1], shift, feature_px) if reliable else shift


def _with_slopes(a: Floats, b: Floats, shift: Shift, feature_px: float) -> Shift:
    """Fit a plane to the shifts of parts of the picture; the plain shift where too few parts agree."""
    found = np.array(_part_shifts(a, b, shift, feature_px), np.float64).reshape(-1, 4)  # x, y, dx, dy
    for _ in range(3):
        if len(found) < _PARTS_MIN:
            return shift
        design = np.column_stack([np.ones(len(found)), found[:, :2] - shift.middle_xy])
        plane = np.linalg.lstsq(design, found[:, 2:], rcond=None)[0]  # (3, 2)
        away = np.hypot(*(found[:, 2:] - design @ plane).T)
        near = away <= max(1.0, 2.5 * float(np.median(away)))
        if near.all():
            break
        found = found[near]
    (dx, dy), (xx, yx), (xy, yy) = plane.tolist()
    spread = np.ptp(found[:, :2], axis=0)
    if max(abs(v) for v in (xx, xy, yx, yy)) > _SLOPE_MAX or min(spread) < 0.4 * min(a.shape):
        return shift
    return replace(shift, dx_px=dx, dy_px=dy, slopes=(xx, xy, yx, yy))


def _part_shifts(
    a: Floats, b: Floats, shift: Shift, feature_px: float
) -> list[tuple[float, float, float, float]]:
    """Return (x, y, dx, dy) for the parts of the reference that lie wholly in the moving picture."""
    height, width = a.shape
    reach = max(1, round(_PART_REACH_FEATURES * feature_px))
    columns, rows = (
        min(_PARTS_MAX_PER_SIDE, int(n / (_PART_FEATURES * feature_px))) for n in (width, height)
    )
    found = []
    for row in range(rows):
        for column in range(columns):
            x0, y0 = column * width // columns, row * height // rows
            x1, y1 = (column + 1) * width // columns, (row + 1) * height // rows
            left, top = x0 + round(shift.dx_px) - reach, y0 + round(shift.dy_px) - reach
            window = b[max(top, 0) : y1 + top - y0 + 2 * reach, max(left, 0) : x1 + left - x0 + 2 * reach]
            if left < 0 or top < 0 or window.shape != (y1 - y0 + 2 * reach, x1 - x0 + 2 * reach):
                continue
            surface = cv2.matchTemplate(window, a[y0:y1, x0:x1], cv2.TM_CCOEFF_NORMED)
            best = _inner_peak(np.asarray(surface, np.float64))
            if best is not None:
                dx, dy = left - x0 + best[0], top - y0 + best[1]
                found.append(((x0 + x1) / 2, (y0 + y1) / 2, dx, dy))
    return found


def _inner_peak(surface: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the sub-pixel place (x, y) of the best value; None where it is weak or lies on the border."""
    y, x = divmod(int(np.argmax(surface)), surface.shape[1])
    top = float(surface[y, x])
    inside = 0 < x < surface.shape[1] - 1 and 0 < y < surface.shape[0] - 1
    if not inside or top < _PART_SCORE_MIN:
        return None
    return (
        x + _parabola_top(float(surface[y, x - 1]), top, float(surface[y, x + 1])),
        y + _parabola_top(float(surface[y - 1, x]), top, float(surface[y + 1, x])),
    )


def _reduced(pixels: NDArray[Any], scale: float) -> Floats:
    floats = np.ascontiguousarray(pixels, np.float32)
    if scale >= 1:
        return floats
    return np.asarray(cv2.resize(floats, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.float32)


def _band_passed(pixels: Floats, feature_px: float) -> Floats:
    """Keep structure of the features' size, at the same strength everywhere in the picture."""
    fine, coarse = max(0.08 * feature_px, 0.5), 0.4 * feature_px
    band = cv2.GaussianBlur(pixels, (0, 0), fine) - cv2.GaussianBlur(pixels, (0, 0), coarse)
    local_sd = np.sqrt(cv2.GaussianBlur(band * band, (0, 0), max(feature_px, 2.0)))
    floor = 1e-3 * float(np.abs(band).max()) + 1e-12
    return np.asarray(np.clip(band / (local_sd + floor), -_CLIP_SDS, _CLIP_SDS), np.float32)


def _correlation_surface(a: Floats, b: Floats) -> NDArray[np.float64]:
    """Return the normalised cross-correlation for every shift, (2*Ry + 1, 2*Rx + 1), zero in the middle."""
    height, width = a.shape
    reach = max(1, int(height * _LARGEST_SHIFT_SHARE)), max(1, int(width * _LARGEST_SHIFT_SHARE))
    size = [fft.next_fast_len(n + r, real=True) for n, r in zip(a.shape, reach, strict=True)]
    ones = np.ones_like(a)

    def transformed(x: Floats) -> NDArray[np.complex64]:
        return np.asarray(fft.rfft2(x, size))

    def correlated(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
        full = fft.irfft2(np.conj(x) * y, size).astype(np.float64)
        rolled = np.roll(full, reach, axis=(0, 1))
        return np.asarray(rolled[: 2 * reach[0] + 1, : 2 * reach[1] + 1])

    fa, fa2, fb, fb2, f1 = (transformed(x) for x in (a, a * a, b, b * b, ones))
    n = correlated(f1, f1)
    sum_a, sum_b = correlated(fa, f1), correlated(f1, fb)
    var_a = correlated(fa2, f1) - sum_a**2 / n
    var_b = correlated(f1, fb2) - sum_b**2 / n
    spread = np.sqrt(np.maximum(var_a, 1e-6) * np.maximum(var_b, 1e-6))
    return np.asarray((correlated(fa, fb) - sum_a * sum_b / n) / spread)


def _peak(surface: NDArray[np.float64], feature_px: float) -> tuple[tuple[int, int], float, float]:
    """Return the best shift (dx, dy), its value, and the best value half a feature away and farther."""
    rows, columns = surface.shape
    y, x = divmod(int(np.argmax(surface)), columns)
    apart = max(3.0, feature_px / 2)
    yy, xx = np.ogrid[:rows, :columns]
    elsewhere = surface[(yy - y) ** 2 + (xx - x) ** 2 > apart**2]
    runner_up = float(elsewhere.max()) if elsewhere.size else 0.0
    return (x - columns // 2, y - rows // 2), float(surface[y, x]), runner_up


def _refined(a: Floats, b: Floats, start_xy: tuple[float, float], reach: float) -> tuple[float, float, float]:
    """Climb to the best whole-pixel shift near the start, then to the top of a parabola."""
    seen: dict[tuple[int, int], float] = {}

    def value(x: int, y: int) -> float:
        if (x, y) not in seen:
            seen[x, y] = _overlap_correlation(a, b, x, y)
        return seen[x, y]

    x, y = round(start_xy[0]), round(start_xy[1])
    for _ in range(int(4 * reach) + 4):
        best = max(((x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1)), key=lambda s: value(s[0], s[1]))
        if best == (x, y):
            break
        x, y = best
    top = value(x, y)
    sub_x = _parabola_top(value(x - 1, y), top, value(x + 1, y))
    sub_y = _parabola_top(value(x, y - 1), top, value(x, y + 1))
    return x + sub_x, y + sub_y, top


def _overlap_correlation(a: Floats, b: Floats, dx: int, dy: int) -> float:
    height, width = a.shape
    if abs(dx) >= width or abs(dy) >= height:
        return -1.0
    part_a = a[max(-dy, 0) : height - max(dy, 0), max(-dx, 0) : width - max(dx, 0)]
    part_b = b[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)]
    a0, b0 = part_a - part_a.mean(), part_b - part_b.mean()
    spread = float(np.sqrt((a0 * a0).sum() * (b0 * b0).sum()))
    return float((a0 * b0).sum()) / spread if spread > 0 else 0.0


def _parabola_top(left: float, middle: float, right: float) -> float:
    """Return the offset in [-0.5, 0.5] of the top of a parabola through three neighbours."""
    bend = left - 2 * middle + right
    return float(np.clip((left - right) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0
