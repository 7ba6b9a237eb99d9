"""Bytes, base64 text or a file to one Image: raw pixels at their own bit depth, and a view for the screen.

Every format, limit and error of an upload is decided here and in the modules that this one calls.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_droplet.errors import InputError, NotFound
from sam_droplet.imaging.calibration import Calibration
from sam_droplet.imaging.formats import DEFAULT_LIMITS, Limits, check_bytes, sniff
from sam_droplet.imaging.pixels import (
    RGB,
    Decoded,
    Pixels,
    as_raw_type,
    oriented,
    percentiles,
    pixel_digest,
    significant_bits,
)
from sam_droplet.imaging.raster import decode_raster
from sam_droplet.imaging.tiff import check_page, decode_tiff

__all__ = [
    "DEFAULT_LIMITS",
    "Calibration",
    "Image",
    "Limits",
    "encode_png",
    "encode_tile",
    "encode_view",
    "load_image",
    "load_image_base64",
    "load_image_file",
]

VIEW_PERCENTILES = (1.0, 99.8)
TILE_SIDE_PX = 512
MAX_NAME_LENGTH = 200
_JPEG_QUALITY = 90
_MAX_JPEG_SIDE = 65_500
_BLOCK_VALUES = 1 << 20
# The colours that ImageJ gives to channels, first to seventh.
_CHANNEL_COLOURS = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (0, 1, 1), (1, 0, 1), (1, 1, 0))
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Image:
    """Hold one page of an image file.

    pixels: (H, W, C) uint8, uint16 or float32, read-only, upright, never stretched; colour is in RGB order.
    digest: SHA-256 in hex over shape, element type and pixels.
    bit_depth: significant bits: 12 for 12-bit values stored in 16.
    orientation_applied: the EXIF orientation, 1 to 8, that was undone.
    notes: what reading had to change or leave out, in words; empty for most files.
    """

    pixels: Pixels
    digest: str
    name: str
    format: str
    bit_depth: int
    calibration: Calibration | None
    page: int = 0
    n_pages: int = 1
    channel_names: tuple[str, ...] = ("gray",)
    orientation_applied: int = 1
    notes: tuple[str, ...] = ()

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])

    @property
    def n_channels(self) -> int:
        """Channels."""
        return int(self.pixels.shape[2])

    @property
    def is_colour(self) -> bool:
        """Whether the first three channels are red, green and blue."""
        return self.channel_names[:3] == RGB

    def only_channel(self, channel: int) -> Image:
        """Return one channel as a gray image with its own digest; InputError for one that there is not."""
        index = self._checked(channel)
        pixels = cast(Pixels, np.ascontiguousarray(self.pixels[:, :, index : index + 1]))
        pixels.setflags(write=False)
        return replace(self, pixels=pixels, digest=pixel_digest(pixels), channel_names=("gray",))

    def display_window(self, channel: int | None = None) -> tuple[float, float]:
        """Return the raw values shown as black and white when stretched: percentiles 1 and 99.8.

        Without a channel: of all colours together, else of channel 0. Where nearly all pixels are equal,
        the smallest and the largest value.
        """
        if channel is None and self.is_colour:
            windows = [self._window(i) for i in range(3)]
            return min(low for low, _ in windows), max(high for _, high in windows)
        return self._window(self._checked(channel or 0))

    def view(self, *, stretch: bool = False, channel: int | None = None) -> NDArray[np.uint8]:
        """Return (H, W, 3) uint8 RGB to look at, a new array.

        8-bit pixels are shown as they are unless ``stretch``; deeper ones always by ``display_window``.
        Several channels that are no colours are added up in ImageJ's channel colours, each with its own
        window; one ``channel`` is shown in gray. Raises InputError for a channel that there is not.
        """
        return self._render(self.pixels, stretch, channel)

    def _render(self, pixels: Pixels, stretch: bool, channel: int | None) -> NDArray[np.uint8]:
        """Render these pixels, which may be a smaller copy, by the windows of the whole image."""
        if channel is None and self.is_colour:
            window = self._view_window(stretch, None)
            return np.ascontiguousarray(_to_8_bit(pixels[:, :, :3], window))
        if channel is None and self.n_channels > 1:
            return self._composite(pixels, stretch)
        chosen = self._checked(channel or 0)
        plane = _to_8_bit(pixels[:, :, chosen], self._view_window(stretch, chosen))
        return np.repeat(plane[:, :, None], 3, axis=2)

    def _composite(self, pixels: Pixels, stretch: bool) -> NDArray[np.uint8]:
        total = np.zeros((*pixels.shape[:2], 3), np.uint8)
        for index in range(self.n_channels):
            plane = _to_8_bit(pixels[:, :, index], self._view_window(stretch, index))
            for colour, weight in enumerate(_CHANNEL_COLOURS[index % len(_CHANNEL_COLOURS)]):
                if weight:
                    room = 255 - total[:, :, colour]
                    total[:, :, colour] += np.minimum(plane, room)
        return total

    def _view_window(self, stretch: bool, channel: int | None) -> tuple[float, float] | None:
        if self.pixels.dtype == np.uint8 and not stretch:
            return None
        return self.display_window(channel)

    def _window(self, channel: int) -> tuple[float, float]:
        if channel not in self._windows:
            self._windows[channel] = _window(self.pixels[:, :, channel])
        return self._windows[channel]

    @cached_property
    def _windows(self) -> dict[int, tuple[float, float]]:
        """What was worked out per channel: every tile of a big image asks anew."""
        return {}

    def _checked(self, channel: int) -> int:
        if not 0 <= channel < self.n_channels:
            raise InputError(
                f"A channel from 0 to {self.n_channels - 1} was expected, but {channel} was asked for; "
                "channels count from 0."
            )
        return channel


def load_image(data: bytes, name: str, limits: Limits = DEFAULT_LIMITS, *, page: int = 0) -> Image:
    """Read one page of a PNG, JPEG, WebP, BMP or TIFF; the content decides which it is.

    name: kept as metadata without folders and control characters.
    Raises InputError (empty), UnsupportedMedia (not such an image, or animated), PayloadTooLarge (over a
    limit, found in the header before decoding), UnreadableImage (damaged), NotFound (no such page).
    """
    check_bytes(len(data), limits)
    file_format = sniff(data)
    if file_format == "tiff":
        decoded = decode_tiff(data, limits, page)
    else:
        check_page(page, 1)
        decoded = decode_raster(data, file_format, limits)
    return _image(decoded, clean_name(name), file_format, page)


def load_image_file(path: str | Path, limits: Limits = DEFAULT_LIMITS, *, page: int = 0) -> Image:
    """Read one page of an image file; as ``load_image``, and NotFound where there is no such file."""
    path = Path(path)
    try:
        if not path.is_file():
            raise NotFound(f"An image file was expected at {path}, but there is none; check the path.")
        check_bytes(path.stat().st_size, limits)
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(
            f"A readable file was expected at {path}, but reading it failed: {error}."
        ) from error
    return load_image(data, path.name, limits, page=page)


def load_image_base64(
    text: str, name: str = "image", limits: Limits = DEFAULT_LIMITS, *, page: int = 0
) -> Image:
    """Read an image from base64 text, with or without a ``data:…;base64,`` prefix; as ``load_image``."""
    prefix = _DATA_URL.match(text)
    body = text[prefix.end() :] if prefix else text
    check_bytes(len(body) * 3 // 4 - 2, limits)
    try:
        packed = b"".join(body.encode("ascii").split())
        data = base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise InputError(
            "Base64 text of an image was expected, with or without a data:image/…;base64, prefix, but it is "
            "not valid base64; encode the file's bytes."
        ) from error
    return load_image(data, name, limits, page=page)


def clean_name(name: str) -> str:
    """Return the last part of a file name, without control characters, at most 200 characters long."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(c for c in last if c.isprintable()).strip()[-MAX_NAME_LENGTH:] or "image"


