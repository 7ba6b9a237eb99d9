"""Train DropletNet, RimNet and ContextNet on rendered scenes only: one command, fixed seed, resumable."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from sam_droplet.errors import InputError
from sam_droplet.imaging.synthetic import Scene
from sam_droplet.segmentation.droplet_net import DropletNet
from sam_droplet.segmentation.weights import Networks, load_weights, save_weights
from sam_droplet.training.arithmetic import learning_arithmetic
from sam_droplet.training.averages import follow
from sam_droplet.training.fresh_processes import in_fresh_processes
from sam_droplet.training.rates import cosine_rate, set_rate, warm_rate
from sam_droplet.training.rim_examples import collect_examples
from sam_droplet.training.targets import CropDataset, training_scene
from sam_droplet.training.train_context import collect_context, train_context
from sam_droplet.training.train_rims import train_rims

Report = Callable[[str], None]

_RENDERED_AT_ONCE = 8  # scenes


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights."""

    seed: int = 2026
    scenes: int = 1500
    steps: int = 5_000
    batch: int = 8
    crop_px: int = 256
    learning_rate: float = 2e-3
    warmup_steps: int = 200
    radii_weight: float = 0.5
    average_decay: float = 0.998
    rim_scenes: int = 1400
    rim_steps: int = 8_000
    context_scenes: int = 1400
    context_steps: int = 1500
    # Of the weights begun from, in the mean with what went on from them: steadier on what neither has seen.
    kept_share: float = 0.0


RECIPES = {
    "laptop": Recipe(),
    # Go on from earlier weights, given by --start-from; without steps, a network stays what it is.
    "tune": Recipe(
        seed=515_000,
        scenes=2200,
        steps=10_000,
        learning_rate=1e-3,
        warmup_steps=150,
        rim_scenes=3400,
        rim_steps=16_000,
        kept_share=0.3,
    ),
    "rims": Recipe(
        seed=40_000, steps=0, rim_scenes=3400, rim_steps=16_000, context_scenes=1300, kept_share=0.3
    ),
    "context": Recipe(seed=90_998, steps=0, rim_steps=0, context_scenes=1600),
    "gpu": Recipe(
        scenes=12_000, steps=40_000, batch=32, rim_scenes=4_000, rim_steps=20_000, context_scenes=6_000
    ),
    "smoke": Recipe(
        scenes=8,
        steps=6,
        batch=2,
        crop_px=128,
        warmup_steps=2,
        rim_scenes=2,
        rim_steps=4,
        context_scenes=1,
        context_steps=4,
    ),
}


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return the rate at a step: linear warm-up, then a cosine down to 2 %."""
    share = warm_rate(step, recipe.warmup_steps) * cosine_rate(step / recipe.steps, lowest=0.02)
    return recipe.learning_rate * share


def loss_terms(
    logits: Tensor, log_radii: Tensor, centre: Tensor, true_log_radii: Tensor, counted: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the centre loss (above its unavoidable part) and the mean error of the log radii.

    All at stride 2: logits, centre, counted (B, h, w); radii (B, 32, h, w).
    """
    excess = F.binary_cross_entropy_with_logits(logits, centre, reduction="none")
    excess = excess - F.binary_cross_entropy(centre, centre, reduction="none")
    centre_loss = (excess * counted).sum() / counted.sum().clamp(min=1)
    # Outlines are read at central places, so these weigh most; small droplets have few and weigh more each.
    radius = true_log_radii.mean(1).exp()
    weight = centre**2 * counted * (12.0 / radius).clamp(0.25, 2.5)
    error = (log_radii - true_log_radii).abs().mean(1)
    return centre_loss, (error * weight).sum() / weight.sum().clamp(min=1)


