"""Exact outlines of things to point at, and scenes that hold them: filled, moved, saved and loaded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging.masks import mask_from_polygon
from sam_droplet.imaging.synthetic_layout import FloatArray

KINDS = ("droplet", "group", "bead", "cell", "crystal", "debris", "blob", "channel", "letter")


@dataclass(frozen=True, eq=False)
class Outline:
    """Hold one thing exactly: the union of solid polygons without its holes, in the image-corner frame."""

    kind: str
    solids: tuple[FloatArray, ...]
    holes: tuple[FloatArray, ...] = ()

    @property
    def box_xyxy(self) -> FloatArray:
        """Bounding box, (4,)."""
        points = np.concatenate(self.solids)
        return np.concatenate([points.min(axis=0), points.max(axis=0)])

    @cached_property
    def box_area_px(self) -> float:
        """Area of the bounding box."""
        x0, y0, x1, y1 = self.box_xyxy
        return float((x1 - x0) * (y1 - y0))

    def transformed(self, matrix: FloatArray, shift_xy: FloatArray) -> Outline:
        """Return the outline after x -> matrix x + shift."""

        def moved(polygons: tuple[FloatArray, ...]) -> tuple[FloatArray, ...]:
            return tuple(polygon @ matrix.T + shift_xy for polygon in polygons)

        return Outline(self.kind, moved(self.solids), moved(self.holes))

    def cut(self, image_hw: tuple[int, int]) -> tuple[slice, slice, NDArray[np.bool_]] | None:
        """Return rows, columns and (h, w) pixels of the thing in its box; None where none is in the image.

        A pixel belongs to the thing if its centre lies inside.
        """
        low, high = np.split(self.box_xyxy, 2)
        x0, y0 = np.maximum(np.floor(low).astype(int), 0)
        x1, y1 = np.minimum(np.ceil(high).astype(int), image_hw[::-1])
        if x1 <= x0 or y1 <= y0:
            return None
        bits = np.zeros((int(y1 - y0), int(x1 - x0)), bool)
        for polygons, value in ((self.solids, True), (self.holes, False)):
            for polygon in polygons:
                mask = mask_from_polygon(polygon - (x0, y0), 1.0, (bits.shape[0], bits.shape[1]))
                if mask is not None:
                    left, top, right, bottom = mask.box_xyxy
                    bits[top:bottom, left:right][mask.bits] = value
        return slice(int(y0), int(y1)), slice(int(x0), int(x1)), bits

    def filled(self, image_hw: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the thing's pixels in the whole image, (H, W)."""
        whole = np.zeros(image_hw, bool)
        cut = self.cut(image_hw)
        if cut is not None:
            rows, columns, bits = cut
            whole[rows, columns] = bits
        return whole


@dataclass(frozen=True, eq=False)
class PromptScene:
    """Hold a micrograph, (H, W, 3) uint8, and everything in it that one can point at."""

    pixels: NDArray[np.uint8]
    things: tuple[Outline, ...]

    @cached_property
    def boxes_xyxy(self) -> FloatArray:
        """Bounding boxes of the things, (N, 4)."""
        return np.array([thing.box_xyxy for thing in self.things], np.float64).reshape(-1, 4)

    def save(self, path: Path) -> None:
        """Write ``path``.npy with the pixels and, last, ``path``.npz with the outlines."""
        np.save(path.with_suffix(".npy"), self.pixels)
        rings = [
            (polygon, i, hole)
            for i, thing in enumerate(self.things)
            for hole, polygons in enumerate((thing.solids, thing.holes))
            for polygon in polygons
        ]
        temporary = path.with_suffix(".tmp.npz")
        np.savez(
            temporary,
            points=np.concatenate([r[0] for r in rings] or [np.empty((0, 2))]).astype(np.float32),
            lengths=np.array([len(r[0]) for r in rings], np.int64),
            thing=np.array([r[1] for r in rings], np.int64),
            hole=np.array([r[2] for r in rings], bool),
            kinds=np.array([KINDS.index(thing.kind) for thing in self.things], np.int64),
        )
        temporary.replace(path.with_suffix(".npz"))

    @classmethod
    def load(cls, path: Path) -> PromptScene:
        """Read what ``save`` wrote; pixels stay on disk until they are cut."""
        pixels = np.load(path.with_suffix(".npy"), mmap_mode="r")
        with np.load(path.with_suffix(".npz")) as file:
            stored = {name: file[name] for name in file.files}
        polygons = np.split(stored["points"].astype(np.float64), np.cumsum(stored["lengths"])[:-1])
        rings: list[tuple[list[FloatArray], list[FloatArray]]] = [([], []) for _ in stored["kinds"]]
        for polygon, thing, hole in zip(polygons, stored["thing"], stored["hole"], strict=False):
            rings[thing][int(hole)].append(polygon)
        things = zip(stored["kinds"], rings, strict=True)
        return cls(pixels, tuple(Outline(KINDS[k], tuple(s), tuple(h)) for k, (s, h) in things))
