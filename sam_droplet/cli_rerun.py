"""The terminal door back: a settings.json and its image give the same numbers and files again."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sam_droplet.cli_options import file_limits, write_output
from sam_droplet.config import Config
from sam_droplet.errors import InputError
from sam_droplet.imaging.images import load_image_file
from sam_droplet.measurement.export import EXPORTERS, ONE_PICTURE_FORMATS, ExportRequest, rerun
from sam_droplet.measurement.export.provenance import calibration_of, filters_of, refusing_damage


def add_rerun(parser: argparse.ArgumentParser) -> None:
    """Describe ``sam-droplet rerun``."""
    parser.add_argument("settings", type=Path, metavar="SETTINGS.JSON", help="from a bundle")
    parser.add_argument("image", type=Path, help="the very image that it was made from")
    parser.add_argument("--format", choices=ONE_PICTURE_FORMATS, default="csv")
    parser.add_argument("--output", type=Path, help="file; else standard output")
    parser.set_defaults(run=_rerun)


def _rerun(arguments: argparse.Namespace, config: Config) -> int:
    settings = _read(arguments.settings)
    limits = file_limits(config)
    image = load_image_file(arguments.image, limits, page=settings["image"].get("page", 0))
    droplets = rerun(image, settings)
    with refusing_damage():  # files are made of the settings alone, and read some parts only then
        request = ExportRequest(
            image,
            droplets,
            calibration_of(settings),
            settings.get("provenance") or {},
            filters_of(settings),
            # What an assay read from a second picture stays as it was recorded.
            {int(d["id"]): d["assays"] for d in settings["droplets"] if d.get("assays")},
            settings.get("assays") or {},
        )
        data = EXPORTERS[arguments.format](request).data
    write_output(arguments.output, data, keep=(arguments.settings, arguments.image))
    return 0


def _read(path: Path) -> Mapping[str, Any]:
    try:
        settings = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise InputError(
            f"A settings.json was expected, but {path} is not JSON; take it from the bundle."
        ) from error
    image = settings.get("image") if isinstance(settings, dict) else None
    if not isinstance(image, dict) or not isinstance(image.get("page", 0), int):
        raise InputError(
            f"A settings.json was expected, but {path} holds something else; take it from the bundle."
        )
    return dict(settings)
