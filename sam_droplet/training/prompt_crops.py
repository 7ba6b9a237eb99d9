"""Crops of scenes with things to ask for: picture, exact masks, dense answers; cut by worker processes."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from sam_droplet.imaging.synthetic_outlines import Outline, PromptScene
from sam_droplet.segmentation.tiny_vit import EMBEDDING_SIDE, IMAGE_SIDE
from sam_droplet.training.scene_store import SceneStore

CELL_PX = IMAGE_SIDE // EMBEDDING_SIDE
# Masks are compared at every second pixel (the network draws every fourth), dense answers at every fourth.
MASK_STRIDE, DENSE_STRIDE = 2, 4
DENSE_OUTPUTS = 5
LOG_SCALE_RANGE = (np.log(0.5), np.log(2.2))
_FEWEST_PX = 14
# Kinds that are seldom pointed at, or that hold many others.
_SELDOM = {"group": 0.5, "channel": 0.5, "letter": 0.5}
# A click inside something smaller than the wanted thing means the smaller one, but not always.
_CLICK_ON_PART = 0.12
# What a click is not meant for where something else lies in it.
_SEE_THROUGH = ("group", "channel")
_FAR_PX = 8000.0
_TRIES = 5
_OPEN_SCENES = 12
_LOOK_AGAIN_S = 5.0

Bits = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Crop:
    """Hold one square crop and K things to ask for.

    picture: (3, S, S) uint8, zero beyond ``seen_hw`` where the scene ends. cell_xy: (2,) the crop's place in
    the 64 × 64 cells of the network's frame. masks: (K, S / 2, S / 2) uint8, covered quarters 0 to 4 of each
    place. first_xy: (K, 2) a first click, crop px. boxes_xyxy: (K, 4) exact, crop px. counted: (K,) bool,
    False for a row that fills up. dense: (5, S / 4, S / 4) float16: is something, how central, log radius,
    and the way to its centre, x and y in cells.
    """

    picture: NDArray[np.uint8]
    seen_hw: NDArray[np.int64]
    cell_xy: NDArray[np.int64]
    masks: NDArray[np.uint8]
    first_xy: NDArray[np.float32]
    boxes_xyxy: NDArray[np.float32]
    counted: Bits
    dense: NDArray[np.float16]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the fields by name, as a batch is collated."""
        return dict(vars(self))


class PromptCrops(Dataset[dict[str, NDArray[Any]]]):
    """Serve crop ``i`` of a run: the same store, seed and i give the same crop on any machine.

    While scenes are still being rendered, those that are there are drawn from.
    """

    def __init__(self, store: SceneStore, seed: int, crop_px: int, prompts: int, length: int) -> None:
        self.store, self.seed, self.crop_px, self.prompts = store, seed, crop_px, prompts
        self._length = length
        self._known: list[int] = []
        self._look_at = 0.0
        self._open: OrderedDict[int, PromptScene] = OrderedDict()

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, i: int) -> dict[str, NDArray[Any]]:
        """Return the fields of a Crop."""
        rng = np.random.default_rng([self.seed, self.crop_px, i])
        for last in (False,) * (_TRIES - 1) + (True,):
            crop = cut_crop(rng, self._scene(rng), self.crop_px, self.prompts)
            if last or crop.counted.any():
                break
        return crop.arrays()

    def _scene(self, rng: np.random.Generator) -> PromptScene:
        if time.monotonic() >= self._look_at:
            self._known, self._look_at = self.store.available(), time.monotonic() + _LOOK_AGAIN_S
        index = self._known[int(rng.integers(len(self._known)))]
        if index not in self._open:
            self._open[index] = self.store.load(index)
        self._open.move_to_end(index)
        while len(self._open) > _OPEN_SCENES:
            self._open.popitem(last=False)
        return self._open[index]


