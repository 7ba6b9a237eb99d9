"""Masks: one object's pixels inside its box, and what can be asked of them without a model.

Every coordinate in this product is in the image-corner frame: x runs right, y down, and the first
pixel spans 0..1, so its centre is at 0.5. Boxes are half-open. No full-image array per mask exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from sam_droplet.errors import InputError

BoxXYXY = tuple[int, int, int, int]

_FAR_PX = 1e7
# Far above any drawing and any image, and still a bounded amount of memory.
_MAX_CROSSINGS = 20_000_000
_MAX_RLE_PX = 1_000_000_000


@dataclass(frozen=True, eq=False)
class Mask:
    """Hold one object's pixels.

    box_xyxy: half-open pixel bounds inside the image.
    bits: (y1 - y0, x1 - x0) bool, at least one True.
    score: confidence in [0, 1].
    contour_xy: (K, 2) float32 sub-pixel outline in the image-corner frame where the model gives one;
        None means that the pixel outline is all there is.
    """

    box_xyxy: BoxXYXY
    bits: NDArray[np.bool_]
    score: float
    contour_xy: NDArray[np.float32] | None = None

    @cached_property
    def area_px(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.bits))

    @cached_property
    def bbox_xywh(self) -> tuple[int, int, int, int]:
        """COCO box: left, top, width, height."""
        x0, y0, x1, y1 = self.box_xyxy
        return x0, y0, x1 - x0, y1 - y0

    @cached_property
    def outline_xy(self) -> NDArray[np.float32]:
        """Largest outline, (K, 2) float32: the sub-pixel contour if known, else along pixel edges."""
        if self.contour_xy is not None:
            return self.contour_xy
        return pixel_outline(self)


def mask_from_bits(
    bits: NDArray[np.bool_], score: float, *, offset_xy: tuple[int, int] = (0, 0)
) -> Mask | None:
    """Crop an (H, W) bool array to its True pixels; None where there are none."""
    rows = np.flatnonzero(bits.any(axis=1))
    if rows.size == 0:
        return None
    columns = np.flatnonzero(bits.any(axis=0))
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    dx, dy = offset_xy
    return Mask((x0 + dx, y0 + dy, x1 + dx, y1 + dy), bits[y0:y1, x0:x1].copy(), float(score))


def mask_from_polygon(contour_xy: NDArray[Any], score: float, image_hw: tuple[int, int]) -> Mask | None:
    """Fill a polygon given in the image-corner frame; None where no pixel centre lies inside.

    contour_xy: (K, 2). A pixel belongs to the mask if its centre is inside by the even-odd rule.
    Raises InputError for fewer than three points and for points that are not finite.
    """
    height, width = image_hw
    points = np.asarray(contour_xy, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not np.isfinite(points).all():
        raise InputError(
            "A polygon of at least three points [x, y] of finite numbers was expected, but came "
            f"{len(points)} points or numbers that are not finite; draw it again."
        )
    # Far outside the image only the direction matters, and clipped numbers cannot overflow.
    inside = np.clip(points, -_FAR_PX, _FAR_PX)
    x0, y0 = np.maximum(np.floor(inside.min(axis=0)).astype(int), 0)
    x1, y1 = np.minimum(np.ceil(inside.max(axis=0)).astype(int), (width, height))
    if x1 <= x0 or y1 <= y0:
        return None
    bits = _fill_by_pixel_centres(inside - (x0, y0), (int(y1 - y0), int(x1 - x0)))
    cropped = mask_from_bits(bits, score, offset_xy=(int(x0), int(y0)))
    if cropped is None:
        return None
    return Mask(cropped.box_xyxy, cropped.bits, cropped.score, inside.astype(np.float32))


def _fill_by_pixel_centres(points_xy: NDArray[np.float64], hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Even-odd scanline fill, exact at pixel centres.

    OpenCV's fillPoly also paints every pixel that the outline touches, which makes small droplets
    half a pixel too wide on each side; that is why it is not used here.
    """
    height, width = hw
    x, y = points_xy[:, 0], points_xy[:, 1]
    x_next, y_next = np.roll(x, -1), np.roll(y, -1)
    # Rows whose centre an edge crosses: from its upper end, included, to its lower end, excluded.
    first_row = np.clip(np.ceil(np.minimum(y, y_next) - 0.5), 0, height).astype(np.intp)
    end_row = np.clip(np.ceil(np.maximum(y, y_next) - 0.5), 0, height).astype(np.intp)
    n_rows = end_row - first_row
    if n_rows.sum() > _MAX_CROSSINGS:
        raise InputError(
            f"A polygon of a few thousand points was expected, but the {len(x)} that came cross too many "
            "rows; draw it with fewer."
        )
    edges = np.repeat(np.arange(len(x)), n_rows)  # (M,) one entry per crossing
    steps = np.arange(edges.size) - np.repeat(np.cumsum(n_rows) - n_rows, n_rows)
    rows = first_row[edges] + steps
    share = (rows + 0.5 - y[edges]) / (y_next[edges] - y[edges])
    cross_x = x[edges] + share * (x_next[edges] - x[edges])
    # The first pixel whose centre lies right of each crossing toggles from there on.
    columns = np.clip(np.ceil(cross_x - 0.5), 0, width).astype(np.intp)
    toggles = np.zeros((height, width + 1), np.uint8)
    # Bytes may wrap around: only whether the count is odd matters.
    np.add.at(toggles, (rows, columns), np.uint8(1))
    counted = np.cumsum(toggles[:, :width], axis=1, dtype=np.uint8)
    return (counted & np.uint8(1)).view(np.bool_)


