"""Pictures: the image with its outlines and a scale bar, and the histogram of diameters."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log10

import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging.images import encode_view
from sam_droplet.measurement.droplets import Droplet
from sam_droplet.measurement.export.canvas import Canvas, PngCanvas, SvgCanvas
from sam_droplet.measurement.export.outlines import outline_xy
from sam_droplet.measurement.export.request import Exported, ExportRequest
from sam_droplet.measurement.statistics import diameter_statistics, significant

_PNG, _SVG = "image/png", "image/svg+xml"
# Okabe and Ito's palette, distinct for colour-blind readers too.
INCLUDED, POSITIVE, EXCLUDED = "#56b4e9", "#e69f00", "#d55e00"
# Included droplets that lie outside the second picture, so that nothing was read from them.
NOT_READ = "#b0b0b0"
_INK, _PAPER, _GRID, _BAR = "#222222", "#ffffff", "#dddddd", "#0072b2"
# Small images are enlarged so that outlines and the scale bar stay fine and legible.
_SIDE_MIN_PX = 1200
# Beyond this an overlay is for looking at a smaller copy; the labels have every pixel.
_SIDE_MAX_PX = 6000
_BINS_MAX = 60


@dataclass(frozen=True)
class Histogram:
    """Hold counts (B,) of diameters between edges (B + 1,), in ``unit`` ("µm" or "px")."""

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    unit: str


def diameter_histogram(request: ExportRequest) -> Histogram:
    """Count the included diameters in round bins, as wide as Freedman and Diaconis advise."""
    um = None if request.calibration is None else request.calibration.um_per_px
    diameters = np.array([d.measures.diameter_px for d in request.included]) * (um or 1.0)
    unit = "px" if um is None else "µm"
    if not len(diameters):
        return Histogram(np.array([0.0, 1.0]), np.zeros(1, np.int64), unit)
    low, high = float(diameters.min()), float(diameters.max())
    quartiles = np.percentile(diameters, (25, 75))
    advised = 2 * float(quartiles[1] - quartiles[0]) / len(diameters) ** (1 / 3)
    width = round_length(max(advised, (high - low) / _BINS_MAX, 1e-3 * high))
    first = floor(low / width)
    n = max(1, ceil((high - first * width) / width + 1e-9))
    edges = np.asarray((first + np.arange(n + 1)) * width, np.float64)
    counts, _ = np.histogram(diameters, edges)
    return Histogram(edges, counts.astype(np.int64), unit)


def export_overlay_png(request: ExportRequest) -> Exported:
    """Draw the outlines on the image as PNG: included, positive, and excluded (dashed) droplets."""
    longest = max(request.image.width, request.image.height)
    scale = min(max(1.0, _SIDE_MIN_PX / longest), _SIDE_MAX_PX / longest)
    width, height = request.image.width, request.image.height
    canvas = PngCanvas(width, height, scale=scale)
    _draw_overlay(canvas, request, "png")
    return Exported(f"{request.stem}_overlay.png", _PNG, canvas.finish(request.caption))


def export_overlay_svg(request: ExportRequest) -> Exported:
    """Draw the outlines on the image as SVG; each carries its id and diameter as a tooltip."""
    canvas = SvgCanvas(request.image.width, request.image.height)
    _draw_overlay(canvas, request, "jpeg")
    return Exported(f"{request.stem}_overlay.svg", _SVG, canvas.finish(request.caption))


def export_histogram_png(request: ExportRequest) -> Exported:
    """Draw the histogram of included diameters as PNG."""
    canvas = PngCanvas(720, 440, scale=2)
    _draw_histogram(canvas, request)
    return Exported(f"{request.stem}_histogram.png", _PNG, canvas.finish(request.caption))


def export_histogram_svg(request: ExportRequest) -> Exported:
    """Draw the histogram of included diameters as SVG."""
    canvas = SvgCanvas(720, 440)
    _draw_histogram(canvas, request)
    return Exported(f"{request.stem}_histogram.svg", _SVG, canvas.finish(request.caption))


def round_length(value: float) -> float:
    """Return the 1, 2 or 5 times a power of ten that is at least ``value``."""
    power = 10.0 ** floor(log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9))


def _draw_overlay(canvas: Canvas, request: ExportRequest, kind: str) -> None:
    image = request.image
    wh = (image.width, image.height)
    side = min(max(wh), _SIDE_MAX_PX)
    data = encode_view(image, side, "png" if kind == "png" else "jpeg")
    canvas.image(data, f"image/{kind}", *wh)
    pen = max(1.0, max(wh) / 1200)
    for droplet in sorted(request.droplets, key=lambda d: d.included):
        colour = assay_colour(droplet, request)
        title = _title(droplet, request)
        canvas.polygon(outline_xy(droplet, wh), colour, pen, title, dashed=not droplet.included)
    if request.calibration is not None:
        _draw_scale_bar(canvas, wh, request.calibration.um_per_px, request.calibration.source)


def assay_colour(droplet: Droplet, request: ExportRequest) -> str:
    """Return the colour of a droplet's outline: excluded, positive or loaded, not read, or included."""
    if not droplet.included:
        return EXCLUDED
    extra = request.extra.get(droplet.id, {})
    if extra.get("positive") or extra.get("n_inclusions"):
        return POSITIVE
    return NOT_READ if "ddpcr" in request.assays and extra.get("positive") is None else INCLUDED


