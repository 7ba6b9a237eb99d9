"""Label images: every pixel holds the id of its droplet."""

from __future__ import annotations

import io
from collections.abc import Sequence
from hashlib import sha256
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import numpy as np
import tifffile
from numpy.typing import NDArray

from sam_droplet.imaging.masks import label_image
from sam_droplet.measurement.droplets import Droplet
from sam_droplet.measurement.export.request import Exported, ExportRequest

Labels = NDArray[np.uint16 | np.uint32]
_TIFF = "image/tiff"
_UINT16_MAX = 65_535


def id_image(droplets: Sequence[Droplet], image_hw: tuple[int, int]) -> Labels:
    """Return (H, W) labels: 0 is background, else the droplet's id.

    uint32 only where an id exceeds 65,535. Where droplets overlap, the smaller one is on top.
    """
    ids = np.zeros(len(droplets) + 1, _id_type(droplets))
    ids[1:] = [d.id for d in droplets]
    return np.asarray(ids[label_image([d.mask for d in droplets], image_hw)])


def export_labels(request: ExportRequest) -> Exported:
    """Write the label image as TIFF, with ImageJ's resolution and unit where calibrated."""
    labels = id_image(request.included, (request.image.height, request.image.width))
    return Exported(f"{request.stem}_labels.tif", _TIFF, _tiff(request, labels))


def export_label_stack(request: ExportRequest) -> Exported:
    """Write as many label pages as it takes for no two droplets of a page to overlap."""
    hw = (request.image.height, request.image.width)
    pages = label_pages(request.included, hw)
    stack = np.stack(pages) if pages else np.zeros((1, *hw), np.uint16)
    return Exported(f"{request.stem}_label_stack.tif", _TIFF, _tiff(request, stack))


def export_ome(request: ExportRequest) -> Exported:
    """Write the label image as OME-TIFF with PhysicalSizeX and PhysicalSizeY in µm where calibrated."""
    labels = id_image(request.included, (request.image.height, request.image.width))
    metadata: dict[str, Any] = {"axes": "YX", "Name": request.image.name, "Channel": {"Name": "droplets"}}
    if request.calibration is not None:
        for axis in "XY":
            metadata[f"PhysicalSize{axis}"] = request.calibration.um_per_px
            metadata[f"PhysicalSize{axis}Unit"] = "µm"
    metadata["MapAnnotation"] = {name: str(value) for name, value in request.about.items()}
    # An identifier of the content: tifffile's own would tell the time and the computer's network address.
    metadata["UUID"] = str(
        uuid5(NAMESPACE_OID, f"{request.image.digest} {sha256(labels.tobytes()).hexdigest()}")
    )
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, labels, ome=True, compression="zlib", metadata=metadata)
    return Exported(f"{request.stem}_labels.ome.tif", _TIFF, buffer.getvalue())


def label_pages(droplets: Sequence[Droplet], image_hw: tuple[int, int]) -> list[Labels]:
    """Write droplets, in order, each into the first page (H, W) on which it overlaps nothing."""
    pages: list[Labels] = []
    for droplet in droplets:
        x0, y0, x1, y1 = droplet.mask.box_xyxy
        windows = [page[y0:y1, x0:x1] for page in pages]
        free = next((window for window in windows if not window[droplet.mask.bits].any()), None)
        if free is None:
            pages.append(np.zeros(image_hw, _id_type(droplets)))
            free = pages[-1][y0:y1, x0:x1]
        free[droplet.mask.bits] = droplet.id
    return pages


def _id_type(droplets: Sequence[Droplet]) -> type[np.uint16 | np.uint32]:
    largest = max((d.id for d in droplets), default=0)
    return np.uint16 if largest <= _UINT16_MAX else np.uint32


def _tiff(request: ExportRequest, labels: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, labels, compression="zlib", **_resolution(request, labels))
    return buffer.getvalue()


def _resolution(request: ExportRequest, labels: NDArray[Any]) -> dict[str, Any]:
    um = None if request.calibration is None else request.calibration.um_per_px
    # ImageJ's own TIFF dialect has no 32-bit integers.
    if labels.dtype == np.uint16:
        about = {"Info": "".join(f"{name}: {value}\n" for name, value in request.about.items())}
        if um is None:
            return {"imagej": True, "metadata": about}
        return {"imagej": True, "resolution": (1 / um, 1 / um), "metadata": about | {"unit": "um"}}
    plain: dict[str, Any] = {"photometric": "minisblack"}
    if um is not None:
        plain |= {"resolution": (1e4 / um, 1e4 / um), "resolutionunit": "CENTIMETER"}
    return plain