def pixel_outline(mask: Mask) -> NDArray[np.float32]:
    """Trace the outside of the mask's largest part along pixel edges, (K, 2) float32."""
    # Doubling puts each pixel's four corners on their own grid points, so the traced line
    # runs along the edges and not through the centres (which would lose half a pixel).
    padded = np.pad(mask.bits, 1).view(np.uint8)
    doubled = padded.repeat(2, axis=0).repeat(2, axis=1)
    contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max(contours, key=cv2.contourArea)[:, 0, :].astype(np.float32)
    corners = (largest + 1) // 2 - 1
    keep = np.any(corners != np.roll(corners, 1, axis=0), axis=1)
    outline = corners[keep] if keep.any() else corners
    return (outline + np.asarray(mask.box_xyxy[:2], np.float32)).astype(np.float32)


def rle_encode(mask: Mask, image_hw: tuple[int, int]) -> dict[str, Any]:
    """Return the COCO run-length encoding over the whole image.

    ``{"size": [height, width], "counts": str}``, column-major, as pycocotools reads it.
    """
    height, width = image_hw
    x0, y0, _, _ = mask.box_xyxy
    down = np.pad(mask.bits.T, ((0, 0), (1, 1))).view(np.int8)  # (w, h + 2)
    columns, rows = np.nonzero(np.diff(down, axis=1))  # each run's first row and the row after its last
    flat = (columns + x0).astype(np.int64) * height + rows + y0
    # A run that reaches the lowest row goes on where the next column starts with one.
    goes_on = np.flatnonzero(flat[1:-1:2] == flat[2::2])
    flat = np.delete(flat, np.concatenate([2 * goes_on + 1, 2 * goes_on + 2]))
    starts, ends = flat[::2], flat[1::2]
    boundaries = np.empty(2 * starts.size + 2, np.int64)
    boundaries[0], boundaries[-1] = 0, height * width
    boundaries[1:-1:2], boundaries[2:-1:2] = starts, ends
    counts = np.diff(boundaries)
    if counts[-1] == 0:
        counts = counts[:-1]
    encoded = coco_mask.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return {"size": [height, width], "counts": encoded["counts"].decode("ascii")}


def rle_decode(rle: dict[str, Any], score: float = 1.0) -> Mask | None:
    """Read a COCO run-length encoding, compressed or not; None for an empty one.

    Raises InputError where the runs do not add up to the size.
    """
    height, width = (int(side) for side in rle["size"])
    counts = rle["counts"]
    if isinstance(counts, str):
        counts = counts.encode("ascii", "replace")
    runs = _decompressed(counts) if isinstance(counts, bytes) else np.asarray(counts, np.int64)
    is_sound = height > 0 and width > 0 and height * width <= _MAX_RLE_PX and not (runs < 0).any()
    if not is_sound or runs.sum() != height * width:
        raise InputError(
            f"Run lengths that add up to {height} × {width} pixels were expected, but they do not; "
            "encode the mask again."
        )
    bounds = np.concatenate([[0], np.cumsum(runs)])
    filled = np.flatnonzero(runs[1::2]) * 2 + 1
    if filled.size == 0:
        return None
    # Only the columns that the object spans are laid out; runs go down the columns.
    left = int(bounds[filled[0]]) // height
    right = (int(bounds[filled[-1] + 1]) - 1) // height + 1
    bounds = np.clip(bounds, left * height, right * height)
    flat = np.repeat(np.arange(runs.size) % 2 == 1, np.diff(bounds))
    return mask_from_bits(flat.reshape(right - left, height).T, score, offset_xy=(left, 0))


