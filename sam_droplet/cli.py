"""The terminal door: one image or a few, keys, weights, settings; the other commands have their own files."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sam_droplet import __version__
from sam_droplet.cli_assay import add_assay
from sam_droplet.cli_batch import INTERRUPTED, add_batch
from sam_droplet.cli_benchmark import add_benchmark
from sam_droplet.cli_options import (
    add_filters,
    add_rim_offset,
    add_scale,
    decimal,
    file_limits,
    filters_of,
    scale_of,
    write_output,
)
from sam_droplet.cli_rerun import add_rerun
from sam_droplet.cli_train import add_train
from sam_droplet.config import Config, describe, load_config
from sam_droplet.errors import InputError, SamDropletError
from sam_droplet.imaging.images import Calibration, Image, load_image_file
from sam_droplet.measurement.droplets import Filters, apply_filters
from sam_droplet.measurement.export import EXPORTERS, ExportRequest
from sam_droplet.pipeline import MODES, FindOptions, Result, Segmenter, result_as_dict
from sam_droplet.service.access import LOCAL_CALLER, SCOPES, open_key_ring, owner_of
from sam_droplet.service.jobs import JobQueue
from sam_droplet.service.objectives import Objectives
from sam_droplet.service.store import Store

FORMATS = {"json": ".json", "csv": ".csv", "labels": ".tif"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 when all went well, 1 when something did not, 2 for a wrong call, 130 for Ctrl+C."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments, load_config()))
    except SamDropletError as error:
        print(f"sam-droplet: {error.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sam-droplet: stopped.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `sam-droplet … | head` is no fault
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sam-droplet", description="Find, measure and save droplets on micrographs."
    )
    parser.add_argument("--version", action="version", version=f"sam-droplet {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_segment(commands.add_parser("segment", help="find and measure every droplet of images"))
    add_batch(commands.add_parser("batch", help="measure many images alike, into one table"))
    add_assay(commands.add_parser("assay", help="ddPCR or loading from two pictures of one field"))
    add_rerun(commands.add_parser("rerun", help="measure again from the settings.json of a bundle"))
    _add_model(commands.add_parser("model", help="list, fetch or verify network weights"))
    add_train(commands.add_parser("train", help="train a network on rendered micrographs"))
    add_benchmark(commands.add_parser("benchmark", help="measure accuracy or speed, as tables for the docs"))
    serve = commands.add_parser("serve", help="serve at HOST and PORT: gunicorn, or waitress on Windows")
    serve.set_defaults(run=_serve)
    _add_key(commands.add_parser("key", help="create, list, renew or revoke the keys of a server"))
    settings = commands.add_parser("settings", help="print every setting, its value, source and meaning")
    settings.set_defaults(run=_settings)
    return parser


def _add_segment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    parser.add_argument("--format", choices=tuple(FORMATS), default="json")
    parser.add_argument(
        "--output", type=Path, help="file, or folder for several images; else standard output"
    )
    add_scale(parser)
    parser.add_argument("--page", type=int, default=0, help="page of a multi-page TIFF, from 0")
    parser.add_argument(
        "--sensitivity", type=decimal, default=0.5, help="0 only clear droplets … 1 doubtful ones too"
    )
    parser.add_argument(
        "--mode",
        choices=MODES,
        default="droplets",
        help="droplets: DropletNet; refined: MobileSAM draws them; everything: MobileSAM finds any object",
    )
    parser.add_argument("--diameter-min-px", type=decimal)
    parser.add_argument("--diameter-max-px", type=decimal)
    add_rim_offset(parser)
    add_filters(parser)
    parser.set_defaults(run=_segment)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("list", "fetch", "verify"))
    parser.add_argument("name", nargs="?", help="default: mobile-sam for fetch, else every one")
    parser.set_defaults(run=_model)


def _add_key(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make a key and show it, this once only")
    create.add_argument("name", help="whose key it is")
    create.add_argument("--scope", choices=SCOPES, default="user")
    create.add_argument("--days", type=float, help="valid for so long; default for ever")
    create.add_argument("--limit", help="instead of RATE_LIMIT_DEFAULT, such as '1000 per hour'")
    create.set_defaults(run=_create_key)
    create.add_argument(
        "--take-local", action="store_true", help="give it the images and jobs from before there were keys"
    )
    renew = actions.add_parser("renew", help="give a key a new secret; its images stay, the old one ends")
    renew.add_argument("id", help="the part between sd_ and the next _")
    renew.set_defaults(run=_renew_key)
    actions.add_parser("list", help="show all keys without their secrets").set_defaults(run=_list_keys)
    revoke = actions.add_parser("revoke", help="end a key at once, until it is renewed")
    revoke.add_argument("id", help="the part between sd_ and the next _")
    revoke.set_defaults(run=_revoke_key)


def _segment(arguments: argparse.Namespace, config: Config) -> int:
    options = FindOptions(
        sensitivity=arguments.sensitivity,
        mode=arguments.mode,
        diameter_min_px=arguments.diameter_min_px,
        diameter_max_px=arguments.diameter_max_px,
        rim_offset_px=arguments.rim_offset_px,
    )
    targets = _targets(arguments)
    segmenter = Segmenter(config)
    failures, header = 0, b""
    for path in arguments.images:
        try:
            if path.is_dir():
                raise InputError("It is a folder; `sam-droplet batch` measures the images in one.")
            image = load_image_file(path, file_limits(config), page=arguments.page)
            for note in image.notes:
                print(f"sam-droplet: {path}: {note}", file=sys.stderr)
            calibration = scale_of(arguments, image)
            found = segmenter.find(image, options)
            filters = filters_of(arguments, found.droplets)
            result = replace(found, droplets=apply_filters(found.droplets, filters))
            if result.message and arguments.format != "json":  # which holds it
                print(f"sam-droplet: {path}: {result.message}", file=sys.stderr)
            data = _formatted(arguments.format, image, result, calibration, filters)
            if arguments.format == "csv" and not targets:
                data, header = _continued(data, header)
            write_output(targets.get(path), data, keep=arguments.images)
        except InputError as error:  # one bad file must not stop the others
            print(f"sam-droplet: {path}: {error.message}", file=sys.stderr)
            failures += 1
    return 1 if failures else 0


def _formatted(
    name: str, image: Image, result: Result, calibration: Calibration | None, filters: Filters
) -> bytes:
    if name == "json":
        return (json.dumps(result_as_dict(image, result, calibration)) + "\n").encode()
    provenance: dict[str, Any] = {
        "version": __version__,
        "model": result.model.as_dict(),
        "parameters": result.parameters,
    }
    request = ExportRequest(image, result.droplets, calibration, provenance, filters)
    return EXPORTERS[name](request).data


def _targets(arguments: argparse.Namespace) -> dict[Path, Path]:
    """Return the file of each image; none for standard output. InputError where two would get the same."""
    output: Path | None = arguments.output
    if output is None:
        if arguments.format == "labels" and len(arguments.images) > 1:
            raise InputError("Label images of several pictures need a folder; give it as --output.")
        return {}
    if len(arguments.images) == 1 and not output.is_dir():
        return {arguments.images[0]: output}
    targets = {path: output / (path.stem + FORMATS[arguments.format]) for path in arguments.images}
    for target, n_images in Counter(targets.values()).items():
        if n_images > 1:
            same = ", ".join(str(path) for path in targets if targets[path] == target)
            raise InputError(
                f"{same} would all be written to {target}, and only the last would stay; "
                "give them one by one, or use `sam-droplet batch`."
            )
    return targets


def _continued(table: bytes, header: bytes) -> tuple[bytes, bytes]:
    """Return what an image adds to a table on standard output, and its header; b"" is that of none yet."""
    own, _, rows = table.partition(b"\r\n")
    if header and own != header:
        raise InputError(
            "It has other channels than the first image, and so other columns in the table; give --output, "
            "or use `sam-droplet batch`."
        )
    return rows if header else table, own


def _model(arguments: argparse.Namespace, config: Config) -> int:
    from sam_droplet.segmentation import checkpoints

    named = [checkpoints.checkpoint_named(arguments.name)] if arguments.name else checkpoints.CHECKPOINTS
    names = [checkpoint.name for checkpoint in named]
    if arguments.action == "list":
        for row in checkpoints.list_rows(config):
            if row["name"] in names:
                print(json.dumps(row))
        return 0
    if arguments.action == "verify":
        checked = [checkpoints.verify(name, config) for name in names]
        for verification in checked:
            print(verification.sentence)
        absent = any(v.sha256 is None for v in checked) and arguments.name
        return 1 if absent or any(v.published is False for v in checked) else 0

    def progress(done: int, total: int) -> None:
        print(f"\r{done / 1e6:.1f} of {total / 1e6:.1f} MB", end="", file=sys.stderr, flush=True)

    path = checkpoints.fetch(arguments.name or checkpoints.MOBILE_SAM.name, config, progress)
    print(f"\n{path}")
    return 0


def _serve(arguments: argparse.Namespace, config: Config) -> int:
    from sam_droplet.web.serving import serve_production

    serve_production(config)
    return 0


def _create_key(arguments: argparse.Namespace, config: Config) -> int:
    if arguments.days is not None and not 0 < arguments.days < float("inf"):
        raise InputError(f"--days must be a number above 0, but it is {arguments.days:g}.")
    lasts_s = None if arguments.days is None else arguments.days * 86_400
    store = Store(config.data_dir)
    record, key = open_key_ring(config, store).create(
        arguments.name, scope=arguments.scope, expires_in_s=lasts_s, rate_limit=arguments.limit
    )
    if arguments.take_local:
        owner = owner_of(record.id)
        n_images = store.hand_over(LOCAL_CALLER.owner, owner)
        JobQueue(store.database).hand_over(LOCAL_CALLER.owner, owner)
        Objectives(store.database).hand_over(LOCAL_CALLER.owner, owner)
        print(f"{n_images} images from before there were keys are now this key's.", file=sys.stderr)
    _show_key(key)
    return 0


def _renew_key(arguments: argparse.Namespace, config: Config) -> int:
    _, key = open_key_ring(config, Store(config.data_dir)).renew(arguments.id)
    _show_key(key)
    return 0


def _show_key(key: str) -> None:
    print("Keep this key; it is not shown again:", file=sys.stderr)
    print(key)


def _list_keys(arguments: argparse.Namespace, config: Config) -> int:
    for record in open_key_ring(config, Store(config.data_dir)).list():
        print(json.dumps(asdict(record), ensure_ascii=False))
    return 0


def _revoke_key(arguments: argparse.Namespace, config: Config) -> int:
    record = open_key_ring(config, Store(config.data_dir)).revoke(arguments.id)
    print(f"The key {record.id} ({record.name}) is revoked.")
    return 0


def _settings(arguments: argparse.Namespace, config: Config) -> int:
    for row in describe(config):
        print(f"{row.name}={row.value}  [{row.source}]  {row.help}")
    return 0