def train(
    recipe: Recipe,
    folder: Path,
    report: Report = print,
    device: str = "cpu",
    start_weights: Path | None = None,
) -> Path:
    """Train by a recipe and return the weights' path; goes on from a checkpoint in ``folder``.

    start_weights: begin with this file's DropletNet and RimNet instead of random ones; without steps in the
    recipe, a network stays what it is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    begun = None if start_weights is None else _begun(start_weights)
    learned = _train_droplet_net(recipe, folder, report, device, begun)
    if begun is not None:
        follow(learned, begun.droplet_net, 1 - recipe.kept_share)
    networks = Networks(learned, None if begun is None else begun.rim_net)
    path = folder / "droplet_net.safetensors"
    if path.exists():
        report(f"{path} is finished.")
        return path
    if recipe.rim_steps:
        networks = _with_rims(networks, recipe, folder, report)
    # Each network learns from other scenes than the one before it, on which that does as well as on any.
    began = time.monotonic()
    looking = _saved(networks, folder / "look_3.safetensors", recipe)
    seen = collect_context(looking, recipe.seed + 3, recipe.context_scenes)
    report(f"{len(seen.weight)} outlines seen with what is round them in {time.monotonic() - began:.0f} s")
    context = train_context(seen, recipe.context_steps, recipe.seed, report)
    return _saved(replace(networks, context_net=context), path, recipe)


def _with_rims(networks: Networks, recipe: Recipe, folder: Path, report: Report) -> Networks:
    begun = networks.rim_net
    for turn in (1, 2):  # the second time half as long, with outlines that RimNet itself has moved
        looking = _saved(networks, folder / f"look_{turn}.safetensors", recipe)
        began = time.monotonic()
        examples = collect_examples(looking, recipe.seed + turn, math.ceil(recipe.rim_scenes / turn))
        report(f"{len(examples)} outlines looked at in {time.monotonic() - began:.0f} s")
        rims = train_rims(examples, recipe.rim_steps // turn, recipe.seed, report, begun=networks.rim_net)
        networks = replace(networks, rim_net=rims)
    if begun is not None and networks.rim_net is not None:
        follow(networks.rim_net, begun, 1 - recipe.kept_share)
    return networks


def _saved(networks: Networks, path: Path, recipe: Recipe) -> Path:
    save_weights(networks, path, {"recipe": json.dumps(asdict(recipe))})
    return path


def _begun(path: Path) -> Networks:
    try:
        return load_weights(path)
    except (SafetensorError, KeyError, RuntimeError, OSError) as error:
        raise InputError(
            f"DropletNet's weights (.safetensors) were expected to start from; {path} holds none: {error}."
        ) from error


def _train_droplet_net(
    recipe: Recipe, folder: Path, report: Report, device: str, begun: Networks | None
) -> DropletNet:
    if begun is None and not recipe.steps:
        raise InputError("This recipe goes on from weights that are there: name them with --start-from.")
    torch.manual_seed(recipe.seed)
    model = DropletNet() if begun is None else copy.deepcopy(begun.droplet_net)
    model = model.to(device).train()
    # Kernels of 3 x 3 are a quarter faster with the channels of a pixel side by side.
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=1e-3)
    start = _resume(folder, recipe, model, average, optimizer)
    report(f"{sum(p.numel() for p in model.parameters()):,} parameters, starting at step {start}")
    if start == recipe.steps:
        return average.cpu()
    loader = _loader(recipe, start, report)
    began, recent = time.monotonic(), torch.zeros(2)
    for step, batch in enumerate(loader, start):
        set_rate(optimizer, learning_rate(recipe, step))
        recent += _step(model, optimizer, recipe, [part.to(device) for part in batch], device)
        follow(average, model, min(recipe.average_decay, (1 + step) / (10 + step)))
        if (step + 1) % 100 == 0:
            centre, radii = (recent / 100).tolist()
            recent.zero_()
            elapsed = time.monotonic() - began
            report(f"step {step + 1}/{recipe.steps} centre {centre:.4f} radii {radii:.4f} {elapsed:.0f} s")
        if (step + 1) % 500 == 0 or step + 1 == recipe.steps:
            _save(folder, recipe, step + 1, model, average, optimizer)
    return average.cpu()


def _loader(recipe: Recipe, start: int, report: Report) -> DataLoader[Any]:
    began = time.monotonic()
    portions = in_fresh_processes(partial(_rendered, recipe.seed), range(recipe.scenes), _RENDERED_AT_ONCE)
    scenes = [scene for portion in portions for scene in portion]
    report(f"{len(scenes)} scenes rendered in {time.monotonic() - began:.0f} s")
    crops = CropDataset(scenes, recipe.seed, recipe.steps * recipe.batch, recipe.crop_px)
    left = Subset(crops, range(start * recipe.batch, len(crops)))
    if recipe.batch <= 8:
        return DataLoader(left, recipe.batch, num_workers=1, drop_last=True, multiprocessing_context="spawn")
    # Twelve copies of the scenes would not fit: these workers share them by forking.
    return DataLoader(left, recipe.batch, num_workers=12, drop_last=True, multiprocessing_context="fork")


def _rendered(seed: int, indices: Sequence[int]) -> list[Scene]:
    return [training_scene(seed, index) for index in indices]


def _step(
    model: DropletNet, optimizer: torch.optim.Optimizer, recipe: Recipe, batch: list[Tensor], device: str
) -> Tensor:
    picture, centre, true_log_radii, counted = batch
    with learning_arithmetic(device):
        features = model.features(picture.contiguous(memory_format=torch.channels_last))
    # A log radius of 3 in bfloat16 is rounded by up to 0.8 %.
    out = model.head(features.float())
    centre_loss, radii_loss = loss_terms(out[:, 0], out[:, 1:], centre, true_log_radii, counted)
    optimizer.zero_grad(set_to_none=True)
    (centre_loss + recipe.radii_weight * radii_loss).backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
    optimizer.step()
    return torch.stack([centre_loss.detach(), radii_loss.detach()]).cpu()


def _save(
    folder: Path,
    recipe: Recipe,
    step: int,
    model: DropletNet,
    average: DropletNet,
    optimizer: torch.optim.Optimizer,
) -> None:
    state = {
        "recipe": json.dumps(asdict(recipe)),
        "step": step,
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    temporary = folder / "checkpoint.tmp"
    torch.save(state, temporary)
    temporary.replace(folder / "checkpoint.pt")
    save_weights(Networks(average), folder / "latest.safetensors", {"step": str(step)})


def _resume(
    folder: Path,
    recipe: Recipe,
    model: DropletNet,
    average: DropletNet,
    optimizer: torch.optim.Optimizer,
) -> int:
    path = folder / "checkpoint.pt"
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["recipe"] != json.dumps(asdict(recipe)):
        raise InputError(
            f"{path} was made with another recipe. Choose another folder, or delete it to start anew."
        )
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
