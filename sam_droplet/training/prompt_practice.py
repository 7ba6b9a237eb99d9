"""One round of practice: prompt, draw, correct, as often as a user would; for training and for checks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from sam_droplet.training.prompt_corrections import largest_error, loosened_boxes, next_points
from sam_droplet.training.prompt_crops import MASK_STRIDE
from sam_droplet.training.prompt_losses import DrawingLoss, drawing_loss
from sam_droplet.training.prompt_network import LearningSam, first_prompts

Batch = dict[str, Tensor]

_BOXES, _WITH_EARLIER = 0.4, 0.3
# Logits beyond these say nothing more, and an earlier answer must not blow up.
_MOST_LOGIT = 32.0


def practise(
    network: LearningSam, embedding: Tensor, batch: Batch, rounds: int, generator: torch.Generator
) -> Iterator[DrawingLoss]:
    """Yield what each round cost, for B · K prompts: a click or a box, then one more point each round."""
    boxes = batch["boxes_xyxy"].flatten(0, 1)
    side = batch["picture"].shape[-1]
    dragged = loosened_boxes(boxes, generator).clamp(0, side)
    as_box = _drawn(boxes, generator) < _BOXES
    prompts = first_prompts(batch["first_xy"].flatten(0, 1), dragged, as_box)
    quarters, seen = batch["masks"].flatten(0, 1), _seen(batch)
    for last in (False,) * (rounds - 1) + (True,):
        logits, iou = network.decode(embedding, batch["cell_xy"], prompts)
        loss = drawing_loss(logits, iou, quarters, boxes, prompts.lone_click)
        yield loss
        if not last:
            point, label = next_points(_enlarged(loss.answer), _inside(quarters), seen, generator)
            with_earlier = _drawn(boxes, generator) < _WITH_EARLIER
            earlier = loss.answer[:, None].clamp(-_MOST_LOGIT, _MOST_LOGIT)
            prompts = prompts.with_point(point, label, earlier, with_earlier)


@torch.no_grad()
def mean_iou(network: LearningSam, batch: Batch, rounds: int = 3) -> dict[str, float]:
    """Return the mean IoU after 1 to ``rounds`` clicks, each on the largest error, and for an exact box."""
    embedding = network.encode(batch["picture"], batch["seen_hw"])
    boxes, quarters = batch["boxes_xyxy"].flatten(0, 1), batch["masks"].flatten(0, 1)
    counted = batch["counted"].flatten()
    found: dict[str, float] = {}
    for name, n_rounds in (("click", rounds), ("box", 1)):
        as_box = torch.full_like(counted, name == "box")
        prompts = first_prompts(batch["first_xy"].flatten(0, 1), boxes, as_box)
        for n in range(1, n_rounds + 1):
            logits, iou = network.decode(embedding, batch["cell_xy"], prompts)
            loss = drawing_loss(logits, iou, quarters, boxes, prompts.lone_click)
            found[f"{name}{n}" if name == "click" else name] = float(loss.iou[counted].mean())
            point, label = largest_error(_enlarged(loss.answer), _inside(quarters))
            # As in the product, a correction starts from the points alone.
            prompts = replace(prompts.with_point(point, label, loss.answer[:, None], counted), earlier=None)
    return found


def _drawn(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(len(like), generator=generator, device=like.device)


def _enlarged(answer: Tensor) -> Tensor:
    fine = F.interpolate(answer[:, None], scale_factor=2, mode="bilinear", align_corners=False)
    return fine[:, 0] > 0


def _inside(quarters: Tensor) -> Tensor:
    return quarters > MASK_STRIDE**2 // 2


def _seen(batch: Batch) -> Tensor:
    """Which places of the masks the picture covers, (B · K, h, w) bool."""
    k, height, width = batch["masks"].shape[1:]
    y = torch.arange(height, device=batch["masks"].device) * MASK_STRIDE
    x = torch.arange(width, device=batch["masks"].device) * MASK_STRIDE
    rows, columns = y < batch["seen_hw"][:, :1], x < batch["seen_hw"][:, 1:]
    return (rows[:, :, None] & columns[:, None]).repeat_interleave(k, dim=0)
