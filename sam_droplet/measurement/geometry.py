"""Shapes of masks from their pixels: moments, Crofton perimeter, Feret diameters, convex hull.

Every length is in pixels; the definitions and their sources are in docs/measurements.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import pi, sqrt

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging.masks import Mask
from sam_droplet.measurement.stacks import stack_bits

Bits = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

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

# The middles of a pixel's four edges, from its upper left corner.
_MIDPOINTS_XY = np.array([(0.0, 0.5), (0.5, 0.0), (1.0, 0.5), (0.5, 1.0)])


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


@dataclass(frozen=True, eq=False)
class _Runs:
    """Hold what each row of some masks covers: runs of pixels from ``start`` to ``end``, not included.

    mask, row, start, end: (R,), sorted by mask, row and start; mask i has the runs from first[i] on.
    """

    mask: Ints
    row: Ints
    start: Ints
    end: Ints
    first: Ints

    @classmethod
    def of(cls, stack: Bits) -> _Runs:
        """Find the runs of each mask of a stack (N, H, W) with a margin of False around."""
        _, height, width = stack.shape
        flat = stack.ravel()
        turns = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        lines, start = np.divmod(turns[::2], width)
        mask, row = np.divmod(lines, height)
        return cls(
            mask, row, start, turns[1::2] - lines * width, np.searchsorted(mask, np.arange(len(stack)))
        )

    def sums(self, values: NDArray[np.number]) -> Floats:
        """Add up one value per run for each mask, (R,) -> (N,)."""
        return np.asarray(np.add.reduceat(values.astype(np.float64), self.first))


def shapes_alike(masks: Sequence[Mask], image_hw: tuple[int, int]) -> list[Shape]:
    """Measure masks of about the same size inside an image of (height, width), in their order."""
    stack = stack_bits(masks, 1)
    runs = _Runs.of(stack)
    origin_xy = np.array([mask.box_xyxy[:2] for mask in masks]) - 1
    area, x, y, minor, major = _moments(runs)
    feret_max, feret_min, hull_area = _measure_hulls(_hulls_xy(runs))
    columns = (
        x + origin_xy[:, 0],
        y + origin_xy[:, 1],
        np.array(_perimeters_crofton_px(stack)),
        feret_max,
        feret_min,
        major / minor,
        np.sqrt(np.maximum(0.0, 1 - (minor / major) ** 2)),
        np.minimum(1.0, area / hull_area),
        _edge_distances_px(runs, origin_xy, image_hw),
    )
    rows = zip(masks, *(column.tolist() for column in columns), strict=True)
    return [_shape(*row) for row in rows]


def _shape(
    mask: Mask,
    center_x_px: float,
    center_y_px: float,
    perimeter_px: float,
    feret_max_px: float,
    feret_min_px: float,
    aspect_ratio: float,
    eccentricity: float,
    solidity: float,
    edge_distance_px: int,
) -> Shape:
    return Shape(
        center_x_px=center_x_px,
        center_y_px=center_y_px,
        area_px=mask.area_px,
        diameter_px=equivalent_diameter_px(mask.area_px),
        circularity=circularity(mask.area_px, perimeter_px),
        feret_max_px=feret_max_px,
        feret_min_px=feret_min_px,
        aspect_ratio=aspect_ratio,
        eccentricity=eccentricity,
        solidity=solidity,
        touches_edge=edge_distance_px == 0,
        edge_distance_px=edge_distance_px,
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
    return _perimeters_crofton_px(np.pad(bits, 1)[None])[0]


def _perimeters_crofton_px(stack: Bits) -> list[float]:
    """Return the perimeters of a stack of masks (N, H, W) with a margin of False around."""
    ones = stack.view(np.uint8)
    codes = ones[:, 1:, 1:] + 2 * ones[:, :-1, 1:] + 4 * ones[:, 1:, :-1] + 8 * ones[:, :-1, :-1]
    return [float(_CROFTON_4 @ np.bincount(part, minlength=16)) for part in codes.reshape(len(stack), -1)]


def _moments(runs: _Runs) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Return area, centre x and y, and minor and major axis of the ellipse with the same second moments."""
    length = runs.end - runs.start
    middle = (runs.start + runs.end - 1) / 2
    area = runs.sums(length)
    x, y = runs.sums(length * middle) / area, runs.sums(length * runs.row) / area
    dx, dy = middle - x[runs.mask], runs.row - y[runs.mask]
    # 1/12 is a unit square's own second moment, and that of a run of pixels is length**2/12: without
    # it, a line one pixel wide has no width.
    xx = runs.sums(length * (dx**2 + length.astype(np.float64) ** 2 / 12)) / area
    yy = runs.sums(length * dy**2) / area + 1 / 12
    xy = runs.sums(length * dx * dy) / area
    mean, spread = (xx + yy) / 2, np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    minor = 4 * np.sqrt(np.maximum(mean - spread, 1 / 12))
    return area, x + 0.5, y + 0.5, minor, 4 * np.sqrt(mean + spread)


