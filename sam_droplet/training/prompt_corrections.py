"""The next point that a user would set, given what the network drew: on tensors, so that a GPU does it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sam_droplet.training.prompt_crops import MASK_STRIDE

# How the next point is chosen: at the middle of the largest error, anywhere in the errors, or, as users do
# before they look, anywhere inside the thing or just outside its border.
_LARGEST, _ANYWHERE = 0.5, 0.25
_DEEPEST = 24
# How far outside the border a negative point may be set, in places of the mask.
_OUTSIDE_REACH = 5


def loosened_boxes(boxes_xyxy: Tensor, generator: torch.Generator) -> Tensor:
    """Return (N, 4) boxes as users drag them: half exact, half with sides up to 6 % in and 18 % out."""
    size = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).repeat(1, 2)
    outwards = torch.tensor([-1.0, -1.0, 1.0, 1.0], device=boxes_xyxy.device)
    drawn = _uniform(boxes_xyxy.shape, boxes_xyxy, generator)
    loose = _uniform((len(boxes_xyxy), 1), boxes_xyxy, generator) < 0.5
    return boxes_xyxy + size * outwards * (0.24 * drawn - 0.06) * loose


def next_points(
    drawn: Tensor, wanted: Tensor, counted: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return one (N, 2) point in px and its (N,) label, 1 inside or 0 outside, for each prompt.

    drawn, wanted: (N, h, w) bool. counted: (N, h, w) bool, where a point may be set at all.
    """
    missing, extra = wanted & ~drawn, drawn & ~wanted & counted
    depth = torch.stack([_depth(missing), _depth(extra)], dim=1)  # (N, 2, h, w)
    error = torch.stack([missing, extra], dim=1).float()
    outside = F.max_pool2d(wanted[:, None].float(), 2 * _OUTSIDE_REACH + 1, 1, _OUTSIDE_REACH)[:, 0] > 0
    user = torch.stack([wanted, outside & ~wanted & counted], dim=1).float()
    user = user * (_uniform((len(drawn), 2, 1, 1), depth, generator) + 0.2)
    choice = _uniform((len(drawn), 1, 1, 1), depth, generator)
    chance = _uniform(depth.shape, depth, generator)
    weight = torch.where(
        choice < _LARGEST,
        depth * (1 + 0.01 * chance),
        torch.where(choice < _LARGEST + _ANYWHERE, error, user) * chance,
    )
    # A perfect drawing has no error: then any place inside is pointed at again.
    perfect = weight.flatten(1).amax(dim=1) <= 0
    weight[perfect] = torch.stack([wanted.float() * chance[:, 0], torch.zeros_like(depth[:, 1])], 1)[perfect]
    height, width = drawn.shape[1:]
    best = weight.flatten(1).argmax(dim=1)
    label = 1 - best // (height * width)
    place = best % (height * width)
    xy = torch.stack([place % width, place // width], dim=1).float()
    jitter = _uniform(xy.shape, xy, generator)
    return (xy + jitter) * MASK_STRIDE, label


def largest_error(drawn: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return the middle of the largest error of each of N drawings, (N, 2) px, and its (N,) label."""
    depth = torch.stack([_depth(wanted & ~drawn), _depth(drawn & ~wanted)], dim=1)
    height, width = drawn.shape[1:]
    best = depth.flatten(1).argmax(dim=1)
    place = best % (height * width)
    xy = torch.stack([place % width, place // width], dim=1).float()
    return (xy + 0.5) * MASK_STRIDE, 1 - best // (height * width)


def _depth(region: Tensor) -> Tensor:
    """Return how many places each place of (N, h, w) bool lies inside its region, up to a limit."""
    left = region[:, None].float()
    depth = left.clone()
    for _ in range(_DEEPEST - 1):
        left = 1 - F.max_pool2d(1 - left, 3, 1, 1)
        depth += left
    return depth[:, 0]


def _uniform(shape: tuple[int, ...] | torch.Size, like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=like.device)
