"""Where synthetic droplets lie and what shape they have: exact convex shapes and ways to place them.

No pixel is drawn here; synthetic_optics.py draws, synthetic.py composes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

MAX_FACETS = 6
# Places that a disc is tried at before it is left out.
_TRIES = 25


@dataclass(frozen=True, eq=False)
class Shapes:
    """Hold N convex droplets exactly: an ellipse each, cut by up to six straight facets.

    A point x lies inside shape i where its gauge max(|A_i (x - c_i)|, max_j f_ij . (x - c_i)) < 1.

    centre_xy: (N, 2) image-corner frame. ellipse: (N, 2, 2) matrices A. facets: (N, 6, 2) vectors f,
    zero where unused.
    """

    centre_xy: FloatArray
    ellipse: FloatArray
    facets: FloatArray

    def __len__(self) -> int:
        return len(self.centre_xy)

    def take(self, index: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Shapes:
        """Return the shapes at an index or boolean mask."""
        return Shapes(self.centre_xy[index], self.ellipse[index], self.facets[index])

    def transformed(self, matrix: FloatArray, shift_xy: FloatArray) -> Shapes:
        """Return the shapes after x -> matrix x + shift (matrix (2, 2), any similarity or flip)."""
        inverse = np.linalg.inv(matrix)
        return Shapes(
            self.centre_xy @ matrix.T + shift_xy,
            self.ellipse @ inverse,
            self.facets @ inverse,
        )

    def gauge(self, index: int, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the gauge of shape ``index`` at points: below 1 inside, 1 on the rim."""
        dx, dy = x - self.centre_xy[index, 0], y - self.centre_xy[index, 1]
        a = self.ellipse[index]
        gauge: FloatArray = np.hypot(a[0, 0] * dx + a[0, 1] * dy, a[1, 0] * dx + a[1, 1] * dy)
        for fx, fy in self.facets[index][np.any(self.facets[index] != 0, axis=1)]:
            gauge = np.maximum(gauge, fx * dx + fy * dy)
        return gauge

    def radii(self, n_angles: int = 64) -> FloatArray:
        """Return the distance from centre to rim at equal angles, (N, n_angles), in px."""
        unit = unit_vectors(n_angles)
        stretched_xy = unit @ self.ellipse.transpose(0, 2, 1)  # (N, K, 2)
        gauge = np.hypot(stretched_xy[..., 0], stretched_xy[..., 1])
        facet_gauge = (unit @ self.facets.transpose(0, 2, 1)).max(axis=2)  # (N, K)
        radii: FloatArray = 1.0 / np.maximum(gauge, facet_gauge)
        return radii

    def polygons(self, n_angles: int = 64) -> FloatArray:
        """Return the rims as polygons, (N, n_angles, 2), in the image-corner frame."""
        polygons: FloatArray = self.centre_xy[:, None] + self.radii(n_angles)[..., None] * unit_vectors(
            n_angles
        )
        return polygons

    def equivalent_radii(self) -> FloatArray:
        """Return sqrt(area / pi) of each shape, (N,), in px."""
        radii = self.radii(96)
        sector = 0.5 * radii * np.roll(radii, -1, axis=1) * np.sin(2 * np.pi / 96)
        equivalent: FloatArray = np.sqrt(sector.sum(axis=1) / np.pi)
        return equivalent


def unit_vectors(n_angles: int) -> FloatArray:
    """Return unit vectors at equal angles from +x towards +y, (n_angles, 2)."""
    angle = np.arange(n_angles) * (2 * np.pi / n_angles)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def discs(centre_xy: FloatArray, radius: FloatArray) -> Shapes:
    """Return circular shapes from centres (N, 2) and radii (N,) in px."""
    n = len(centre_xy)
    ellipse = np.eye(2)[None] / np.asarray(radius, float).reshape(n, 1, 1)
    return Shapes(np.asarray(centre_xy, float).reshape(n, 2), ellipse, np.zeros((n, MAX_FACETS, 2)))


def stretched(rng: np.random.Generator, shapes: Shapes, lowest_ratio: float) -> Shapes:
    """Squeeze each disc into an ellipse of the same area with axis ratio down to ``lowest_ratio``."""
    n = len(shapes)
    ratio, angle = rng.uniform(lowest_ratio, 1.0, n), rng.uniform(0, np.pi, n)
    cos, sin = np.cos(angle), np.sin(angle)
    rotate = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], axis=1)  # (N, 2, 2)
    scale = np.zeros((n, 2, 2))
    scale[:, 0, 0], scale[:, 1, 1] = np.sqrt(ratio), 1 / np.sqrt(ratio)
    return replace(shapes, ellipse=scale @ rotate @ shapes.ellipse)


def pressed_flat(shapes: Shapes) -> Shapes:
    """Flatten droplets where they overlap a neighbour, as contact in a dense emulsion does."""
    radius = shapes.equivalent_radii()
    facets = np.zeros_like(shapes.facets)
    for i in range(len(shapes)):
        offset = shapes.centre_xy - shapes.centre_xy[i]
        distance = np.hypot(offset[:, 0], offset[:, 1])
        distance[i] = np.inf
        touching = np.flatnonzero(distance < radius + radius[i])
        nearest = touching[np.argsort(distance[touching])][:MAX_FACETS]
        # The contact plane lies where both caps have the same width (the radical line).
        plane = (distance[nearest] ** 2 + radius[i] ** 2 - radius[nearest] ** 2) / (2 * distance[nearest])
        usable = plane > 0.5 * radius[i]
        normal = offset[nearest] / distance[nearest, None]
        facets[i, : usable.sum()] = normal[usable] / plane[usable, None]
    return replace(shapes, facets=facets)


