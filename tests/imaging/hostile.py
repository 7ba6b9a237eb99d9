"""Files that nobody should be able to hurt the service with, made here byte by byte."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import tifffile
from PIL import Image as PillowImage

TiffEntry = tuple[int, int, int, int]  # tag, type, count, value


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int, height: int, pixel_data: bytes, *, bits: int = 8, colour: int = 0, extra: bytes = b""
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + extra
        + png_chunk(b"IDAT", zlib.compress(pixel_data))
        + png_chunk(b"IEND", b"")
    )


def jpeg(width: int, height: int, *, n_scans: int = 1) -> bytes:
    frame = struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\x00"
    scan = b"\xff\xda" + struct.pack(">H", 8) + b"\x01\x01\x00\x00\x3f\x00\x00"
    return b"\xff\xd8\xff\xc2" + struct.pack(">H", len(frame) + 2) + frame + scan * n_scans + b"\xff\xd9"


def webp(width: int, height: int, *, flags: int = 0) -> bytes:
    body = bytes([flags, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunk = b"VP8X" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


def bmp(width: int, height: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 100, 0, 0, 54) + header + b"\0" * 100


def tiff_entries(width: int = 4, height: int = 4, **changes: int) -> list[TiffEntry]:
    """A gray 8-bit page whose pixels are the file's own first bytes; change tags by t<number>=value."""
    values = {
        256: width,
        257: height,
        258: 8,
        259: 1,
        262: 1,
        273: 0,
        277: 1,
        278: height,
        279: min(width * height, 16),
    }
    values.update({int(name[1:]): value for name, value in changes.items()})
    return [(tag, 4, 1, value) for tag, value in sorted(values.items())]


def tiff(pages: list[list[TiffEntry]], *, last_offset: int = 0, tail: bytes = b"") -> bytes:
    """Chain directories; the last one points to ``last_offset``, 0 for the end."""
    out = bytearray(b"II*\0" + struct.pack("<I", 8))
    for number, entries in enumerate(pages):
        size = 2 + 12 * len(entries) + 4
        following = last_offset if number == len(pages) - 1 else len(out) + size
        out += struct.pack("<H", len(entries))
        for entry in entries:
            out += struct.pack("<HHII", *entry)
        out += struct.pack("<I", following)
    return bytes(out) + tail


def written_tiff(array: np.ndarray[Any, Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def written(array: np.ndarray[Any, Any], file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    PillowImage.fromarray(array).save(buffer, file_format, **options)
    return buffer.getvalue()


def animation(file_format: str) -> bytes:
    frames = [PillowImage.new("L", (20, 16), shade) for shade in (0, 90, 200)]
    buffer = io.BytesIO()
    frames[0].save(buffer, file_format, save_all=True, append_images=frames[1:])
    return buffer.getvalue()
