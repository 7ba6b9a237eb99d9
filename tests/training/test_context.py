"""ContextNet's examples tell the truth, and a short training learns what only the picture tells."""

import numpy as np
import pytest
import torch

from sam_droplet.config import load_config
from sam_droplet.segmentation.checkpoints import DROPLET_NET, find
from sam_droplet.segmentation.engines import TORCH, Engines
from sam_droplet.segmentation.picture_context import N_FEATURES
from sam_droplet.segmentation.runtime import DropletRuntime
from sam_droplet.segmentation.weights import load_weights
from sam_droplet.training.scene_looks import joined
from sam_droplet.training.train_context import ContextExamples, scene_context, train_context


@pytest.fixture(scope="module")
def runtime() -> DropletRuntime:
    weights = load_weights(find(DROPLET_NET, load_config({})).path)
    return DropletRuntime(weights, "cpu", Engines(TORCH, "cpu", 1))


@pytest.fixture(scope="module")
def examples(runtime) -> ContextExamples:
    return joined([scene_context(runtime, 11, index) for index in range(10)])


def test_examples_hold_droplets_and_others(examples):
    n = len(examples.weight)
    assert n > 100
    assert examples.features.shape == (n, N_FEATURES)
    drawn = examples.weight > 0
    assert 0.05 < examples.is_droplet[drawn].mean() < 0.95
    # The networks before it are mostly right.
    assert ((examples.score_logit > 0) == examples.is_droplet)[drawn].mean() > 0.8


def test_the_same_scene_gives_the_same_examples(runtime, examples):
    again = scene_context(runtime, 11, 0)
    assert np.array_equal(again.features, examples.features[: len(again.weight)])


def test_training_learns_what_scores_do_not_tell():
    rng = np.random.default_rng(5)
    features = rng.normal(0, 1, (4000, N_FEATURES)).astype(np.float32)
    droplet = features[:, 7] > 0.3 * features[:, 12]
    weight = np.ones(4000, np.float32)
    weight[:1000] = 0  # kept apart
    net = train_context(ContextExamples(features, np.zeros(4000, np.float32), droplet, weight), 200, 1, print)
    with torch.inference_mode():
        logits = net(torch.from_numpy(features[:1000]), torch.zeros(1000)).numpy()
    assert ((logits > 0) == droplet[:1000]).mean() > 0.95


def test_without_a_proposal_nothing_is_learned():
    none = ContextExamples(
        np.empty((0, N_FEATURES), np.float32),
        np.empty(0, np.float32),
        np.empty(0, bool),
        np.empty(0, np.float32),
    )
    net = train_context(none, 10, 1, print)
    with torch.inference_mode():
        assert not net(torch.ones(1, N_FEATURES), torch.zeros(1)).any()
