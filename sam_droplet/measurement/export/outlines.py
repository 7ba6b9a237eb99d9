"""Outlines for other tools: COCO, LabelMe, YOLO and ImageJ. Only included droplets are written.

Coordinates are in the image-corner frame, which these formats share: the first pixel spans 0..1.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np
import roifile
from numpy.typing import NDArray

from sam_droplet.errors import InputError
from sam_droplet.imaging.masks import pixel_outline, rle_encode
from sam_droplet.measurement.droplets import Droplet
from sam_droplet.measurement.export.request import Exported, ExportRequest
from sam_droplet.measurement.statistics import rounded

_JSON = "application/json"
_ZIP = "application/zip"
# ImageJ keeps the box of a region in 16 bits with a sign.
_ROI_MAX_PX = 32_767
# A fixed date makes the same droplets give the same bytes.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def outline_xy(droplet: Droplet, image_wh: tuple[int, int]) -> NDArray[np.float64]:
    """Return a droplet's outline inside the image, (K, 2) with K >= 3.

    The sub-pixel contour where the model gave one that stays in the image, else the edges of its pixels.
    """
    contour = droplet.mask.contour_xy
    if contour is not None and contour.min() >= 0 and np.all(contour.max(axis=0) <= image_wh):
        return contour.astype(np.float64)
    return _without_straight_points(pixel_outline(droplet.mask).astype(np.float64))


def class_name(request: ExportRequest, droplet: Droplet) -> str:
    """Return the droplet's class: that of its group where one was given, else "droplet"."""
    return str(request.extra.get(droplet.id, {}).get("class", "droplet"))


def export_coco(request: ExportRequest) -> Exported:
    """Write COCO instances with run-length masks, which keep holes and overlaps exactly."""
    return _coco(request, polygons=False)


def export_coco_polygons(request: ExportRequest) -> Exported:
    """Write COCO instances with polygons, for tools that read no run-length masks."""
    return _coco(request, polygons=True)


def _coco(request: ExportRequest, *, polygons: bool) -> Exported:
    image, included = request.image, request.included
    names = sorted({class_name(request, d) for d in included} | {"droplet"})
    hw, wh = (image.height, image.width), (image.width, image.height)
    um = request.scale["um_per_px"]
    annotations = [
        {
            "id": d.id,
            "image_id": 1,
            "category_id": names.index(class_name(request, d)) + 1,
            "segmentation": [_flat(outline_xy(d, wh))] if polygons else rle_encode(d.mask, hw),
            "area": d.measures.area_px,
            "bbox": list(d.mask.bbox_xywh),
            "iscrowd": 0,
            "score": rounded(d.score),
            "diameter_px": rounded(d.measures.diameter_px),
            "diameter_um": None if um is None else rounded(d.measures.diameter_px * um),
        }
        for d in included
    ]
    document = {
        "info": {"description": "Droplets", "version": request.version} | request.about,
        "images": [
            {"id": 1, "file_name": image.name, "width": image.width, "height": image.height} | request.about
        ],
        "categories": [{"id": i, "name": name, "supercategory": ""} for i, name in enumerate(names, 1)],
        "annotations": annotations,
    }
    ending = "coco_polygons" if polygons else "coco"
    return Exported(f"{request.stem}_{ending}.json", _JSON, _json(document))


def export_labelme(request: ExportRequest) -> Exported:
    """Write a LabelMe file to lie beside the image, named as it is; group ids are the droplets' ids."""
    wh = (request.image.width, request.image.height)
    shapes = [
        {
            "label": class_name(request, d),
            "points": np.round(outline_xy(d, wh), 3).tolist(),
            "group_id": d.id,
            "description": "",
            "shape_type": "polygon",
            "flags": {},
        }
        for d in request.included
    ]
    document: dict[str, Any] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": request.image.name,
        "imageData": None,
        "imageHeight": request.image.height,
        "imageWidth": request.image.width,
        **request.about,
    }
    return Exported(f"{request.image_stem}.json", _JSON, _json(document))


def export_yolo(request: ExportRequest) -> Exported:
    """Write YOLO segmentation labels: data.yaml and one text file, coordinates from 0 to 1.

    YOLO pairs images/NAME.png with labels/NAME.txt, and takes an image without such a file for an empty one.
    """
    wh = (request.image.width, request.image.height)
    names = sorted({class_name(request, d) for d in request.included} | {"droplet"})
    lines = []
    for d in request.included:
        points = outline_xy(d, wh) / wh
        numbers = " ".join(f"{v:.6f}" for v in points.ravel())
        lines.append(f"{names.index(class_name(request, d))} {numbers}\n")
    listed = "".join(f"  {i}: {json.dumps(name)}\n" for i, name in enumerate(names))
    about = f"# {request.about_text}\npath: .\ntrain: images\nval: images\n"
    files = {
        "data.yaml": f"{about}names:\n{listed}".encode(),
        f"labels/{request.image_stem}.txt": "".join(lines).encode(),
    }
    return Exported(f"{request.stem}_yolo.zip", _ZIP, zipped(files))


def export_imagej(request: ExportRequest) -> Exported:
    """Write an ImageJ ROI set: one traced region per droplet, sub-pixel, on pixel corners, named by id.

    Raises InputError beyond 32,767 px, the largest coordinate of the format.
    """
    wh = (request.image.width, request.image.height)
    if max(wh) > _ROI_MAX_PX:
        raise InputError(
            f"ImageJ regions reach to {_ROI_MAX_PX} px, but the image has {wh[0]} x {wh[1]} px. "
            "Export labels or COCO instead."
        )
    image = request.image
    # ImageJ counts the planes of a stack, and each channel that is no colour has its own.
    n_planes = 1 if image.is_colour else image.n_channels
    position = image.page * n_planes if image.n_pages > 1 else None
    files = {}
    for droplet in request.included:
        name = f"{droplet.id:05d}"
        points = outline_xy(droplet, wh).astype(np.float32)
        roi = roifile.ImagejRoi.frompoints(points, name=name, position=position)
        # A polygon would show a handle on each of its many corners; a traced region does not.
        roi.roitype = roifile.ROI_TYPE.TRACED
        roi.props = "".join(f"{name}: {value}\n" for name, value in request.about.items())
        files[f"{name}.roi"] = roi.tobytes()
    return Exported(f"{request.stem}_rois.zip", _ZIP, zipped(files))


def zipped(files: dict[str, bytes]) -> bytes:
    """Return a ZIP archive of files by name, the same bytes for the same files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _ZIP_DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


def _without_straight_points(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Drop corners at which the outline does not turn."""
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return points[turns] if np.count_nonzero(turns) >= 3 else points


def _flat(points: NDArray[np.float64]) -> list[float]:
    return [float(v) for v in np.round(points.ravel(), 3)]


def _json(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, ensure_ascii=False) + "\n").encode()
