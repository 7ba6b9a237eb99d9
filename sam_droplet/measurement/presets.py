"""Filters for common samples. Sizes are relative to the droplets found, so a preset fits any scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from sam_droplet.errors import InputError
from sam_droplet.measurement.droplets import Droplet, Filters


@dataclass(frozen=True)
class Preset:
    """Say what a preset keeps. diameter_shares: (low, high) times the median diameter, or None."""

    title: str
    description: str
    circularity_min: float
    solidity_min: float | None
    diameter_shares: tuple[float, float] | None
    exclude_edge: bool


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "monodisperse": Preset(
            "Monodisperse emulsion",
            "Whole round droplets within 30 % of the median diameter; merged and broken ones fall out.",
            circularity_min=0.85,
            solidity_min=0.9,
            diameter_shares=(0.7, 1.3),
            exclude_edge=True,
        ),
        "polydisperse": Preset(
            "Polydisperse emulsion",
            "Whole round droplets of any size.",
            circularity_min=0.8,
            solidity_min=0.9,
            diameter_shares=None,
            exclude_edge=True,
        ),
        "ddpcr": Preset(
            "Digital PCR",
            "Whole round droplets within 25 % of the median diameter, so that volumes are comparable.",
            circularity_min=0.85,
            solidity_min=0.9,
            diameter_shares=(0.75, 1.25),
            exclude_edge=True,
        ),
        "particles": Preset(
            "Beads or cells",
            "Anything roundish, at the edge too.",
            circularity_min=0.5,
            solidity_min=None,
            diameter_shares=None,
            exclude_edge=False,
        ),
    }
)


def preset_filters(name: str, droplets: Sequence[Droplet]) -> Filters:
    """Return a preset's filters for these droplets; InputError for an unknown name.

    The median diameter is that of all droplets that do not touch the border, whatever is included now.
    """
    preset = PRESETS.get(name)
    if preset is None:
        raise InputError(f"There is no preset {name!r}; use one of {', '.join(PRESETS)}.")
    ranges: dict[str, tuple[float | None, float | None]] = {"circularity": (preset.circularity_min, None)}
    if preset.solidity_min is not None:
        ranges["solidity"] = (preset.solidity_min, None)
    whole = [d.measures.diameter_px for d in droplets if not d.measures.touches_edge]
    if preset.diameter_shares is not None and whole:
        median = float(np.median(whole))
        low, high = (round(share * median, 2) for share in preset.diameter_shares)
        ranges["diameter_px"] = (low, high)
    return Filters(ranges, preset.exclude_edge)
