"""One page of a TIFF to pixels: gray, colour, palette, CMYK, alpha, several channels in one page or many."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from sam_droplet.errors import InputError, NotFound, PayloadTooLarge, UnreadableImage, UnsupportedMedia
from sam_droplet.imaging.calibration import (
    Calibration,
    from_imagej,
    from_ome,
    from_tiff,
    is_oblong,
    ome_sides_um,
)
from sam_droplet.imaging.formats import Limits, check_dimensions, jpeg_header, truncated
from sam_droplet.imaging.pixels import Decoded, default_channel_names, drop_alpha
from sam_droplet.imaging.tiff_header import Directory, scan_tiff
from sam_droplet.imaging.tiff_layout import imagej_values, is_ome, stack_layout, whole_number

_MIN_IS_WHITE, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 2, 3, 5, 6
_JPEG = 7
_ALPHA_KINDS = (1, 2)


def decode_tiff(data: bytes, limits: Limits, page: int) -> Decoded:
    """Decode one page. Raises InputError (with its subclasses) for every file that cannot be read."""
    directories = scan_tiff(data, limits)
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            return _decode(data, file, directories, limits, page)
    except InputError:
        raise
    except MemoryError as error:
        raise PayloadTooLarge(
            "An image that fits into memory was expected, but this one does not; crop or bin it."
        ) from error
    except Exception as error:
        # tifffile and its codecs answer damage with almost every exception that there is.
        raise truncated("tiff") from error


def _decode(
    data: bytes, file: tifffile.TiffFile, directories: list[Directory], limits: Limits, page: int
) -> Decoded:
    first = _tiff_page(file, directories[0])
    description = first.description or ""
    n_virtual = _n_planes_behind_one_directory(data, description, first, len(directories))
    n_planes = max(n_virtual, len(directories))
    layout = stack_layout(description, n_planes, first.samplesperpixel)
    if len(layout.pages) > limits.max_pages:
        raise PayloadTooLarge(
            f"A TIFF of at most {limits.max_pages} pages was expected, but it has {len(layout.pages)}; "
            "split it, or raise MAX_PAGES."
        )
    check_page(page, len(layout.pages))
    chosen = layout.pages[page]
    directory = directories[0] if n_virtual else directories[chosen[0]]
    check_dimensions(directory.width, directory.height, directory.n_samples * len(chosen), limits)
    keyframe = _tiff_page(file, directory)
    is_imagej = imagej_values(description) is not None
    planes = []
    for index in chosen:
        if n_virtual:
            planes.append(_virtual_plane(data, file, first, index))
        else:
            planes.append(_plane(data, _tiff_page(file, directories[index])))
    pixels = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)
    pixels, colour, notes = _as_intensities(pixels, keyframe, directory.photometric, keep_indices=is_imagej)
    names = layout.channel_names
    if len(names) != pixels.shape[2] or not all(names):
        names = default_channel_names(pixels.shape[2], colour=colour)
    calibration = _calibration(first, description)
    if calibration is None:
        notes += _oblong_notes(first, description)
    return Decoded(
        pixels,
        names,
        bit_depth=keyframe.bitspersample if keyframe.bitspersample in (9, 10, 11, 12, 13, 14, 15) else None,
        orientation=directory.tags.get(274, 1),
        n_pages=len(layout.pages),
        calibration=calibration,
        notes=notes,
    )


def check_page(page: int, n_pages: int) -> None:
    """Raise NotFound for a page that the file does not have."""
    if not 0 <= page < n_pages:
        raise NotFound(
            f"A page from 0 to {n_pages - 1} was expected, but page {page} was asked for; pages count from 0."
        )


def _tiff_page(file: tifffile.TiffFile, directory: Directory) -> tifffile.TiffPage:
    """Return tifffile's reading of a directory; what it decodes has to be what was checked."""
    page = file.pages[directory.index]
    if not isinstance(page, tifffile.TiffPage):
        raise truncated("tiff")
    read = (page.imagewidth, page.imagelength, page.samplesperpixel, int(page.compression), page.imagedepth)
    checked = (directory.width, directory.height, directory.n_samples, directory.tags.get(259, 1), 1)
    tile = (page.tilewidth, page.tilelength) if page.is_tiled else (0, 0)
    if read != checked or tile != (directory.tags.get(322, 0), directory.tags.get(323, 0)):
        raise truncated("tiff")
    return page


def _n_planes_behind_one_directory(
    data: bytes, description: str, first: tifffile.TiffPage, n_directories: int
) -> int:
    """Count the planes that ImageJ stores one after the other behind a single directory, else 0."""
    values = imagej_values(description)
    if values is None or n_directories != 1 or not first.is_final:
        return 0
    n_planes = whole_number(values.get("images"), 1)
    n_there = (len(data) - first.dataoffsets[0]) // first.nbytes
    if n_planes < 2 or n_there < 2:  # a single slice taken from a stack keeps the old description
        return 0
    if n_there < n_planes:
        raise UnreadableImage(
            f"A complete ImageJ stack of {n_planes} images was expected, but the file ends after image "
            f"{n_there}; export or upload it again."
        )
    return n_planes


def _virtual_plane(
    data: bytes, file: tifffile.TiffFile, first: tifffile.TiffPage, index: int
) -> NDArray[Any]:
    dtype = np.dtype(first.dtype).newbyteorder(file.byteorder)
    offset = first.dataoffsets[0] + index * first.nbytes
    count = first.nbytes // dtype.itemsize
    plane = np.frombuffer(data, dtype, count=count, offset=offset).reshape(first.shape)
    return _samples_last(plane.astype(dtype.newbyteorder("=")), first.axes)


