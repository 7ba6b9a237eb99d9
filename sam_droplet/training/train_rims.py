"""Train RimNet on what DropletNet proposes: minutes on a laptop, with a fixed seed."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sam_droplet.segmentation.rim_net import GREY_CHANNELS, SCORE_CHANNEL, RimNet
from sam_droplet.segmentation.stars import N_RAYS
from sam_droplet.training.arithmetic import learning_arithmetic
from sam_droplet.training.averages import follow
from sam_droplet.training.draws import drawn
from sam_droplet.training.rates import cosine_rate, set_rate, warm_rate
from sam_droplet.training.rim_examples import RimExamples

Report = Callable[[str], None]

_LEARNING_RATE, _WARM_UP = 2e-3, 50
_SHIFT_WEIGHT = 8.0
_HIDDEN_WEIGHT = 0.25  # of rims beyond the border of the picture
_UNKNOWN_SCORE_SHARE, _INVERTED_SHARE, _TONED_SHARE = 0.3, 0.1, 0.4
# Cameras and files bend grey values by a power: its logarithm has this spread, within these bounds.
_LOG_GAMMA_SPREAD, _MOST_LOG_GAMMA = 0.45, 0.8


def train_rims(
    examples: RimExamples,
    steps: int,
    seed: int,
    report: Report = print,
    *,
    begun: RimNet | None = None,
    batch: int = 256,
) -> RimNet:
    """Return a network trained on examples for ``steps`` batches of ``batch`` examples.

    begun: go on from this network, at half the rate.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = RimNet() if begun is None else copy.deepcopy(begun).train()
    most = _LEARNING_RATE if begun is None else _LEARNING_RATE / 2
    average = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE, weight_decay=1e-3)
    summed = np.cumsum(examples.weight, dtype=np.float64)
    recent = torch.zeros(3)
    for step in range(steps):
        set_rate(optimizer, most * warm_rate(step, _WARM_UP) * cosine_rate(step / steps, lowest=0.01))
        seen, is_droplet, shift, weight = _batch(rng, examples, drawn(rng, summed, batch))
        with learning_arithmetic("cpu"):
            answer = model(seen)
        answer = answer.float()
        score_loss = F.binary_cross_entropy_with_logits(answer[:, 0], is_droplet)
        error = (answer[:, 1:] - shift).abs()
        shift_loss = (error * weight).sum() / weight.sum().clamp(min=1)
        optimizer.zero_grad(set_to_none=True)
        (score_loss + _SHIFT_WEIGHT * shift_loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        follow(average, model, min(0.998, (1 + step) / (10 + step)))
        right = ((answer[:, 0] > 0) == (is_droplet > 0.5)).float().mean()
        recent += torch.stack([score_loss.detach(), shift_loss.detach(), right])
        if (step + 1) % 200 == 0:
            score, moved, share = (recent / 200).tolist()
            recent.zero_()
            report(f"rims: step {step + 1}/{steps} score {score:.4f} shift {moved:.4f} right {share:.4f}")
    return average


def _batch(rng: np.random.Generator, examples: RimExamples, index: NDArray[np.intp]) -> list[Tensor]:
    """Turn and mirror the examples at an index at random: rolling and reversing rays does it exactly.

    Returns what is seen, whether it is a droplet, the true shifts of the rim, and their weights.
    """
    size = len(index)
    first, way = rng.integers(0, N_RAYS, size), 2 * rng.integers(0, 2, size) - 1
    turn = (first[:, None] + way[:, None] * np.arange(N_RAYS)) % N_RAYS
    rows = np.arange(size)[:, None]
    log_gamma = np.clip(rng.normal(0, _LOG_GAMMA_SPREAD, size), -_MOST_LOG_GAMMA, _MOST_LOG_GAMMA)
    gamma = np.exp(np.where(rng.random(size) < _TONED_SHARE, log_gamma, 0.0)).astype(np.float32)
    seen = np.take_along_axis(examples.seen(index, gamma), turn[:, None, :, None], axis=2)
    seen[rng.random(size) < _UNKNOWN_SCORE_SHARE, SCORE_CHANNEL] = 0.0
    seen[rng.random(size) < _INVERTED_SHARE, :GREY_CHANNELS] *= -1
    # A brighter or fainter picture: what the grey range of the whole happens to be.
    gain, offset = np.exp(rng.normal(0, 0.3, size)), rng.normal(0, 0.1, size)
    seen[:, 1] = seen[:, 1] * gain[:, None, None] + offset[:, None, None]
    droplet = examples.is_droplet[index]
    weight = np.where(examples.visible[index][rows, turn], 1.0, _HIDDEN_WEIGHT) * droplet[:, None]
    parts = (seen, droplet, examples.log_shift[index][rows, turn], weight)
    return [torch.from_numpy(np.ascontiguousarray(part, np.float32)) for part in parts]
