"""Whether a real picture would have been found as well from another microscope, camera or file.

Pictures with hand-checked truth are few. Each is changed as pictures differ between laboratories:
magnification, focus, exposure, illumination, noise, compression; the truth stays, or scales along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging.images import encode_png, load_image
from sam_droplet.pipeline import Segmenter
from sam_droplet.training.benchmark import FileCase, find_masks
from sam_droplet.training.metrics import Figures, figures

Bytes = NDArray[np.uint8]

_SCALES = (0.25, 0.35, 0.5, 0.75, 1.5, 2.0)
_MOST_PX = 12_000_000
_LEAST_SIDE_PX = 200


def _noisy(pixels: Bytes, sd: float) -> Bytes:
    noise = np.random.default_rng(0).normal(0, sd, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def _vignetted(pixels: Bytes) -> Bytes:
    """Darken towards the corners, to 70 % there."""
    height, width = pixels.shape[:2]
    y, x = np.mgrid[:height, :width]
    square = (x / width - 0.5) ** 2 + (y / height - 0.5) ** 2
    return np.asarray(pixels * (1 - 0.6 * square)[..., None], np.uint8)


def _unevenly_lit(pixels: Bytes) -> Bytes:
    """Darken from right to left, to 40 % there."""
    share = np.linspace(0.4, 1.0, pixels.shape[1])
    return np.asarray(pixels * share[None, :, None], np.uint8)


def _compressed(pixels: Bytes, quality: int) -> Bytes:
    encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)


# What keeps the size of a picture of three channels.
CHANGES: dict[str, Callable[[Bytes], Bytes]] = {
    "blur, SD 2 px": lambda p: np.asarray(cv2.GaussianBlur(p, (0, 0), 2.0), np.uint8),
    "blur, SD 4 px": lambda p: np.asarray(cv2.GaussianBlur(p, (0, 0), 4.0), np.uint8),
    "noise, SD 10 of 255": lambda p: _noisy(p, 10),
    "noise, SD 25 of 255": lambda p: _noisy(p, 25),
    "JPEG, quality 20": lambda p: _compressed(p, 20),
    "contrast of 15 %": lambda p: np.asarray(100 + 0.15 * p, np.uint8),
    "gamma 0.5": lambda p: np.asarray(255 * (p / 255) ** 0.5, np.uint8),
    "gamma 2": lambda p: np.asarray(255 * (p / 255) ** 2.0, np.uint8),
    "inverted": lambda p: np.asarray(255 - p, np.uint8),
    "dark corners": _vignetted,
    "lit from one side": _unevenly_lit,
}


@dataclass(frozen=True)
class ChangesReport:
    """Hold the figures per picture and change."""

    figures: dict[str, dict[str, Figures]]

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {name: {c: asdict(f) for c, f in per.items()} for name, per in self.figures.items()}

    def as_table(self) -> str:
        """Return F1, count and diameter errors as a Markdown table, pictures side by side."""
        names = list(self.figures)
        changes = dict.fromkeys(change for per in self.figures.values() for change in per)
        lines = [
            f"| F1@0.7, count error, diameter bias | {' | '.join(names)} |",
            "|---" * (len(names) + 1) + "|",
        ]
        for change in changes:
            cells = (_cell(self.figures[name].get(change)) for name in names)
            lines.append(f"| {change} | {' | '.join(cells)} |")
        return "\n".join(lines)


def _cell(found: Figures | None) -> str:
    if found is None:
        return "–"
    return f"{found.f1['0.7']:.3f}, {found.count_error_percent:+.1f} %, {found.diameter_bias_percent:+.1f} %"


def changes_report(segmenter: Segmenter, data: Path) -> ChangesReport:
    """Score *Find droplets* on every truth file in ``data``, as it is and changed."""
    report: dict[str, dict[str, Figures]] = {}
    for truth in sorted(data.glob("*.circles.json")):
        scored = {
            name: figures([case.compare(find_masks(segmenter, case.image))])
            for name, case in changed_cases(FileCase.read(truth))
        }
        report[truth.name.split(".")[0]] = scored
    return ChangesReport(report)


def changed_cases(case: FileCase) -> Iterator[tuple[str, FileCase]]:
    """Yield a picture of 8 bits and one or three channels as it is, rescaled and changed, with its truth."""
    pixels = np.asarray(
        case.image.pixels[..., [0, 0, 0] if case.image.n_channels == 1 else slice(3)], np.uint8
    )
    yield "as it is", case
    height, width = pixels.shape[:2]
    for scale in _SCALES:
        size = round(width * scale), round(height * scale)
        if min(size) >= _LEAST_SIDE_PX and size[0] * size[1] <= _MOST_PX:
            interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
            yield f"x {scale:g}", _case(cv2.resize(pixels, size, interpolation=interpolation), case, scale)
    for name, change in CHANGES.items():
        yield name, _case(change(pixels), case, 1.0)


def _case(pixels: NDArray[Any], case: FileCase, scale: float) -> FileCase:
    image = load_image(encode_png(np.asarray(pixels, np.uint8)), case.image.name)
    return FileCase(image, case.true_xyr * scale, case.ignored_xyr * scale)
