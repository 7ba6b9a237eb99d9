"""Train MobileSAM on rendered scenes only: one command, a fixed seed, stages, pauses and resumption."""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, default_collate

from sam_droplet.errors import InputError
from sam_droplet.segmentation.mobile_sam import MobileSam, load_mobile_sam, save_mobile_sam
from sam_droplet.training.arithmetic import learning_arithmetic
from sam_droplet.training.prompt_crops import PromptCrops
from sam_droplet.training.prompt_losses import DrawingLoss, dense_loss
from sam_droplet.training.prompt_network import LearningSam
from sam_droplet.training.prompt_practice import Batch, mean_iou, practise
from sam_droplet.training.prompt_recipes import ANSWERS, PLACES, SamRecipe, Stage
from sam_droplet.training.prompt_start import begin_with_places
from sam_droplet.training.rates import set_rate
from sam_droplet.training.scene_store import Rendering, SceneStore

Report = Callable[[str], None]

WEIGHTS = "mobile_sam_droplets.safetensors"
_CHECKED_CROPS, _CHECK_BATCH = 64, 8
# Below this many scenes, processes of their own are not worth their start.
_FEW_SCENES = 20
_ENDLESS = 1 << 40
_PARTS = ("mask", "dice", "quality", "dense", "iou1", "iou2", "iou3")


@dataclass
class Run:
    """Hold what a checkpoint holds: the networks, the optimizer, and how far they have come."""

    network: LearningSam
    average: LearningSam
    optimizer: torch.optim.Optimizer
    step: int = 0
    trained_s: float = 0.0

    def state(self) -> dict[str, Any]:
        """Return the checkpoint."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "trained_s": self.trained_s,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.trained_s = int(state["step"]), float(state["trained_s"])


class Paused(Exception):  # an outcome that never leaves this module
    """The time of this command is up."""


def train_mobile_sam(
    recipe: SamRecipe,
    folder: Path,
    report: Report = print,
    device: str = "cpu",
    *,
    pause_after_minutes: float | None = None,
    start_from: Path | None = None,
) -> Path:
    """Train by a recipe and return the weights' path; goes on from a checkpoint in ``folder``.

    pause_after_minutes: stop this call with a checkpoint after so long, rendering included; the next call
    goes on. start_from: weights to begin a new run with, the official ones or one's own.
    """
    ends_at = time.monotonic() + 60 * pause_after_minutes if pause_after_minutes else float("inf")
    folder.mkdir(parents=True, exist_ok=True)
    run = _begun(recipe, folder, device, start_from)
    done = recipe.progress(run.step, run.trained_s)
    report(f"Step {run.step}, {100 * done:.1f} % of the run is done.")
    if done == 1:
        return folder / WEIGHTS
    store, held_out = (SceneStore(folder / "scenes", recipe.seed + i, recipe.scene_px) for i in (0, 1))
    processes = 0 if recipe.scenes < _FEW_SCENES else os.cpu_count() or 1
    began = time.monotonic()
    with Rendering(held_out, recipe.held_out_scenes, processes) as rendering:
        rendering.wait_for(recipe.held_out_scenes)
    with Rendering(store, recipe.scenes, processes) as rendering:
        rendering.wait_for(recipe.first_scenes if recipe.minutes else recipe.scenes)
        report(f"{len(store.available())} scenes are there after {time.monotonic() - began:.0f} s.")
        trainer = Trainer(recipe, folder, (store, held_out), run, device, report)
        try:
            while (progress := recipe.progress(run.step, run.trained_s)) < 1:
                trainer.train_stage(recipe.stage_at(progress), ends_at)
        except Paused:
            report("Paused; the same command goes on from here.")
        return trainer.keep()


def best_device() -> str:
    """Return "cuda" where torch sees one, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _begun(recipe: SamRecipe, folder: Path, device: str, start_from: Path | None) -> Run:
    torch.manual_seed(recipe.seed)
    sam = MobileSam() if start_from is None else load_mobile_sam(start_from)
    if start_from is None:
        begin_with_places(sam)
    network = LearningSam(sam).to(device).train().requires_grad_(True)
    average = copy.deepcopy(network).eval().requires_grad_(False)
    run = Run(network, average, _optimizer(network, recipe, device))
    path, written = folder / "checkpoint.pt", _recipe_text(recipe)
    if path.exists():
        state = torch.load(path, weights_only=True, map_location=device)
        if state["recipe"] != written:
            raise InputError(f"{path} was made with another recipe. Choose another folder, or delete it.")
        run.load(state)
    return run