def _image(decoded: Decoded, name: str, file_format: str, page: int) -> Image:
    raw, notes = as_raw_type(decoded.pixels)
    orientation = decoded.orientation if decoded.orientation in range(1, 9) else 1
    pixels = np.ascontiguousarray(oriented(raw, orientation))
    # Shared by threads and caches: whoever wants to change pixels takes a copy.
    pixels.setflags(write=False)
    return Image(
        pixels=pixels,
        digest=pixel_digest(pixels),
        name=name,
        format=file_format,
        bit_depth=decoded.bit_depth
        if decoded.bit_depth and pixels.dtype == np.uint16
        else significant_bits(pixels),
        calibration=decoded.calibration,
        page=page,
        n_pages=decoded.n_pages,
        channel_names=decoded.channel_names,
        orientation_applied=orientation,
        notes=decoded.notes + notes,
    )


def _window(plane: NDArray[Any]) -> tuple[float, float]:
    low, high = percentiles(plane, VIEW_PERCENTILES)
    if low < high:
        return low, high
    return float(plane.min()), float(plane.max())


def _to_8_bit(pixels: NDArray[Any], window: tuple[float, float] | None) -> NDArray[np.uint8]:
    """Map a window of values to 0..255; None copies 8-bit values as they are."""
    if window is None:
        return pixels.astype(np.uint8)
    low, high = window
    if high <= low:
        return np.zeros(pixels.shape, np.uint8)
    if pixels.dtype.kind == "u":
        # A table of every possible value is far faster than arithmetic on every pixel.
        values = np.arange(np.iinfo(pixels.dtype).max + 1, dtype=np.float64)
        table = np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)
        return np.asarray(table[pixels], np.uint8)
    shown = np.empty(pixels.shape, np.uint8)
    rows = max(1, _BLOCK_VALUES // pixels[0].size)  # at once, 64 bits a value fill many a memory
    for top in range(0, len(pixels), rows):
        scaled = (pixels[top : top + rows].astype(np.float64) - low) / (high - low)
        shown[top : top + rows] = np.rint(np.clip(scaled, 0, 1) * 255)
    return shown


def encode_png(array: NDArray[Any]) -> bytes:
    """Encode (H, W), (H, W, 1), RGB (H, W, 3) or RGBA (H, W, 4), uint8 or uint16, without loss."""
    return _encode(".png", array, [])


def encode_view(
    image: Image,
    max_side: int | None = None,
    format: Literal["jpeg", "png"] = "jpeg",  # noqa: A002
    *,
    stretch: bool = False,
    channel: int | None = None,
) -> bytes:
    """Encode what ``Image.view`` shows, shrunk by area to at most ``max_side`` pixels a side.

    Raises InputError for a JPEG with a side above 65,500 pixels and for a max_side below 1.
    """
    if max_side is not None and max_side < 1:
        raise InputError(f"max_side of at least 1 was expected, but it is {max_side}.")
    longest = max(image.width, image.height)
    pixels: Pixels = image.pixels
    if max_side is not None and max_side < longest:
        width = max(1, round(image.width * max_side / longest))
        height = max(1, round(image.height * max_side / longest))
        pixels = _shrunk(pixels, width, height)
    view = image._render(pixels, stretch, channel)
    if format == "png":
        return encode_png(view)
    if max(view.shape[:2]) > _MAX_JPEG_SIDE:
        raise InputError(
            f"A JPEG side of at most {_MAX_JPEG_SIDE} pixels was expected, but it is {max(view.shape[:2])}; "
            "ask for a smaller max_side or for PNG."
        )
    return _encode(".jpg", view, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])


