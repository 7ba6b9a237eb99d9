"""Windows over a big image; exactly one window is responsible for each point."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

BoxXYXY = tuple[int, int, int, int]


@dataclass(frozen=True)
class Tile:
    """Name what to read and what to answer for, both half-open pixel boxes (x0, y0, x1, y1).

    The responsible boxes of one cover partition the image; each read box holds its responsible box
    and a halo round it, as far as the image goes.
    """

    read_xyxy: BoxXYXY
    responsible_xyxy: BoxXYXY


def cover(image_hw: tuple[int, int], tile_px: int, halo_px: int) -> list[Tile]:
    """Cover an image with windows of ``tile_px`` that overlap by twice ``halo_px``, row by row.

    All windows have the same shape where the image is large enough: the last ones shift inwards,
    so that a network meets few distinct shapes.
    """
    if tile_px <= 2 * halo_px:
        raise ValueError(f"a tile of {tile_px} px has no room inside its halo of {halo_px} px")
    height, width = image_hw
    rows, columns = _spans(height, tile_px, halo_px), _spans(width, tile_px, halo_px)
    return [
        Tile((rx0, ry0, rx1, ry1), (x0, y0, x1, y1))
        for (ry0, ry1, y0, y1) in rows
        for (rx0, rx1, x0, x1) in columns
    ]


def _spans(length: int, tile: int, halo: int) -> list[tuple[int, int, int, int]]:
    """Return (read start, read end, responsible start, responsible end) along one axis."""
    if length <= tile:
        return [(0, length, 0, length)]
    starts = [*range(0, length - tile, tile - 2 * halo), length - tile]
    # Neighbours meet in the middle of what both read: each keeps at least a halo.
    seams = [0, *((a + tile + b) // 2 for a, b in pairwise(starts)), length]
    return [(start, start + tile, *seam) for start, seam in zip(starts, pairwise(seams), strict=True)]