def _hulls_xy(runs: _Runs) -> Floats:
    """Return the convex hulls of the pixels' edge midpoints, (N, K, 2) in the stack's frame.

    Midpoints are scikit-image's choice too: pixel corners make small discs up to 9 % too long,
    pixel centres up to 8 % too short. Hulls with fewer vertices than K repeat the last one.
    """
    mask, pixel_xy = _corner_pixels(runs)
    points = (pixel_xy[:, None] + _MIDPOINTS_XY).astype(np.float32)  # (P, 4, 2)
    bounds = [*np.searchsorted(mask, np.arange(len(runs.first))).tolist(), len(points)]
    hulls = [cv2.convexHull(points[first:last].reshape(-1, 2))[:, 0] for first, last in pairwise(bounds)]
    counts = np.array([len(hull) for hull in hulls])
    vertex = np.minimum(np.arange(counts.max()), counts[:, None] - 1)  # (N, K)
    vertices = np.concatenate(hulls).astype(np.float64)
    return np.asarray(vertices[vertex + (np.cumsum(counts) - counts)[:, None]])


def _corner_pixels(runs: _Runs) -> tuple[Ints, Ints]:
    """Return the pixels that may be corners of a hull, (P,) masks in order and (P, 2) places x, y.

    They are the two ends of each row, but for those that do not stick out between the ends of the
    rows above and below.
    """
    follows = (np.diff(runs.mask) == 0) & (np.diff(runs.row) == 0)
    opens, closes = np.append(True, ~follows), np.append(~follows, True)
    mask, row = runs.mask[opens], runs.row[opens]
    left, right = runs.start[opens], runs.end[closes] - 1
    inner = (mask[2:] == mask[:-2]) & (row[2:] == row[:-2] + 2)
    corners = []
    for end, outwards in ((left, -1), (right, 1)):
        sticks_out = np.ones(len(end), bool)
        sticks_out[1:-1] = ~inner | (outwards * (2 * end[1:-1] - end[:-2] - end[2:]) > 0)
        corners.append(np.stack([mask, end, row], axis=1)[sticks_out])
    found = np.concatenate(corners)
    found = found[np.argsort(found[:, 0], kind="stable")]
    return found[:, 0], found[:, 1:]


def _measure_hulls(hulls: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the largest and the smallest caliper width and the area of convex polygons (N, K, 2)."""
    x, y = hulls[..., 0], hulls[..., 1]
    x_next, y_next = np.roll(x, -1, axis=1), np.roll(y, -1, axis=1)
    # |p - q|^2 = |p|^2 - 2 p.q + |q|^2 as one product; exact, as coordinates are multiples of a half.
    squares, ones = x**2 + y**2, np.ones_like(x)
    left, right = np.stack([x, y, ones, squares], axis=2), np.stack([-2 * x, -2 * y, squares, ones], axis=1)
    longest = np.sqrt((left @ right).max(axis=(1, 2)))
    # The narrowest position of a caliper always has one jaw flat on an edge of the hull.
    normals = np.stack([y - y_next, x_next - x, x * y_next - x_next * y], axis=2)
    heights = np.abs(normals @ np.stack([x, y, ones], axis=1)).max(axis=2)  # (N, K edges, K points), (N, K)
    lengths = np.hypot(normals[..., 0], normals[..., 1])
    widths = np.divide(heights, lengths, out=np.full_like(heights, np.inf), where=lengths > 0)
    area = np.abs(normals[..., 2].sum(axis=1)) / 2
    return longest, widths.min(axis=1), area


def feret_xy_px(mask: Mask) -> tuple[int, int]:
    """Return the widths along x and y: those of the smallest upright box around the pixels."""
    rows, columns = np.flatnonzero(mask.bits.any(axis=1)), np.flatnonzero(mask.bits.any(axis=0))
    return int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)


def _edge_distances_px(runs: _Runs, origin_xy: Ints, image_hw: tuple[int, int]) -> Ints:
    """Return how many pixels lie between each mask and the nearest image border."""
    last = np.append(runs.first[1:], len(runs.row)) - 1
    left = origin_xy[:, 0] + np.minimum.reduceat(runs.start, runs.first)
    right = origin_xy[:, 0] + np.maximum.reduceat(runs.end, runs.first)
    top, bottom = origin_xy[:, 1] + runs.row[runs.first], origin_xy[:, 1] + runs.row[last] + 1
    return np.asarray(np.minimum.reduce([left, top, image_hw[1] - right, image_hw[0] - bottom]))
