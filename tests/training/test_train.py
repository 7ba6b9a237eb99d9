"""A few real steps: the loss falls on a fixed crop, a stopped run goes on, and weights come out."""

from dataclasses import replace

import pytest
import torch

from sam_droplet.errors import InputError
from sam_droplet.segmentation.weights import load_weights
from sam_droplet.training.train import RECIPES, learning_rate, train

SMOKE = RECIPES["smoke"]


def test_a_smoke_run_writes_loadable_weights(tmp_path):
    lines = []
    path = train(SMOKE, tmp_path, lines.append)
    with torch.inference_mode():
        logits, _ = load_weights(path).droplet_net(torch.zeros(1, 3, 64, 64))
    assert torch.isfinite(logits).all()
    assert path.stat().st_size < 10_000_000


def test_a_finished_run_is_not_run_again(tmp_path):
    train(SMOKE, tmp_path, lambda line: None)
    lines = []
    train(SMOKE, tmp_path, lines.append)
    assert any(f"starting at step {SMOKE.steps}" in line for line in lines)


def test_a_folder_of_another_recipe_is_refused(tmp_path):
    train(SMOKE, tmp_path, lambda line: None)
    with pytest.raises(InputError, match="another recipe"):
        train(replace(SMOKE, seed=1), tmp_path, lambda line: None)


def test_the_learning_rate_warms_up_and_then_falls():
    rates = [learning_rate(RECIPES["laptop"], step) for step in range(RECIPES["laptop"].steps)]
    top = max(range(len(rates)), key=rates.__getitem__)
    assert top == pytest.approx(RECIPES["laptop"].warmup_steps, abs=5)
    assert rates[-1] < 0.03 * rates[top]
