"""The ways to find that need MobileSAM: *refined* redraws DropletNet's droplets, *everything* asks a grid."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import cache
from math import pi, sqrt

import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging.images import Image
from sam_droplet.imaging.masks import BoxXYXY, Mask, iou, is_centred_in, non_maximum_suppression
from sam_droplet.imaging.tiles import cover
from sam_droplet.segmentation.everything import find_everything
from sam_droplet.segmentation.mobile_sam_predictor import CachedMobileSam
from sam_droplet.segmentation.predictor import DropletPredictor, Stopwatch
from sam_droplet.segmentation.prompts import EverythingOptions, FindOptions, Progress, Segmentation

# A drawing that shares less than this with the outline it was asked for shows something else.
_SAME_IOU = 0.5
# Drawings that share more, or lie one in the other by more, show one droplet.
_DUPLICATE_IOU, _DUPLICATE_SHARE = 0.5, 0.8
# MobileSAM sees 1024 px whatever the image: bigger images are looked at in windows, for whose halo
# droplets must not be too big.
_WHOLE_IMAGE_PX, _WINDOW_PX, _HALO_PX = 1536, 1024, 192
# How far sensitivity 0 and 1 move SAM's two thresholds from their value at 0.5.
_IOU_STEP, _STABILITY_STEP = 0.1, 0.05


def find_refined(
    droplet_net: DropletPredictor,
    mobile_sam: CachedMobileSam,
    image: Image,
    options: FindOptions,
    on_progress: Progress | None = None,
) -> Segmentation:
    """Find droplets with DropletNet and draw each with MobileSAM, asked by its box.

    Where MobileSAM draws nothing, or something else, DropletNet's outline stays. Scores are DropletNet's.
    """
    halved, n_looked = mobile_sam.batches.halved, 0

    def count(done: int, total: int) -> None:
        nonlocal n_looked
        n_looked = done
        if on_progress is not None:
            on_progress(done, total)

    found = droplet_net.find(image, replace(options, mode="droplets"), count)
    watch = Stopwatch(dict(found.timings_s))
    drawn = _drawn(mobile_sam, image, found.masks, n_looked, on_progress)
    watch.lap("draw")
    chosen = [_agreed(ours, theirs) for ours, theirs in zip(found.masks, drawn, strict=True)]
    kept = non_maximum_suppression(
        chosen, iou_threshold=_DUPLICATE_IOU, containment_threshold=_DUPLICATE_SHARE
    )
    masks = [chosen[i] for i in kept]
    watch.lap("resolve")
    told = [i for i in kept if options.roi_xyxy is None or is_centred_in(chosen[i], options.roi_xyxy)]
    n_own = sum(chosen[i] is found.masks[i] for i in told)
    own = f"{n_own} of {len(told)} outlines are DropletNet's own, because MobileSAM drew something else."
    message = " ".join(filter(None, [own if n_own else None, found.message])) or None
    message = _with_memory_note(message, mobile_sam, halved)
    parameters = found.parameters | asdict(options) | {"proposals": droplet_net.info.as_dict()}
    return Segmentation(masks, mobile_sam.info, parameters, watch.timings_s, message)


def find_all(
    mobile_sam: CachedMobileSam, image: Image, options: FindOptions, on_progress: Progress | None = None
) -> Segmentation:
    """Outline every object with MobileSAM, asked at a grid of points; see EverythingOptions.

    At sensitivity 0.5 SAM's thresholds are as given; more sensitivity lowers them.
    """
    watch, halved = Stopwatch(), mobile_sam.batches.halved
    arrays = mobile_sam.embedding(image)
    watch.lap("embed")
    given = options.everything or EverythingOptions()
    lower = 2 * (options.sensitivity - 0.5)
    wanted = replace(
        given,
        pred_iou_thresh=min(1.0, max(0.0, given.pred_iou_thresh - _IOU_STEP * lower)),
        stability_score_thresh=min(1.0, max(0.0, given.stability_score_thresh - _STABILITY_STEP * lower)),
    )
    masks = find_everything(
        mobile_sam.predictor,
        image.view(),
        wanted,
        arrays=arrays,
        region_xyxy=_whole_pixels(options.roi_xyxy),
        on_progress=on_progress,
    )
    low, high = options.diameter_min_px or 0.0, options.diameter_max_px or float("inf")
    kept = [mask for mask in masks if low <= 2 * sqrt(mask.area_px / pi) <= high]
    watch.lap("draw")
    parameters = asdict(options) | {"everything": asdict(wanted)}
    message = (
        None if kept else f"0 objects: MobileSAM drew {len(masks)}, of which none has the size asked for."
    )
    message = _with_memory_note(message, mobile_sam, halved)
    return Segmentation(kept, mobile_sam.info, parameters, watch.timings_s, message)


def _with_memory_note(message: str | None, mobile_sam: CachedMobileSam, halved_before: int) -> str | None:
    """Add to a message, where memory ran out meanwhile, what that changed."""
    batches = mobile_sam.batches
    if batches.halved == halved_before:
        return message
    note = f"The GPU's memory ran out; nothing is lost, but only {batches.size} prompts run at once now."
    return note if message is None else f"{message} {note}"


def _agreed(ours: Mask, theirs: Mask | None) -> Mask:
    """Return the drawing with the outline's score, or the outline where the two disagree."""
    if theirs is None or iou(ours, theirs) < _SAME_IOU:
        return ours
    return replace(theirs, score=ours.score)


