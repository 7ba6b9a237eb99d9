"""Measure how well clicks and boxes are answered: mean IoU after 1, 2 and 3 clicks and for a box."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_droplet.config import Config
from sam_droplet.errors import InputError
from sam_droplet.imaging.images import Image, encode_png, load_image
from sam_droplet.imaging.masks import Mask, iou, mask_from_bits, mask_from_polygon
from sam_droplet.imaging.synthetic import STRATA
from sam_droplet.imaging.synthetic_objects import render_promptable
from sam_droplet.imaging.synthetic_outlines import KINDS, Outline
from sam_droplet.pipeline import FindOptions, Prompt, Segmenter
from sam_droplet.segmentation import checkpoints
from sam_droplet.segmentation.stars import unit_rays
from sam_droplet.training.benchmark import HELD_OUT_SEED, SCENE_PX, FileCase

CLICKS = 3
_FEWEST_PX = 30
# Nobody corrects an outline that is off by a pixel.
_VISIBLE_DEPTH_PX = 2.0
# Scenes in which things that are not droplets lie, and whose things are reported by kind.
_STRATA_OF_THINGS = ("anything", "empty", "inclusions")
_NO_DROPLETS = ("empty",)

# What answers a prompt on an image: the first mask, or none.
Method = Callable[[Image, Prompt], Mask | None]
Group = tuple[str, Image, list[Mask]]


@dataclass(frozen=True)
class PromptFigures:
    """Hold the mean IoU of one method on one group: after 1 to 3 clicks, and for the exact box."""

    n: int
    clicks: tuple[float, ...]
    box: float


@dataclass(frozen=True)
class PromptReport:
    """Hold the figures per method and group: strata, all strata, kinds of things, real files."""

    figures: dict[str, dict[str, PromptFigures]]

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {method: {g: asdict(f) for g, f in groups.items()} for method, groups in self.figures.items()}

    def as_table(self) -> str:
        """Return the report as a Markdown table; each cell holds 1, 2, 3 clicks and the box."""
        methods = list(self.figures)
        lines = [
            f"| mean IoU after 1, 2, 3 clicks; box | asked | {' | '.join(methods)} |",
            "|---" * (len(methods) + 2) + "|",
        ]
        for group, first in self.figures[methods[0]].items():
            cells = [self.figures[method][group] for method in methods]
            values = [f"{' '.join(f'{c:.3f}' for c in f.clicks)}; {f.box:.3f}" for f in cells]
            lines.append(f"| {group} | {first.n} | {' | '.join(values)} |")
        return "\n".join(lines)


def prompt_report(config: Config, data: Path | None, scenes_per_stratum: int, per_image: int) -> PromptReport:
    """Ask every method that has weights here for ``per_image`` things of each held-out scene and truth file.

    A first click lies anywhere in the thing but on its border; each further one in the middle of the
    largest error that a user would see. Beads, cells and other things are asked for in scenes of their own.
    """
    if scenes_per_stratum < 1 or per_image < 1:
        raise InputError("Prompts are measured on one scene and one thing at least.")
    methods = _methods(config)
    scores: dict[str, dict[str, list[list[float]]]] = {name: {} for name in methods}
    rng = np.random.default_rng(HELD_OUT_SEED)
    for group, image, masks in _groups(data, scenes_per_stratum):
        for mask in (masks[i] for i in rng.permutation(len(masks))[:per_image]):
            first_xy = _inner_point(rng, mask)
            for name, method in methods.items():
                found = asked(method, image, mask, first_xy)
                for key in (group, "all strata") if group in STRATA else (group,):
                    scores[name].setdefault(key, []).append(found)
    order = sorted(next(iter(scores.values())), key=_rank)
    return PromptReport({name: {g: _figures(per[g]) for g in order} for name, per in scores.items()})


def _figures(scores: list[list[float]]) -> PromptFigures:
    mean = np.mean(scores, axis=0).round(4).tolist()
    return PromptFigures(len(scores), tuple(mean[:CLICKS]), mean[CLICKS])


def _rank(group: str) -> tuple[int, int]:
    names = list(STRATA)
    if group in names:
        return 0, names.index(group)
    return (1, 0) if group == "all strata" else (2, 0) if group in KINDS else (3, 0)


def _methods(config: Config) -> dict[str, Method]:
    """Return DropletNet, and each MobileSAM that is here, alone and drawing what DropletNet found."""
    methods: dict[str, Method] = {"DropletNet": _predicting(Segmenter(config), "droplet-net")}
    files = {
        "own MobileSAM": checkpoints.find(checkpoints.OWN_MOBILE_SAM, config),
        "MobileSAM": checkpoints.find(checkpoints.MOBILE_SAM, config),
    }
    for name, found in files.items():
        if found.available:
            segmenter = Segmenter(replace(config, sam_model_path=found.path))
            methods[name] = _predicting(segmenter, "mobile-sam")
            methods[f"refined by {name}"] = _refining(segmenter)
    return methods


def _predicting(segmenter: Segmenter, model: str) -> Method:
    def answer(image: Image, prompt: Prompt) -> Mask | None:
        droplets = segmenter.predict(image, prompt, model).droplets
        return droplets[0].mask if droplets else None

    return answer


def _refining(segmenter: Segmenter) -> Method:
    """Answer with the outline of mode *refined* that agrees best with a prompt."""
    found: dict[str, list[Mask]] = {}

    def answer(image: Image, prompt: Prompt) -> Mask | None:
        if image.digest not in found:
            found.clear()
            droplets = segmenter.find(image, FindOptions(mode="refined")).droplets
            found[image.digest] = [droplet.mask for droplet in droplets]
        return _agreeing(found[image.digest], prompt)

    return answer


def _agreeing(masks: Sequence[Mask], prompt: Prompt) -> Mask | None:
    if prompt.box_xyxy is not None:
        x0, y0, x1, y1 = (round(v) for v in prompt.box_xyxy)
        whole = Mask((x0, y0, x1, y1), np.ones((y1 - y0, x1 - x0), bool), 1.0)
        # A round droplet fills most of its box, a neighbour hardly any.
        return max(masks, key=lambda mask: iou(mask, whole), default=None)
    wanted = [bool(label) for label in prompt.point_labels]
    fits = [m for m in masks if [_contains(m, xy) for xy in prompt.points_xy] == wanted]
    return max(fits, key=lambda mask: mask.score, default=None)


def _contains(mask: Mask, xy: tuple[float, float]) -> bool:
    x, y = int(xy[0]) - mask.box_xyxy[0], int(xy[1]) - mask.box_xyxy[1]
    height, width = mask.bits.shape
    return 0 <= x < width and 0 <= y < height and bool(mask.bits[y, x])


def asked(method: Method, image: Image, truth: Mask, first_xy: tuple[float, float]) -> list[float]:
    """Return a method's IoU with the truth after each click, then for the box."""
    points, labels, scores = [first_xy], [1], []
    for _ in range(CLICKS):
        drawn = method(image, Prompt(tuple(points), tuple(labels)))
        scores.append(0.0 if drawn is None else iou(drawn, truth))
        point, label = largest_error(drawn, truth)
        points, labels = [*points, point], [*labels, label]
    x0, y0, x1, y1 = (float(v) for v in truth.box_xyxy)
    drawn = method(image, Prompt(box_xyxy=(x0, y0, x1, y1)))
    return [*scores, 0.0 if drawn is None else iou(drawn, truth)]


