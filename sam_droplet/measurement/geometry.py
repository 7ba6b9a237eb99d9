"""Shape of one mask from its pixels: moments, Crofton perimeter, Feret diameters, convex hull.

Every length is in pixels; the definitions and their sources are in docs/measurements.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging.masks import Mask

Bits = NDArray[np.bool_]

# Weight of each 2x2 neighbourhood in the 4-direction Crofton perimeter (S. Rivollier, thesis,
# ENSM Saint-Etienne 2010). Index = pixel + 2*above + 4*left + 8*above-left; the order of the
# table and of the sum is scikit-image's, so that both give the same float.
_R2 = sqrt(2)
_CROFTON_4 = np.array(
    [
        *(0, pi / 4 * (1 + 1 / _R2), pi / (4 * _R2), pi / (2 * _R2)),
        *(0, pi / 4 * (1 + 1 / _R2), 0, pi / (4 * _R2)),
        *(pi / 4, pi / 2, pi / (4 * _R2), pi / (4 * _R2)),
        *(pi / 4, pi / 2, 0, 0),
    ]
)


@dataclass(frozen=True)
class Shape:
    """Geometry of one mask in the image-corner frame."""

    center_x_px: float
    center_y_px: float
    area_px: int
    diameter_px: float
    circularity: float
    feret_max_px: float
    feret_min_px: float
    aspect_ratio: float
    eccentricity: float
    solidity: float
    touches_edge: bool
    edge_distance_px: int


def measure_shape(mask: Mask, image_hw: tuple[int, int]) -> Shape:
    """Measure one mask inside an image of ``image_hw`` = (height, width)."""
    bits = mask.bits
    area = mask.area_px
    x0, y0 = mask.box_xyxy[:2]
    moments = cv2.moments(bits.view(np.uint8), binaryImage=True)
    minor, major = _axes_px(moments, area)
    hull = hull_xy(bits)
    feret_max, feret_min = feret_px(hull)
    distance = _edge_distance_px(mask, image_hw)
    return Shape(
        center_x_px=x0 + moments["m10"] / area + 0.5,
        center_y_px=y0 + moments["m01"] / area + 0.5,
        area_px=area,
        diameter_px=equivalent_diameter_px(area),
        circularity=circularity(area, perimeter_crofton_px(bits)),
        feret_max_px=feret_max,
        feret_min_px=feret_min,
        aspect_ratio=major / minor,
        eccentricity=sqrt(max(0.0, 1 - (minor / major) ** 2)),
        solidity=min(1.0, area / _polygon_area_px(hull)),
        touches_edge=distance == 0,
        edge_distance_px=distance,
    )


def equivalent_diameter_px(area_px: float) -> float:
    """Return the diameter of the disc of this area, 2*sqrt(A/pi)."""
    return 2 * sqrt(area_px / pi)


def circularity(area_px: float, perimeter_px: float) -> float:
    """Return min(1, 4*pi*A/P^2): 1 for a disc, with P the Crofton perimeter."""
    return min(1.0, 4 * pi * area_px / perimeter_px**2)


def perimeter_crofton_px(bits: Bits) -> float:
    """Return the 4-direction Crofton perimeter of an (H, W) bool array.

    Same number as ``skimage.measure.perimeter_crofton(bits, directions=4)``.
    """
    height, width = bits.shape
    padded = np.zeros((height + 2, width + 2), np.uint8)
    padded[1:-1, 1:-1] = bits
    codes = padded[1:, 1:] + 2 * padded[:-1, 1:] + 4 * padded[1:, :-1] + 8 * padded[:-1, :-1]
    return float(_CROFTON_4 @ np.bincount(codes.ravel(), minlength=16))


def hull_xy(bits: Bits) -> NDArray[np.float64]:
    """Return the convex hull of the pixels' edge midpoints, (K, 2) in the crop's corner frame.

    Midpoints are scikit-image's choice too: pixel corners make small discs up to 9 % too long,
    pixel centres up to 8 % too short.
    """
    height, width = bits.shape
    rows = np.flatnonzero(bits.any(axis=1))
    columns = np.flatnonzero(bits.any(axis=0))
    in_rows, in_columns = bits[rows], bits[:, columns]
    left, right = in_rows.argmax(axis=1), width - in_rows[:, ::-1].argmax(axis=1)
    top, bottom = in_columns.argmax(axis=0), height - in_columns[::-1].argmax(axis=0)
    x = np.concatenate([left, right, columns + 0.5, columns + 0.5])
    y = np.concatenate([rows + 0.5, rows + 0.5, top, bottom])
    points = np.stack([x, y], axis=1).astype(np.float32)  # (2 * (rows + columns), 2)
    return np.asarray(cv2.convexHull(points)).reshape(-1, 2).astype(np.float64)


def feret_px(hull: NDArray[np.float64]) -> tuple[float, float]:
    """Return the largest and the smallest caliper width of a convex polygon (K, 2)."""
    x, y = hull[:, 0], hull[:, 1]
    longest = float(np.max((x[:, None] - x) ** 2 + (y[:, None] - y) ** 2)) ** 0.5
    edge_x, edge_y = _next(x) - x, _next(y) - y
    # The narrowest position of a caliper always has one jaw flat on an edge of the hull.
    heights = np.abs(edge_x * (y[:, None] - y) - edge_y * (x[:, None] - x))  # (K points, K edges)
    return longest, float(np.min(heights.max(axis=0) / np.hypot(edge_x, edge_y)))


def feret_xy_px(mask: Mask) -> tuple[int, int]:
    """Return the widths along x and y: those of the smallest upright box around the pixels."""
    rows, columns = np.flatnonzero(mask.bits.any(axis=1)), np.flatnonzero(mask.bits.any(axis=0))
    return int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)


def _axes_px(moments: dict[str, float], area: int) -> tuple[float, float]:
    """Return minor and major axis of the ellipse with the mask's second moments."""
    # 1/12 is a unit square's own second moment: without it a line one pixel wide has no width.
    xx, yy = moments["mu20"] / area + 1 / 12, moments["mu02"] / area + 1 / 12
    xy = moments["mu11"] / area
    mean, spread = (xx + yy) / 2, sqrt(((xx - yy) / 2) ** 2 + xy**2)
    return 4 * sqrt(max(mean - spread, 1 / 12)), 4 * sqrt(mean + spread)


def _polygon_area_px(points: NDArray[np.float64]) -> float:
    x, y = points[:, 0], points[:, 1]
    return abs(float(np.dot(x, _next(y)) - np.dot(_next(x), y))) / 2


def _next(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each vertex's successor around a closed polygon; ``np.roll`` without its overhead."""
    return np.concatenate((values[1:], values[:1]))


def _edge_distance_px(mask: Mask, image_hw: tuple[int, int]) -> int:
    """Return how many pixels lie between the mask and the nearest image border."""
    x0, y0, x1, y1 = mask.box_xyxy
    bits = mask.bits
    if not (bits[0].any() and bits[-1].any() and bits[:, 0].any() and bits[:, -1].any()):
        rows, columns = np.flatnonzero(bits.any(axis=1)), np.flatnonzero(bits.any(axis=0))
        x0, x1 = x0 + int(columns[0]), x0 + int(columns[-1]) + 1
        y0, y1 = y0 + int(rows[0]), y0 + int(rows[-1]) + 1
    height, width = image_hw
    return min(x0, y0, width - x1, height - y1)