def cut_crop(rng: np.random.Generator, scene: PromptScene, size: int, prompts: int) -> Crop:
    """Cut, scale and turn a square of ``size`` px out of a scene, and choose what to ask for in it."""
    picture, things = _turned(rng, *_cut(rng, scene, size))
    seen = picture.shape[0], picture.shape[1]
    things.sort(key=lambda thing: -thing.box_area_px)
    owner, dense = _dense_answer(things, seen, size)
    visible = np.bincount(owner[owner >= 0], minlength=len(things)) >= _FEWEST_PX
    index = [i for i, thing in enumerate(things) if visible[i] or thing.kind in _SEE_THROUGH]
    masks = np.zeros((prompts, size // MASK_STRIDE, size // MASK_STRIDE), np.uint8)
    first, boxes = np.zeros((prompts, 2), np.float32), np.zeros((prompts, 4), np.float32)
    counted = np.zeros(prompts, bool)
    for k, chosen in enumerate(_chosen(rng, [things[i].kind for i in index], prompts)):
        asked = _asked(rng, things[index[chosen]], owner == index[chosen], seen, size)
        if asked is not None:
            masks[k], first[k], boxes[k] = asked
            counted[k] = True
    canvas = np.zeros((size, size, 3), np.uint8)
    canvas[: seen[0], : seen[1]] = _toned(rng, picture)
    cell_xy = rng.integers(0, EMBEDDING_SIDE - size // CELL_PX + 1, 2)
    channels = np.ascontiguousarray(canvas.transpose(2, 0, 1))
    return Crop(channels, np.array(seen, np.int64), cell_xy, masks, first, boxes, counted, dense)


def _cut(rng: np.random.Generator, scene: PromptScene, size: int) -> tuple[NDArray[np.uint8], list[Outline]]:
    """Return a window of a scene, ``size`` px wide and at most as high, and the things near it."""
    full = scene.pixels.shape[0]
    scale = float(np.exp(rng.uniform(*LOG_SCALE_RANGE)))
    side = min(full, max(16, round(size / scale)))
    # Whole pictures are often wider than high; the network's frame is then empty below.
    low = side if size < IMAGE_SIDE or rng.random() < 0.5 else round(side * rng.uniform(0.5, 1.0))
    x, y = int(rng.integers(0, full - side + 1)), int(rng.integers(0, full - low + 1))
    window = scene.pixels[y : y + low, x : x + side]
    scale, height = size / side, min(size, round(low * size / side))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    picture = np.asarray(cv2.resize(window, (size, height), interpolation=interpolation), np.uint8)
    corners = scene.boxes_xyxy
    near = (corners[:, :2] < [x + side, y + low]).all(axis=1) & (corners[:, 2:] > [x, y]).all(axis=1)
    matrix, shift = np.diag([scale, height / low]), -np.array([x * scale, y * height / low])
    return picture, [scene.things[i].transformed(matrix, shift) for i in np.flatnonzero(near)]


def _turned(
    rng: np.random.Generator, picture: NDArray[np.uint8], things: list[Outline]
) -> tuple[NDArray[np.uint8], list[Outline]]:
    """Flip and transpose a picture and its things, at random."""
    matrix, shift = np.eye(2), np.zeros(2)
    height, width = picture.shape[:2]
    if rng.random() < 0.5:
        picture, matrix, shift = picture[:, ::-1], np.diag([-1.0, 1.0]), np.array([width, 0.0])
    if rng.random() < 0.5:
        flip = np.diag([1.0, -1.0])
        picture, matrix, shift = picture[::-1], flip @ matrix, flip @ shift + [0.0, height]
    if rng.random() < 0.5:
        picture, matrix, shift = picture.transpose(1, 0, 2), matrix[::-1].copy(), shift[::-1].copy()
    return picture, [thing.transformed(matrix, shift) for thing in things]


def _toned(rng: np.random.Generator, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Change tone, colour and noise as cameras and files differ, without blinding the picture."""
    values = np.arange(256) / 255
    if rng.random() < 0.4:
        values = values ** rng.uniform(0.6, 1.6)
    if rng.random() < 0.3:
        low, high = np.percentile(picture, (1, 99)) / 255
        black = rng.uniform(0, 0.4)
        white = rng.uniform(black + 0.25, 1.0)
        values = black + (values - low) * (white - black) / max(high - low, 0.05)
    if rng.random() < 0.08:
        values = 1 - values
    toned = np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)[picture]
    if rng.random() < 0.2:
        toned = np.repeat(toned.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    if rng.random() < 0.2:
        noise = rng.normal(0, rng.uniform(1, 9), toned.shape).astype(np.float32)
        toned = np.clip(toned + noise, 0, 255).astype(np.uint8)
    return toned


def _dense_answer(
    things: list[Outline], seen_hw: tuple[int, int], size: int
) -> tuple[NDArray[np.int32], NDArray[np.float16]]:
    """Return which thing each pixel shows, -1 for none, the smaller on top, and the dense answer.

    Painted by OpenCV, whose polygons are half a pixel wider: near enough here, and much faster.
    """
    owner = np.full((size, size), -1, np.int32)
    for index, thing in enumerate(things):
        if thing.kind not in _SEE_THROUGH:
            for solid in thing.solids:
                points = np.round(np.clip(solid - 0.5, -_FAR_PX, _FAR_PX) * 16).astype(np.int32)
                cv2.fillPoly(owner, [points], index, cv2.LINE_8, 4)
    owner[seen_hw[0] :], owner[:, seen_hw[1] :] = -1, -1
    rows, columns = np.nonzero(owner >= 0)
    own = owner[rows, columns]
    n = np.maximum(np.bincount(own, minlength=len(things)), 1)
    y = np.bincount(own, rows, len(things)) / n
    x = np.bincount(own, columns, len(things)) / n
    square = (rows - y[own]) ** 2 + (columns - x[own]) ** 2
    dense = np.zeros((DENSE_OUTPUTS, size, size), np.float32)
    dense[0, rows, columns] = 1
    dense[1, rows, columns] = np.clip(1 - square * np.pi / n[own], 0, 1)
    dense[2, rows, columns] = 0.5 * np.log(n[own] / np.pi)
    dense[3, rows, columns] = (x[own] - columns) / CELL_PX
    dense[4, rows, columns] = (y[own] - rows) / CELL_PX
    middle = slice(DENSE_STRIDE // 2, None, DENSE_STRIDE)
    return owner, dense[:, middle, middle].astype(np.float16)


def _chosen(rng: np.random.Generator, kinds: list[str], prompts: int) -> NDArray[np.intp]:
    """Choose what to ask for, rare kinds as often as frequent ones; things repeat where they are few."""
    if not kinds:
        return np.empty(0, np.intp)
    frequency = Counter(kinds)
    weight = np.array([_SELDOM.get(kind, 1.0) / frequency[kind] ** 0.7 for kind in kinds])
    return rng.choice(len(kinds), prompts, replace=len(kinds) < prompts, p=weight / weight.sum())


def _asked(
    rng: np.random.Generator, thing: Outline, on_top: Bits, seen_hw: tuple[int, int], size: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]] | None:
    """Return quarters of the mask, a first click and the exact box of a thing; None for too little of it."""
    cut = thing.cut(seen_hw)
    if cut is None or np.count_nonzero(cut[2]) < _FEWEST_PX:
        return None
    rows, columns, bits = cut
    whole = np.zeros((size, size), bool)
    whole[rows, columns] = bits
    blocks = whole.reshape(size // MASK_STRIDE, MASK_STRIDE, -1, MASK_STRIDE)
    own = bits & on_top[rows, columns]
    within = own if own.any() and rng.random() > _CLICK_ON_PART else bits
    y, x = np.nonzero(within)
    pick = int(rng.integers(len(y)))
    click = np.array([columns.start + x[pick], rows.start + y[pick]]) + rng.random(2)
    y, x = np.nonzero(bits)
    box = [
        columns.start + x.min(),
        rows.start + y.min(),
        columns.start + x.max() + 1,
        rows.start + y.max() + 1,
    ]
    return blocks.sum(axis=(1, 3)).astype(np.uint8), click.astype(np.float32), np.array(box, np.float32)
