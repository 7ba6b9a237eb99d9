"""RimNet's examples tell the truth, and a short training learns from them."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sam_droplet.config import load_config
from sam_droplet.imaging.synthetic import render_scene
from sam_droplet.segmentation.automatic import first_look, pyramid
from sam_droplet.segmentation.checkpoints import DROPLET_NET, find
from sam_droplet.segmentation.droplet_net import grey_range, network_input
from sam_droplet.segmentation.engines import TORCH, Engines
from sam_droplet.segmentation.rim_net import GREY_CHANNELS, MOST_SHIFT, rim_input
from sam_droplet.segmentation.runtime import DropletRuntime
from sam_droplet.segmentation.unrolling import unroll
from sam_droplet.segmentation.weights import Networks, load_weights
from sam_droplet.training.rim_examples import RimExamples, scene_examples, with_moved
from sam_droplet.training.scene_looks import joined, look_at
from sam_droplet.training.train_rims import train_rims


@pytest.fixture(scope="module")
def networks() -> Networks:
    """The shipped networks."""
    return load_weights(find(DROPLET_NET, load_config({})).path)


@pytest.fixture(scope="module")
def alone(networks) -> DropletRuntime:
    """The shipped DropletNet without a second look."""
    return DropletRuntime(Networks(networks.droplet_net), "cpu", Engines(TORCH, "cpu", 1))


@pytest.fixture(scope="module")
def examples(alone) -> RimExamples:
    """What the product's first look proposes on three scenes."""
    return joined([scene_examples(alone, 11, index) for index in range(3)])


def as_they_are(examples: RimExamples) -> NDArray[np.float32]:
    """Return what RimNet sees of all examples, in their own tone."""
    return examples.seen(np.arange(len(examples)), np.ones(len(examples), np.float32))


def test_examples_hold_droplets_and_others(examples):
    assert 0.1 < examples.is_droplet.mean() < 0.9
    assert len(examples) > 100
    assert np.isfinite(as_they_are(examples)).all()


def test_true_shifts_are_small_for_droplets_and_none_for_others(examples):
    shift, droplet = examples.log_shift, examples.is_droplet
    assert np.abs(shift).max() <= MOST_SHIFT
    assert np.median(np.abs(shift[droplet])) < 0.2
    assert not shift[~droplet].any()


def test_examples_are_seen_as_when_looking(alone, examples):
    _, low_high, halves = look_at(np.random.default_rng([11, 0, 1]), 11, 0)
    proposed = first_look(alone, halves, low_high)
    looked_at = rim_input(unroll(halves, low_high, proposed), proposed)
    seen = as_they_are(examples)[:5]
    for example, radii in zip(seen, examples.radii[:5], strict=True):
        same = int(np.flatnonzero((proposed.radii == radii).all(axis=1))[0])
        assert np.abs(example - looked_at[same]).max() < 0.02  # of a spread; grey values are kept as float16
    darker = examples.seen(np.arange(5), np.full(5, 2, np.float32))
    assert (darker[:, 1] <= seen[:, 1] + 1e-6).mean() > 0.9
    assert np.array_equal(darker[:, GREY_CHANNELS:], seen[:, GREY_CHANNELS:])


def test_the_same_scene_gives_the_same_examples(alone, examples):
    again = scene_examples(alone, 11, 0)
    assert np.array_equal(again.grey, examples.grey[: len(again)])
    assert np.array_equal(again.log_shift, examples.log_shift[: len(again)])


def test_what_the_second_look_moves_is_learned_from_where_it_was_moved(networks, alone):
    both = DropletRuntime(networks, "cpu", Engines(TORCH, "cpu", 1))
    pixels = network_input(render_scene(12, "empty", 256).pixels)
    low_high, halves = grey_range(pixels), pyramid(pixels)
    proposed = first_look(both, halves, low_high)
    seen = with_moved(both, halves, low_high, proposed)
    assert np.array_equal(seen.radii[: len(proposed)], proposed.radii)
    moved = seen.take(slice(len(proposed), None))
    assert 0 < len(moved) < len(proposed)
    # RimNet sees no score but the proposal's.
    assert set(moved.score.tolist()) <= set(proposed.score.tolist())
    assert len(with_moved(alone, halves, low_high, proposed)) == len(proposed)


def test_a_training_goes_on_from_where_another_ended(examples):
    first = train_rims(examples, steps=3, seed=0, report=lambda line: None, batch=32)
    same = train_rims(examples, steps=0, seed=0, report=lambda line: None, begun=first, batch=32)
    further = train_rims(examples, steps=3, seed=0, report=lambda line: None, begun=first, batch=32)
    before, unchanged, after = (net.state_dict() for net in (first, same, further))
    assert all(torch.equal(before[name], unchanged[name]) for name in before)
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_short_training_tells_droplets_from_others(examples):
    lines: list[str] = []
    net = train_rims(examples, steps=40, seed=0, report=lines.append, batch=64)
    with torch.inference_mode():
        answer = net(torch.from_numpy(as_they_are(examples))).numpy()
    right = (answer[:, 0] > 0) == examples.is_droplet
    assert right.mean() > max(examples.is_droplet.mean(), 1 - examples.is_droplet.mean()) + 0.1