def hexagonal(
    rng: np.random.Generator, size: int, radius: float, *, pitch: float, jitter: float, vacancy: float
) -> FloatArray:
    """Return centres (N, 2) of a turned hexagonal lattice; ``pitch`` in diameters, ``jitter`` in radii."""
    step = 2 * radius * pitch
    n = int(size * 1.5 / step) + 3
    i, j = np.meshgrid(np.arange(-n, n + 1), np.arange(-n, n + 1), indexing="ij")
    lattice = np.stack([(i + 0.5 * (j % 2)) * step, j * step * np.sqrt(0.75)], -1).reshape(-1, 2)
    angle = rng.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centres = lattice @ turn.T + size / 2 + rng.uniform(-step, step, 2)
    centres = centres[((centres > -radius) & (centres < size + radius)).all(axis=1)]
    centres = centres + rng.normal(0, jitter * radius, centres.shape)
    kept: FloatArray = centres[rng.random(len(centres)) >= vacancy]
    return kept


def array(
    rng: np.random.Generator, size: int, radius: float, *, pitch_xy: tuple[float, float], vacancy: float
) -> FloatArray:
    """Return centres (N, 2) of a slightly turned rectangular array of spots; ``pitch_xy`` in diameters."""
    step = 2 * radius * np.asarray(pitch_xy)
    n = int(size * 0.75 / step.min()) + 3
    i, j = np.meshgrid(np.arange(-n, n + 1), np.arange(-n, n + 1), indexing="ij")
    grid = np.stack([i * step[0], j * step[1]], -1).reshape(-1, 2)
    angle = rng.normal(0, 0.1)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centres = grid @ turn.T + size / 2 + rng.uniform(-step, step)
    centres = centres[((centres > -radius) & (centres < size + radius)).all(axis=1)]
    centres = centres + rng.normal(0, rng.choice([0.0, 0.05]) * radius, centres.shape)
    kept: FloatArray = centres[rng.random(len(centres)) >= vacancy]
    return kept


def scattered(
    rng: np.random.Generator, size: int, radii: FloatArray, *, spacing: float = 1.0
) -> tuple[FloatArray, FloatArray]:
    """Place discs one by one, largest first, without overlap; returns centres (M, 2) and radii (M,).

    ``spacing`` multiplies the sum of two radii: below 1 lets neighbours overlap.
    """
    order = np.sort(radii)[::-1]
    placed_xy, placed_r = np.empty((len(order), 2)), np.empty(len(order))
    n = 0
    for radius in order:
        for _ in range(_TRIES):
            centre = rng.uniform(-radius * 0.6, size + radius * 0.6, 2)
            gap = np.hypot(*(placed_xy[:n] - centre).T) - (placed_r[:n] + radius) * spacing
            if n == 0 or gap.min() > 0:
                placed_xy[n], placed_r[n] = centre, radius
                n += 1
                break
    return placed_xy[:n].copy(), placed_r[:n].copy()


def without_overlaps(centre_xy: FloatArray, radius: FloatArray, overlap: float) -> FloatArray:
    """Shrink radii so that no two discs overlap by more than ``overlap`` of their radius sum."""
    if len(centre_xy) < 2:
        return radius
    shrunk = radius.copy()
    for start in range(0, len(centre_xy), 512):
        block = slice(start, start + 512)
        distance = np.hypot(
            centre_xy[block, None, 0] - centre_xy[None, :, 0],
            centre_xy[block, None, 1] - centre_xy[None, :, 1],
        )
        rows = np.arange(len(distance))
        distance[rows, rows + start] = np.inf
        factor = (distance / ((radius[block, None] + radius[None]) * (1 - overlap))).min(axis=1)
        shrunk[block] = radius[block] * np.minimum(1.0, factor)
    return shrunk


def merged_giants(
    rng: np.random.Generator, centre_xy: FloatArray, radius: FloatArray, share: float
) -> tuple[FloatArray, FloatArray]:
    """Let some droplets swallow their neighbours; volume grows, the swallowed ones vanish."""
    centres, radii = centre_xy.copy(), radius.copy()
    for _ in range(max(1, int(share * len(centres)))):
        if len(centres) < 4:
            break
        i = int(rng.integers(len(centres)))
        radii[i] *= rng.uniform(1.2, 1.9)
        distance = np.hypot(*(centres - centres[i]).T)
        swallowed = (distance > 0) & (distance < (radii + radii[i]) * 0.97)
        centres, radii = centres[~swallowed], radii[~swallowed]
    return centres, radii


def plugs(rng: np.random.Generator, size: int, half_width: float) -> Shapes:
    """Return a train of plugs that a straight channel squeezes from both sides."""
    count = int(rng.integers(2, 9))
    length = rng.uniform(1.05, 2.4, count) * half_width
    gap = rng.uniform(0.3, 2.5) * half_width
    along = np.cumsum(2 * length + gap) - length - rng.uniform(0, size / 2)
    angle = rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)])
    axis, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    start = size / 2 + across * rng.uniform(-0.25, 0.25) * size - axis * size / 2
    shapes = discs(start + along[:, None] * axis, np.ones(count))
    # An ellipse wider than the channel, cut by both walls: blunt ends, straight flanks.
    bulge = rng.uniform(1.02, 1.35) * half_width
    rotate = np.stack([axis, across])
    shapes.ellipse[:] = np.stack([np.diag([1 / half, 1 / bulge]) for half in length]) @ rotate
    shapes.facets[:, 0], shapes.facets[:, 1] = across / half_width, -across / half_width
    return shapes
