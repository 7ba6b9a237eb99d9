"""What decides MobileSAM's weights: stages, their sizes and rates, and how far a run has come."""

from __future__ import annotations

from dataclasses import dataclass

from sam_droplet.training.rates import cosine_rate, warm_rate

# What a stage teaches: the encoder alone, by its dense answers; the decoder alone, on embeddings that stay as
# they are; or everything.
PLACES, ANSWERS, ALL = "places", "answers", "all"


@dataclass(frozen=True)
class Stage:
    """One part of a run: crops of a side, so many a batch, so many prompts on each, up to a share of the run.

    frozen_norm: leave the statistics of batch normalization as they are, where a batch is too small for them.
    practices: steps that the prompts of a batch are parted into, where only the decoder learns: one look at a
    picture takes as long as answering 200 prompts.
    """

    crop_px: int
    batch: int
    prompts: int
    until: float
    learning_rate: float
    frozen_norm: bool = False
    learns: str = ALL
    practices: int = 1


@dataclass(frozen=True)
class SamRecipe:
    """Everything that decides the weights; a run lasts ``minutes`` of training, or ``steps`` without."""

    stages: tuple[Stage, ...]
    seed: int = 2026
    scenes: int = 300
    first_scenes: int = 300
    scene_px: int = 512
    held_out_scenes: int = 16
    distinct_crops: int | None = None
    steps: int = 20_000
    minutes: float | None = None
    warmup_steps: int = 300
    rounds: int = 3
    average_decay: float = 0.999
    weight_decay: float = 0.02
    note_every_s: float = 60.0
    check_every_s: float = 300.0

    def progress(self, step: int, trained_s: float) -> float:
        """Return how much of the run is done, in [0, 1]."""
        done = step / self.steps if self.minutes is None else trained_s / (60 * self.minutes)
        return min(1.0, done)

    def stage_at(self, progress: float) -> Stage:
        """Return the stage at a point of the run."""
        return next((stage for stage in self.stages if progress < stage.until), self.stages[-1])

    def learning_rate(self, step: int, progress: float) -> float:
        """Return the rate: a linear warm-up, then the stage's own on one cosine over the whole run."""
        warm, cosine = warm_rate(step, self.warmup_steps), cosine_rate(progress, lowest=0.02)
        return self.stage_at(progress).learning_rate * warm * cosine

    def dense_weight(self, progress: float) -> float:
        """Return the weight of the dense answers: they lead at the start and fade."""
        return max(0.1, 1 - 2 * progress)


# 224 and 448 px hold whole windows of the encoder's attention (see prompt_network.py); 1024 px is the frame.
RECIPES = {
    # The encoder first, for long, by its dense answers; then the decoder on it; then both (docs/training.md).
    "laptop": SamRecipe(
        (
            Stage(128, 16, 1, 0.5, 1e-3, learns=PLACES),
            Stage(128, 16, 16, 0.6, 1e-3, learns=ANSWERS, practices=4),
            Stage(128, 16, 8, 0.8, 8e-4),
            Stage(224, 8, 8, 0.95, 6e-4),
            Stage(1024, 2, 12, 1.0, 2e-4, frozen_norm=True),
        ),
        scenes=900,
        minutes=480.0,
        rounds=2,
        average_decay=0.995,
        check_every_s=900.0,
    ),
    "gpu": SamRecipe(
        (Stage(224, 64, 8, 0.5, 1e-3), Stage(448, 20, 12, 0.7, 8e-4), Stage(1024, 6, 12, 1.0, 6e-4)),
        scenes=3000,
        first_scenes=300,
        scene_px=1024,
        held_out_scenes=32,
        steps=12_000,
        check_every_s=150.0,
    ),
    # Overfits 4 crops: shows in minutes that the network, its losses and its prompts learn at all.
    "proof": SamRecipe(
        (Stage(128, 4, 2, 1.0, 1e-3),),
        scenes=4,
        first_scenes=4,
        held_out_scenes=1,
        distinct_crops=4,
        steps=120,
        warmup_steps=10,
        rounds=2,
        average_decay=0.95,
        note_every_s=20.0,
    ),
    "smoke": SamRecipe(
        (Stage(128, 2, 2, 0.5, 1e-3), Stage(192, 1, 2, 1.0, 5e-4, frozen_norm=True)),
        scenes=2,
        first_scenes=2,
        scene_px=256,
        held_out_scenes=1,
        steps=3,
        warmup_steps=2,
    ),
}
