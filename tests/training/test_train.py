"""A few real steps: the loss falls on a fixed crop, a stopped run goes on, and weights come out."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sam_droplet.config import load_config
from sam_droplet.errors import InputError
from sam_droplet.segmentation.checkpoints import DROPLET_NET, find
from sam_droplet.segmentation.weights import load_weights
from sam_droplet.training.arithmetic import learning_arithmetic
from sam_droplet.training.train import RECIPES, learning_rate, train

SMOKE = RECIPES["smoke"]


def _same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    old, new = first.state_dict(), second.state_dict()
    return all(torch.equal(old[key], new[key]) for key in old)


def _weights_of(network: torch.nn.Module) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The folder of a finished smoke run."""
    return train(SMOKE, tmp_path_factory.mktemp("run"), lambda line: None).parent


def test_a_smoke_run_writes_loadable_weights(folder):
    path = folder / "droplet_net.safetensors"
    with torch.inference_mode():
        logits, _ = load_weights(path).droplet_net(torch.zeros(1, 3, 64, 64))
    assert torch.isfinite(logits).all()
    assert path.stat().st_size < 10_000_000


def test_a_finished_run_is_not_run_again(folder):
    lines: list[str] = []
    path = train(SMOKE, folder, lines.append)
    assert f"{path} is finished." in lines
    assert any(f"starting at step {SMOKE.steps}" in line for line in lines)


def test_one_network_can_be_trained_for_others_that_stay(tmp_path):
    recipe = replace(RECIPES["context"], context_scenes=1, context_steps=4)
    with pytest.raises(InputError, match="--start-from"):
        train(recipe, tmp_path, lambda line: None)
    shipped = find(DROPLET_NET, load_config({})).path
    before = load_weights(shipped)
    path = train(recipe, tmp_path, lambda line: None, start_weights=shipped)
    after = load_weights(path)
    assert _same(before.droplet_net, after.droplet_net)
    assert _same(before.rim_net, after.rim_net)
    assert after.context_net is not None


def test_outlines_can_be_judged_anew_for_a_first_look_that_stays(tmp_path):
    shipped = find(DROPLET_NET, load_config({})).path
    recipe = replace(RECIPES["rims"], rim_scenes=2, rim_steps=4, context_scenes=1, context_steps=4)
    before = load_weights(shipped)
    after = load_weights(train(recipe, tmp_path, lambda line: None, start_weights=shipped))
    assert _same(before.droplet_net, after.droplet_net)
    # A few steps from the weights that are there, not from none.
    old, new = _weights_of(before.rim_net), _weights_of(after.rim_net)
    assert 0 < ((new - old).norm() / old.norm()).item() < 0.2


def test_what_goes_on_from_weights_can_keep_a_share_of_them(tmp_path):
    shipped = find(DROPLET_NET, load_config({})).path
    begun = load_weights(shipped)
    moved_by = {}
    for share in (0.0, 0.7):
        recipe = replace(SMOKE, kept_share=share)
        path = train(recipe, tmp_path / str(share), lambda line: None, start_weights=shipped)
        learned = load_weights(path)
        moved_by[share] = [
            (_weights_of(new) - _weights_of(old)).norm().item()
            for new, old in ((learned.droplet_net, begun.droplet_net), (learned.rim_net, begun.rim_net))
        ]
    # Halves round small steps, so that they are not exactly in proportion.
    for some, whole in zip(moved_by[0.7], moved_by[0.0], strict=True):
        assert 0.2 * whole < some < 0.6 * whole


def test_a_folder_of_another_recipe_is_refused(folder):
    with pytest.raises(InputError, match="another recipe"):
        train(replace(SMOKE, seed=1), folder, lambda line: None)


def test_the_learning_rate_warms_up_and_then_falls():
    rates = [learning_rate(RECIPES["laptop"], step) for step in range(RECIPES["laptop"].steps)]
    top = max(range(len(rates)), key=rates.__getitem__)
    assert top == pytest.approx(RECIPES["laptop"].warmup_steps, abs=5)
    assert rates[-1] < 0.03 * rates[top]


@pytest.mark.skipif(
    not Path("/proc/cpuinfo").exists(), reason="only Linux lists the units of a processor here"
)
def test_processors_that_multiply_bfloat16_learn_in_it():
    units = Path("/proc/cpuinfo").read_text().split()
    with learning_arithmetic("cpu"):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    able = "amx_bf16" in units or "avx512_bf16" in units
    assert product.dtype == (torch.bfloat16 if able else torch.float32)
