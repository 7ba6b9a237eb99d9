"""MobileSAM while it learns: crops are windows of its 64 × 64 cells; a dense head speaks beside the decoder.

Why a crop can stand for a window of the whole frame: TinyViT knows no positions. Its attention looks at
windows of 56, 224 and 112 px, with biases by distance inside a window, so a crop of 224 px that starts at a
multiple of 224 px has exactly the windows of the whole frame, and one of 128 px is its last, zero-padded
window (1024 = 4 · 224 + 128). Nothing is sliced or interpolated there. Positions enter in the decoder, where
each crop gets those of the cells that it lies on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_droplet.segmentation.mobile_sam import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, PADDING, POSITIVE, MobileSam
from sam_droplet.segmentation.tiny_vit import EMBEDDING_CHANNELS, EMBEDDING_SIDE
from sam_droplet.training.prompt_crops import CELL_PX, DENSE_OUTPUTS

_PLACES_PER_CELL = 4


class LearningSam(nn.Module):
    """MobileSAM and the dense head that only training needs."""

    def __init__(self, sam: MobileSam) -> None:
        super().__init__()
        self.sam = sam
        self.dense_head = nn.Conv2d(EMBEDDING_CHANNELS, DENSE_OUTPUTS * _PLACES_PER_CELL**2, 1)

    def preprocess(self, pictures: Tensor, seen_hw: Tensor) -> Tensor:
        """Normalize (B, 3, S, S) uint8 crops; what lies beyond (B, 2) ``seen_hw`` becomes zero."""
        normed = (pictures.float() - self.sam.pixel_mean) / self.sam.pixel_std
        place = torch.arange(pictures.shape[-1], device=pictures.device)
        rows, columns = place < seen_hw[:, :1], place < seen_hw[:, 1:]  # (B, S) each
        return normed * (rows[:, None, :, None] & columns[:, None, None])

    def encode(self, pictures: Tensor, seen_hw: Tensor) -> Tensor:
        """Embed what ``preprocess`` takes: (B, 256, S/16, S/16)."""
        embedding: Tensor = self.sam.image_encoder(self.preprocess(pictures, seen_hw))
        return embedding

    def dense(self, embedding: Tensor) -> Tensor:
        """Tell (B, 5, S/4, S/4): is something here (logit), how central (logit), its log radius, its centre.

        The centre is told as the way there, x and y in cells.
        """
        return F.pixel_shuffle(self.dense_head(embedding), _PLACES_PER_CELL).float()

    def decode(self, embedding: Tensor, cell_xy: Tensor, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Answer K prompts on each of B crops: logits (B · K, 4, S/4, S/4) and predicted IoU (B · K, 4).

        cell_xy: (B, 2), where each crop lies in the frame.
        """
        encoder = self.sam.prompt_encoder
        k = len(prompts.labels) // len(embedding)
        offset_px = (cell_xy * CELL_PX).repeat_interleave(k, dim=0)  # (B · K, 2)
        sparse = encoder(prompts.points_xy + offset_px[:, None], prompts.labels)
        image = embedding.repeat_interleave(k, dim=0) + self._earlier(prompts)
        positions = window_positions(encoder.pe_layer.dense(), cell_xy, embedding.shape[-1])
        logits, iou = self.sam.mask_decoder(image, positions.repeat_interleave(k, dim=0), sparse)
        return logits.float(), iou.float()

    def _earlier(self, prompts: Prompts) -> Tensor:
        encoder = self.sam.prompt_encoder
        nothing = encoder.embed_mask(None)
        if prompts.earlier is None or prompts.with_earlier is None:
            return nothing
        embedded = encoder.embed_mask(prompts.earlier)
        return torch.where(prompts.with_earlier[:, None, None, None], embedded, nothing.to(embedded.dtype))


@dataclass(frozen=True)
class Prompts:
    """Hold N prompts with as many tokens each, in crop px.

    points_xy: (N, T, 2). labels: (N, T) in -1..3. A lone click is a point and a padding point, a box its two
    corners; each correction adds a point to both, so that no prompt needs more padding than in use.
    earlier: (N, 1, S/4, S/4) logits to go on from, for those ``with_earlier`` (N,) bool; or None.
    """

    points_xy: Tensor
    labels: Tensor
    earlier: Tensor | None = None
    with_earlier: Tensor | None = None

    @property
    def lone_click(self) -> Tensor:
        """Which prompts are one click, and so may mean several things, (N,) bool."""
        return (self.labels.shape[1] == 2) & (self.labels == PADDING).any(dim=1)

    def with_point(self, point_xy: Tensor, label: Tensor, earlier: Tensor, with_earlier: Tensor) -> Prompts:
        """Return the prompts with one more (N, 2) point each of (N,) label."""
        points = torch.cat([point_xy[:, None], self.points_xy], dim=1)
        return Prompts(points, torch.cat([label[:, None], self.labels], dim=1), earlier, with_earlier)


def first_prompts(click_xy: Tensor, boxes_xyxy: Tensor, as_box: Tensor) -> Prompts:
    """Begin N prompts: by a (N, 2) click, or where ``as_box`` by the (N, 4) box."""
    corners = boxes_xyxy.view(-1, 2, 2)
    clicks = torch.stack([click_xy, torch.zeros_like(click_xy)], dim=1)
    box_labels = torch.tensor([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT], device=click_xy.device)
    click_labels = torch.tensor([POSITIVE, PADDING], device=click_xy.device)
    points = torch.where(as_box[:, None, None], corners, clicks)
    return Prompts(points, torch.where(as_box[:, None], box_labels, click_labels))


def window_positions(dense_pe: Tensor, cell_xy: Tensor, side: int) -> Tensor:
    """Slice the positions of the whole frame, (4096, 256), at (B, 2) windows: (B, side · side, 256)."""
    steps = torch.arange(side, device=dense_pe.device)
    columns, rows = cell_xy[:, :1] + steps, cell_xy[:, 1:] + steps  # (B, side) each
    cells = rows[:, :, None] * EMBEDDING_SIDE + columns[:, None]
    return dense_pe[cells.flatten(1)]
