"""Which planes of a TIFF make up one page: channels, slices and frames as ImageJ, OME or tifffile say."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from sam_droplet.imaging.calibration import ome_channel_names, ome_pixels

_IMAGEJ_FASTEST_FIRST = {"c", "z", "t"}


@dataclass(frozen=True)
class Layout:
    """For each page the planes that are its channels, in order; names may be empty."""

    pages: tuple[tuple[int, ...], ...]
    channel_names: tuple[str, ...] = ()


def imagej_values(description: str) -> dict[str, str] | None:
    """Return the key=value lines that ImageJ writes, or None for a file of another program."""
    if not description.startswith("ImageJ="):
        return None
    lines = (line.partition("=") for line in description[:100_000].splitlines())
    return {key.strip().lower(): value.strip() for key, equals, value in lines if equals}


def is_ome(description: str) -> bool:
    """Tell whether a description is OME-XML."""
    return "<OME" in description[:5000] or "<ome:OME" in description[:5000]


def stack_layout(description: str, n_planes: int, samples_per_plane: int) -> Layout:
    """Group planes into pages; each plane is a page of its own where nothing says otherwise."""
    imagej = imagej_values(description)
    if imagej is not None:
        return _imagej_layout(imagej, n_planes, samples_per_plane)
    if is_ome(description):
        return _ome_layout(description, n_planes, samples_per_plane)
    if description.startswith("{"):
        return _shaped_layout(description, n_planes)
    return _one_each(n_planes)


def _one_each(n_planes: int) -> Layout:
    return Layout(tuple((plane,) for plane in range(n_planes)))


def _grouped(sizes: Sequence[tuple[str, int]], n_planes: int) -> Layout:
    """Group by channel; sizes name the axes, slowest first, and have to account for every plane."""
    lengths = [length for _, length in sizes]
    n_channels = dict(sizes).get("C", 1)
    total = 1
    for length in lengths:
        total *= length
    if n_channels < 2 or total != n_planes:
        return _one_each(n_planes)
    pages: dict[tuple[int, ...], list[int]] = {}
    for plane, position in enumerate(product(*(range(length) for length in lengths))):
        key = tuple(at for at, (axis, _) in zip(position, sizes, strict=True) if axis != "C")
        pages.setdefault(key, []).append(plane)
    return Layout(tuple(tuple(planes) for planes in pages.values()))


def _imagej_layout(values: dict[str, str], n_planes: int, samples_per_plane: int) -> Layout:
    n_channels = whole_number(values.get("channels"), 1)
    if n_channels == samples_per_plane:  # Bio-Formats calls the samples of one plane channels
        return _one_each(n_planes)
    sizes = {
        "c": n_channels,
        "z": whole_number(values.get("slices"), 1),
        "t": whole_number(values.get("frames"), 1),
    }
    order = values.get("order", "czt").lower()
    if set(order) != _IMAGEJ_FASTEST_FIRST or len(order) != 3:
        order = "czt"
    return _grouped([(axis.upper(), sizes[axis]) for axis in reversed(order)], n_planes)


def _ome_layout(description: str, n_planes: int, samples_per_plane: int) -> Layout:
    """Lay out the first series, in its DimensionOrder; planes listed in any other order stay single pages."""
    pixels = ome_pixels(description)
    order = pixels.get("DimensionOrder", "XYZCT")[2:]
    if sorted(order) != ["C", "T", "Z"] or len(re.findall(r"<(?:\w{1,20}:)?Pixels\s", description)) != 1:
        return _one_each(n_planes)
    if not _in_order(description):
        return _one_each(n_planes)
    sizes = {axis: whole_number(pixels.get("Size" + axis), 1) for axis in order}
    if samples_per_plane > 1 and sizes["C"] % samples_per_plane == 0:
        sizes["C"] //= samples_per_plane
    layout = _grouped([(axis, sizes[axis]) for axis in reversed(order)], n_planes)
    names = ome_channel_names(description)
    return Layout(layout.pages, names if len(names) == len(layout.pages[0]) else ())


def _in_order(description: str) -> bool:
    """Tell whether the IFD numbers of the TiffData elements, where given, only ever rise."""
    blocks = re.findall(r"<(?:\w{1,20}:)?TiffData\s([^<>]{0,1000})", description[:10_000_000])
    numbers = [whole_number(match[1], 0) for block in blocks if (match := re.search(r'\bIFD="(\d+)"', block))]
    return numbers == sorted(numbers)


def _shaped_layout(description: str, n_planes: int) -> Layout:
    """Read the axes that tifffile writes as JSON: ``{"shape": [2, 3, 64, 64], "axes": "TCYX"}``."""
    try:
        values = json.loads(description[:100_000])
    except (ValueError, RecursionError):
        return _one_each(n_planes)
    axes, shape = values.get("axes"), values.get("shape")
    if not isinstance(axes, str) or not isinstance(shape, list) or len(axes) != len(shape):
        return _one_each(n_planes)
    if not all(isinstance(length, int) and length > 0 for length in shape):
        return _one_each(n_planes)
    sizes = [(axis, length) for axis, length in zip(axes, shape, strict=True) if axis not in "YXS"]
    return _grouped(sizes, n_planes)


def whole_number(text: str | None, default: int) -> int:
    """Read a positive whole number of at most nine digits, else the default."""
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,9}", text) and int(text) > 0 else default
