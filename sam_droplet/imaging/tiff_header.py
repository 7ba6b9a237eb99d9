"""The directories of a TIFF, read without decoding: how many pages, how large, how stored.

tifffile meets a file only after this has walked it, so a hostile file is refused in milliseconds.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from sam_droplet.errors import PayloadTooLarge, UnreadableImage, UnsupportedMedia
from sam_droplet.imaging.formats import Limits, check_dimensions, truncated

_MAX_TAGS = 512
_MAX_SEGMENTS = 200_000
# Of the tag value types only those that hold whole numbers matter here.
_INTEGER_TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 16: 8}
# Description, colours, places of the pixels, resolution: without them a page would be read wrongly.
_NEEDED_TAGS = {258, 270, 273, 279, 282, 283, 320, 324, 325, 338, 347}
_COMPRESSIONS = {
    1: "none",
    5: "LZW",
    7: "JPEG",
    8: "deflate",
    32_946: "deflate",
    32_773: "PackBits",
    50_000: "Zstandard",
}
_READ_PHOTOMETRIC = {0: "inverted gray", 1: "gray", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr"}


@dataclass(frozen=True)
class Directory:
    """One image file directory; ``tags`` holds the first number of each tag that has one."""

    index: int
    tags: dict[int, int]
    counts: dict[int, int] = field(repr=False)

    @property
    def width(self) -> int:
        """Columns."""
        return self.tags.get(256, 0)

    @property
    def height(self) -> int:
        """Rows."""
        return self.tags.get(257, 0)

    @property
    def n_samples(self) -> int:
        """Samples per pixel, alpha included."""
        return self.tags.get(277, 1)

    @property
    def photometric(self) -> int:
        """How samples are to be taken; gray with 0 as black where the file does not say."""
        return self.tags.get(262, 1)

    @property
    def is_reduced(self) -> bool:
        """Whether this is a thumbnail or a pyramid level of another page."""
        return bool(self.tags.get(254, 0) & 1)


def scan_tiff(data: bytes, limits: Limits) -> list[Directory]:
    """Walk the chain of directories and return those of full pages, thumbnails left out.

    Raises PayloadTooLarge for too many or too large pages, UnreadableImage for a damaged chain (cut off,
    circular) and UnsupportedMedia for a storage that is not read.
    """
    directories = _walk(data, limits)
    pages = [directory for directory in directories if not directory.is_reduced] or directories
    for page in pages:
        _check_page(page, limits)
    return pages


def _walk(data: bytes, limits: Limits) -> list[Directory]:
    order = "<" if data[:2] == b"II" else ">"
    try:
        big = struct.unpack_from(order + "H", data, 2)[0] == 43
        offset = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
        found: list[Directory] = []
        seen: set[int] = set()
        while offset:
            if len(found) >= limits.max_pages:
                raise PayloadTooLarge(
                    f"A TIFF of at most {limits.max_pages} pages was expected, but it has more; "
                    "split it, or raise MAX_PAGES."
                )
            if offset in seen:
                raise UnreadableImage(
                    "A TIFF with separate pages was expected, but its directory chain runs in a circle; "
                    "export it again."
                )
            seen.add(offset)
            directory, offset = _read_directory(data, offset, len(found), order, big)
            found.append(directory)
    except (struct.error, OverflowError) as error:
        raise truncated("tiff") from error
    if not found:
        raise truncated("tiff")
    return found


def _read_directory(data: bytes, offset: int, index: int, order: str, big: bool) -> tuple[Directory, int]:
    count_format, entry_size, value_size = ("Q", 20, 8) if big else ("H", 12, 4)
    (n_tags,) = struct.unpack_from(order + count_format, data, offset)
    if n_tags > _MAX_TAGS:
        raise UnreadableImage(
            f"At most {_MAX_TAGS} tags per TIFF page were expected, but page {index} has {n_tags}; "
            "export it again."
        )
    position = offset + struct.calcsize(order + count_format)
    tags: dict[int, int] = {}
    counts: dict[int, int] = {}
    for start in range(position, position + n_tags * entry_size, entry_size):
        tag, kind, count = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, start)
        counts[tag] = count
        code = _INTEGER_TYPES.get(kind)
        at = start + entry_size - value_size
        n_bytes = count * _TYPE_BYTES.get(kind, 1)
        if n_bytes > value_size:
            (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, at)
            if tag in _NEEDED_TAGS and at + n_bytes > len(data):
                raise truncated("tiff")
        if code and count:
            (tags[tag],) = struct.unpack_from(order + code, data, at)
    (following,) = struct.unpack_from(order + ("Q" if big else "I"), data, position + n_tags * entry_size)
    return Directory(index, tags, counts), following


def _check_page(page: Directory, limits: Limits) -> None:
    check_dimensions(page.width, page.height, page.n_samples, limits)
    check_dimensions(page.tags.get(322, 1), page.tags.get(323, 1), 1, limits)  # tiles are decoded whole
    if page.tags.get(32_997, 1) > 1:
        raise _unsupported("A TIFF of flat pages", f"a volume of {page.tags[32_997]} layers in one page")
    if page.tags.get(258, 1) > 64:
        raise UnreadableImage(
            f"Samples of at most 64 bits were expected, but page {page.index} has {page.tags[258]}; "
            "export it again."
        )
    compression = page.tags.get(259, 1)
    if compression not in _COMPRESSIONS:
        expected = ", ".join(dict.fromkeys(_COMPRESSIONS.values()))
        raise _unsupported(f"A TIFF compression out of {expected}", f"number {compression}")
    photometric = page.photometric
    if photometric not in _READ_PHOTOMETRIC or (photometric == 6 and compression != 7):
        raise _unsupported(
            "A TIFF in gray, RGB, CMYK, palette or JPEG colours", f" photometric interpretation {photometric}"
        )
    n_segments = max(page.counts.get(273, 0), page.counts.get(324, 0))
    if n_segments > _MAX_SEGMENTS:
        raise PayloadTooLarge(
            f"At most {_MAX_SEGMENTS} strips or tiles per page were expected, but page {page.index} has "
            f"{n_segments}; save it with larger ones."
        )


def _unsupported(expected: str, came: str) -> UnsupportedMedia:
    return UnsupportedMedia(f"{expected} was expected, but came {came}; save it as a plain or LZW TIFF.")
