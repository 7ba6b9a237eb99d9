"""How far an image can be trusted: focus, saturation and coverage, with a sentence for each doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_droplet.measurement.droplets import Droplet
from sam_droplet.measurement.statistics import rounded

if TYPE_CHECKING:
    from sam_droplet.imaging.images import Image

Floats = NDArray[np.float64]

_SATURATED_PERCENT_MAX = 1.0
_OVERLAP_PERCENT_MAX = 2.0
_COVERAGE_PERCENT_MIN = 2.0
# Sharp micrographs have rims of 8 % of a diameter; a blur of a fifteenth of it makes that 14 %.
# Below four pixels a rim is as sharp as the camera allows, however small the droplet.
_RIM_SHARE_MAX = 0.12
_RIM_WIDTH_MIN_PX = 4.0
# Profiles of this many droplets settle the median.
_PROFILED_MAX = 200
_ANGLES = 48
_STEP_PX = 0.5
_PROFILE_FROM, _PROFILE_TO = 0.6, 1.4


@dataclass(frozen=True)
class Quality:
    """Hold what was checked on an image and its included droplets; None where it could not be.

    saturated_percent: pixels inside droplets at the largest value that the bit depth allows, in the worst
    channel. coverage_percent: of the image, by all droplets found. overlap_percent: of the covered pixels,
    by two droplets or more. rim_width_px: the contrast of the mean radial profile across the rim over its
    steepest slope, median over droplets; it grows when the rim is out of focus. flags: sentences.
    """

    saturated_percent: float | None
    coverage_percent: float
    overlap_percent: float
    rim_width_px: float | None
    rim_width_share: float | None
    flags: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        values = {name: rounded(value) for name, value in vars(self).items() if name != "flags"}
        return values | {"flags": list(self.flags)}


def image_quality(image: Image, droplets: Sequence[Droplet]) -> Quality:
    """Check an image by its droplets."""
    included = [d for d in droplets if d.included]
    saturated = _saturated_percent(image, included)
    layers = np.zeros((image.height, image.width), np.uint16)
    for droplet in droplets:
        x0, y0, x1, y1 = droplet.mask.box_xyxy
        layers[y0:y1, x0:x1] += droplet.mask.bits
    covered = int(np.count_nonzero(layers))
    overlap = 100 * int(np.count_nonzero(layers > 1)) / covered if covered else 0.0
    rim = _rim_width(image, included)
    coverage = 100 * covered / layers.size
    share = None if rim is None else rim / float(np.median([d.measures.diameter_px for d in included]))
    return Quality(
        saturated_percent=saturated,
        coverage_percent=coverage,
        overlap_percent=overlap,
        rim_width_px=rim,
        rim_width_share=share,
        flags=tuple(_flags(coverage, saturated, overlap, rim, share)),
    )


def _saturated_percent(image: Image, droplets: Sequence[Droplet]) -> float | None:
    if image.pixels.dtype.kind != "u" or not droplets:
        return None
    top = 2**image.bit_depth - 1
    n_saturated, n = np.zeros(image.n_channels), 0
    for droplet in droplets:
        x0, y0, x1, y1 = droplet.mask.box_xyxy
        values = image.pixels[y0:y1, x0:x1][droplet.mask.bits]  # (N, C)
        n_saturated += np.count_nonzero(values >= top, axis=0)
        n += len(values)
    return 100 * float(n_saturated.max()) / n


def _rim_width(image: Image, droplets: Sequence[Droplet]) -> float | None:
    step = max(1, len(droplets) // _PROFILED_MAX)
    widths = [_profile_width(image, d) for d in droplets[::step]]
    found = [w for w in widths if w is not None]
    return float(np.median(found)) if found else None


def _profile_width(image: Image, droplet: Droplet) -> float | None:
    """Return contrast over steepest slope of the mean radial profile around the rim, in px."""
    m = droplet.measures
    radius = m.diameter_px / 2
    reach = radius * _PROFILE_TO
    x, y = m.center_x_px, m.center_y_px
    if x < reach or y < reach or x > image.width - reach or y > image.height - reach:
        return None
    left, top = int(x - reach), int(y - reach)
    crop = image.pixels[top : int(y + reach) + 2, left : int(x + reach) + 2]
    gray = crop.mean(axis=2, dtype=np.float32) if crop.shape[2] > 1 else crop[:, :, 0].astype(np.float32)
    angles = np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False)[:, None]
    radii = np.arange(radius * _PROFILE_FROM, reach, _STEP_PX)[None, :]
    columns = (x - left - 0.5 + radii * np.cos(angles)).astype(np.float32)
    rows = (y - top - 0.5 + radii * np.sin(angles)).astype(np.float32)
    profile = cv2.remap(gray, columns, rows, cv2.INTER_LINEAR).mean(axis=0)  # (R,)
    if len(profile) < 5:
        return None
    slope = float(np.abs(np.gradient(profile, _STEP_PX)).max())
    return float(np.ptp(profile)) / slope if slope > 0 else None


def _flags(
    coverage: float,
    saturated: float | None,
    overlap: float,
    rim_px: float | None,
    rim_share: float | None,
) -> list[str]:
    flags = []
    if 0 < coverage < _COVERAGE_PERCENT_MIN:
        flags.append(f"Droplets cover only {coverage:.2g} % of the image; look whether some were missed.")
    if saturated is not None and saturated > _SATURATED_PERCENT_MAX:
        flags.append(
            f"{saturated:.1f} % of the pixels inside droplets are saturated; intensities there are too low."
        )
    if overlap > _OVERLAP_PERCENT_MAX:
        flags.append(
            f"{overlap:.1f} % of the covered area belongs to several droplets; they may lie in layers."
        )
    wide = rim_px is not None and rim_px > _RIM_WIDTH_MIN_PX
    if wide and rim_share is not None and rim_share > _RIM_SHARE_MAX:
        flags.append(
            f"The rims are {100 * rim_share:.0f} % of a diameter wide; the image may be out of focus, and "
            "then diameters depend on where in the rim the boundary is drawn."
        )
    return flags
