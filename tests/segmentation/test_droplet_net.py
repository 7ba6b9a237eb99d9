"""The network: shapes, decoding of a perfect answer, weights that survive a round trip."""

import numpy as np
import pytest
import torch

from sam_droplet.imaging.synthetic_layout import discs
from sam_droplet.segmentation.droplet_net import (
    DropletNet,
    decode_stars,
    grey_range,
    network_input,
)
from sam_droplet.segmentation.stars import suppress
from sam_droplet.training.targets import star_target


def test_the_answer_is_at_half_resolution():
    logits, log_radii = DropletNet().eval()(torch.zeros(1, 3, 128, 192))
    assert logits.shape == (1, 64, 96)
    assert log_radii.shape == (1, 32, 64, 96)


def test_a_perfect_answer_decodes_to_the_true_droplets():
    true = discs(np.array([[40.0, 50.0], [90.5, 60.25], [60.0, 100.0]]), np.array([12.0, 20.0, 8.0]))
    target = star_target(true, discs(np.empty((0, 2)), np.empty(0)), 128)
    logits = torch.logit(torch.from_numpy(target.centre).clamp(1e-4, 1 - 1e-4))
    seen = decode_stars(logits, torch.from_numpy(target.log_radii), 0.5)
    stars = seen.take(suppress(seen))  # a centre between four places has four equal peaks
    order = np.argsort(stars.centre_xy[:, 0])
    assert stars.centre_xy[order] == pytest.approx(
        np.array([[40.0, 50.0], [60.0, 100.0], [90.5, 60.25]]), abs=0.15
    )
    assert stars.equivalent_radii()[order] == pytest.approx(np.array([12.0, 8.0, 20.0]), rel=0.02)


def test_nothing_above_the_threshold_decodes_to_nothing():
    assert len(decode_stars(torch.full((8, 8), -9.0), torch.zeros(32, 8, 8), 0.5)) == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_input_does_not_depend_on_the_pixel_type(dtype):
    grey = np.linspace(0, 200, 64 * 64).reshape(64, 64, 1).astype(np.uint8)
    assert np.allclose(network_input(grey.astype(dtype)), network_input(grey), atol=1e-5)


def test_the_input_does_not_depend_on_the_unit_of_floats():
    grey = np.linspace(0, 200, 64 * 64).reshape(64, 64, 1).astype(np.float32)
    assert np.allclose(network_input(grey * np.float32(1e-9)), network_input(grey), atol=1e-5)


def test_hot_pixels_do_not_decide_what_is_white():
    shades = np.random.default_rng(6).normal(100, 3, (600, 600, 1))
    spotted = shades.copy()
    spotted[::40, ::40] = 4000
    assert grey_range(spotted) == pytest.approx(grey_range(shades), rel=0.1)


def test_one_two_and_many_channels_become_three():
    for channels in (1, 2, 3, 5):
        assert network_input(np.ones((8, 8, channels), np.uint16)).shape == (8, 8, 3)