def _recipe_text(recipe: SamRecipe) -> str:
    return json.dumps(asdict(recipe))


def _optimizer(network: nn.Module, recipe: SamRecipe, device: str) -> torch.optim.Optimizer:
    """Decay the weights of layers, not biases, norms, embeddings and attention biases."""
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        plain = (
            parameter.ndim >= 2 and "embed" not in name and "token." not in name and "attention_b" not in name
        )
        (decayed if plain else others).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98), fused=device == "cuda")


class Trainer:
    """Run the stages of one recipe, check on held-out scenes and keep checkpoints."""

    def __init__(
        self,
        recipe: SamRecipe,
        folder: Path,
        stores: tuple[SceneStore, SceneStore],
        run: Run,
        device: str,
        report: Report,
    ) -> None:
        self.recipe, self.folder, self.run = recipe, folder, run
        self.store, self._held_out = stores
        self._checks: dict[int, list[Batch]] = {}
        self.device, self.report = device, report
        self._generator = torch.Generator(device)
        self._sums = torch.zeros(len(_PARTS), device=device)
        self._noted_step, self._waited_s = run.step, 0.0
        self._noted_at = self._kept_at = time.monotonic()

    def train_stage(self, stage: Stage, ends_at: float) -> None:
        """Train until the stage is over; Paused where the time is up first."""
        self.report(f"Stage of {stage.crop_px} px, {stage.batch} crops with {stage.prompts} prompts a step.")
        network = self.run.network
        network.train()
        if stage.frozen_norm:
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        if stage.learns == ANSWERS:
            network.sam.image_encoder.eval()
        batches = self._batches(stage)
        while self.recipe.progress(self.run.step, self.run.trained_s) < stage.until:
            began = time.monotonic()
            batch = next(batches)
            self._waited_s += time.monotonic() - began
            self._learn(stage, batch)
            self.run.trained_s += time.monotonic() - began
            now = time.monotonic()
            if now - self._kept_at > self.recipe.check_every_s:
                self.keep()
            elif now - self._noted_at > self.recipe.note_every_s:
                self._note()
            if now >= ends_at:
                raise Paused

    def _batches(self, stage: Stage) -> Iterator[Batch]:
        """Yield batches from where the run is; worker processes cut the crops."""
        recipe = self.recipe
        length = recipe.distinct_crops or _ENDLESS
        crops = PromptCrops(self.store, recipe.seed, stage.crop_px, stage.prompts, length)
        first = self.run.step * stage.batch
        order = _Counting(first, recipe.distinct_crops)
        workers = (
            0 if recipe.scenes < _FEW_SCENES else (os.cpu_count() or 1) - 2 if self.device == "cuda" else 1
        )
        loader = DataLoader(
            crops,
            stage.batch,
            sampler=order,
            num_workers=max(0, workers),
            pin_memory=self.device == "cuda",
            prefetch_factor=4 if workers > 0 else None,
        )
        for batch in loader:
            yield {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}

    def _learn(self, stage: Stage, batch: Batch) -> None:
        """Look at a batch once and take its steps."""
        network = self.run.network
        with torch.set_grad_enabled(stage.learns != ANSWERS), learning_arithmetic(self.device):
            embedding = network.encode(batch["picture"], batch["seen_hw"])
            dense = dense_loss(network.dense(embedding), batch["dense"])
        for share in _shares(batch, stage.practices):
            self._step(stage, embedding, dense, share)

    def _step(self, stage: Stage, embedding: Tensor, dense: Tensor, batch: Batch) -> None:
        """Take one step, and add the parts of its loss and the IoU of each round to the sums."""
        recipe, run = self.recipe, self.run
        progress = recipe.progress(run.step, run.trained_s)
        set_rate(run.optimizer, recipe.learning_rate(run.step, progress))
        self._generator.manual_seed(recipe.seed * 1_000_003 + run.step)
        parts = embedding.new_zeros(len(_PARTS) - 1, dtype=torch.float32)
        if stage.learns != PLACES:
            with learning_arithmetic(self.device):
                rounds = list(practise(run.network, embedding, batch, recipe.rounds, self._generator))
            parts = _parts(rounds, batch["counted"].flatten())
        loss = parts[:3].sum() + recipe.dense_weight(progress) * dense
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(run.network.parameters(), 1.0)
        run.optimizer.step()
        decay = min(recipe.average_decay, (1 + run.step) / (10 + run.step))
        _update_average(run.average, run.network, decay)
        self._sums += torch.cat([parts[:3], dense[None], parts[3:]]).detach()
        run.step += 1

    def keep(self) -> Path:
        """Write checkpoint and weights, checked on held-out crops; returns where the weights are."""
        run, folder = self.run, self.folder
        state = {**run.state(), "recipe": _recipe_text(self.recipe)}
        torch.save(state, folder / "checkpoint.tmp")
        (folder / "checkpoint.tmp").replace(folder / "checkpoint.pt")
        metadata = {"recipe": _recipe_text(self.recipe), "step": str(run.step)}
        save_mobile_sam(run.average.sam, folder / WEIGHTS, metadata)
        self._note(self._checked())
        self._kept_at = time.monotonic()
        return folder / WEIGHTS

    def _note(self, held_out_iou: dict[str, float] | None = None) -> None:
        """Report how the run goes since the last note, and add it to the curve."""
        steps, seconds = self.run.step - self._noted_step, time.monotonic() - self._noted_at
        means = (self._sums / max(steps, 1)).tolist()
        line: dict[str, Any] = {
            "step": self.run.step,
            "progress": round(self.recipe.progress(self.run.step, self.run.trained_s), 4),
            "steps_per_s": round(steps / max(seconds, 1e-9), 3),
            "waited_share": round(self._waited_s / max(seconds, 1e-9), 3),
        }
        if steps:
            line["training"] = {name: round(mean, 4) for name, mean in zip(_PARTS, means, strict=True)}
        if held_out_iou is not None:
            line["held_out_iou"] = held_out_iou
        with (self.folder / "curve.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.report(json.dumps(line))
        self._sums.zero_()
        self._noted_step, self._noted_at, self._waited_s = self.run.step, time.monotonic(), 0.0

    def _checked(self) -> dict[str, float]:
        """Return the averaged network's mean IoU on crops of held-out scenes, at the stage of the run."""
        stage = self.recipe.stage_at(self.recipe.progress(self.run.step, self.run.trained_s))
        if stage.crop_px not in self._checks:
            self._checks[stage.crop_px] = self._check_batches(stage)
        found: list[dict[str, float]] = []
        for batch in self._checks[stage.crop_px]:
            there = {name: value.to(self.device) for name, value in batch.items()}
            with learning_arithmetic(self.device):
                found.append(mean_iou(self.run.average, there))
        return {name: round(sum(f[name] for f in found) / len(found), 4) for name in found[0]}

    def _check_batches(self, stage: Stage) -> list[Batch]:
        """Cut the crops that a stage is checked on, always the same ones."""
        size = min(stage.batch, _CHECK_BATCH)
        n_batches = max(1, min(_CHECKED_CROPS // size, self.recipe.held_out_scenes))
        crops = PromptCrops(self._held_out, self.recipe.seed, stage.crop_px, stage.prompts, _CHECKED_CROPS)
        return [default_collate([crops[i * size + j] for j in range(size)]) for i in range(n_batches)]


class _Counting:
    """Count crops from ``first`` on, for ever; modulo ``distinct`` where given."""

    def __init__(self, first: int, distinct: int | None) -> None:
        self._first, self._distinct = first, distinct

    def __iter__(self) -> Iterator[int]:
        index = self._first
        while True:
            yield index % self._distinct if self._distinct else index
            index += 1


def _shares(batch: Batch, n: int) -> Iterator[Batch]:
    """Yield a batch n times with a share of its prompts each."""
    by_prompt = ("masks", "first_xy", "boxes_xyxy", "counted")
    chunks = {name: batch[name].chunk(n, dim=1) for name in by_prompt}
    for i in range(n):
        yield batch | {name: parts[i] for name, parts in chunks.items()}


def _parts(rounds: Sequence[DrawingLoss], counted: Tensor) -> Tensor:
    """Return mask, dice and quality loss, means over rounds, and the IoU of the first three rounds, (6,)."""
    weight = counted.float() / counted.sum().clamp(min=1)
    losses = [
        torch.stack([(getattr(r, name) * weight).sum() for r in rounds]).mean()
        for name in ("mask", "dice", "quality")
    ]
    ious = [(r.iou * weight).sum() for r in rounds]
    ious += ious[-1:] * (3 - len(ious))
    return torch.stack([*losses, *ious[:3]])


@torch.no_grad()
def _update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    means, values = average.state_dict(), network.state_dict()
    floating = [name for name, value in values.items() if value.is_floating_point()]
    torch._foreach_lerp_([means[n] for n in floating], [values[n] for n in floating], 1 - decay)
    for name in values.keys() - set(floating):
        means[name].copy_(values[name])
