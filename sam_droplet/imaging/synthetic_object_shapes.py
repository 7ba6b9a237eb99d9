"""Outlines of things that are not droplets, about the origin: polygons whose union is the thing.

Radii are in px; nothing is drawn here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np

from sam_droplet.imaging.synthetic_layout import FloatArray, unit_vectors

Rng = np.random.Generator
Polygons = tuple[FloatArray, ...]

_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX)
_TEXTS = (
    "100 um",
    "50 um",
    "t = 12.4 s",
    "10x",
    "0042",
    "20us V1.7",
    "A3",
    "ch 2",
    "Sample B",
    "+",
    "488 nm",
)
# Glyphs are traced on a grid this much finer than pixels.
_GLYPH_GRID = 8


def bead(rng: Rng, radius: float) -> Polygons:
    """Return a disc."""
    return (radius * unit_vectors(64),)


def cell(rng: Rng, radius: float) -> Polygons:
    """Return a smooth, slightly elongated closed curve."""
    return (_turned(rng, _wavy(rng, radius, 0.09, 4) * [1.0, rng.uniform(0.6, 1.0)]),)


def blob(rng: Rng, radius: float) -> Polygons:
    """Return an irregular, possibly concave closed curve."""
    return (_turned(rng, _wavy(rng, radius, rng.uniform(0.12, 0.3), 7) * [1.0, rng.uniform(0.4, 1.0)]),)


def crystal(rng: Rng, radius: float) -> Polygons:
    """Return a convex polygon: a grain, a plate or a needle."""
    if rng.random() < 0.4:
        half_width = radius * rng.uniform(0.15, 0.9)
        plate = np.array([[-radius, -half_width], [radius, -half_width], [radius, half_width]])
        return (_turned(rng, np.vstack([plate, [-radius, half_width]])),)
    angle = np.linspace(0, 2 * np.pi, int(rng.integers(4, 8)), endpoint=False)
    angle = angle + rng.uniform(-0.25, 0.25, len(angle))
    points = radius * np.stack([np.cos(angle), np.sin(angle)], 1) * rng.uniform(0.75, 1.1, (len(angle), 1))
    hull = cv2.convexHull(points.astype(np.float32))[:, 0].astype(np.float64)
    return (_turned(rng, hull * [1.0, rng.uniform(0.5, 1.0)]),)


def debris(rng: Rng, radius: float) -> Polygons:
    """Return a ragged flake or a bent fibre."""
    if rng.random() < 0.5:
        return (_turned(rng, _wavy(rng, radius, 0.35, 14) * [1.0, rng.uniform(0.4, 1.0)]),)
    length, thickness = 24, max(1.2, radius * rng.uniform(0.06, 0.2))
    turns = np.cumsum(rng.normal(0, 0.22, length))
    path = np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1), axis=0)
    path = (path - path.mean(axis=0)) * (2.5 * radius / length)
    along = np.gradient(path, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], 1) / np.hypot(*along.T)[:, None] * thickness
    # Quadrangles and round joints: their union has no gaps where the fibre bends or crosses itself.
    pieces = [
        np.array(
            [
                path[i] + across[i],
                path[i + 1] + across[i + 1],
                path[i + 1] - across[i + 1],
                path[i] - across[i],
            ]
        )
        for i in range(length - 1)
    ]
    joints = [point + thickness * unit_vectors(16) for point in path]
    return (*pieces, *joints)


def channel(rng: Rng, radius: float) -> Polygons:
    """Return a part of a chip about ``radius`` px wide: a pillar, a straight channel or a junction."""
    draw = rng.random()
    if draw < 0.45:
        sides = int(rng.choice([3, 4, 4, 6, 8]))
        return (_turned(rng, radius * unit_vectors(sides) * [1.0, rng.uniform(0.5, 1.0)]),)
    far = 4000.0  # beyond any scene
    arms = [np.array([[-far, -radius], [far, -radius], [far, radius], [-far, radius]]) / 2]
    if draw > 0.75:
        half = radius * rng.uniform(0.5, 1.5) / 2
        arms.append(np.array([[-half, 0.0], [half, 0.0], [half, far], [-half, far]]))
    angle = float(rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)]))
    return tuple(arm @ _rotation(angle) for arm in arms)


SHAPES: dict[str, Callable[[Rng, float], Polygons]] = {
    "bead": bead,
    "cell": cell,
    "crystal": crystal,
    "debris": debris,
    "blob": blob,
    "channel": channel,
}


def letters(rng: Rng, size: int) -> Iterator[tuple[Polygons, Polygons]]:
    """Yield the solids and holes of each glyph of a text and its scale bar, placed in a scene."""
    text, font = str(rng.choice(_TEXTS)), int(rng.choice(_FONTS))
    scale = float(np.exp(rng.uniform(np.log(0.5), np.log(2.5))))
    stroke = max(1.0, scale * rng.uniform(1.2, 2.4))
    x, y = rng.uniform(0.02, 0.6) * size, rng.uniform(0.08, 0.92) * size
    left = x
    for glyph in text:
        solids, holes, advance = _glyph(glyph, font, scale, stroke)
        if solids:
            yield _shifted(solids, x, y), _shifted(holes, x, y)
        x += advance
    if rng.random() < 0.6:
        top, thickness = y + 8 * scale, rng.uniform(3, 9)
        bar = np.array([[left, top], [x, top], [x, top + thickness], [left, top + thickness]])
        yield (bar,), ()


def _glyph(glyph: str, font: int, scale: float, stroke: float) -> tuple[Polygons, Polygons, float]:
    """Trace one glyph above its base line: solids, holes, and how far the next one stands off."""
    fine, thickness = scale * _GLYPH_GRID, max(1, round(stroke * _GLYPH_GRID))
    (width, height), below = cv2.getTextSize(glyph, font, fine, thickness)
    pad = 2 * thickness
    stamp = np.zeros((height + below + 2 * pad, width + 2 * pad), np.uint8)
    cv2.putText(stamp, glyph, (pad, pad + height), font, fine, 255, thickness)
    contours, tree = cv2.findContours(stamp, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_TC89_L1)
    solids: list[FloatArray] = []
    holes: list[FloatArray] = []
    for contour, (_, _, _, parent) in zip(contours, tree[0] if tree is not None else [], strict=True):
        points = (contour[:, 0].astype(np.float64) + 0.5 - [pad, pad + height]) / _GLYPH_GRID
        if len(points) >= 3:
            (solids if parent < 0 else holes).append(points)
    return tuple(solids), tuple(holes), width / _GLYPH_GRID


def _shifted(polygons: Polygons, x: float, y: float) -> Polygons:
    return tuple(polygon + np.array([x, y]) for polygon in polygons)


def _wavy(rng: Rng, radius: float, amplitude: float, waves: int) -> FloatArray:
    """Return a closed curve whose radius waves: amplitude is relative, falling with the wave number."""
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    wave = sum(
        rng.normal(0, amplitude / np.sqrt(k)) * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
        for k in range(2, 2 + waves)
    )
    reach = radius * np.maximum(1 + wave / np.sqrt(2), 0.25)
    curve: FloatArray = np.stack([np.cos(angle), np.sin(angle)], 1) * reach[:, None]
    return curve


def _turned(rng: Rng, polygon: FloatArray) -> FloatArray:
    turned: FloatArray = polygon @ _rotation(float(rng.uniform(0, 2 * np.pi)))
    return turned


def _rotation(angle: float) -> FloatArray:
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
