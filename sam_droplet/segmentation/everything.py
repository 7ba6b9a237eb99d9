"""Every object of an image, by asking at each point of a grid: SAM's automatic mode and its parameters.

Masks are filtered and compared at low resolution with exact areas and boxes; only what stays is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_droplet.imaging.masks import BoxXYXY, Mask, mask_from_bits
from sam_droplet.segmentation.mask_resampling import LowResCrop
from sam_droplet.segmentation.mask_tidying import tidy_mask
from sam_droplet.segmentation.mobile_sam import N_MASK_TOKENS, PADDING, POSITIVE
from sam_droplet.segmentation.prompts import EverythingOptions, Progress
from sam_droplet.segmentation.sam_masks import Arrays, MobileSamPredictor, OpenImage

# A mask this near to the edge of a crop, but not of the image, is a cut object.
EDGE_PX = 20.0


DEFAULT_OPTIONS = EverythingOptions()


@dataclass(frozen=True)
class Crop:
    """One window of the image that is encoded by itself; layer 0 is the whole image."""

    box_xyxy: BoxXYXY
    layer: int

    @property
    def area_px(self) -> int:
        """Number of pixels."""
        x0, y0, x1, y1 = self.box_xyxy
        return (x1 - x0) * (y1 - y0)


@dataclass(frozen=True)
class Candidate:
    """A mask that passed the filters, not drawn yet; its box is in the frame of its crop."""

    score: float
    box_xyxy: BoxXYXY
    logits: LowResCrop


def find_everything(
    predictor: MobileSamPredictor,
    view: NDArray[np.uint8],
    options: EverythingOptions = DEFAULT_OPTIONS,
    *,
    arrays: Arrays | None = None,
    region_xyxy: BoxXYXY | None = None,
    on_progress: Progress | None = None,
) -> list[Mask]:
    """Return the masks of all objects of a (H, W, 3) uint8 view, best predicted IoU first.

    The same masks that SamAutomaticMaskGenerator accepts with the same parameters and weights.
    arrays: the encoded whole view, where the caller has it. region_xyxy: ask at the points in this box only.
    on_progress: called after each batch of points; what it raises ends the search.
    """
    image_hw = view.shape[0], view.shape[1]
    crops = crop_windows(image_hw, options.crop_n_layers, options.crop_overlap_ratio)
    points = [_crop_points(crop, options, region_xyxy) for crop in crops]
    total, done = sum(map(len, points)), 0

    def count(asked: int) -> None:
        nonlocal done
        done += asked
        if on_progress is not None:
            on_progress(done, total)

    masks: list[Mask] = []
    crop_areas: list[int] = []
    for crop, crop_points in zip(crops, points, strict=True):
        if len(crop_points):
            image = _open_crop(predictor, view, crop, arrays)
            search = _CropSearch(predictor, image, crop, image_hw, options)
            masks += search.run(crop_points, count)
            crop_areas += [crop.area_px] * (len(masks) - len(crop_areas))
    if len(crops) > 1:  # of two that agree, the one from the smaller crop saw more detail
        scores = (1 / np.array(crop_areas, np.float32)).astype(np.float32)
        kept = suppress_boxes(_boxes_of(masks), scores, options.crop_nms_thresh)
        masks = [masks[i] for i in kept]
    if options.min_mask_region_area > 0:
        masks = _tidied(masks, options, image_hw)
    return sorted(masks, key=lambda mask: -mask.score)


class _CropSearch:
    """Ask at the points of one crop and gather the masks that pass the filters."""

    def __init__(
        self,
        predictor: MobileSamPredictor,
        image: OpenImage,
        crop: Crop,
        image_hw: tuple[int, int],
        options: EverythingOptions,
    ) -> None:
        self.predictor, self.image, self.crop = predictor, image, crop
        self.image_hw, self.options = image_hw, options
        self.found: dict[BoxXYXY | int, Candidate] = {}

    def run(self, points_xy: NDArray[np.float64], count: Callable[[int], None]) -> list[Mask]:
        """Ask at (N, 2) points of the crop in batches and return its masks in the frame of the image."""
        for asked in self.predictor.batches.run(len(points_xy), lambda part: self.ask(points_xy[part])):
            count(asked)
        return self.masks()

    def ask(self, points_xy: NDArray[np.float64]) -> int:
        """Decode (B, 2) points of the crop and keep what passes; returns B."""
        with self.predictor.lock:
            logits, iou = self._draw_trusted(points_xy)
            if len(iou) == 0:
                return len(points_xy)
            measured = self.image.resampler.measure(logits, self.options.stability_score_offset)
        passed = measured.area_px > 0
        if self.options.stability_score_thresh > 0:
            passed &= measured.stability >= self.options.stability_score_thresh
        passed &= ~self._cut_by_crop(measured.boxes_xyxy)
        kept = logits[passed].cpu().numpy()
        boxes, scores = measured.boxes_xyxy[passed].tolist(), iou[passed.cpu()].tolist()
        for values, (x0, y0, x1, y1), score in zip(kept, boxes, scores, strict=True):
            self._keep(values, (x0, y0, x1, y1), score)
        return len(points_xy)

    def _draw_trusted(self, points_xy: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
        """Draw the masks whose predicted IoU passes: logits (n, 256, 256), IoU (n,), in asking order."""
        # The stock generator adds half a model pixel to points that are already pixel centres;
        # so do we, or else its masks would not be met.
        model_xy = self.image.frame.to_model_xy(points_xy) + np.float32(0.5)
        points = torch.zeros(len(points_xy), 2, 2)
        points[:, 0] = torch.from_numpy(model_xy)
        labels = torch.tensor([POSITIVE, PADDING]).expand(len(points), 2)
        drawn, trusted_iou = [], []
        for answer, i, quality in self.predictor.answers(self.image, points, labels):
            iou = quality[1:].clone()
            trusted = iou > self.options.pred_iou_thresh if self.options.pred_iou_thresh > 0 else iou == iou
            if trusted.any():
                chosen = torch.arange(1, N_MASK_TOKENS)[trusted].to(self.predictor.device)
                level = -self.options.stability_score_offset
                drawn.append(self.predictor.decoder.draw_present(self.image.shared, answer, i, chosen, level))
                trusted_iou.append(iou[trusted])
        if not drawn:
            return torch.empty(0), torch.empty(0)
        return torch.cat(drawn), torch.cat(trusted_iou)

    def _cut_by_crop(self, boxes_xyxy: Tensor) -> Tensor:
        """Tell which masks reach an edge of the crop that is not one of the image: (n,)."""
        x0, y0, x1, y1 = self.crop.box_xyxy
        height, width = self.image_hw
        # Inclusive right and bottom, as the stock generator compares them.
        boxes = boxes_xyxy.float() + boxes_xyxy.new_tensor([x0, y0, x0 - 1, y0 - 1])
        near_crop = (boxes - boxes.new_tensor([x0, y0, x1, y1])).abs() <= EDGE_PX
        near_image = (boxes - boxes.new_tensor([0, 0, width, height])).abs() <= EDGE_PX
        return (near_crop & ~near_image).any(dim=1)

    def _keep(self, values: NDArray[np.float32], box: BoxXYXY, score: float) -> None:
        """Store a candidate; of those with one box only the best, as suppression would decide anyway.

        Without this a blank image would store its whole-image mask thousands of times.
        """
        x0, y0, x1, y1 = box
        comparable = self.options.box_nms_thresh < 1 and x1 - x0 > 1 and y1 - y0 > 1
        key: BoxXYXY | int = box if comparable else len(self.found)
        known = self.found.get(key)
        if known is None or score > known.score:
            self.found.pop(key, None)
            self.found[key] = Candidate(score, box, self.image.resampler.crop(values, box))

    def masks(self) -> list[Mask]:
        """Suppress duplicates and draw the rest in the frame of the image, best first."""
        candidates = list(self.found.values())
        boxes = np.array([c.box_xyxy for c in candidates], np.float32).reshape(-1, 4)
        scores = np.array([c.score for c in candidates], np.float32)
        left, top = self.crop.box_xyxy[:2]
        masks = []
        for i in suppress_boxes(boxes, scores, self.options.box_nms_thresh):
            candidate = candidates[i]
            bits = self.image.resampler.draw(candidate.logits, candidate.box_xyxy)
            x0, y0 = candidate.box_xyxy[:2]
            score = min(1.0, max(0.0, candidate.score))
            mask = mask_from_bits(bits, score, offset_xy=(x0 + left, y0 + top))
            if mask is not None:
                masks.append(mask)
        return masks


def crop_windows(image_hw: tuple[int, int], n_layers: int, overlap_ratio: float) -> list[Crop]:
    """Return the whole image and, for layer i, 4^i windows that overlap by a share of the short side."""
    height, width = image_hw
    crops = [Crop((0, 0, width, height), 0)]
    for layer in range(1, n_layers + 1):
        n = 2**layer
        overlap = int(overlap_ratio * min(image_hw) * (2 / n))
        crop_w, crop_h = (-(-(overlap * (n - 1) + side) // n) for side in (width, height))
        for left in ((crop_w - overlap) * i for i in range(n)):
            for top in ((crop_h - overlap) * i for i in range(n)):
                box = (left, top, min(left + crop_w, width), min(top + crop_h, height))
                crops.append(Crop(box, layer))
    return [
        crop for crop in crops if crop.box_xyxy[2] > crop.box_xyxy[0] and crop.box_xyxy[3] > crop.box_xyxy[1]
    ]


def point_grid(n_per_side: int) -> NDArray[np.float64]:
    """Return the (n², 2) centres of an n × n grid over the unit square, row by row."""
    centres = np.linspace(1 / (2 * n_per_side), 1 - 1 / (2 * n_per_side), n_per_side)
    x, y = np.meshgrid(centres, centres)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def suppress_boxes(
    boxes_xyxy: NDArray[np.float32], scores: NDArray[np.float32], iou_threshold: float
) -> list[int]:
    """Return which of (n, 4) half-open boxes stay, best first: each falls to a better one it overlaps.

    Sides are measured between first and last pixel, as the stock generator does.
    """
    boxes = boxes_xyxy - np.array([0, 0, 1, 1], np.float32)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    alive = np.ones(len(boxes), np.bool_)
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        if not alive[i]:
            continue
        kept.append(int(i))
        sides = np.minimum(boxes[i, 2:], boxes[:, 2:]) - np.maximum(boxes[i, :2], boxes[:, :2])
        shared = sides.clip(min=0).prod(axis=1)
        alive &= ~(shared > iou_threshold * (areas[i] + areas - shared))
    return kept


def _crop_points(crop: Crop, options: EverythingOptions, region_xyxy: BoxXYXY | None) -> NDArray[np.float64]:
    """Return the grid of a crop in its own frame, without the points outside the region."""
    x0, y0, x1, y1 = crop.box_xyxy
    n_per_side = int(options.points_per_side / options.crop_n_points_downscale_factor**crop.layer)
    points = point_grid(max(1, n_per_side)) * (x1 - x0, y1 - y0)
    if region_xyxy is not None:
        low, high = np.array(region_xyxy).reshape(2, 2) - (x0, y0)
        points = points[((points >= low) & (points < high)).all(axis=1)]
    return np.asarray(points)


def _open_crop(
    predictor: MobileSamPredictor, view: NDArray[np.uint8], crop: Crop, arrays: Arrays | None
) -> OpenImage:
    if crop.layer == 0:
        return predictor.open(arrays if arrays is not None else predictor.encode(view))
    x0, y0, x1, y1 = crop.box_xyxy
    return predictor.share(predictor.encode(np.ascontiguousarray(view[y0:y1, x0:x1])))


def _tidied(masks: list[Mask], options: EverythingOptions, image_hw: tuple[int, int]) -> list[Mask]:
    """Remove small holes and islands, then suppress again, preferring masks that needed nothing."""
    tidy = [tidy_mask(mask, options.min_mask_region_area, image_hw) for mask in masks]
    unchanged = np.array(
        [float(after is before) for after, before in zip(tidy, masks, strict=True)], np.float32
    )
    threshold = max(options.box_nms_thresh, options.crop_nms_thresh)
    return [tidy[i] for i in suppress_boxes(_boxes_of(tidy), unchanged, threshold)]


def _boxes_of(masks: list[Mask]) -> NDArray[np.float32]:
    return np.array([mask.box_xyxy for mask in masks], np.float32).reshape(-1, 4)
