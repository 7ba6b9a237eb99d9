"""The size of a pixel as the file states it: OME, ImageJ or TIFF resolution, where it can be trusted."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from sam_droplet.errors import InputError

_UM_BY_PREFIX = {"": 1e6, "centi": 1e4, "milli": 1e3, "micro": 1.0, "nano": 1e-3, "pico": 1e-6}
_UM_PER_UNIT = {
    "m": 1e6,
    "cm": 1e4,
    "mm": 1e3,
    "um": 1.0,
    "µm": 1.0,
    "μm": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "nm": 1e-3,
    "å": 1e-4,
    "angstrom": 1e-4,
    "angstroms": 1e-4,
    "pm": 1e-6,
    "in": 25_400.0,
    "inch": 25_400.0,
    "inches": 25_400.0,
} | {
    f"{prefix}{name}": um
    for prefix, um in _UM_BY_PREFIX.items()
    for name in ("meter", "meters", "metre", "metres")
}
# Beyond these no light or electron microscope and no macro lens works.
_SMALLEST_UM, _LARGEST_UM = 1e-5, 1e3
# At 1270 dpi and less a resolution is one for paper; above it, one that printers and scanners use is too.
_COARSEST_TRUSTED_UM = 20.0
_FINEST_PRINTER_DPI = 9600
_PRINTER_STEPS_DPI = (50, 72, 90, 96)
# A typed side of a pixel or height of a chamber lies between; what is measured with one stays a number.
LEAST_UM, MOST_UM = 1e-6, 1e6


@dataclass(frozen=True)
class Calibration:
    """What turns pixels into lengths and volumes.

    source: where um_per_px comes from: "ome", "imagej", "tiff", "typed", "line" or "objective".
    chamber_height_um: distance of the plates between which droplets lie; None where they are spheres.
    """

    um_per_px: float
    source: str
    chamber_height_um: float | None = None

    def __post_init__(self) -> None:
        height = self.chamber_height_um
        if height is not None and not LEAST_UM <= height <= MOST_UM:
            raise InputError(
                f"The chamber height must be from {LEAST_UM:g} to {MOST_UM:g} µm, but it is {height:g}."
            )

    @property
    def chamber_height_px(self) -> float | None:
        """The height of the chamber in pixels of the image; None where droplets are spheres."""
        return None if self.chamber_height_um is None else self.chamber_height_um / self.um_per_px

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Calibration:
        """Read what ``as_dict`` wrote; KeyError, TypeError or ValueError for anything else."""
        height = data.get("chamber_height_um")
        return cls(float(data["um_per_px"]), str(data["source"]), None if height is None else float(height))

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, a height only where there is one, as the JSON of the API and of every file."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def with_chamber(scale: Calibration | None, height_um: float | None, refusal: str) -> Calibration | None:
    """Return a scale with the height of a chamber, unchanged where none is given.

    Raises InputError with ``refusal`` where there is a height but no scale, as it is in micrometres.
    """
    if height_um is None:
        return scale
    if scale is None:
        raise InputError(refusal)
    return replace(scale, chamber_height_um=height_um)


def um_per_unit(unit: str) -> float | None:
    """Micrometres in one unit of length; None for pixels and anything unknown."""
    # ImageJ writes µ as the six characters \u00B5, and other letters likewise.
    name = re.sub(r"\\u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), unit)
    return _UM_PER_UNIT.get(name.strip().lower())


def from_ome(description: str) -> Calibration | None:
    """Read PhysicalSizeX and its unit (µm if absent) of the first series; None unless pixels are square."""
    x, y = ome_sides_um(description)
    return _square(x, x if y is None else y, "ome")


def ome_sides_um(description: str) -> tuple[float | None, float | None]:
    """Return the width and height of a pixel of an OME-XML in µm, None where it does not say."""
    attributes = ome_pixels(description)
    x = _um(attributes.get("PhysicalSizeX"), attributes.get("PhysicalSizeXUnit", "µm"))
    y = _um(attributes.get("PhysicalSizeY"), attributes.get("PhysicalSizeYUnit", "µm"))
    return x, y


def from_imagej(unit: str, x_per_unit: float, y_per_unit: float) -> Calibration | None:
    """Read ImageJ's pixels per unit; paper units are trusted only as far as ``from_tiff`` trusts them."""
    size = um_per_unit(unit)
    if size is None or x_per_unit <= 0 or y_per_unit <= 0:
        return None
    x, y = size / x_per_unit, size / y_per_unit
    if size in (25_400.0, 1e4) and _is_for_paper(x):
        return None
    return _square(x, y, "imagej")


def from_tiff(resolution_unit: int, x_per_unit: float, y_per_unit: float) -> Calibration | None:
    """Read the plain TIFF resolution in inch (2) or cm (3); None for one that printers and scanners use."""
    size = {2: 25_400.0, 3: 1e4}.get(resolution_unit)
    if size is None or x_per_unit <= 0 or y_per_unit <= 0:
        return None
    x, y = size / x_per_unit, size / y_per_unit
    return None if _is_for_paper(x) else _square(x, y, "tiff")


def _is_for_paper(um_per_px: float) -> bool:
    if not 0 < um_per_px <= _COARSEST_TRUSTED_UM:
        return True
    dpi = 25_400.0 / um_per_px
    return dpi < _FINEST_PRINTER_DPI + 1 and any(
        abs(dpi - step * round(dpi / step)) < 0.02 for step in _PRINTER_STEPS_DPI
    )


def _um(text: str | None, unit: str) -> float | None:
    size = um_per_unit(unit)
    try:
        return None if text is None or size is None else float(text) * size
    except ValueError:
        return None


def _square(x: float | None, y: float | None, source: str) -> Calibration | None:
    """One number describes square pixels only; sides that differ by more than 1 % give none."""
    if x is None or y is None or not (math.isfinite(x) and math.isfinite(y)):
        return None
    if not _SMALLEST_UM <= x <= _LARGEST_UM or is_oblong(x, y):
        return None
    return Calibration(x, source)


def is_oblong(x: float, y: float) -> bool:
    """Whether a pixel of these sides is too far from a square to be described by one number."""
    return abs(x - y) > 0.01 * x


def ome_pixels(description: str) -> dict[str, str]:
    """Return the attributes of an OME-XML's first Pixels element, by pattern: no XML parser meets uploads."""
    element = re.search(r"<(?:\w{1,20}:)?Pixels\s([^<>]{0,10000})", description)
    return {} if element is None else _attributes(element[1])


def ome_channel_names(description: str) -> tuple[str, ...]:
    """Return the names of the channels of an OME-XML's first series, "" for those without one."""
    series = re.split(r"<(?:\w{1,20}:)?Pixels\s", description, maxsplit=2)
    if len(series) < 2:
        return ()
    elements = re.findall(r"<(?:\w{1,20}:)?Channel\s([^<>]{0,10000})", series[1])
    return tuple(_attributes(element).get("Name", "") for element in elements)


def _attributes(text: str) -> dict[str, str]:
    pairs: list[tuple[str, str, str]] = re.findall(r"(\w+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", text)
    return {name: html.unescape(double or single) for name, double, single in pairs}
