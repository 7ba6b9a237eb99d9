"""One drawing, two files: the same calls give an SVG document or a PNG picture."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Protocol
from xml.sax.saxutils import escape, quoteattr

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging.images import encode_png

Points = NDArray[np.float64]
_FRACTION_BITS = 4
# The signature and the header chunk, after which other chunks may stand.
_PNG_HEAD = 33


class Canvas(Protocol):
    """Draw in user units, x right and y down; colours are CSS hex strings."""

    def image(self, data: bytes, mimetype: str, width: float, height: float) -> None:
        """Put an encoded picture at the origin."""

    def polygon(self, points: Points, stroke: str, width: float, title: str, *, dashed: bool = False) -> None:
        """Draw a closed outline (K, 2)."""

    def rectangle(self, xywh: tuple[float, float, float, float], fill: str) -> None:
        """Fill a rectangle."""

    def line(self, start: tuple[float, float], end: tuple[float, float], stroke: str, width: float) -> None:
        """Draw a straight line."""

    def text(self, xy: tuple[float, float], text: str, size: float, fill: str, anchor: str = "start") -> None:
        """Write one line on the baseline at xy; anchor is start, middle or end."""

    def finish(self, about: str = "") -> bytes:
        """Return the file; about: what it shows, kept inside it."""


class SvgCanvas:
    """Write an SVG document of a size in user units."""

    def __init__(self, width: float, height: float) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(width)}" height="{_n(height)}" '
            f'viewBox="0 0 {_n(width)} {_n(height)}">'
        ]

    def image(self, data: bytes, mimetype: str, width: float, height: float) -> None:
        """Embed a picture."""
        text = base64.b64encode(data).decode("ascii")
        self._parts.append(
            f'<image width="{_n(width)}" height="{_n(height)}" href="data:{mimetype};base64,{text}"/>'
        )

    def polygon(self, points: Points, stroke: str, width: float, title: str, *, dashed: bool = False) -> None:
        """Draw a closed outline with a tooltip."""
        path = "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points.tolist()) + "Z"
        dash = f' stroke-dasharray="{_n(3 * width)}"' if dashed else ""
        self._parts.append(
            f'<path d="{path}" fill="none" stroke="{stroke}" stroke-width="{_n(width)}"{dash}>'
            f"<title>{escape(title)}</title></path>"
        )

    def rectangle(self, xywh: tuple[float, float, float, float], fill: str) -> None:
        """Fill a rectangle."""
        x, y, w, h = (_n(v) for v in xywh)
        self._parts.append(f'<rect x="{x}" y="{y}" width="{w}" height="{h}" fill="{fill}"/>')

    def line(self, start: tuple[float, float], end: tuple[float, float], stroke: str, width: float) -> None:
        """Draw a straight line."""
        (x1, y1), (x2, y2) = start, end
        self._parts.append(
            f'<line x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}" stroke="{stroke}" '
            f'stroke-width="{_n(width)}"/>'
        )

    def text(self, xy: tuple[float, float], text: str, size: float, fill: str, anchor: str = "start") -> None:
        """Write one line."""
        self._parts.append(
            f'<text x="{_n(xy[0])}" y="{_n(xy[1])}" font-family="Helvetica, Arial, sans-serif" '
            f'font-size="{_n(size)}" fill="{fill}" text-anchor={quoteattr(anchor)}>{escape(text)}</text>'
        )

    def finish(self, about: str = "") -> bytes:
        """Return the document; about becomes its title."""
        head, *parts = self._parts
        title = [f"<title>{escape(about)}</title>"] if about else []
        return "\n".join([head, *title, *parts, "</svg>\n"]).encode()


class PngCanvas:
    """Paint a PNG picture of user units times ``scale``, with smooth edges."""

    def __init__(self, width: float, height: float, *, scale: float = 1.0) -> None:
        self._scale = scale
        size = max(1, round(height * scale)), max(1, round(width * scale))
        self._pixels = np.full((*size, 3), 255, np.uint8)
        # OpenCV's own typeface: Pillow's has no µ.
        self._face = cv2.FontFace("sans")

    def image(self, data: bytes, mimetype: str, width: float, height: float) -> None:
        """Paint a picture at the origin, over everything."""
        picture = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB))
        size = self._pixels.shape[1], self._pixels.shape[0]
        shrunk = picture.shape[1] > size[0]
        self._pixels[:] = cv2.resize(
            picture, size, interpolation=cv2.INTER_AREA if shrunk else cv2.INTER_LINEAR
        )

    def polygon(self, points: Points, stroke: str, width: float, title: str, *, dashed: bool = False) -> None:
        """Draw a closed outline; dashes are every other stretch of three widths."""
        pen = self._pen(width)
        if not dashed:
            cv2.polylines(
                self._pixels, [self._fixed(points)], True, _rgb(stroke), pen, cv2.LINE_AA, _FRACTION_BITS
            )
            return
        for start, end in _dashes(np.vstack([points, points[:1]]), 3.0 * pen / self._scale):
            self.line(start, end, stroke, width)

    def rectangle(self, xywh: tuple[float, float, float, float], fill: str) -> None:
        """Fill a rectangle, to whole pixels."""
        x, y, w, h = xywh
        left, top = round(x * self._scale), round(y * self._scale)
        right, bottom = round((x + w) * self._scale), round((y + h) * self._scale)
        self._pixels[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = _rgb(fill)

    def line(self, start: tuple[float, float], end: tuple[float, float], stroke: str, width: float) -> None:
        """Draw a straight line."""
        first, last = self._fixed(np.array([start, end])).tolist()
        pen = self._pen(width)
        cv2.line(self._pixels, first, last, _rgb(stroke), pen, cv2.LINE_AA, _FRACTION_BITS)

    def text(self, xy: tuple[float, float], text: str, size: float, fill: str, anchor: str = "start") -> None:
        """Write one line."""
        pixels = max(1, round(size * self._scale))
        x, y = (round(v * self._scale) for v in xy)
        box = cv2.getTextSize((0, 0), text, (0, 0), self._face, pixels)
        back = {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
        cv2.putText(
            self._pixels, text, (x - round(back * (box[0] + box[2])), y), _rgb(fill), self._face, pixels, 400
        )

    def finish(self, about: str = "") -> bytes:
        """Return the file; about becomes the text that PNG calls Description."""
        data = encode_png(self._pixels)
        return data[:_PNG_HEAD] + _description(about) + data[_PNG_HEAD:] if about else data

    def _pen(self, width: float) -> int:
        return max(1, round(width * self._scale))

    def _fixed(self, points: Points) -> NDArray[np.int32]:
        """Return fixed-point numbers in OpenCV's frame, where a pixel's centre is at its number."""
        return np.round((points * self._scale - 0.5) * (1 << _FRACTION_BITS)).astype(np.int32)


def _description(text: str) -> bytes:
    """Return a chunk of international text, uncompressed and without a language, for a PNG file."""
    chunk = b"iTXt" + b"Description\0" + b"\0\0" + b"\0" + b"\0" + text.encode()
    return struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))


def _rgb(colour: str) -> tuple[int, int, int]:
    """Return a CSS colour like #56b4e9 as numbers; the pictures here are RGB all the way."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _dashes(corners: Points, length: float) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Return every other stretch of ``length`` along an open line (K, 2), as short chords."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(corners, axis=0).T))])
    starts = np.arange(0.0, along[-1], 2 * length)
    ends = np.minimum(starts + length, along[-1])
    x0, y0, x1, y1 = (
        np.interp(where, along, corners[:, axis]) for where in (starts, ends) for axis in (0, 1)
    )
    return [((a, b), (c, d)) for a, b, c, d in zip(x0, y0, x1, y1, strict=True)]


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
