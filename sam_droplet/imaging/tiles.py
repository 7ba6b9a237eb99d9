"""Windows over a big image, so that each object is seen whole in one window and counted in exactly one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from numpy.typing import NDArray

from sam_droplet.imaging.masks import BoxXYXY


@dataclass(frozen=True)
class Tile:
    """One window, both boxes half-open in pixels of the whole image.

    read_xyxy: what is cut out and looked at.
    responsible_xyxy: the part of it whose points belong to this tile and to no other.
    """

    read_xyxy: BoxXYXY
    responsible_xyxy: BoxXYXY

    def cut(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return the tile's part of (H, W, …), a view."""
        x0, y0, x1, y1 = self.read_xyxy
        return pixels[y0:y1, x0:x1]


def cover(image_hw: tuple[int, int], tile_px: int, halo_px: int) -> list[Tile]:
    """Cover an image row by row with tiles that read at most ``tile_px`` pixels a side.

    The responsible boxes are a partition of the image. Every point is at least ``halo_px`` away from those
    edges of its tile's read box that are not edges of the image: an object that reaches at most that far from
    its centre is seen whole by the tile that is responsible for the centre. All read boxes have the same
    shape: tile_px a side, or the image's where that is less. Raises ValueError unless
    0 <= 2 * halo_px < tile_px and the image has a pixel.
    """
    height, width = image_hw
    if height < 1 or width < 1 or halo_px < 0 or tile_px <= 2 * halo_px:
        raise ValueError(
            f"needed: pixels and 0 <= 2 * halo < tile; came: {image_hw=}, {tile_px=}, {halo_px=}"
        )
    columns = _spans(width, tile_px, halo_px)
    return [
        Tile((x.read[0], y.read[0], x.read[1], y.read[1]), (x.own[0], y.own[0], x.own[1], y.own[1]))
        for y in _spans(height, tile_px, halo_px)
        for x in columns
    ]


@dataclass(frozen=True)
class _Span:
    """Start and end of what a tile reads and owns along one axis."""

    read: tuple[int, int]
    own: tuple[int, int]


def _spans(length: int, tile_px: int, halo_px: int) -> list[_Span]:
    if length <= tile_px:
        return [_Span((0, length), (0, length))]
    n_tiles = -(-(length - 2 * halo_px) // (tile_px - 2 * halo_px))
    # Even spacing gives the surplus overlap to all tiles instead of to the last two.
    starts = [i * (length - tile_px) // (n_tiles - 1) for i in range(n_tiles)]
    middles = [(start + following + tile_px) // 2 for start, following in pairwise(starts)]
    edges = [0, *middles, length]
    return [_Span((start, start + tile_px), own) for start, own in zip(starts, pairwise(edges), strict=True)]