def _plane(data: bytes, page: tifffile.TiffPage) -> NDArray[Any]:
    _check_segments(data, page)
    return _samples_last(page.asarray(), page.axes)


def _check_segments(data: bytes, page: tifffile.TiffPage) -> None:
    """Refuse what tifffile would fill up silently, and JPEG tiles larger than their place."""
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    is_complete = len(segments) >= math.prod(page.chunked)
    if not is_complete or any(offset + count > len(data) for offset, count in segments):
        raise truncated("tiff")
    stored = sum(count for _, count in segments)
    needed = page.imagewidth * page.imagelength * page.samplesperpixel * page.bitspersample // 8
    if page.compression == 1 and 0 not in page.databytecounts and stored < needed:
        raise truncated("tiff")
    if page.compression == _JPEG:
        area = page.imagewidth * (page.tilelength or page.rowsperstrip or page.imagelength)
        if page.is_tiled:
            area = page.tilewidth * page.tilelength
        for offset, count in segments:
            header = jpeg_header(data[offset : offset + count]) if count else None
            if header is not None and header.width * header.height > 2 * area + 65_536:
                raise truncated("tiff")


def _samples_last(plane: NDArray[Any], axes: str) -> NDArray[Any]:
    """Bring "YX", "YXS" or "SYX" to (H, W, S)."""
    if axes == "YX":
        return plane[:, :, None]
    if axes == "YXS":
        return plane
    if axes == "SYX":
        return np.moveaxis(plane, 0, 2)
    raise UnsupportedMedia(
        f"TIFF pages of rows, columns and samples were expected, but came axes {axes}; save a plain TIFF."
    )


def _as_intensities(
    pixels: NDArray[Any], page: tifffile.TiffPage, photometric: int, *, keep_indices: bool
) -> tuple[NDArray[Any], bool, tuple[str, ...]]:
    """Undo palette, inverted gray, CMYK, alpha and short integers; return pixels, is colour, and notes."""
    notes: tuple[str, ...] = ()
    if photometric == _PALETTE and not keep_indices and page.colormap is not None:
        return _palette(pixels, page.colormap)
    if pixels.dtype.kind == "u" and page.bitspersample < 8:
        pixels = (pixels * (255 // ((1 << page.bitspersample) - 1))).astype(np.uint8)
    if photometric == _MIN_IS_WHITE and pixels.dtype.kind in "ub":
        largest = True if pixels.dtype.kind == "b" else _largest(pixels, page.bitspersample)
        pixels = pixels ^ largest
        notes = ("stored with 0 as white: values inverted, so that larger is brighter",)
    if photometric == _CMYK and pixels.shape[2] >= 4 and pixels.dtype.kind == "u":
        return _cmyk(pixels), True, ("CMYK converted to RGB",)
    if page.extrasamples and int(page.extrasamples[-1]) in _ALPHA_KINDS and pixels.shape[2] > 1:
        pixels, alpha_notes = drop_alpha(pixels, _opaque(pixels))
        notes += alpha_notes
    return pixels, photometric in (_RGB, _YCBCR), notes


def _largest(pixels: NDArray[Any], bits: int) -> Any:
    return pixels.dtype.type((1 << bits) - 1 if bits in range(9, 16) else np.iinfo(pixels.dtype).max)


def _opaque(pixels: NDArray[Any]) -> int | float:
    return int(np.iinfo(pixels.dtype).max) if pixels.dtype.kind == "u" else 1.0


def _palette(pixels: NDArray[Any], colormap: NDArray[Any]) -> tuple[NDArray[Any], bool, tuple[str, ...]]:
    """Look colours up, 8 bits each; a palette of grays alone gives one channel."""
    colours = np.asarray(colormap).T  # (2^bits, 3)
    table = (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)
    painted = table[pixels[:, :, 0]]
    if bool((table[:, :1] == table).all()):
        return painted[:, :, :1], False, ()
    return painted, True, ("palette applied",)


def _cmyk(pixels: NDArray[Any]) -> NDArray[Any]:
    largest = np.float32(np.iinfo(pixels.dtype).max)
    ink, black = pixels[:, :, :3].astype(np.float32), pixels[:, :, 3:4].astype(np.float32)
    return np.rint((largest - ink) * (largest - black) / largest).astype(pixels.dtype)


def _calibration(first: tifffile.TiffPage, description: str) -> Calibration | None:
    x, y = _ratio(first, 282), _ratio(first, 283)
    values = imagej_values(description)
    if values is not None:
        return from_imagej(values.get("unit", ""), x, y)
    if is_ome(description):
        found = from_ome(description)
        if found is not None:
            return found
    return from_tiff(int(first.tags.valueof(296, default=2)), x, y)


def _oblong_notes(first: tifffile.TiffPage, description: str) -> tuple[str, ...]:
    """Say why a file with a scale gives none: its pixels are not square."""
    sides = ome_sides_um(description) if is_ome(description) else (_ratio(first, 283), _ratio(first, 282))
    x, y = (side or 0.0 for side in sides)
    if not (0 < x < math.inf and 0 < y < math.inf and is_oblong(x, y)):
        return ()
    return (f"pixels are not square ({x / y:.4g} times as wide as high), so the file's scale is not used",)


def _ratio(page: tifffile.TiffPage, tag: int) -> float:
    value = page.tags.valueof(tag, default=(0, 1))
    try:
        above, below = value
        return float(above) / float(below)
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
