"""From 256×256 logits to the pixels of an image of any size, computed only where a mask's edge is.

Equal to the official enlargement (bilinear to 1024, cut the padding, bilinear to the image), never N×H×W.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sam_droplet.imaging.masks import BoxXYXY
from sam_droplet.segmentation.mobile_sam import LOW_RES_SIDE, ModelFrame
from sam_droplet.segmentation.tiny_vit import IMAGE_SIDE

BLOCK_FLOATS = 4_000_000  # 16 MB: the most that one step holds
# On a processor, a mask with a box of fewer pixels is measured on all of them: they stay in a core's cache.
SMALL_BOX_PX = 160_000


class Axis:
    """One image axis as a weighted sum of low-resolution rows.

    A pixel row reads ``span`` neighbouring low-resolution rows from its anchor on; pixel rows with the
    same anchor are neighbours too, so anchors of both axes cut the image into rectangular cells.
    """

    def __init__(self, length: int, input_length: int, device: torch.device) -> None:
        # torch's own interpolation of the unit vectors gives exactly its weights.
        units = torch.eye(LOW_RES_SIDE)[None]  # (1, 256, 256)
        enlarged = F.interpolate(units, IMAGE_SIDE, mode="linear", align_corners=False)
        weights = F.interpolate(enlarged[..., :input_length], length, mode="linear", align_corners=False)
        weights = weights[0].T.contiguous()  # (length, 256)
        used = weights > 0
        first = used.int().argmax(dim=1)
        last = LOW_RES_SIDE - 1 - used.flip(1).int().argmax(dim=1)
        self.length = length
        self.first, self.last = first.numpy(), last.numpy()
        self.span = int((last - first).max()) + 1  # 1 to 3
        anchor = first.clamp(max=LOW_RES_SIDE - self.span)
        columns = anchor[:, None] + torch.arange(self.span)
        self._columns = columns.numpy()  # (length, span)
        self._taps = weights.gather(1, columns).numpy()
        self._make_cells(weights.to(device), anchor.to(device))

    def interpolated(self, values: NDArray[np.float32], origin: int, pixels: slice) -> NDArray[np.float32]:
        """Return pixel rows (n, k) of low-resolution rows (m, k), of which the first is row ``origin``.

        Without a matrix product, whose threads cost more here than its arithmetic.
        """
        index = np.clip(self._columns[pixels] - origin, 0, len(values) - 1)  # what lies outside weighs 0
        taps = self._taps[pixels]
        result: NDArray[np.float32] = values[index[:, 0]] * taps[:, :1]
        for i in range(1, self.span):
            result += values[index[:, i]] * taps[:, i : i + 1]
        return result

    def _make_cells(self, weights: Tensor, anchor: Tensor) -> None:
        n_anchors = LOW_RES_SIDE + 1 - self.span
        self.anchor = anchor  # (length,)
        self.count = torch.bincount(anchor, minlength=n_anchors)  # pixel rows of each anchor
        self.start = self.count.cumsum(0) - self.count  # first of them
        within = torch.arange(len(anchor), device=anchor.device) - self.start[anchor]
        columns = anchor[:, None] + torch.arange(self.span, device=anchor.device)
        self.taps = weights.new_zeros(n_anchors, int(self.count.max()), self.span)
        self.taps[anchor, within] = weights.gather(1, columns)  # (anchors, rows of a cell, span)


@dataclass(frozen=True)
class LowResCrop:
    """Keep the logits that draw one mask: values[i, j] is low-resolution pixel (row + i, column + j)."""

    values: NDArray[np.float32]
    row: int
    column: int


@dataclass(frozen=True)
class Measured:
    """Say what n masks would be at full resolution: (n,) each, boxes (n, 4) half-open, int64.

    stability: area above +offset by area above -offset; NaN where both are empty.
    """

    area_px: Tensor
    stability: Tensor
    boxes_xyxy: Tensor


class MaskResampler:
    """Measure and draw low-resolution masks at the size of one image."""

    def __init__(self, image_hw: tuple[int, int], device: str | torch.device = "cpu") -> None:
        input_h, input_w = ModelFrame(*image_hw).input_hw
        self.image_hw = image_hw
        self.y = Axis(image_hw[0], input_h, torch.device(device))
        self.x = Axis(image_hw[1], input_w, torch.device(device))

    def measure(self, logits: Tensor, offset: float = 0.0) -> Measured:
        """Return area, stability and box of (n, 256, 256) masks exactly as if drawn at full resolution."""
        if logits.device.type != "cpu" or len(logits) == 0:
            return self._measure_by_cells(logits, offset)
        parts = [self._measure_alone(one, offset) for one in torch.split(logits, 1)]
        return Measured(
            torch.cat([part.area_px for part in parts]),
            torch.cat([part.stability for part in parts]),
            torch.cat([part.boxes_xyxy for part in parts]),
        )

    def _measure_alone(self, logits: Tensor, offset: float) -> Measured:
        """Measure one mask (1, 256, 256) on the pixels of its box, where that is small."""
        values = logits[0].numpy()
        box = self.outer_box(values, -offset)
        if box is None:
            nothing = torch.zeros(1, dtype=torch.long)
            return Measured(nothing, torch.full((1,), torch.nan), torch.zeros(1, 4, dtype=torch.long))
        x0, y0, x1, y1 = box
        if (x1 - x0) * (y1 - y0) > SMALL_BOX_PX:
            return self._measure_by_cells(logits, offset)
        crop = self.crop(values, box)
        pixels = self._down(crop, self._across(crop, x0, x1), y0, y1)
        inside = pixels > 0
        above, below = np.count_nonzero(pixels > offset), np.count_nonzero(pixels > -offset)
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        edges = (
            [x0 + columns[0], y0 + rows[0], x0 + columns[-1] + 1, y0 + rows[-1] + 1] if rows.size else [0] * 4
        )
        return Measured(
            torch.tensor([np.count_nonzero(inside)]),
            torch.tensor([above / below if below else torch.nan]),
            torch.tensor([[int(edge) for edge in edges]]),
        )

    def _measure_by_cells(self, logits: Tensor, offset: float) -> Measured:
        """Count cells whole whose logits all lie beyond ±offset, and interpolate only the others."""
        n = len(logits)
        lowest, highest = self._extremes(logits)  # (n, anchors y, anchors x)
        inhabited = (self.y.count[:, None] * self.x.count) > 0
        full = (lowest > offset) & inhabited
        edge = (lowest <= offset) & (highest > -offset) & inhabited
        whole_px = (full.float() @ self.x.count.float()).double() @ self.y.count.double()  # (n,)
        tally = _Tally(
            area=torch.stack([whole_px.long()] * 3),  # above +offset, 0 and -offset
            row_hit=full.any(dim=2)[:, self.y.anchor],  # (n, H)
            column_hit=full.any(dim=1)[:, self.x.anchor],  # (n, W)
        )
        mask, a, b = edge.nonzero(as_tuple=True)
        step = max(1, BLOCK_FLOATS // (self.y.taps.shape[1] * self.x.taps.shape[1]))
        for i in range(0, len(mask), step):
            part = slice(i, i + step)
            self._count_edges(tally, logits, (mask[part], a[part], b[part]), offset)
        above, area, below = tally.area
        boxes = torch.cat([_extent(tally.column_hit), _extent(tally.row_hit)], dim=1)[:, [0, 2, 1, 3]]
        return Measured(area, above / below, boxes * (area > 0).view(n, 1))

    def _extremes(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the least and the greatest logit that any pixel of each cell reads."""
        lowest = highest = logits
        for dim, span in ((1, self.y.span), (2, self.x.span)):
            length = LOW_RES_SIDE + 1 - span
            low_parts = [lowest.narrow(dim, i, length) for i in range(span)]
            high_parts = [highest.narrow(dim, i, length) for i in range(span)]
            lowest, highest = low_parts[0], high_parts[0]
            for low, high in zip(low_parts[1:], high_parts[1:], strict=True):
                lowest, highest = torch.minimum(lowest, low), torch.maximum(highest, high)
        return lowest, highest

    def _count_edges(
        self, tally: _Tally, logits: Tensor, cells: tuple[Tensor, Tensor, Tensor], offset: float
    ) -> None:
        """Interpolate the pixels of m cells (mask, anchor y, anchor x) and add them to the tally."""
        mask, a, b = cells
        patches = logits.unfold(1, self.y.span, 1).unfold(2, self.x.span, 1)[mask, a, b]  # (m, span, span)
        pixels = self.y.taps[a] @ patches @ self.x.taps[b].transpose(1, 2)  # (m, rows, columns)
        rows = torch.arange(pixels.shape[1], device=pixels.device)
        columns = torch.arange(pixels.shape[2], device=pixels.device)
        exists_y = rows < self.y.count[a][:, None]  # (m, rows): cells differ in size by one
        exists_x = columns < self.x.count[b][:, None]
        exists = exists_y[:, :, None] & exists_x[:, None, :]
        for level, threshold in enumerate((offset, 0.0, -offset)):
            inside = (pixels > threshold) & exists
            tally.area[level].index_add_(0, mask, inside.sum(dim=(1, 2)))
            if level == 1:
                cell, row = inside.any(dim=2).nonzero(as_tuple=True)
                tally.row_hit[mask[cell], self.y.start[a[cell]] + row] = True
                cell, column = inside.any(dim=1).nonzero(as_tuple=True)
                tally.column_hit[mask[cell], self.x.start[b[cell]] + column] = True

    def outer_box(self, logits: NDArray[np.float32], level: float = 0.0) -> BoxXYXY | None:
        """Return a box of all pixels above a level of (256, 256) logits, by few pixels too wide at most.

        A pixel is above it only where a logit is that it reads. None where no logit is.
        """
        inside = logits > level
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        if rows.size == 0:
            return None
        y0, x0 = np.searchsorted(self.y.last, rows[0]), np.searchsorted(self.x.last, columns[0])
        y1 = np.searchsorted(self.y.first, rows[-1], side="right")
        x1 = np.searchsorted(self.x.first, columns[-1], side="right")
        return (int(x0), int(y0), int(x1), int(y1)) if x1 > x0 and y1 > y0 else None

    def crop(self, logits: NDArray[np.float32], box_xyxy: BoxXYXY) -> LowResCrop:
        """Copy the part of (256, 256) logits that the pixels of a box read."""
        x0, y0, x1, y1 = box_xyxy
        row, column = int(self.y.first[y0]), int(self.x.first[x0])
        values = logits[row : self.y.last[y1 - 1] + 1, column : self.x.last[x1 - 1] + 1]
        return LowResCrop(np.ascontiguousarray(values, np.float32).copy(), row, column)

    def draw(self, crop: LowResCrop, box_xyxy: BoxXYXY) -> NDArray[np.bool_]:
        """Return the (y1 - y0, x1 - x0) bits of the mask inside its box."""
        x0, y0, x1, y1 = box_xyxy
        wide = self._across(crop, x0, x1)  # (height, x1 - x0)
        bits = np.empty((y1 - y0, x1 - x0), np.bool_)
        step = max(1, BLOCK_FLOATS // (x1 - x0))
        for top in range(y0, y1, step):
            below = min(top + step, y1)
            np.greater(self._down(crop, wide, top, below), 0, out=bits[top - y0 : below - y0])
        return bits

    def _across(self, crop: LowResCrop, x0: int, x1: int) -> NDArray[np.float32]:
        """Interpolate the rows of a crop at pixel columns x0 to x1: (height, x1 - x0)."""
        return self.x.interpolated(crop.values.T, crop.column, slice(x0, x1)).T

    def _down(self, crop: LowResCrop, wide: NDArray[np.float32], y0: int, y1: int) -> NDArray[np.float32]:
        """Interpolate (height, n) columns at pixel rows y0 to y1: (y1 - y0, n)."""
        return self.y.interpolated(wide, crop.row, slice(y0, y1))


@dataclass(frozen=True)
class _Tally:
    """Collect what cells contribute: area (3, n), row_hit (n, H), column_hit (n, W)."""

    area: Tensor
    row_hit: Tensor
    column_hit: Tensor


def _extent(hit: Tensor) -> Tensor:
    """First True and one past the last True of each (n, length) row: (n, 2)."""
    first = hit.int().argmax(dim=1)
    end = hit.shape[1] - hit.flip(1).int().argmax(dim=1)
    return torch.stack([first, end], dim=1)
