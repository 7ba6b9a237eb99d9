"""Which image format some bytes hold and how large it is, from the first bytes, before any decoding.

Content decides, never the name. Every limit that an upload has to keep is checked here or in tiff_header.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from sam_droplet.errors import InputError, PayloadTooLarge, UnreadableImage, UnsupportedMedia

READ_FORMATS = "PNG, JPEG, WebP, BMP or TIFF"
MAX_CHANNELS = 64
# A page may have four samples per pixel at the pixel limit and proportionally more below it.
SAMPLES_PER_PIXEL_AT_LIMIT = 4
# Each scan of a progressive JPEG passes over the whole image; cameras write about ten.
_MAX_JPEG_SCANS = 200
_MAX_JPEG_SEGMENTS = 10_000
_MAX_PNG_CHUNKS = 200_000

_MIME_FORMATS = {
    "image/png": "png",
    "image/vnd.mozilla.apng": "png",
    "image/apng": "png",
    "image/jpeg": "jpeg",
    "image/webp": "webp",
    "image/bmp": "bmp",
    "image/x-ms-bmp": "bmp",
    "image/tiff": "tiff",
}
_FILL = re.compile(rb"\xff{1,65536}")


@dataclass(frozen=True)
class Limits:
    """Bound what an upload may cost.

    max_bytes: of the file. max_pixels: of one page, width times height. max_pages: in one file.
    """

    max_bytes: int = 100 << 20
    max_pixels: int = 200_000_000
    max_pages: int = 1000


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Header:
    """What the first bytes say of a PNG, JPEG, WebP or BMP; ``bits`` are those of one sample."""

    width: int
    height: int
    n_samples: int
    bits: int
    animated: bool = False


def _load_libmagic() -> ModuleType | None:
    """Import python-magic, with the libmagic of pylibmagic where the system has none.

    Without either (Windows) the signatures below decide alone.
    """
    try:
        return import_module("magic")
    except ImportError:
        pass
    try:
        import_module("pylibmagic")  # puts its library on the search path
        return import_module("magic")
    except (ImportError, OSError):
        return None


_LIBMAGIC = _load_libmagic()


def sniff(data: bytes) -> str:
    """Return "png", "jpeg", "webp", "bmp" or "tiff" by content.

    libmagic and the signature have to agree wherever libmagic has an opinion. Raises InputError for empty
    data and UnsupportedMedia, naming what came, for anything else.
    """
    if not data:
        raise InputError("An image was expected, but the file is empty; choose another file.")
    mime = _mime(data)
    found = _signature(data)
    if found is None or _MIME_FORMATS.get(mime, found) != found or _is_another_type(mime):
        raise UnsupportedMedia(
            f"A {READ_FORMATS} image was expected, but this is {_named_type(data, mime)}; "
            "save it as PNG or TIFF and try again."
        )
    return found


def _mime(data: bytes) -> str:
    if _LIBMAGIC is None:
        return "application/octet-stream"
    try:
        return str(_LIBMAGIC.from_buffer(data[:8192], mime=True))
    except _LIBMAGIC.MagicException:
        return "application/octet-stream"


def _is_another_type(mime: str) -> bool:
    # Camera raw files are TIFF inside; their pixels are an undeveloped mosaic.
    return mime.startswith("image/") and mime not in _MIME_FORMATS


def _signature(data: bytes) -> str | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "tiff"
    if data.startswith(b"BM") and data[6:10] == b"\0\0\0\0":
        return "bmp"
    return None


def _named_type(data: bytes, mime: str) -> str:
    head = data[:1024].lstrip().lower()
    if head.startswith((b"gif87a", b"gif89a")):
        return "a GIF"
    if b"<svg" in head:
        return "an SVG drawing"
    if head.startswith((b"<!doctype html", b"<html")):
        return "a web page (HTML)"
    if mime == "application/octet-stream":
        return "of an unknown type"
    return f"of type {mime}"


def check_bytes(n_bytes: int, limits: Limits) -> None:
    """Raise PayloadTooLarge for more bytes than allowed."""
    if n_bytes > limits.max_bytes:
        raise PayloadTooLarge(too_many_bytes_text(limits.max_bytes, f"{n_bytes / 2**20:.1f}"))


def too_many_bytes_text(max_bytes: int, given_mib: str) -> str:
    """Return what is said of a file that is too large, here and by the page before it sends one."""
    return (
        f"A file of at most {max_bytes / 2**20:g} MiB was expected, but it has {given_mib} MiB; crop it or "
        "save it compressed."
    )


def check_dimensions(width: int, height: int, n_samples: int, limits: Limits) -> None:
    """Raise PayloadTooLarge or UnreadableImage for a page that is too large or has no pixel."""
    if width < 1 or height < 1 or n_samples < 1:
        raise UnreadableImage(
            f"An image with at least one pixel was expected, but its header says {width} × {height} with "
            f"{n_samples} samples; save it again."
        )
    if width * height > limits.max_pixels:
        raise PayloadTooLarge(
            f"At most {limits.max_pixels / 1e6:g} megapixels were expected, but the header says {width} × "
            f"{height} = {width * height / 1e6:.1f} megapixels; crop or bin the image."
        )
    if (
        n_samples > MAX_CHANNELS
        or width * height * n_samples > SAMPLES_PER_PIXEL_AT_LIMIT * limits.max_pixels
    ):
        raise PayloadTooLarge(
            f"At most {MAX_CHANNELS} channels and {SAMPLES_PER_PIXEL_AT_LIMIT * limits.max_pixels / 1e6:g} "
            f"million samples were expected, but the header says {width} × {height} with {n_samples} "
            "channels; save fewer channels."
        )


def check_header(data: bytes, file_format: str, limits: Limits) -> Header:
    """Read the header of a PNG, JPEG, WebP or BMP and raise if it breaks a limit.

    Raises PayloadTooLarge, UnreadableImage (damaged header) or UnsupportedMedia (animation).
    """
    reader = {"png": _png_header, "jpeg": jpeg_header, "webp": _webp_header, "bmp": _bmp_header}[file_format]
    try:
        header = reader(data)
    except (struct.error, IndexError) as error:
        raise truncated(file_format) from error
    check_dimensions(header.width, header.height, header.n_samples, limits)
    if header.animated:
        raise UnsupportedMedia(
            f"A still image was expected, but this {file_format.upper()} is an animation; "
            "save the frames as a multi-page TIFF or as single images."
        )
    return header


def truncated(file_format: str) -> UnreadableImage:
    """Make the error for a file that ends too early."""
    return UnreadableImage(
        f"A complete {file_format.upper()} file was expected, but it ends too early or is damaged; "
        "export or upload it again."
    )


def png_chunks(data: bytes) -> dict[bytes, bytes]:
    """Return the first chunk of each type of a PNG, without the pixel data ("IDAT" is empty).

    Raises UnreadableImage where a chunk is cut off or "IEND" is missing.
    """
    chunks: dict[bytes, bytes] = {}
    position = 8
    for _ in range(_MAX_PNG_CHUNKS):
        if position + 12 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind not in chunks:
            chunks[kind] = (
                b"" if kind == b"IDAT" else data[position + 8 : position + 8 + min(length, 1 << 20)]
            )
        position += 12 + length
        if kind == b"IEND" and position <= len(data):
            return chunks
    raise truncated("png")


def _png_header(data: bytes) -> Header:
    kind, width, height, bits, colour = struct.unpack_from(">4sIIBB", data, 12)
    if kind != b"IHDR" or colour not in (0, 2, 3, 4, 6):
        raise truncated("png")
    n_samples = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}[colour]
    frames = 1
    animation = data.find(b"acTL", 0, 1 << 20)
    first_pixels = data.find(b"IDAT")
    if 0 <= animation < first_pixels:
        frames = struct.unpack_from(">I", data, animation + 4)[0]
    return Header(width, height, n_samples, bits, animated=frames > 1)


def jpeg_header(data: bytes) -> Header:
    """Walk a JPEG's segments up to the frame header; struct.error or UnreadableImage where there is none."""
    position = 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        fill = _FILL.match(data, position)
        if fill is None:
            break
        marker = data[fill.end()]
        position = fill.end() + 1
        if marker in range(0xD0, 0xD9) or marker == 0x01:
            continue
        (length,) = struct.unpack_from(">H", data, position)
        if marker in range(0xC0, 0xD0) and marker not in (0xC4, 0xC8, 0xCC):
            bits, height, width, n_samples = struct.unpack_from(">BHHB", data, position + 2)
            return _checked_jpeg(data, Header(width, height, n_samples, bits))
        if marker in (0xD9, 0xDA) or length < 2:
            break
        position += length
    raise truncated("jpeg")


