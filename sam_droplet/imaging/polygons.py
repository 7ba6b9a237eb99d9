"""Fill many polygons at once, pixel for pixel as ``masks.mask_from_polygon`` fills one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging.masks import Mask, mask_from_bits

# Box pixels filled in one step; bounds memory to about 100 MB.
_STEP_PX = 4_000_000


def masks_from_polygons(contours_xy: NDArray[np.float32], scores: NDArray[np.float32]) -> list[Mask]:
    """Fill (N, K, 2) polygons of finite points inside the image; those without a pixel centre are left out.

    A pixel belongs to a mask if its centre is inside by the even-odd rule. Each mask keeps its polygon.
    """
    low = np.floor(contours_xy.min(axis=1)).astype(np.intp)  # (N, 2)
    size = np.ceil(contours_xy.max(axis=1)).astype(np.intp) - low
    box_px = (size[:, 0] + 1) * size[:, 1]
    masks = []
    for part in _steps(box_px):
        filled = _fill(contours_xy[part].astype(np.float64) - low[part, None], size[part], box_px[part])
        for i, bits in enumerate(filled, part.start):
            cropped = mask_from_bits(bits, float(scores[i]), offset_xy=(int(low[i, 0]), int(low[i, 1])))
            if cropped is not None:
                contour = contours_xy[i].astype(np.float32)
                masks.append(Mask(cropped.box_xyxy, cropped.bits, cropped.score, contour))
    return masks


def _steps(box_px: NDArray[np.intp]) -> Iterator[slice]:
    """Cut the polygons into runs whose boxes hold few enough pixels, one polygon at least."""
    start, total = 0, 0
    for i, pixels in enumerate(box_px.tolist()):
        if i > start and total + pixels > _STEP_PX:
            yield slice(start, i)
            start, total = i, 0
        total += pixels
    if len(box_px):
        yield slice(start, len(box_px))


def _fill(
    points_xy: NDArray[np.float64], size_wh: NDArray[np.intp], box_px: NDArray[np.intp]
) -> Iterator[NDArray[np.bool_]]:
    """Fill (N, K, 2) polygons, each in a box of its own from (0, 0): yield (h, w) bool arrays.

    All boxes lie one after the other, each row with one more place for crossings beyond its end.
    """
    x, y = points_xy[..., 0], points_xy[..., 1]
    x_next, y_next = np.roll(x, -1, axis=1), np.roll(y, -1, axis=1)
    width, height = size_wh[:, :1], size_wh[:, 1:]
    # Rows whose centre an edge crosses: from its upper end, included, to its lower end, excluded.
    first_row = np.clip(np.ceil(np.minimum(y, y_next) - 0.5), 0, height).astype(np.intp)
    end_row = np.clip(np.ceil(np.maximum(y, y_next) - 0.5), 0, height).astype(np.intp)
    n_rows = (end_row - first_row).ravel()
    edges = np.repeat(np.arange(n_rows.size), n_rows)  # (M,) one entry per crossing
    steps = np.arange(edges.size) - np.repeat(np.cumsum(n_rows) - n_rows, n_rows)
    rows = first_row.ravel()[edges] + steps
    x0, y0, x1, y1 = (values.ravel()[edges] for values in (x, y, x_next, y_next))
    cross_x = x0 + (rows + 0.5 - y0) / (y1 - y0) * (x1 - x0)
    # The first pixel whose centre lies right of each crossing toggles from there on.
    polygon = edges // x.shape[1]
    columns = np.clip(np.ceil(cross_x - 0.5), 0, width[polygon, 0]).astype(np.intp)
    starts = np.cumsum(box_px) - box_px
    places = starts[polygon] + rows * (width[polygon, 0] + 1) + columns
    toggles = np.zeros(int(box_px.sum()), np.uint8)
    np.add.at(toggles, places, np.uint8(1))
    # Every row holds an even number of crossings, so that each starts outside again.
    inside = (np.cumsum(toggles, dtype=np.uint8) & 1).astype(bool)
    for start, (columns_px, rows_px) in zip(starts.tolist(), size_wh.tolist(), strict=True):
        box = inside[start : start + (columns_px + 1) * rows_px]
        yield box.reshape(rows_px, columns_px + 1)[:, :columns_px]
