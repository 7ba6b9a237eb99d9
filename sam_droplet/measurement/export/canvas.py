"""One drawing, two files: the same calls give an SVG document or a PNG picture."""

from __future__ import annotations

import base64
import io
from typing import Protocol
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

Points = NDArray[np.float64]


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

    def finish(self) -> bytes:
        """Return the file."""


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

    def finish(self) -> bytes:
        """Return the document."""
        return "\n".join([*self._parts, "</svg>\n"]).encode()


class PngCanvas:
    """Paint a PNG picture of user units times ``scale``; smooth: drawn twice as large, then shrunk."""

    def __init__(self, width: float, height: float, *, scale: float = 1.0, smooth: bool = True) -> None:
        self._size = max(1, round(width * scale)), max(1, round(height * scale))
        self._over = 2 if smooth else 1
        self._scale = scale * self._over
        size = self._size[0] * self._over, self._size[1] * self._over
        self._picture = PillowImage.new("RGB", size, "#ffffff")
        self._draw = ImageDraw.Draw(self._picture)

    def image(self, data: bytes, mimetype: str, width: float, height: float) -> None:
        """Paint a picture at the origin."""
        with PillowImage.open(io.BytesIO(data)) as picture:
            size = max(1, round(width * self._scale)), max(1, round(height * self._scale))
            self._picture.paste(picture.convert("RGB").resize(size, PillowImage.Resampling.BILINEAR), (0, 0))

    def polygon(self, points: Points, stroke: str, width: float, title: str, *, dashed: bool = False) -> None:
        """Draw a closed outline; dashes are every other stretch of three widths."""
        corners = np.vstack([points, points[:1]]) * self._scale
        pen = max(1, round(width * self._scale))
        if not dashed:
            self._draw.line([tuple(p) for p in corners.tolist()], fill=stroke, width=pen, joint="curve")
            return
        for start, end in _dashes(corners, 3.0 * pen):
            self._draw.line([start, end], fill=stroke, width=pen)

    def rectangle(self, xywh: tuple[float, float, float, float], fill: str) -> None:
        """Fill a rectangle."""
        x, y, w, h = (v * self._scale for v in xywh)
        self._draw.rectangle((x, y, x + max(w - 1, 0), y + max(h - 1, 0)), fill=fill)

    def line(self, start: tuple[float, float], end: tuple[float, float], stroke: str, width: float) -> None:
        """Draw a straight line."""
        points = [(x * self._scale, y * self._scale) for x, y in (start, end)]
        self._draw.line(points, fill=stroke, width=max(1, round(width * self._scale)))

    def text(self, xy: tuple[float, float], text: str, size: float, fill: str, anchor: str = "start") -> None:
        """Write one line in Pillow's built-in face."""
        font = ImageFont.load_default(size * self._scale)
        place = xy[0] * self._scale, xy[1] * self._scale
        align = {"start": "ls", "middle": "ms", "end": "rs"}[anchor]
        self._draw.text(place, text, fill=fill, font=font, anchor=align)

    def finish(self) -> bytes:
        """Return the file."""
        picture = self._picture
        if self._over > 1:
            picture = picture.resize(self._size, PillowImage.Resampling.BOX)
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        return buffer.getvalue()


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