def _checked_jpeg(data: bytes, header: Header) -> Header:
    # Inside coded data 0xFF is always followed by 0x00, so this counts scans.
    n_scans = data.count(b"\xff\xda")
    if n_scans > _MAX_JPEG_SCANS:
        raise UnreadableImage(
            f"A JPEG with at most {_MAX_JPEG_SCANS} scans was expected, but it has {n_scans}; save it again."
        )
    return header


def _webp_header(data: bytes) -> Header:
    kind = data[12:16]
    if kind == b"VP8X":
        flags = data[20]
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
        if len(data) < 30:
            raise truncated("webp")
        return Header(width, height, 4 if flags & 0x10 else 3, 8, animated=bool(flags & 0x02))
    if kind == b"VP8 ":
        start, width, height = struct.unpack_from("<3sHH", data, 23)
        if start != b"\x9d\x01\x2a":
            raise truncated("webp")
        return Header(width & 0x3FFF, height & 0x3FFF, 3, 8)
    if kind == b"VP8L":
        signature, packed = struct.unpack_from("<BI", data, 20)
        if signature != 0x2F:
            raise truncated("webp")
        return Header((packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1, 4, 8)
    raise truncated("webp")


def _bmp_header(data: bytes) -> Header:
    (header_size,) = struct.unpack_from("<I", data, 14)
    if header_size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
    # A negative height says that the first row is the top one.
    return Header(width, abs(height), 4 if bits == 32 else 3, 8)
