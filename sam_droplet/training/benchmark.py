"""Measure accuracy on held-out rendered scenes and on real micrographs with known circles."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sam_droplet.config import Config
from sam_droplet.errors import InputError
from sam_droplet.imaging.images import Image, encode_png, load_image, load_image_file
from sam_droplet.imaging.masks import Mask, mask_from_polygon
from sam_droplet.imaging.synthetic import STRATA, Scene, render_scene
from sam_droplet.imaging.synthetic_layout import Shapes
from sam_droplet.pipeline import Segmenter
from sam_droplet.training.classical import CLASSICAL
from sam_droplet.training.fresh_processes import in_fresh_processes
from sam_droplet.training.metrics import (
    IGNORED_IOU,
    Comparison,
    Figures,
    disc_iou_matrix,
    figures,
    mask_iou_matrix,
)

# Training draws its seeds below 2**31; these lie above.
HELD_OUT_SEED = 1 << 40
SCENE_PX = 768
# Truth files give pixel centres at integers, ours lie at halves: what to add to (x, y, r).
PIXEL_CENTRE = np.array([0.5, 0.5, 0.0])
OURS = "DropletNet"
# Pictures that a process judges in one go.
_PORTION = 4

Float = NDArray[np.float64]
# A group of pictures, and which of them: the number of a scene, or the truth file of a real one.
Job = tuple[str, int | Path]


class Case(Protocol):
    """One picture whose droplets are known."""

    @property
    def image(self) -> Image:
        """Return the picture."""
        ...

    @property
    def true_radii(self) -> Float:
        """Return the radii of its droplets, (N,) px."""
        ...

    def compare(self, masks: Sequence[Mask]) -> Comparison:
        """Match masks with the truth."""
        ...


class SceneCase:
    """A rendered scene; masks are compared with the true masks."""

    def __init__(self, scene: Scene) -> None:
        self.image = load_image(encode_png(scene.pixels), "scene.png")
        self.true_radii: Float = scene.shapes.equivalent_radii()
        self._true, self._ignored = self._masks(scene.shapes), self._masks(scene.ignored)

    def compare(self, masks: Sequence[Mask]) -> Comparison:
        """Match masks with the true ones; what the border cuts to a sliver counts neither way."""
        excused = mask_iou_matrix(masks, self._ignored).max(axis=1, initial=0) > IGNORED_IOU
        excused |= np.array([self._at_border(mask) for mask in masks], bool)
        return Comparison.of(
            mask_iou_matrix(masks, self._true),
            _scores(masks),
            excused,
            _diameters(masks),
            _diameters(self._true),
        )

    def _masks(self, shapes: Shapes) -> list[Mask]:
        size = (self.image.height, self.image.width)
        drawn = (mask_from_polygon(polygon, 1.0, size) for polygon in shapes.polygons(96))
        return [mask for mask in drawn if mask is not None]

    def _at_border(self, mask: Mask) -> bool:
        x0, y0, x1, y1 = mask.box_xyxy
        return x0 == 0 or y0 == 0 or x1 == self.image.width or y1 == self.image.height


@dataclass(frozen=True, eq=False)
class FileCase:
    """A real micrograph with hand-checked circles; discs of equal area are compared.

    true_xyr: (N, 3) px. ignored_xyr: (M, 3) px, which count neither way.
    """

    image: Image
    true_xyr: Float
    ignored_xyr: Float

    @classmethod
    def read(cls, truth_path: Path) -> FileCase:
        """Read ``NAME.circles.json`` and the picture NAME beside it."""
        stem = truth_path.name.removesuffix(".circles.json")
        pictures = [p for p in sorted(truth_path.parent.glob(f"{stem}.*")) if p.suffix != ".json"]
        if not pictures:
            raise InputError(f"The picture {stem} was expected beside {truth_path}, but there is none.")
        truth = json.loads(truth_path.read_text())
        true, ignored = (
            np.array(truth.get(name, []), float).reshape(-1, 3) + PIXEL_CENTRE
            for name in ("circles", "ignore")
        )
        return cls(load_image_file(pictures[0]), true, ignored)

    @property
    def true_radii(self) -> Float:
        """Return the radii of the true circles, (N,) px."""
        return self.true_xyr[:, 2]

    def compare(self, masks: Sequence[Mask]) -> Comparison:
        """Match discs of the masks' areas; centres within a radius of the border count neither way."""
        found = np.array([_disc(mask) for mask in masks]).reshape(-1, 3)
        x, y, r = found.T
        excused = disc_iou_matrix(found, self.ignored_xyr).max(axis=1, initial=0) > IGNORED_IOU
        excused |= (x < r) | (y < r) | (x > self.image.width - r) | (y > self.image.height - r)
        iou = disc_iou_matrix(found, self.true_xyr)
        return Comparison.of(iou, _scores(masks), excused, 2 * r, 2 * self.true_radii)


