"""What a drawing costs: cross-entropy near and far, dice, predicted IoU, and the dense answers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sam_droplet.training.prompt_crops import MASK_STRIDE

# Cross-entropy is averaged apart in the thing's box, grown by this share, and in the rest: over the whole
# window, empty masks would be cheapest, while balancing all of it would draw every border too far out.
_BOX_MARGIN, _BOX_MARGIN_PX = 0.3, 4.0
# Of several masks the best one counts; the others a little, or some would never learn.
_SHARE_OF_OTHERS = 0.05


@dataclass(frozen=True)
class DrawingLoss:
    """Hold the parts for N prompts, each (N,): what is minimized, and the IoU of the mask that answers."""

    mask: Tensor
    dice: Tensor
    quality: Tensor
    iou: Tensor
    answer: Tensor  # (N, h, w) logits of the mask that the network trusts most


def drawing_loss(
    logits: Tensor, predicted_iou: Tensor, quarters: Tensor, boxes_xyxy: Tensor, lone: Tensor
) -> DrawingLoss:
    """Compare N prompts' four masks with the truth.

    logits: (N, 4, h / 2, w / 2). predicted_iou: (N, 4). quarters: (N, h, w) uint8. boxes_xyxy: (N, 4) px.
    lone: (N,) bool; a lone click is answered by the best of masks 1 to 3, anything else by mask 0.
    """
    truth = quarters.float() / MASK_STRIDE**2
    fine = F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)  # (N, 4, h, w)
    near = _near(boxes_xyxy, truth.shape)
    mask, dice = _cross_entropy(fine, truth, near), _dice(fine, truth)
    iou = _iou(fine.detach() > 0, truth > 0.5)
    allowed = lone[:, None] == (torch.arange(4, device=logits.device) > 0)  # (N, 4)
    cost = (mask + dice).masked_fill(~allowed, torch.inf)
    best = cost.argmin(dim=1, keepdim=True)
    share = torch.where(allowed, _SHARE_OF_OTHERS / allowed.sum(1, keepdim=True), 0.0)
    share = share.scatter_add(1, best, torch.full_like(best, 1, dtype=share.dtype) * (1 - _SHARE_OF_OTHERS))
    quality = ((predicted_iou - iou) ** 2 * allowed).sum(1) / allowed.sum(1)
    trusted = predicted_iou.masked_fill(~allowed, -torch.inf).argmax(dim=1)
    rows = torch.arange(len(logits), device=logits.device)
    return DrawingLoss(
        (mask * share).sum(1),
        (dice * share).sum(1),
        quality,
        iou[rows, trusted],
        logits[rows, trusted].detach(),
    )


def _near(boxes_xyxy: Tensor, shape: torch.Size) -> Tensor:
    """Return the places in and round each box, (N, h, w) bool."""
    margin = _BOX_MARGIN * (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) + _BOX_MARGIN_PX
    low, high = (boxes_xyxy[:, :2] - margin) / MASK_STRIDE, (boxes_xyxy[:, 2:] + margin) / MASK_STRIDE
    y = torch.arange(shape[1], device=boxes_xyxy.device) + 0.5
    x = torch.arange(shape[2], device=boxes_xyxy.device) + 0.5
    rows = (y > low[:, 1:]) & (y < high[:, 1:])
    columns = (x > low[:, :1]) & (x < high[:, :1])
    return rows[:, :, None] & columns[:, None]


def _cross_entropy(logits: Tensor, truth: Tensor, near: Tensor) -> Tensor:
    wide = truth[:, None].expand_as(logits)
    # Above its unavoidable part: a place that the border halves costs nothing if it is drawn as half.
    floor = _entropy(truth)
    cost = F.binary_cross_entropy_with_logits(logits, wide, reduction="none") - floor[:, None]
    inside, beyond = near[:, None].float(), (~near)[:, None].float()
    near_cost = (cost * inside).sum((2, 3)) / inside.sum((2, 3)).clamp(min=1)
    far_cost = (cost * beyond).sum((2, 3)) / beyond.sum((2, 3)).clamp(min=1)
    return near_cost + far_cost


def _dice(logits: Tensor, truth: Tensor) -> Tensor:
    drawn, wanted = logits.sigmoid(), truth[:, None]
    shared = (drawn * wanted).sum((2, 3))
    return 1 - (2 * shared + 1) / (drawn.sum((2, 3)) + wanted.sum((2, 3)) + 1)


def _iou(drawn: Tensor, wanted: Tensor) -> Tensor:
    """IoU of (N, 4, h, w) bool with (N, h, w) bool: (N, 4)."""
    shared = (drawn & wanted[:, None]).sum((2, 3))
    union = (drawn | wanted[:, None]).sum((2, 3))
    return shared / union.clamp(min=1)


def dense_loss(told: Tensor, truth: Tensor) -> Tensor:
    """Compare what the dense head tells, (B, 5, h, w), with the truth: a scalar."""
    something, central, log_radius, *centre = truth.float().unbind(1)
    presence = F.binary_cross_entropy_with_logits(told[:, 0], something)
    excess = F.binary_cross_entropy_with_logits(told[:, 1], central, reduction="none") - _entropy(central)
    lengths = (told[:, 2:] - torch.stack([log_radius, *centre], dim=1)).abs().mean(dim=1)
    return presence + excess.mean() + (lengths * something).sum() / something.sum().clamp(min=1)


def _entropy(share: Tensor) -> Tensor:
    """Return the cross-entropy that remains where a share is told exactly."""
    return -torch.xlogy(share, share) - torch.xlogy(1 - share, 1 - share)
