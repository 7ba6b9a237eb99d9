"""What several commands of the terminal door share: options, and limits of the files that they read."""

from __future__ import annotations

import argparse

from sam_droplet.config import Config
from sam_droplet.imaging.images import Limits


def add_rim_offset(parser: argparse.ArgumentParser) -> None:
    """Describe ``--rim-offset-px``."""
    parser.add_argument(
        "--rim-offset-px",
        type=float,
        default=0.0,
        metavar="PX",
        help="how far outside the line of the rim droplets end; negative is inside",
    )


def file_limits(config: Config) -> Limits:
    """Return what a file may hold at most, by the settings."""
    return Limits(config.max_upload_bytes, config.max_image_pixels, config.max_pages)
