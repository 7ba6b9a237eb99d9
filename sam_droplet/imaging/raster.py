"""PNG, JPEG, WebP and BMP to pixels, each by the one decoder named here; headers are checked before."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, ImageFile, JpegImagePlugin, WebPImagePlugin
from PIL import Image as PillowImage

from sam_droplet.errors import PayloadTooLarge, UnreadableImage
from sam_droplet.imaging.formats import Limits, check_header, png_chunks, truncated
from sam_droplet.imaging.pixels import Decoded, default_channel_names, drop_alpha

_ORIENTATION_TAG = 0x0112
_GRAY_ALPHA, _PALETTE = 4, 3


def decode_raster(data: bytes, file_format: str, limits: Limits) -> Decoded:
    """Decode a PNG, JPEG, WebP or BMP. Raises InputError (with its subclasses) for every unreadable file."""
    check_header(data, file_format, limits)
    try:
        return _decode_png(data) if file_format == "png" else _decode_by_pillow(data, file_format)
    except UnreadableImage:
        raise
    except MemoryError as error:
        raise PayloadTooLarge(
            "An image that fits into memory was expected, but this one does not; crop or bin it."
        ) from error
    except Exception as error:
        # Pillow and OpenCV answer damage with almost every exception that there is.
        raise truncated(file_format) from error


def _decode_png(data: bytes) -> Decoded:
    """Decode by OpenCV: Pillow cuts 16-bit colour to 8 bits and accepts pixel data that stop too early."""
    chunks = png_chunks(data)
    colour_type = chunks[b"IHDR"][9]
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None:
        raise truncated("png")
    pixels: NDArray[Any] = decoded if decoded.ndim == 3 else decoded[:, :, None]
    notes: tuple[str, ...] = ()
    if pixels.shape[2] == 4:
        pixels, notes = drop_alpha(pixels, int(np.iinfo(pixels.dtype).max))
    pixels = pixels[:, :, ::-1]  # BGR to RGB
    is_gray = colour_type in (0, _GRAY_ALPHA) or (colour_type == _PALETTE and _gray_palette(chunks))
    if is_gray:
        pixels = pixels[:, :, :1]
    return Decoded(
        pixels,
        default_channel_names(pixels.shape[2], colour=True),
        bit_depth=_stated_bits(chunks) if pixels.dtype == np.uint16 else None,
        orientation=_orientation_of_exif(chunks.get(b"eXIf", b"")),
        notes=notes,
    )


def _gray_palette(chunks: dict[bytes, bytes]) -> bool:
    usable = len(chunks[b"PLTE"]) // 3 * 3
    table = np.frombuffer(chunks[b"PLTE"][:usable], np.uint8).reshape(-1, 3)
    return bool((table[:, :1] == table).all())


def _stated_bits(chunks: dict[bytes, bytes]) -> int | None:
    """Significant bits as the sBIT chunk states them; values are then stored shifted to the top."""
    stated = chunks.get(b"sBIT", b"")
    return 16 if stated and max(stated) <= 16 else None


def _decode_by_pillow(data: bytes, file_format: str) -> Decoded:
    # The decoder's class itself, not Image.open: no other parser can meet the bytes, and Pillow's own
    # pixel limit, which is a global, gives way to the one already checked.
    plugin: Callable[[io.BytesIO], ImageFile.ImageFile] = {
        "jpeg": JpegImagePlugin.JpegImageFile,
        "webp": WebPImagePlugin.WebPImageFile,
        "bmp": BmpImagePlugin.BmpImageFile,
    }[file_format]
    with plugin(io.BytesIO(data)) as opened:
        orientation = _orientation(opened)
        opened.load()
        flat, notes = _flattened(opened)
        pixels = np.asarray(flat)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if flat.mode in ("LA", "RGBA"):
        pixels, alpha_notes = drop_alpha(pixels, 255)
        notes += alpha_notes
    names = default_channel_names(pixels.shape[2], colour=True)
    return Decoded(pixels, names, orientation=orientation, notes=notes)


def _flattened(image: PillowImage.Image) -> tuple[PillowImage.Image, tuple[str, ...]]:
    """Bring any mode of these formats to L, LA, RGB or RGBA."""
    if image.mode in ("L", "LA", "RGB", "RGBA"):
        return image, ()
    if image.mode == "1":
        return image.convert("L"), ()
    if image.mode == "P":
        converted = image.convert("RGB")
        table = np.asarray(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        return (converted.getchannel(0), ()) if bool((table[:, :1] == table).all()) else (converted, ())
    return image.convert("RGB"), (f"{image.mode} converted to RGB",)


def _orientation(image: PillowImage.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 - a damaged EXIF block does not make the pixels unreadable
        return 1


def _orientation_of_exif(block: bytes) -> int:
    if not block:
        return 1
    exif = PillowImage.Exif()
    try:
        exif.load(block if re.match(rb"Exif\0\0", block) else b"Exif\0\0" + block)
        return int(exif.get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 - a damaged EXIF block does not make the pixels unreadable
        return 1
