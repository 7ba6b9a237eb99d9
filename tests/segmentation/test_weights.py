"""The weights' file: all networks survive a round trip, also where there is only the first."""

import pytest
import torch

from sam_droplet.segmentation.context_net import ContextNet
from sam_droplet.segmentation.droplet_net import DropletNet
from sam_droplet.segmentation.picture_context import N_FEATURES
from sam_droplet.segmentation.rim_net import N_CHANNELS, RimNet
from sam_droplet.segmentation.stars import N_RAYS
from sam_droplet.segmentation.unrolling import STEPS
from sam_droplet.segmentation.weights import Networks, load_weights, save_weights


@pytest.fixture(scope="module")
def networks() -> Networks:
    torch.manual_seed(0)
    context = ContextNet(width=8).eval()
    torch.nn.init.normal_(context.layers[-1].weight)  # zero at first
    return Networks(DropletNet().eval(), RimNet().eval(), context)


def test_all_networks_survive_a_round_trip_in_half_precision(tmp_path, networks):
    save_weights(networks, tmp_path / "w.safetensors", {"note": "x"})
    loaded = load_weights(tmp_path / "w.safetensors")
    picture, unrolled = torch.rand(1, 3, 64, 64), torch.randn(2, N_CHANNELS, N_RAYS, len(STEPS))
    with torch.inference_mode():
        assert torch.allclose(networks.droplet_net(picture)[0], loaded.droplet_net(picture)[0], atol=0.02)
        assert torch.allclose(networks.rim_net(unrolled), loaded.rim_net(unrolled), atol=0.02)
        read = torch.rand(3, N_FEATURES), torch.zeros(3)
        assert torch.allclose(networks.context_net(*read), loaded.context_net(*read), atol=0.02)


def test_later_networks_may_be_missing(tmp_path, networks):
    save_weights(Networks(networks.droplet_net), tmp_path / "w.safetensors", {})
    loaded = load_weights(tmp_path / "w.safetensors")
    assert (loaded.rim_net, loaded.context_net) == (None, None)
