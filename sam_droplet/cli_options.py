"""What several commands of the terminal door share: options, and limits of the files that they read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from math import isfinite, nan
from pathlib import Path

from sam_droplet.config import Config
from sam_droplet.errors import InputError, Unavailable
from sam_droplet.imaging.calibration import LEAST_UM, MOST_UM, with_chamber
from sam_droplet.imaging.images import Calibration, Image, Limits
from sam_droplet.measurement.droplets import Droplet, Filters
from sam_droplet.measurement.presets import PRESETS, preset_filters


def decimal(text: str) -> float:
    """Read a number from the command line; neither "nan" nor "inf" is one that can be measured with."""
    try:
        value = float(text)
    except ValueError:
        value = nan
    if not isfinite(value):
        raise argparse.ArgumentTypeError(f"a number such as 0.5, with a point, was expected, not {text!r}")
    return value


def add_rim_offset(parser: argparse.ArgumentParser) -> None:
    """Describe ``--rim-offset-px``."""
    parser.add_argument(
        "--rim-offset-px",
        type=decimal,
        default=0.0,
        metavar="PX",
        help="how far outside the line of the rim droplets end; negative is inside",
    )


def add_scale(parser: argparse.ArgumentParser) -> None:
    """Describe ``--um-per-px`` and ``--chamber-height-um``."""
    parser.add_argument("--um-per-px", type=decimal, metavar="UM", help="scale; else the file's own, if any")
    parser.add_argument(
        "--chamber-height-um",
        type=decimal,
        metavar="UM",
        help="distance of the plates that droplets lie between; else volumes are those of spheres",
    )


def typed_scale(arguments: argparse.Namespace) -> Calibration | None:
    """Return the scale that was typed, if any."""
    um_per_px: float | None = arguments.um_per_px
    if um_per_px is not None and not LEAST_UM <= um_per_px <= MOST_UM:
        raise InputError(f"--um-per-px must be from {LEAST_UM:g} to {MOST_UM:g} µm, but it is {um_per_px:g}.")
    return None if um_per_px is None else Calibration(um_per_px, "typed")


def scale_of(arguments: argparse.Namespace, image: Image) -> Calibration | None:
    """Return the scale that was typed, else the image's own, with the height of the chamber."""
    refusal = "--chamber-height-um needs a scale, and this file holds none; give --um-per-px."
    return with_chamber(typed_scale(arguments) or image.calibration, arguments.chamber_height_um, refusal)


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Describe which droplets count; the others are told with their reason, too."""
    parser.add_argument("--preset", choices=tuple(PRESETS), help="which droplets count")
    parser.add_argument("--exclude-edge", action="store_true", help="those at the edge do not count")
    parser.add_argument("--circularity-min", type=decimal, help="less round ones do not count")


def filters_of(arguments: argparse.Namespace, droplets: Sequence[Droplet]) -> Filters:
    """Return the filters that were asked for; a preset's depend on the droplets found."""
    chosen = preset_filters(arguments.preset, droplets) if arguments.preset else Filters()
    ranges = dict(chosen.ranges)
    if arguments.circularity_min is not None:
        ranges["circularity"] = (arguments.circularity_min, None)
    return Filters(ranges, chosen.exclude_edge or arguments.exclude_edge)


def write_output(path: Path | None, data: bytes, *, keep: Sequence[Path]) -> None:
    """Write a file that was asked for, and the folders above it; None is standard output.

    keep: what the command has read. It is never written over, for a micrograph may be there only once.
    InputError where the file cannot be written, Unavailable where standard output cannot.
    """
    if path is None:
        _write_out(data)
        return
    if path.resolve() in {kept.resolve() for kept in keep}:
        raise InputError(f"{path} is read, so nothing is written over it; choose another --output.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); choose another --output.") from error


def _write_out(data: bytes) -> None:
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise  # whoever read it has enough
    except OSError as error:
        raise Unavailable(f"Standard output cannot be written ({error.strerror}).") from error


def file_limits(config: Config) -> Limits:
    """Return what a file may hold at most, by the settings."""
    return Limits(config.max_upload_bytes, config.max_image_pixels, config.max_pages)
