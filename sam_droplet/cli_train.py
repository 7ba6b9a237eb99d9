"""The terminal door to training: DropletNet finds droplets, MobileSAM answers clicks and boxes.

`python -m sam_droplet.cli_train` runs where little more than torch and OpenCV is installed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sam_droplet.errors import InputError, SamDropletError

if TYPE_CHECKING:
    from sam_droplet.config import Config

R = TypeVar("R")

MODELS = ("droplet-net", "mobile-sam")
RECIPES = ("laptop", "gpu", "smoke", "tune", "rims", "context", "proof")
_ONLY_MOBILE_SAM = ("minutes", "pause_after")


def add_train(parser: argparse.ArgumentParser) -> None:
    """Describe ``sam-droplet train``."""
    _add_arguments(parser)
    parser.set_defaults(run=_train)


def main(argv: Sequence[str] | None = None) -> int:
    """Train without the rest of the program, on CUDA where there is one; 0, or 1 where it went wrong."""
    parser = argparse.ArgumentParser(prog="sam_droplet.cli_train")
    _add_arguments(parser)
    arguments = parser.parse_args(argv)

    def device() -> str:
        from sam_droplet.training.prompt_train import best_device

        return best_device()

    try:
        return _run(arguments, device)
    except SamDropletError as error:
        print(f"sam-droplet: {error.message}", file=sys.stderr)
        return 1


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", choices=MODELS, default="droplet-net", help="default: droplet-net")
    parser.add_argument(
        "--recipe",
        choices=RECIPES,
        default="laptop",
        help="tune, rims, context: droplet-net only, proof: mobile-sam only",
    )
    parser.add_argument("--folder", type=Path, help="scenes, checkpoints and weights; default runs/…")
    parser.add_argument("--steps", type=int, help="shorter or longer than the recipe")
    parser.add_argument(
        "--start-from", type=Path, metavar="WEIGHTS", help="begin with these, not from scratch"
    )
    sam = parser.add_argument_group("mobile-sam only")
    sam.add_argument("--minutes", type=float, help="train so long in all, instead of by steps")
    sam.add_argument(
        "--pause-after", type=float, metavar="MINUTES", help="stop this call then; the same call goes on"
    )


def _train(arguments: argparse.Namespace, config: Config) -> int:
    def device() -> str:
        from sam_droplet.segmentation.loading import chosen_device

        return chosen_device(config.device)

    return _run(arguments, device)


def _run(arguments: argparse.Namespace, device: Callable[[], str]) -> int:
    for name in ("steps", *_ONLY_MOBILE_SAM):
        value = getattr(arguments, name)
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"--{name.replace('_', '-')} must be a number above 0, but it is {value:g}.")
    start_from: Path | None = arguments.start_from
    if start_from is not None and not start_from.is_file():
        raise InputError(f"--start-from takes a file of weights, but there is none at {start_from}.")
    train = _train_mobile_sam if arguments.model == "mobile-sam" else _train_droplet_net
    print(train(arguments, device()))
    return 0


def _train_mobile_sam(arguments: argparse.Namespace, device: str) -> Path:
    from sam_droplet.training.prompt_recipes import RECIPES as SAM_RECIPES
    from sam_droplet.training.prompt_train import train_mobile_sam

    recipe = _recipe("MobileSAM", SAM_RECIPES, arguments.recipe)
    if arguments.steps:
        recipe = replace(recipe, steps=arguments.steps)
    if arguments.minutes:
        recipe = replace(recipe, minutes=arguments.minutes)
    folder = _made(arguments.folder or Path("runs") / f"mobile-sam-{arguments.recipe}")
    return train_mobile_sam(
        recipe,
        folder,
        _say,
        device,
        pause_after_minutes=arguments.pause_after,
        start_from=arguments.start_from,
    )


def _train_droplet_net(arguments: argparse.Namespace, device: str) -> Path:
    from sam_droplet.training.train import RECIPES as DROPLET_RECIPES
    from sam_droplet.training.train import train

    given = [f"--{name.replace('_', '-')}" for name in _ONLY_MOBILE_SAM if getattr(arguments, name)]
    if given:
        raise InputError(f"{', '.join(given)} work with --model mobile-sam only.")
    recipe = _recipe("DropletNet", DROPLET_RECIPES, arguments.recipe)
    if arguments.steps:
        recipe = replace(recipe, steps=arguments.steps)
    folder = _made(arguments.folder or Path("runs") / arguments.recipe)
    return train(recipe, folder, device=device, start_weights=arguments.start_from)


def _recipe(network: str, recipes: Mapping[str, R], name: str) -> R:
    if name not in recipes:
        raise InputError(f"{network} has the recipes {', '.join(recipes)}, not {name}.")
    return recipes[name]


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder {folder} cannot be made ({error.strerror}); choose another --folder."
        ) from error
    return folder


def _say(sentence: str) -> None:
    print(sentence, flush=True)


if __name__ == "__main__":
    sys.exit(main())
