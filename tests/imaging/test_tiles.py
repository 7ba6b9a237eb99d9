"""Tiles cover every pixel once, see every object whole, and lose or double none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_droplet.imaging.masks import Mask, iou, mask_from_bits
from sam_droplet.imaging.tiles import Tile, cover

SIDES = st.integers(1, 700)
HALOS = st.integers(0, 40)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[tuple[int, int], int, int]:
    halo_px = draw(HALOS)
    return (draw(SIDES), draw(SIDES)), 2 * halo_px + draw(st.integers(1, 200)), halo_px


@settings(max_examples=200, deadline=None)
@given(layouts())
def test_responsible_boxes_are_a_partition(layout: tuple[tuple[int, int], int, int]) -> None:
    (height, width), tile_px, halo_px = layout
    if height * width // (tile_px - 2 * halo_px) ** 2 > 3000:
        tile_px += 100
    count = np.zeros((height, width), np.uint8)
    for tile in cover((height, width), tile_px, halo_px):
        x0, y0, x1, y1 = tile.responsible_xyxy
        assert x0 < x1
        assert y0 < y1
        count[y0:y1, x0:x1] += 1
    assert count.min() == count.max() == 1


@settings(max_examples=200, deadline=None)
@given(layouts())
def test_every_point_is_a_halo_away_from_inner_edges_and_reads_share_one_shape(
    layout: tuple[tuple[int, int], int, int],
) -> None:
    (height, width), tile_px, halo_px = layout
    tiles = cover((height, width), tile_px + 60, halo_px)
    shapes = set()
    for tile in tiles:
        x0, y0, x1, y1 = tile.read_xyxy
        own_x0, own_y0, own_x1, own_y1 = tile.responsible_xyxy
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        assert x0 == 0 or own_x0 - x0 >= halo_px
        assert y0 == 0 or own_y0 - y0 >= halo_px
        assert x1 == width or x1 - own_x1 >= halo_px
        assert y1 == height or y1 - own_y1 >= halo_px
        shapes.add((y1 - y0, x1 - x0))
    assert shapes == {(min(height, tile_px + 60), min(width, tile_px + 60))}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(30, 260),
    st.integers(30, 260),
    st.integers(2, 12),
    st.integers(1, 90),
    st.lists(st.tuples(st.floats(0, 0.999), st.floats(0, 0.999), st.floats(0.8, 1)), min_size=1, max_size=12),
)
def test_cut_find_and_reassemble_gives_every_object_exactly_once(
    height: int, width: int, halo_px: int, core_px: int, seeds: list[tuple[float, float, float]]
) -> None:
    y, x = np.mgrid[:height, :width] + 0.5
    objects = []
    for share_x, share_y, share_r in seeds:
        centre = (share_x * width, share_y * height)
        bits = np.hypot(x - centre[0], y - centre[1]) <= share_r * halo_px
        mask = mask_from_bits(bits, 1.0)
        if mask is not None:
            objects.append((centre, mask, bits))
    found: list[Mask] = []
    for tile in cover((height, width), core_px + 2 * halo_px, halo_px):
        for centre, _, bits in objects:
            seen = mask_from_bits(tile.cut(bits), 1.0, offset_xy=tile.read_xyxy[:2])
            if seen is not None and _owns(tile, *centre):
                found.append(seen)
    assert len(found) == len(objects)
    unmatched = [mask for _, mask, _ in objects]
    for seen in found:
        twin = next(
            i for i, mask in enumerate(unmatched) if mask.box_xyxy == seen.box_xyxy and iou(mask, seen) == 1
        )
        del unmatched[twin]
    assert unmatched == []


def _owns(tile: Tile, x: float, y: float) -> bool:
    x0, y0, x1, y1 = tile.responsible_xyxy
    return x0 <= x < x1 and y0 <= y < y1


def test_small_image_is_one_tile() -> None:
    (tile,) = cover((300, 500), 512, 64)
    assert tile.read_xyxy == tile.responsible_xyxy == (0, 0, 500, 300)


def test_big_image_needs_no_more_tiles_than_necessary() -> None:
    tiles = cover((10_000, 10_000), 1024, 128)
    assert len(tiles) == 13 * 13  # ceil((10000 - 256) / 768) a side


@pytest.mark.parametrize(
    ("image_hw", "tile_px", "halo_px"), [((0, 5), 10, 1), ((5, 5), 10, 5), ((5, 5), 10, -1)]
)
def test_impossible_layouts_are_refused(image_hw: tuple[int, int], tile_px: int, halo_px: int) -> None:
    with pytest.raises(ValueError, match="halo"):
        cover(image_hw, tile_px, halo_px)