def _title(droplet: Droplet, request: ExportRequest) -> str:
    diameter = f"{droplet.measures.diameter_px:.1f} px"
    if request.calibration is not None:
        diameter = f"{droplet.measures.diameter_px * request.calibration.um_per_px:.1f} µm"
    reason = "" if droplet.included else f", excluded: {droplet.exclusion_reason}"
    if droplet.included_although:
        reason = f", included by hand although {droplet.included_although}"
    return f"{droplet.id}: {diameter}{reason}"


def _draw_scale_bar(canvas: Canvas, wh: tuple[int, int], um_per_px: float, source: str) -> None:
    """Draw a bar of a round length, about a sixth of the width, on a plate at the lower left."""
    width, height = wh
    length_um = round_length(width * um_per_px / 10)
    length = length_um / um_per_px
    size = max(10.0, max(wh) / 45)
    margin, thickness = size * 0.6, size / 4
    text = f"{length_um:g} µm" if length_um < 1000 else f"{length_um / 1000:g} mm"
    told = f"{um_per_px:.4g} µm/px ({source})"
    plate = (margin, height - margin - 2.9 * size, max(length, 0.3 * size * len(told)) + size, 2.9 * size)
    canvas.rectangle(plate, "#000000")
    left, bottom = plate[0] + size / 2, plate[1] + plate[3]
    canvas.text((left, bottom - size / 3), told, size / 2, "#ffffff")
    canvas.rectangle((left, bottom - 1.1 * size - thickness, length, thickness), "#ffffff")
    canvas.text((left, bottom - 1.1 * size - 2 * thickness), text, size, "#ffffff")


def _draw_histogram(canvas: Canvas, request: ExportRequest) -> None:
    histogram = diameter_histogram(request)
    left, top, width, height = 70.0, 46.0, 620.0, 320.0
    canvas.rectangle((0, 0, 720, 440), _PAPER)
    canvas.text((left, 22), _histogram_title(request, histogram.unit), 15, _INK)
    top_count = max(int(histogram.counts.max()), 1)
    step = max(1, int(round_length(top_count / 5)))
    limit = step * ceil(top_count / step)
    for tick in range(0, limit + 1, step):
        y = top + height * (1 - tick / limit)
        canvas.line((left, y), (left + width, y), _GRID, 1)
        canvas.text((left - 8, y + 4), str(tick), 12, _INK, "end")
    edges = histogram.edges
    scale = width / float(edges[-1] - edges[0])
    for start, end, count in zip(edges[:-1], edges[1:], histogram.counts, strict=True):
        bar = height * float(count) / limit
        x = left + float(start - edges[0]) * scale
        canvas.rectangle((x + 0.5, top + height - bar, float(end - start) * scale - 1, bar), _BAR)
    canvas.line((left, top + height), (left + width, top + height), _INK, 1)
    every = max(1, ceil(len(edges) / 12))
    for edge in edges[::every]:
        x = left + float(edge - edges[0]) * scale
        canvas.line((x, top + height), (x, top + height + 5), _INK, 1)
        canvas.text((x, top + height + 19), f"{edge:.5g}", 12, _INK, "middle")
    canvas.text((left + width / 2, top + height + 44), f"Diameter ({histogram.unit})", 14, _INK, "middle")
    canvas.text((left - 8, top - 12), "Droplets", 12, _INK, "end")
    canvas.text((left + width, top + height + 66), request.about_text, 10, _INK, "end")


def _histogram_title(request: ExportRequest, unit: str) -> str:
    um = 1.0 if request.calibration is None else request.calibration.um_per_px
    found = diameter_statistics([d.measures.diameter_px * um for d in request.included])
    if found.mean is None:
        return "No droplet is included"
    mean = significant(found.mean, 4)
    if found.sd is None or found.cv_percent is None:
        return f"n = {found.n}, {mean} {unit}"
    sd, cv = significant(found.sd, 3), significant(found.cv_percent, 3)
    return f"n = {found.n}, {mean} ± {sd} {unit} (SD), CV {cv} %"