def _decompressed(text: bytes) -> NDArray[np.int64]:
    """Undo COCO's compression of run lengths.

    Each number is written in groups of five bits, least first, as characters from "0" on; bit 5 says that
    another group follows, bit 4 of the last group is the sign. From the fourth on, a number is the
    difference to the one two before.
    """
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    is_last = (codes & 32) == 0
    if codes.size == 0 or not is_last[-1] or codes.min() < 0 or codes.max() > 63:
        return np.array([-1])
    ends = np.flatnonzero(is_last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 12:  # more bits than an int64 holds
        return np.array([-1])
    shifts = 5 * (np.arange(codes.size) - np.repeat(starts, lengths))
    values = np.add.reduceat((codes & 31) << shifts, starts)
    values -= np.where(codes[ends] & 16, np.int64(1) << (5 * lengths), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def intersection_px(a: Mask, b: Mask) -> int:
    """Number of pixels that two masks share."""
    x0, y0 = max(a.box_xyxy[0], b.box_xyxy[0]), max(a.box_xyxy[1], b.box_xyxy[1])
    x1, y1 = min(a.box_xyxy[2], b.box_xyxy[2]), min(a.box_xyxy[3], b.box_xyxy[3])
    if x1 <= x0 or y1 <= y0:
        return 0
    return int(np.count_nonzero(_window(a, x0, y0, x1, y1) & _window(b, x0, y0, x1, y1)))


def iou(a: Mask, b: Mask) -> float:
    """Intersection over union of two masks, in [0, 1]."""
    shared = intersection_px(a, b)
    return shared / (a.area_px + b.area_px - shared)


def contained_share(inner: Mask, outer: Mask) -> float:
    """Share of the inner mask's pixels that lie in the outer one, in [0, 1]."""
    return intersection_px(inner, outer) / inner.area_px


def is_centred_in(mask: Mask, region_xyxy: tuple[float, float, float, float]) -> bool:
    """Tell whether the middle of a mask's box lies in a half-open region."""
    x0, y0, x1, y1 = mask.box_xyxy
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return region_xyxy[0] <= x < region_xyxy[2] and region_xyxy[1] <= y < region_xyxy[3]


def _window(mask: Mask, x0: int, y0: int, x1: int, y1: int) -> NDArray[np.bool_]:
    left, top = mask.box_xyxy[:2]
    return mask.bits[y0 - top : y1 - top, x0 - left : x1 - left]


def label_image(masks: Sequence[Mask], image_hw: tuple[int, int]) -> NDArray[np.uint16 | np.uint32]:
    """Paint masks into one label image: 0 is background, mask i is i + 1.

    Overlaps: smaller objects are painted last, so they stay visible. uint32 above 65,535 masks.
    """
    labels = np.zeros(image_hw, np.uint16 if len(masks) <= 65_535 else np.uint32)
    for index in sorted(range(len(masks)), key=lambda i: -masks[i].area_px):
        x0, y0, x1, y1 = masks[index].box_xyxy
        labels[y0:y1, x0:x1][masks[index].bits] = index + 1
    return labels


def non_maximum_suppression(
    masks: Sequence[Mask], *, iou_threshold: float, containment_threshold: float = 1.01
) -> list[int]:
    """Return the indices to keep, best score first, so that no two kept masks overlap too much.

    A mask falls if its IoU with a better one exceeds ``iou_threshold`` or if more than
    ``containment_threshold`` of the smaller of the two lies in the other.
    """
    order = sorted(range(len(masks)), key=lambda i: (-masks[i].score, i))
    boxes = np.array([m.box_xyxy for m in masks], np.int64).reshape(-1, 4)
    alive = np.ones(len(masks), bool)
    kept: list[int] = []
    for index in order:
        if not alive[index]:
            continue
        kept.append(index)
        x0, y0, x1, y1 = boxes[index]
        near = alive & (boxes[:, 0] < x1) & (boxes[:, 2] > x0) & (boxes[:, 1] < y1) & (boxes[:, 3] > y0)
        near[kept] = False
        for other in np.flatnonzero(near).tolist():
            shared = intersection_px(masks[index], masks[other])
            smaller = min(masks[index].area_px, masks[other].area_px)
            union = masks[index].area_px + masks[other].area_px - shared
            if shared > iou_threshold * union or shared > containment_threshold * smaller:
                alive[other] = False
    return kept