def _disc(mask: Mask) -> tuple[float, float, float]:
    rows, columns = np.nonzero(mask.bits)
    x0, y0, _, _ = mask.box_xyxy
    return columns.mean() + x0 + 0.5, rows.mean() + y0 + 0.5, float(np.sqrt(mask.area_px / np.pi))


def _scores(masks: Sequence[Mask]) -> Float:
    return np.array([mask.score for mask in masks], float)


def _diameters(masks: Sequence[Mask]) -> Float:
    return np.array([2 * np.sqrt(mask.area_px / np.pi) for mask in masks], float)


def find_masks(segmenter: Segmenter, image: Image) -> list[Mask]:
    """Return what *Find droplets* finds without any parameter."""
    return [droplet.mask for droplet in segmenter.find(image).droplets]


@dataclass(frozen=True)
class AccuracyReport:
    """Hold the figures per method and group: strata first, then real files."""

    model: dict[str, Any]
    figures: dict[str, dict[str, Figures]]

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        groups = {m: {g: asdict(f) for g, f in per.items()} for m, per in self.figures.items()}
        return {"model": self.model, "figures": groups}

    def as_table(self) -> str:
        """Return the report as two Markdown tables: ours in full, then F1 side by side."""
        lines = [
            "| group | true | found | F1@0.5 | F1@0.7 | F1@0.9 | precision@0.7 | recall@0.7 | AP@0.7 "
            "| count error % | diameter error %: median, bias, p95 |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for name, f in self.figures[OURS].items():
            lines.append(
                f"| {name} | {f.n_true} | {f.n_found} | {f.f1['0.5']:.3f} | {f.f1['0.7']:.3f} "
                f"| {f.f1['0.9']:.3f} | {f.precision['0.7']:.3f} | {f.recall['0.7']:.3f} "
                f"| {f.average_precision:.3f} | {f.count_error_percent:+.1f} "
                f"| {f.diameter_error_percent:.1f}, {f.diameter_bias_percent:+.1f}, "
                f"{f.diameter_error_p95_percent:.1f} |"
            )
        methods = list(self.figures)
        lines += ["", f"| F1@0.7 | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
        for name in self.figures[OURS]:
            values = " | ".join(f"{self.figures[m][name].f1['0.7']:.3f}" for m in methods)
            lines.append(f"| {name} | {values} |")
        return "\n".join(lines)


def accuracy_report(
    config: Config,
    data: Path | None,
    scenes_per_stratum: int,
    progress: Callable[[str], None],
) -> AccuracyReport:
    """Score DropletNet and the classical methods on every stratum and every truth file in ``data``.

    Every core judges pictures of its own. progress: told how many are done, now and then.
    """
    jobs: list[Job] = [(stratum, index) for index in range(scenes_per_stratum) for stratum in STRATA]
    jobs += [
        (truth.name.split(".")[0], truth) for truth in sorted(data.glob("*.circles.json") if data else [])
    ]
    found: dict[str, dict[str, list[Comparison]]] = {name: {} for name in (OURS, *CLASSICAL)}
    # Where the settings came from cannot be sent to another process, nor does it matter there.
    own = replace(config, omp_num_threads=1, sources={})
    portions = in_fresh_processes(partial(_judged, own), jobs, _PORTION)
    for n, judged in enumerate(portions, 1):
        for method, group, comparison in judged:
            found[method].setdefault(group, []).append(comparison)
        progress(f"{min(n * _PORTION, len(jobs))} of {len(jobs)} pictures judged")
    report = {m: {g: figures(cs) for g, cs in groups.items()} for m, groups in found.items()}
    return AccuracyReport(Segmenter(config).models()[0], report)


def _judged(config: Config, jobs: Sequence[Job]) -> list[tuple[str, str, Comparison]]:
    """Return what each method finds in each picture: method, group, comparison."""
    segmenter = Segmenter(config)
    judged = []
    for group, which in jobs:
        case = _case(group, which)
        judged.append((OURS, group, case.compare(find_masks(segmenter, case.image))))
        for name, method in CLASSICAL.items():
            tries = [case.compare(masks) for masks in method(case.image, case.true_radii)]
            judged.append((name, group, max(tries, key=lambda c: figures([c]).f1["0.7"])))
    return judged


def _case(group: str, which: int | Path) -> Case:
    if isinstance(which, Path):
        return FileCase.read(which)
    return SceneCase(render_scene(HELD_OUT_SEED + which, group, SCENE_PX))


def update_page(path: Path, mark: str, table: str) -> None:
    """Replace what stands between the lines <!-- mark --> and <!-- /mark --> of a Markdown page."""
    before, opening, rest = path.read_text().partition(f"<!-- {mark} -->")
    _, closing, after = rest.partition(f"<!-- /{mark} -->")
    if not opening or not closing:
        raise InputError(f"{path} has no lines <!-- {mark} --> and <!-- /{mark} --> to write between.")
    path.write_text(f"{before}{opening}\n{table}\n{closing}{after}")
