"""ContextNet: judges each outline by what else the picture shows; RimNet saw it alone."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sam_droplet.segmentation.picture_context import N_FEATURES, Seen, context_features, logit

# A logit falls by at most so much where this many other droplets are likely, and by 1 more for each further
# one: few show little to compare with, and rendered fields hold more lone specks than people photograph.
_LEAST_FALL, _FEW_OTHERS = 0.4, 3.0


class ContextNet(nn.Module):
    """Correct scores with 1,300 weights; untrained, it leaves them as they are."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.width = width
        last = nn.Linear(width, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(
            nn.Linear(N_FEATURES, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), last
        )

    def forward(self, features: Tensor, score_logit: Tensor) -> Tensor:
        """Return logits of "a droplet", (N,). features: (N, 29). score_logit: (N,), to be corrected."""
        corrected: Tensor = score_logit + self.layers(features)[:, 0]
        return corrected


def scores_in_context(net: ContextNet, seen: Seen, asked: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return the scores of the outlines at an index in the light of the whole picture, (M,)."""
    features, before = context_features(seen, asked), logit(seen.stars.score[asked])
    with torch.inference_mode():
        after = net(torch.from_numpy(features), torch.from_numpy(before.astype(np.float32))).numpy()
    others = seen.stars.score.sum() - seen.stars.score[asked]
    most_fall = _LEAST_FALL + np.maximum(0, others - _FEW_OTHERS)
    logits = np.maximum(after, before - most_fall)
    return np.asarray(1 / (1 + np.exp(-logits)), np.float32)
