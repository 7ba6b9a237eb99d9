"""RimNet: rings close on themselves, and answers move rims."""

import numpy as np
import pytest
import torch

from sam_droplet.segmentation.rim_net import MOST_SHIFT, N_CHANNELS, RimNet, moved, rim_input
from sam_droplet.segmentation.stars import N_RAYS, Stars
from sam_droplet.segmentation.unrolling import STEPS, Unrolled


def some_stars(n: int = 3) -> Stars:
    rng = np.random.default_rng(0)
    radii = rng.uniform(10, 12, (n, N_RAYS)).astype(np.float32)
    return Stars(rng.uniform(50, 90, (n, 2)).astype(np.float32), radii, np.full(n, 0.5, np.float32))


def test_turning_a_droplet_by_four_rays_turns_the_answer():
    torch.manual_seed(0)
    net = RimNet().eval()
    seen = torch.randn(4, N_CHANNELS, N_RAYS, len(STEPS))
    with torch.inference_mode():
        before, after = net(seen), net(seen.roll(4, dims=2))
    assert torch.allclose(before[:, 0], after[:, 0], atol=1e-4)
    assert torch.allclose(before[:, 1:].roll(4, dims=1), after[:, 1:], atol=1e-4)


def test_rims_never_move_further_than_said():
    torch.manual_seed(0)
    net = RimNet().eval()
    with torch.inference_mode():
        answer = net(100 * torch.randn(8, N_CHANNELS, N_RAYS, len(STEPS)))
    assert answer[:, 1:].abs().max() <= MOST_SHIFT


def test_an_answer_moves_the_rim_and_sets_the_score():
    stars = some_stars()
    answer = np.zeros((3, 1 + N_RAYS), np.float32)
    answer[:, 0], answer[:, 1:] = 2.0, np.log(1.1)
    after = moved(stars, answer)
    assert after.score == pytest.approx(1 / (1 + np.exp(-2.0)))
    assert after.equivalent_radii() == pytest.approx(1.1 * stars.equivalent_radii(), rel=0.01)


def test_the_input_does_not_change_with_the_contrast_in_its_first_channel():
    stars, rng = some_stars(), np.random.default_rng(1)
    grey = rng.uniform(0, 1, (3, N_RAYS, len(STEPS))).astype(np.float32)
    inside = np.ones(grey.shape, bool)
    bright = rim_input(Unrolled(grey, inside), stars)
    faint = rim_input(Unrolled(0.3 + 0.5 * grey, inside), stars)
    assert bright.shape == (3, N_CHANNELS, N_RAYS, len(STEPS))
    assert np.allclose(bright[:, 0], faint[:, 0], atol=0.15)
    assert not np.allclose(bright[:, 1], faint[:, 1], atol=0.15)
