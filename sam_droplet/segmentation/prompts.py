"""What a model is asked and what it answers. Imports no network, so that doors can build prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_droplet.errors import InputError
from sam_droplet.imaging.masks import Mask
from sam_droplet.imaging.rim_offset import checked_rim_offset

MOST_MAGNIFICATION = 8.0
MODES = ("droplets", "refined", "everything")

Progress = Callable[[int, int], None]  # what is done, what there is in all; what it raises ends the search


@dataclass(frozen=True)
class EverythingOptions:
    """Hold the parameters of SAM's automatic mask generator, with their names and defaults.

    points_per_side: grid points along each side of the image. pred_iou_thresh, stability_score_thresh:
    least predicted and measured quality, in [0, 1]. stability_score_offset: logits between which a
    mask must not change much. box_nms_thresh, crop_nms_thresh: box IoU above which the worse of two
    falls, within and between crops. crop_n_layers: how often the image is cut in four and searched
    again. min_mask_region_area: holes and islands below this many px are removed; 0 keeps them.
    """

    points_per_side: int = 32
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    min_mask_region_area: int = 0

    def __post_init__(self) -> None:
        limits = {
            "points_per_side": (1, 256),
            "pred_iou_thresh": (0, 1),
            "stability_score_thresh": (0, 1),
            "stability_score_offset": (0, 100),
            "box_nms_thresh": (0, 1),
            "crop_n_layers": (0, 4),
            "crop_nms_thresh": (0, 1),
            "crop_overlap_ratio": (0, 0.9),
            "crop_n_points_downscale_factor": (1, 64),
            "min_mask_region_area": (0, 10**9),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"{name} must be from {low} to {high}, but it is {value}.")


@dataclass(frozen=True)
class FindOptions:
    """Say what to look for; diameters in px, None leaves a side open.

    sensitivity: 0 finds only the clearest droplets, 1 also the doubtful ones.
    diameter_min_px: also None leaves out what is far smaller than droplets that have one size; 0 does not.
    roi_xyxy: only droplets the middle of whose own box lies in this box, in image-corner px.
    mode: "droplets" (DropletNet), "refined" (DropletNet finds, MobileSAM draws) or "everything"
    (MobileSAM outlines any object). everything: its parameters, None for SAM's own.
    magnification: how much the region is enlarged before it is looked at; above 1 it needs roi_xyxy.
    rim_offset_px: how far outside the extreme line of the rim (inside where negative) droplets end.
    """

    sensitivity: float = 0.5
    diameter_min_px: float | None = None
    diameter_max_px: float | None = None
    roi_xyxy: tuple[float, float, float, float] | None = None
    mode: str = "droplets"
    everything: EverythingOptions | None = None
    magnification: float = 1.0
    rim_offset_px: float = 0.0

    def __post_init__(self) -> None:
        checked_rim_offset(self.rim_offset_px)
        if not 1 <= self.magnification <= MOST_MAGNIFICATION:
            raise InputError(
                f"magnification must be from 1 to {MOST_MAGNIFICATION:g}, but it is {self.magnification}."
            )
        if self.magnification > 1 and self.roi_xyxy is None:
            raise InputError("A magnification needs a region to enlarge: give roi_xyxy, too.")
        if self.roi_xyxy is not None and not _is_box(self.roi_xyxy):
            raise InputError(
                f"roi_xyxy must be x0, y0, x1, y1 with x0 < x1 and y0 < y1, but it is {self.roi_xyxy}."
            )
        if self.mode not in MODES:
            raise InputError(f"mode must be one of {', '.join(MODES)}, but it is {self.mode!r}.")
        if not 0 <= self.sensitivity <= 1:
            raise InputError(f"sensitivity must be a number from 0 to 1, but it is {self.sensitivity}.")
        low, high = self.diameter_min_px, self.diameter_max_px
        for name, value in (("diameter_min_px", low), ("diameter_max_px", high)):
            if value is not None and not 0 <= value < float("inf"):
                raise InputError(f"{name} must be a number of pixels from 0 up, but it is {value}.")
        if low is not None and high is not None and low > high:
            raise InputError(f"diameter_min_px ({low:g}) must not exceed diameter_max_px ({high:g}).")

    @property
    def threshold(self) -> float:
        """Lowest score that counts: 0.65 at sensitivity 0, 0.4 at 0.5, 0.15 at 1."""
        return 0.65 - 0.5 * self.sensitivity


def _is_box(box_xyxy: tuple[float, float, float, float]) -> bool:
    x0, y0, x1, y1 = box_xyxy
    return bool(np.isfinite(box_xyxy).all()) and x0 < x1 and y0 < y1


@dataclass(frozen=True)
class Prompt:
    """Hold what a user pointed at, in image-corner px.

    points_xy with point_labels (1 inside the object, 0 outside it), a box (x0, y0, x1, y1), or both.
    multimask asks for up to three candidates instead of one. rim_offset_px: as in ``FindOptions``.
    """

    points_xy: tuple[tuple[float, float], ...] = ()
    point_labels: tuple[int, ...] = ()
    box_xyxy: tuple[float, float, float, float] | None = None
    multimask: bool = False
    rim_offset_px: float = 0.0

    def __post_init__(self) -> None:
        if len(self.points_xy) != len(self.point_labels):
            raise InputError(
                f"Each point needs one label: {len(self.points_xy)} points came with "
                f"{len(self.point_labels)} labels."
            )
        if any(label not in (0, 1) for label in self.point_labels):
            raise InputError(f"Point labels are 1 (inside) or 0 (outside); {self.point_labels} came.")
        if self.box_xyxy is None and 1 not in self.point_labels:
            raise InputError("A prompt needs at least one positive point (label 1) or a box.")
        numbers = [value for point in self.points_xy for value in point] + list(self.box_xyxy or ())
        if not np.isfinite(numbers).all():
            raise InputError("Points and boxes need finite numbers.")

    def inside(self, width: int, height: int) -> Prompt:
        """Return the prompt with its box corners in order; InputError where it misses the image."""
        for x, y in self.points_xy:
            if not (0 <= x <= width and 0 <= y <= height):
                raise InputError(f"The point ({x:g}, {y:g}) lies outside the image of {width} x {height} px.")
        if self.box_xyxy is None:
            return self
        x0, x1 = sorted((self.box_xyxy[0], self.box_xyxy[2]))
        y0, y1 = sorted((self.box_xyxy[1], self.box_xyxy[3]))
        box = max(0.0, x0), max(0.0, y0), min(float(width), x1), min(float(height), y1)
        if box[2] - box[0] < 1 or box[3] - box[1] < 1:
            raise InputError(
                f"The box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) covers less than one pixel of the image."
            )
        return replace(self, box_xyxy=box)

    @property
    def positive_xy(self) -> NDArray[np.float64]:
        """Points inside the object, (P, 2)."""
        return self._labelled(1)

    @property
    def negative_xy(self) -> NDArray[np.float64]:
        """Points outside the object, (P, 2)."""
        return self._labelled(0)

    def _labelled(self, wanted: int) -> NDArray[np.float64]:
        chosen = [p for p, label in zip(self.points_xy, self.point_labels, strict=True) if label == wanted]
        return np.array(chosen, float).reshape(-1, 2)


@dataclass(frozen=True)
class ModelInfo:
    """Name the weights that answered."""

    name: str
    sha256: str
    device: str

    def as_dict(self) -> dict[str, str]:
        """Return the three fields by name."""
        return {"name": self.name, "sha256": self.sha256, "device": self.device}


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Hold masks (best first), who drew them, with what parameters, how long each stage took."""

    masks: list[Mask]
    model: ModelInfo
    parameters: dict[str, Any]
    timings_s: dict[str, float]
    message: str | None = None