def encode_tile(
    image: Image, level: int, column: int, row: int, *, stretch: bool = False, channel: int | None = None
) -> bytes:
    """Encode one tile of what ``Image.view`` shows as JPEG, at most 512 pixels a side.

    level: halvings; a pixel of level 3 is the mean of 8 by 8. Tiles count from the top left and join without
    overlap; those at the right and bottom are cut at the image's edge. Raises NotFound outside the image.
    """
    side = TILE_SIDE_PX << level
    left, top = column * side, row * side
    right, bottom = min(left + side, image.width), min(top + side, image.height)
    if right <= left or bottom <= top:
        raise NotFound(f"Level {level} of this image has no tile in column {column} of row {row}.")
    pixels: Pixels = image.pixels[top:bottom, left:right]
    if level:
        pixels = _shrunk(pixels, -(-(right - left) >> level), -(-(bottom - top) >> level))
    view = image._render(pixels, stretch, channel)
    return _encode(".jpg", view, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])


def _shrunk(pixels: Pixels, width: int, height: int) -> Pixels:
    planes = [
        cv2.resize(np.ascontiguousarray(pixels[:, :, i]), (width, height), interpolation=cv2.INTER_AREA)
        for i in range(pixels.shape[2])
    ]
    return cast(Pixels, np.stack(planes, axis=2))


def _encode(extension: str, array: NDArray[Any], options: list[int]) -> bytes:
    if array.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"uint8 or uint16 pixels are encoded, not {array.dtype}")
    if array.ndim == 3 and array.shape[2] in (3, 4):
        array = array[:, :, [2, 1, 0, 3][: array.shape[2]]]  # OpenCV writes BGR
    done, encoded = cv2.imencode(extension, np.ascontiguousarray(array), options)
    if not done:
        raise ValueError(f"an array of shape {array.shape} cannot be encoded as {extension}")
    return encoded.tobytes()
