"""Label images: every pixel holds the id of its droplet."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from sam_droplet.imaging.masks import label_image
from sam_droplet.measurement.export.request import Exported, ExportRequest

Labels = NDArray[np.uint16 | np.uint32]
_TIFF = "image/tiff"
_UINT16_MAX = 65_535


def id_image(request: ExportRequest) -> Labels:
    """Return (H, W) labels of the included droplets: 0 is background, else the droplet's id.

    uint32 only where an id exceeds 65,535. Where droplets overlap, the smaller one is on top.
    """
    included = request.included
    largest = max((d.id for d in included), default=0)
    ids = np.zeros(len(included) + 1, np.uint16 if largest <= _UINT16_MAX else np.uint32)
    ids[1:] = [d.id for d in included]
    positions = label_image([d.mask for d in included], (request.image.height, request.image.width))
    return np.asarray(ids[positions])


def export_labels(request: ExportRequest) -> Exported:
    """Write the label image as TIFF, with ImageJ's resolution and unit where calibrated."""
    labels = id_image(request)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, labels, compression="zlib", **_resolution(request, labels))
    return Exported(f"{request.stem}_labels.tif", _TIFF, buffer.getvalue())


def _resolution(request: ExportRequest, labels: Labels) -> dict[str, Any]:
    um = None if request.calibration is None else request.calibration.um_per_px
    # ImageJ's own TIFF dialect has no 32-bit integers.
    if labels.dtype == np.uint16:
        if um is None:
            return {"imagej": True}
        return {"imagej": True, "resolution": (1 / um, 1 / um), "metadata": {"unit": "um"}}
    if um is None:
        return {}
    return {"resolution": (1e4 / um, 1e4 / um), "resolutionunit": "CENTIMETER"}
