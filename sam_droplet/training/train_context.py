"""Train ContextNet on what the other two networks say of whole rendered scenes: a minute on a laptop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from sam_droplet.segmentation.automatic import PROPOSAL_THRESHOLD, first_look
from sam_droplet.segmentation.context_net import ContextNet
from sam_droplet.segmentation.picture_context import Seen, context_features, logit
from sam_droplet.segmentation.runtime import DropletRuntime
from sam_droplet.training.averages import follow
from sam_droplet.training.draws import drawn, weight_of_each
from sam_droplet.training.rates import cosine_rate, set_rate, warm_rate
from sam_droplet.training.scene_looks import best_matches, hold_their_centres, in_portions, joined, look_at

Report = Callable[[str], None]

# An outline is a droplet where it shares so much with a true one, else none. What is doubtful is not learned
# from, unless it is close to a true one. (To leave out what is close, but not that close, changes nothing.)
_SAME_IOU, _CLOSE_IOU, _DOUBTFUL_IOU = 0.6, 0.5, 0.35
_LEARNING_RATE, _WEIGHT_DECAY, _BATCH, _WARM_UP = 3e-3, 0.1, 2048, 50

Float32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ContextExamples:
    """Hold N outlines.

    features: (N, 29), what ContextNet reads. score_logit: (N,), to be corrected. is_droplet: (N,) bool.
    weight: (N,), how often each is drawn.
    """

    features: Float32
    score_logit: Float32
    is_droplet: NDArray[np.bool_]
    weight: Float32


def collect_context(weights: Path, seed: int, n_scenes: int) -> ContextExamples:
    """Return the examples of ``n_scenes`` rendered scenes, looked at with the networks in a file."""
    return joined(in_portions(scene_context, weights, seed, n_scenes))


def scene_context(runtime: DropletRuntime, seed: int, index: int) -> ContextExamples:
    """Render scene ``index``, let both networks look at it, and compare with the truth."""
    scene, low_high, halves = look_at(np.random.default_rng([seed, index, 1]), seed, index)
    first = first_look(runtime, halves, low_high)
    stars, contrast = runtime.second_look(halves, low_high, first)
    kept = np.flatnonzero(stars.score >= PROPOSAL_THRESHOLD)
    owner, overlap, doubtful = best_matches(stars.take(kept), scene)
    overlap = overlap * hold_their_centres(scene.shapes, owner, stars.take(kept))
    seen = Seen.of(first.score, stars, contrast, halves[0].shape[:2])
    known = (overlap >= _CLOSE_IOU) | (doubtful < _DOUBTFUL_IOU)
    return ContextExamples(
        context_features(seen, kept),
        logit(seen.stars.score[kept]).astype(np.float32),
        overlap >= _SAME_IOU,
        (known * weight_of_each(len(kept))).astype(np.float32),
    )


def train_context(examples: ContextExamples, steps: int, seed: int, report: Report = print) -> ContextNet:
    """Return a network trained on examples for ``steps`` batches of 2,048."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model, average = ContextNet(), ContextNet().eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    summed = np.cumsum(examples.weight, dtype=np.float64)
    if not summed.any():  # networks that propose nothing
        return average
    total = 0.0
    for step in range(steps):
        share = warm_rate(step, _WARM_UP) * cosine_rate(step / steps, lowest=0.02)
        set_rate(optimizer, _LEARNING_RATE * share)
        index = drawn(rng, summed, _BATCH)
        features, score_logit, is_droplet = (
            torch.from_numpy(part[index].astype(np.float32))
            for part in (examples.features, examples.score_logit, examples.is_droplet)
        )
        loss = F.binary_cross_entropy_with_logits(model(features, score_logit), is_droplet)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        follow(average, model, min(0.99, (1 + step) / (10 + step)))
        total += loss.item()
        if (step + 1) % 100 == 0:
            report(f"context: step {step + 1}/{steps} loss {total / 100:.4f}")
            total = 0.0
    return average
