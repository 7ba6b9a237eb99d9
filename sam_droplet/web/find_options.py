"""The options of *Find droplets*, as the page and scripts send them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sam_droplet.imaging.rim_offset import MOST_RIM_OFFSET_PX
from sam_droplet.pipeline import MODES, MOST_MAGNIFICATION, FindOptions
from sam_droplet.web import payloads

FIND_MODELS = ("auto", "droplet-net")
# What can be asked of a whole image, and of an image that is kept: of a region of it, too.
WHOLE_OPTIONS = ("sensitivity", "diameter_min_px", "diameter_max_px", "mode", "rim_offset_px")
FIND_OPTIONS = (*WHOLE_OPTIONS, "model", "roi_xyxy", "magnification")


def read_whole_options(given: Mapping[str, Any]) -> FindOptions:
    """Read ``WHOLE_OPTIONS`` from among what was given."""
    return FindOptions(
        sensitivity=payloads.number_or(given, "sensitivity", 0.5, low=0, high=1),
        diameter_min_px=payloads.number(given, "diameter_min_px", low=0, high=1e6),
        diameter_max_px=payloads.number(given, "diameter_max_px", low=0, high=1e6),
        mode=payloads.text(given, "mode", MODES[0], choices=MODES),
        rim_offset_px=read_rim_offset_px(given) or 0.0,
    )


def read_rim_offset_px(given: Mapping[str, Any]) -> float | None:
    """Read how far outside the line of the rim droplets end, None where it is not said."""
    return payloads.number(given, "rim_offset_px", low=-MOST_RIM_OFFSET_PX, high=MOST_RIM_OFFSET_PX)


def read_options(given: Mapping[str, Any], width: int, height: int) -> FindOptions:
    """Read ``FIND_OPTIONS``; the region is cut at the edges of the image."""
    payloads.text(given, "model", "auto", choices=FIND_MODELS)
    return replace(
        read_whole_options(given),
        roi_xyxy=payloads.region_xyxy(given, "roi_xyxy", (width, height)),
        magnification=payloads.number_or(given, "magnification", 1.0, low=1, high=MOST_MAGNIFICATION),
    )