def largest_error(drawn: Mask | None, truth: Mask) -> tuple[tuple[float, float], int]:
    """Return the middle of the largest part that is missing (label 1) or too much (0).

    Where no part is as thick as a user could see and hit, it is the middle of the thing.
    """
    boxes = np.array([truth.box_xyxy, truth.box_xyxy if drawn is None else drawn.box_xyxy])
    left, top = (int(v) for v in boxes[:, :2].min(axis=0) - 1)
    right, bottom = (int(v) for v in boxes[:, 2:].max(axis=0) + 1)
    wanted, there = np.zeros((2, bottom - top, right - left), bool)
    for mask, canvas in ((truth, wanted), (drawn, there)):
        if mask is not None:
            x0, y0, x1, y1 = mask.box_xyxy
            canvas[y0 - top : y1 - top, x0 - left : x1 - left] = mask.bits
    missing, extra = _deepest(wanted & ~there), _deepest(there & ~wanted)
    depth, row, column = max(missing, extra)
    label = 1 if missing >= extra else 0
    if depth < _VISIBLE_DEPTH_PX:
        label, (_, row, column) = 1, _deepest(wanted)
    return (column + left + 0.5, row + top + 0.5), label


def _deepest(region: NDArray[np.bool_]) -> tuple[float, int, int]:
    """Return how far the innermost pixel of a region lies from its outside, and its row and column."""
    depth = cv2.distanceTransform(region.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(depth[row, column]), int(row), int(column)


def _inner_point(rng: np.random.Generator, mask: Mask) -> tuple[float, float]:
    """Return a random point of a mask, not on its border where it has an inside."""
    padded = np.pad(mask.bits, 1).astype(np.uint8)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    rows, columns = np.nonzero(depth > min(1.5, float(depth.max()) - 0.1))
    pick = int(rng.integers(len(rows)))
    return float(columns[pick] + mask.box_xyxy[0] + 0.5), float(rows[pick] + mask.box_xyxy[1] + 0.5)


def _groups(data: Path | None, scenes_per_stratum: int) -> Iterator[Group]:
    """Yield a name, an image and the true masks: droplets of each stratum, things by kind, real circles."""
    for stratum in (name for name in STRATA if name not in _NO_DROPLETS):
        for i in range(scenes_per_stratum):
            scene = render_promptable(HELD_OUT_SEED + i, stratum, SCENE_PX, kinds=())
            droplets = [thing for thing in scene.things if thing.kind == "droplet"]
            yield stratum, _image(scene.pixels), _masks(droplets)
    for stratum in _STRATA_OF_THINGS:
        for i in range(2 * scenes_per_stratum):
            scene = render_promptable(HELD_OUT_SEED + 1000 + i, stratum, SCENE_PX)
            image = _image(scene.pixels)
            for kind in KINDS[2:]:
                masks = _masks([thing for thing in scene.things if thing.kind == kind])
                if masks:
                    yield kind, image, masks
    for path in sorted(data.glob("*.circles.json")) if data else []:
        case = FileCase.read(path)
        size = (case.image.height, case.image.width)
        discs = [
            mask_from_polygon(np.array([x, y]) + r * unit_rays(96), 1.0, size) for x, y, r in case.true_xyr
        ]
        yield path.name.split(".")[0], case.image, [disc for disc in discs if disc is not None]


def _image(pixels: NDArray[np.uint8]) -> Image:
    return load_image(encode_png(pixels), "scene.png")


def _masks(things: Sequence[Outline]) -> list[Mask]:
    masks = (mask_from_bits(thing.filled((SCENE_PX, SCENE_PX)), 1.0) for thing in things)
    return [mask for mask in masks if mask is not None and mask.area_px >= _FEWEST_PX]