def _drawn(
    mobile_sam: CachedMobileSam,
    image: Image,
    masks: list[Mask],
    n_looked: int,
    on_progress: Progress | None,
) -> list[Mask | None]:
    """Ask MobileSAM for each mask by its box, in the window that suits it.

    n_looked: parts of the search that are done already, which progress counts on from.
    """
    boxes = np.array([_box_of(mask) for mask in masks]).reshape(-1, 4)
    drawn: list[Mask | None] = [None] * len(masks)
    view = cache(image.view)  # made once, and only if a window must be encoded
    done = n_looked
    for window, asked in _windows(image, boxes):

        def count(in_window: int, _: int, before: int = done) -> None:
            if on_progress is not None:
                on_progress(before + in_window, n_looked + len(masks))

        masks_here = mobile_sam.draw_boxes(image, window, boxes[asked], view, count)
        for index, mask in zip(asked, masks_here, strict=True):
            drawn[index] = mask
        done += len(asked)
    return drawn


def _box_of(mask: Mask) -> tuple[float, float, float, float]:
    low, high = mask.outline_xy.min(axis=0), mask.outline_xy.max(axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _windows(image: Image, boxes: NDArray[np.float64]) -> list[tuple[BoxXYXY, NDArray[np.intp]]]:
    """Return windows and which boxes each is to draw, every box once: the whole image for big ones."""
    size = image.height, image.width
    whole = (0, 0, image.width, image.height)
    if max(size) <= _WHOLE_IMAGE_PX:
        return [(whole, np.arange(len(boxes)))]
    big = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0) > 2 * _HALO_PX
    x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2).T
    x, y = np.clip(x, 0, image.width - 0.5), np.clip(y, 0, image.height - 0.5)
    windows = [(whole, np.flatnonzero(big))]
    for tile in cover(size, _WINDOW_PX, _HALO_PX):
        x0, y0, x1, y1 = tile.responsible_xyxy
        inside = (x >= x0) & (x < x1) & (y >= y0) & (y < y1) & ~big
        windows.append((tile.read_xyxy, np.flatnonzero(inside)))
    return [(window, asked) for window, asked in windows if len(asked)]


def _whole_pixels(box_xyxy: tuple[float, float, float, float] | None) -> BoxXYXY | None:
    if box_xyxy is None:
        return None
    x0, y0, x1, y1 = map(round, box_xyxy)
    return x0, y0, x1, y1
