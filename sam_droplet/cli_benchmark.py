"""The terminal door to measuring the program itself: how right it is, and how fast."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from sam_droplet.config import Config
from sam_droplet.errors import InputError
from sam_droplet.pipeline import Segmenter

ACCURACY_PARTS = ("find", "changes", "prompts")


def add_benchmark(parser: argparse.ArgumentParser) -> None:
    """Describe ``sam-droplet benchmark``."""
    kinds = parser.add_subparsers(required=True, metavar="WHAT")
    accuracy = kinds.add_parser("accuracy", help="against known truth, beside classical methods")
    accuracy.add_argument("--data", type=Path, help="folder of micrographs with *.circles.json truth")
    accuracy.add_argument("--scenes", type=int, default=6, help="held-out scenes per stratum")
    accuracy.add_argument(
        "--parts",
        nargs="+",
        choices=ACCURACY_PARTS,
        default=ACCURACY_PARTS,
        help="default: all; changes: the real pictures rescaled, blurred, dimmed …",
    )
    accuracy.add_argument("--prompts", type=int, default=8, help="things pointed at on each image; default 8")
    speed = kinds.add_parser("speed", help="beside the stock MobileSAM on the same picture and weights")
    speed.add_argument(
        "--parts", nargs="+", metavar="PART", help="find, prompts, generator, big, runtimes; default all"
    )
    speed.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="default: 1 2")
    speed.add_argument("--repeats", type=int, default=7, help="warm runs of each; default 7")
    for kind, run in ((accuracy, _accuracy), (speed, _speed)):
        kind.add_argument("--output", type=Path, help="also write the figures as JSON")
        kind.add_argument("--update", type=Path, help="put the table between the marks of this page")
        kind.set_defaults(run=run)


def _accuracy(arguments: argparse.Namespace, config: Config) -> int:
    from sam_droplet.training.benchmark import accuracy_report
    from sam_droplet.training.changed_pictures import changes_report
    from sam_droplet.training.prompt_benchmark import prompt_report

    _check_files(arguments)
    data: Path | None = arguments.data
    if data is not None and not any(data.glob("*.circles.json")):
        raise InputError(
            f"--data takes a folder of pictures with NAME.circles.json beside each, but {data} holds none."
        )
    if arguments.scenes < 0 or arguments.prompts < 1:
        raise InputError("--scenes must be 0 or more, and --prompts 1 or more.")
    tables: list[str] = []
    figures: dict[str, Any] = {}
    if "find" in arguments.parts:
        found = accuracy_report(config, arguments.data, arguments.scenes, _say)
        tables.append(found.as_table())
        figures |= found.as_dict()
    if "changes" in arguments.parts and arguments.data:
        changed = changes_report(Segmenter(config), arguments.data)
        tables.append(changed.as_table())
        figures["changes"] = changed.as_dict()
    if "prompts" in arguments.parts:
        prompted = prompt_report(config, arguments.data, arguments.scenes, arguments.prompts)
        tables.append(prompted.as_table())
        figures["prompts"] = prompted.as_dict()
    table = "\n\n".join(tables)
    print(table)
    _write_report(arguments, "accuracy", table, figures)
    return 0


def _speed(arguments: argparse.Namespace, config: Config) -> int:
    from sam_droplet.training.benchmark_speed import PARTS, speed_report

    parts = arguments.parts or PARTS
    if unknown := set(parts) - set(PARTS):
        raise InputError(f"--parts takes {', '.join(PARTS)}, but {', '.join(sorted(unknown))} came.")
    if arguments.repeats < 1 or min(arguments.threads) < 1:
        raise InputError("--repeats and --threads must be 1 or more.")
    _check_files(arguments)

    table = ""
    for report in speed_report(
        config, parts, threads=arguments.threads, repeats=arguments.repeats, progress=_say
    ):
        table = report.as_table()
        _write_report(arguments, "speed", table, report.as_dict())  # now, for the next part may take an hour
    print(table)
    return 0


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _check_files(arguments: argparse.Namespace) -> None:
    """Say that a file cannot be written before the hours of measuring, not after them."""
    if arguments.output and not arguments.output.absolute().parent.is_dir():
        raise InputError(
            f"--output takes a file in a folder that is there, but {arguments.output} is in none."
        )
    if arguments.update and not arguments.update.is_file():
        raise InputError(f"--update takes a page that is there, but {arguments.update} is none.")


def _write_report(arguments: argparse.Namespace, mark: str, table: str, figures: dict[str, Any]) -> None:
    from sam_droplet.training.benchmark import update_page

    if arguments.output:
        arguments.output.write_text(json.dumps(figures, indent=1) + "\n")
    if arguments.update:
        update_page(arguments.update, mark, table)
