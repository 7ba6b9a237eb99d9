"""Arrays of pixels: element types, significant bits, orientation, digest. Knows no file format."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_droplet.errors import UnreadableImage, UnsupportedMedia
from sam_droplet.imaging.calibration import Calibration

Pixels = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]

RGB = ("red", "green", "blue")


@dataclass(frozen=True, eq=False)
class Decoded:
    """What a decoder hands over: (H, W, C) of any numeric type, not yet oriented."""

    pixels: NDArray[Any]
    channel_names: tuple[str, ...]
    bit_depth: int | None = None
    orientation: int = 1
    n_pages: int = 1
    calibration: Calibration | None = None
    notes: tuple[str, ...] = ()


def default_channel_names(n_channels: int, *, colour: bool = False) -> tuple[str, ...]:
    """Name channels: gray, red green blue, or channel 1, channel 2, …"""
    if colour and n_channels >= 3:
        return RGB + tuple(f"channel {i + 1}" for i in range(3, n_channels))
    if n_channels == 1:
        return ("gray",)
    return tuple(f"channel {i + 1}" for i in range(n_channels))


def as_raw_type(pixels: NDArray[Any]) -> tuple[Pixels, tuple[str, ...]]:
    """Bring any numeric array to uint8, uint16 or float32 without changing a value; notes say what changed.

    Bool becomes 0 and 255. Other integers become uint16 where all fit, else float32, which is exact up to
    16,777,216. In floats NaN and minus infinity become the smallest finite value, infinity the largest.
    Raises UnreadableImage where no value is finite and UnsupportedMedia for complex numbers.
    """
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255), ()
    if pixels.dtype == np.uint8:
        return pixels, ()
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize == 2:
        return pixels.astype(np.uint16, copy=False), ()
    if pixels.dtype.kind in "iu":
        return _integers(pixels)
    if pixels.dtype.kind == "f":
        return _floats(pixels)
    raise UnsupportedMedia(
        f"Pixels of integers or real numbers were expected, but they are of type {pixels.dtype}; "
        "save the image as 8-bit, 16-bit or 32-bit float."
    )


def _integers(pixels: NDArray[Any]) -> tuple[Pixels, tuple[str, ...]]:
    low, high = int(pixels.min()), int(pixels.max())
    if low >= 0 and high <= 65_535:
        return pixels.astype(np.uint16), ()
    notes: tuple[str, ...] = ()
    if max(-low, high) > 1 << 24:
        notes = (f"{pixels.dtype} values above 16777216 are rounded to 32-bit float",)
    return pixels.astype(np.float32), notes


def _floats(pixels: NDArray[Any]) -> tuple[Pixels, tuple[str, ...]]:
    with np.errstate(over="ignore", invalid="ignore"):
        values = pixels.astype(np.float32)
    finite = np.isfinite(values)
    n_bad = int(finite.size - np.count_nonzero(finite))
    if n_bad == 0:
        return values, ()
    if n_bad == finite.size:
        raise UnreadableImage(
            "Pixels with finite values were expected, but all are NaN or infinite; export the image again."
        )
    low, high = values[finite].min(), values[finite].max()
    np.nan_to_num(values, copy=False, nan=low, posinf=high, neginf=low)
    return values, (f"{n_bad} NaN or infinite pixel values replaced by the smallest or largest finite one",)


def significant_bits(pixels: Pixels) -> int:
    """Return 8 for uint8, 32 for floats, and for uint16 the least of 8, 10, 12, 14, 16 that suffices."""
    if pixels.dtype == np.float32:
        return 32
    if pixels.dtype == np.uint8:
        return 8
    largest = int(pixels.max())
    return next(bits for bits in (8, 10, 12, 14, 16) if largest < 1 << bits)


def oriented(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn (H, W, C) upright as EXIF orientation 1 to 8 says."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def pixel_digest(pixels: Pixels) -> str:
    """Return the SHA-256, in hex, over shape, element type and little-endian pixels."""
    little = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{little.shape} {little.dtype.str}\n".encode())
    digest.update(little.data)
    return digest.hexdigest()


def drop_alpha(pixels: NDArray[Any], opaque: int | float) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Remove the last channel, alpha; a note is left where it was not opaque everywhere."""
    alpha = pixels[..., -1]
    if bool((alpha == opaque).all()):
        return pixels[..., :-1], ()
    return pixels[..., :-1], ("transparency ignored: pixels are measured as if opaque",)


def percentiles(plane: NDArray[Any], shares: Sequence[float]) -> list[float]:
    """Percentiles of at most about a million evenly spaced pixels."""
    step = max(1, int(np.ceil(np.sqrt(plane.size / 1_000_000))))
    # The inverted form returns values that occur, so nothing is interpolated and the result is reproducible.
    found = np.percentile(plane[::step, ::step], shares, method="inverted_cdf")
    return [float(value) for value in found]
