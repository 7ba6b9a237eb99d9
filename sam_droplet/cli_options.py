"""What several commands of the terminal door share: options, and limits of the files that they read."""

from __future__ import annotations

import argparse

from sam_droplet.config import Config
from sam_droplet.errors import InputError
from sam_droplet.imaging.calibration import with_chamber
from sam_droplet.imaging.images import Calibration, Image, Limits


def add_rim_offset(parser: argparse.ArgumentParser) -> None:
    """Describe ``--rim-offset-px``."""
    parser.add_argument(
        "--rim-offset-px",
        type=float,
        default=0.0,
        metavar="PX",
        help="how far outside the line of the rim droplets end; negative is inside",
    )


def add_scale(parser: argparse.ArgumentParser) -> None:
    """Describe ``--um-per-px`` and ``--chamber-height-um``."""
    parser.add_argument("--um-per-px", type=float, metavar="UM", help="scale; else the file's own, if any")
    parser.add_argument(
        "--chamber-height-um",
        type=float,
        metavar="UM",
        help="distance of the plates that droplets lie between; else volumes are those of spheres",
    )


def typed_scale(arguments: argparse.Namespace) -> Calibration | None:
    """Return the scale that was typed, if any."""
    um_per_px: float | None = arguments.um_per_px
    if um_per_px is not None and not 0 < um_per_px < float("inf"):
        raise InputError(f"--um-per-px must be a positive number, but it is {um_per_px:g}.")
    return None if um_per_px is None else Calibration(um_per_px, "typed")


def scale_of(arguments: argparse.Namespace, image: Image) -> Calibration | None:
    """Return the scale that was typed, else the image's own, with the height of the chamber."""
    refusal = "--chamber-height-um needs a scale, and this file holds none; give --um-per-px."
    return with_chamber(typed_scale(arguments) or image.calibration, arguments.chamber_height_um, refusal)


def file_limits(config: Config) -> Limits:
    """Return what a file may hold at most, by the settings."""
    return Limits(config.max_upload_bytes, config.max_image_pixels, config.max_pages)
