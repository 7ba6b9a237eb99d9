"""Measure accuracy on held-out rendered scenes and on real micrographs with known circles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging.images import Image, encode_png, load_image, load_image_file
from sam_droplet.imaging.masks import Mask, mask_from_polygon
from sam_droplet.imaging.synthetic import STRATA, Scene, render_scene
from sam_droplet.imaging.synthetic_layout import Shapes
from sam_droplet.measurement.droplets import Droplet
from sam_droplet.pipeline import Segmenter
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


@dataclass(frozen=True)
class AccuracyReport:
    """Hold the figures per group: strata first, then real files."""

    model: dict[str, str]
    groups: dict[str, Figures]

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {"model": self.model, "groups": {name: asdict(f) for name, f in self.groups.items()}}

    def as_table(self) -> str:
        """Return the report as a Markdown table."""
        lines = [
            "| group | true | found | F1@0.5 | F1@0.7 | F1@0.9 | precision@0.7 | recall@0.7 | AP@0.7 "
            "| count error % | diameter error % (median, bias, p95) |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for name, f in self.groups.items():
            lines.append(
                f"| {name} | {f.n_true} | {f.n_found} | {f.f1['0.5']:.3f} | {f.f1['0.7']:.3f} "
                f"| {f.f1['0.9']:.3f} | {f.precision['0.7']:.3f} | {f.recall['0.7']:.3f} "
                f"| {f.average_precision:.3f} | {f.count_error_percent:+.1f} "
                f"| {f.diameter_error_percent:.1f}, {f.diameter_bias_percent:+.1f}, "
                f"{f.diameter_error_p95_percent:.1f} |"
            )
        return "\n".join(lines)


def accuracy_report(segmenter: Segmenter, data: Path | None, scenes_per_stratum: int) -> AccuracyReport:
    """Score the segmenter on every stratum, and on every truth file in ``data`` where given."""
    groups: dict[str, Figures] = {}
    for stratum in STRATA:
        held_out = [render_scene(HELD_OUT_SEED + i, stratum, SCENE_PX) for i in range(scenes_per_stratum)]
        comparisons = [compare_scene(segmenter, scene) for scene in held_out]
        groups[stratum] = figures(comparisons)
    for truth in sorted(data.glob("*.circles.json")) if data else []:
        groups[truth.name.split(".")[0]] = figures([compare_file(segmenter, truth)])
    return AccuracyReport(segmenter.models()[0], groups)


def compare_scene(segmenter: Segmenter, scene: Scene) -> Comparison:
    """Find the droplets of a rendered scene and match their masks with the true ones."""
    image = load_image(encode_png(scene.pixels), "scene.png")
    droplets = segmenter.find(image).droplets
    found = [droplet.mask for droplet in droplets]
    true = _masks(scene.shapes, image)
    ignored = _masks(scene.ignored, image)
    excused = mask_iou_matrix(found, ignored).max(axis=1, initial=0) > IGNORED_IOU
    # What the border cuts to a sliver is asked for neither way.
    excused |= np.array([_at_border(mask, image) for mask in found], bool)
    return Comparison(
        mask_iou_matrix(found, true), _scores(droplets), excused, _diameters(found), _diameters(true)
    )


def compare_file(segmenter: Segmenter, truth_path: Path) -> Comparison:
    """Find the droplets of a real micrograph and match discs of equal area with its true circles."""
    stem = truth_path.name.removesuffix(".circles.json")
    path = next(p for p in sorted(truth_path.parent.glob(f"{stem}.*")) if p.suffix != ".json")
    truth = json.loads(truth_path.read_text())
    image = load_image_file(path)
    droplets = segmenter.find(image).droplets
    found = np.array(
        [(d.measures.center_x_px, d.measures.center_y_px, d.measures.diameter_px / 2) for d in droplets]
    ).reshape(-1, 3)
    true = np.array(truth["circles"], float).reshape(-1, 3) + PIXEL_CENTRE
    ignored = np.array(truth.get("ignore", []), float).reshape(-1, 3) + PIXEL_CENTRE
    x, y, r = found.T
    excused = disc_iou_matrix(found, ignored).max(axis=1, initial=0) > IGNORED_IOU
    excused |= (x < r) | (y < r) | (x > image.width - r) | (y > image.height - r)
    return Comparison(
        disc_iou_matrix(found, true), _scores(droplets), excused, 2 * found[:, 2], 2 * true[:, 2]
    )


def _masks(shapes: Shapes, image: Image) -> list[Mask]:
    drawn = (mask_from_polygon(p, 1.0, (image.height, image.width)) for p in shapes.polygons(96))
    return [mask for mask in drawn if mask is not None]


def _at_border(mask: Mask, image: Image) -> bool:
    x0, y0, x1, y1 = mask.box_xyxy
    return x0 == 0 or y0 == 0 or x1 == image.width or y1 == image.height


def _scores(droplets: Sequence[Droplet]) -> NDArray[np.float64]:
    return np.array([droplet.score for droplet in droplets], float)


def _diameters(masks: Sequence[Mask]) -> NDArray[np.float64]:
    return np.array([2 * np.sqrt(mask.area_px / np.pi) for mask in masks], float)
