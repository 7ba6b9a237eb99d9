"""Outlines read back by each format's own library give the same droplets."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import roifile
from pycocotools.coco import COCO
from skimage.measure import grid_points_in_poly

from sam_droplet.errors import InputError
from sam_droplet.imaging.images import Image
from sam_droplet.imaging.masks import Mask, iou, mask_from_bits, mask_from_polygon
from sam_droplet.measurement.droplets import Droplet, measure
from sam_droplet.measurement.export import EXPORTERS, ExportRequest
from sam_droplet.measurement.export.outlines import outline_xy

# pycocotools 2.0.11 hands out arrays in a way that numpy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

MakeRequest = Callable[..., ExportRequest]


def included(request: ExportRequest) -> list[Droplet]:
    return [d for d in request.droplets if d.included]


def read_coco(data: bytes) -> COCO:
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(data)
        file.flush()
        return COCO(file.name)


def same_pixels(points: Any, droplet: Droplet, request: ExportRequest) -> bool:
    mask = mask_from_polygon(np.asarray(points, np.float64), 1.0, (request.image.height, request.image.width))
    return mask is not None and iou(mask, droplet.mask) == 1.0


def test_coco_masks_are_the_droplets(make_request: MakeRequest) -> None:
    request = make_request()
    coco = read_coco(EXPORTERS["coco"](request).data)
    annotations = coco.loadAnns(coco.getAnnIds())
    assert [a["id"] for a in annotations] == [2, 3]
    for annotation, droplet in zip(annotations, included(request), strict=True):
        mask = mask_from_bits(coco.annToMask(annotation).astype(bool), 1.0)
        assert mask is not None
        assert iou(mask, droplet.mask) == 1.0
        assert annotation["area"] == droplet.mask.area_px
        assert annotation["bbox"] == list(droplet.mask.bbox_xywh)
        assert annotation["score"] == droplet.score
    assert coco.loadImgs(1)[0]["width"] == 160


def test_coco_polygons_cover_the_droplets(make_request: MakeRequest) -> None:
    request = make_request()
    coco = read_coco(EXPORTERS["coco_polygons"](request).data)
    for annotation, droplet in zip(coco.loadAnns(coco.getAnnIds()), included(request), strict=True):
        points = np.reshape(annotation["segmentation"][0], (-1, 2))
        assert same_pixels(points, droplet, request)
        mask = mask_from_bits(coco.annToMask(annotation).astype(bool), 1.0)
        assert mask is not None
        # The library fills polygons by a rule of its own.
        assert iou(mask, droplet.mask) > 0.97


def pixels_in(points: Any, request: ExportRequest) -> Mask:
    """Fill an outline by scikit-image, which asks of each pixel's centre whether it lies inside."""
    corners = np.asarray(points, np.float64)[:, ::-1]  # (K, 2) as y, x
    inside = grid_points_in_poly((request.image.height, request.image.width), corners - 0.5)
    mask = mask_from_bits(inside, 1.0)
    assert mask is not None
    return mask


def test_labelme_shapes_are_the_droplets(make_request: MakeRequest) -> None:
    request = make_request()
    exported = EXPORTERS["labelme"](request)
    document = json.loads(exported.data)
    assert exported.filename == "field.json"
    assert (document["imagePath"], document["imageData"]) == ("field.tif", None)
    assert (document["imageHeight"], document["imageWidth"]) == (90, 160)
    assert isinstance(document["version"], str)
    assert document["flags"] == {}
    assert [s["group_id"] for s in document["shapes"]] == [2, 3]
    for shape, droplet in zip(document["shapes"], included(request), strict=True):
        assert set(shape) == {"label", "points", "group_id", "description", "shape_type", "flags"}
        assert (shape["label"], shape["shape_type"], shape["flags"]) == ("droplet", "polygon", {})
        assert same_pixels(shape["points"], droplet, request)
        assert iou(pixels_in(shape["points"], request), droplet.mask) >= 0.99


@pytest.mark.parametrize("name", ["day 2, well A1 (µ).png", "=1+1.tif", "a..b.png"])
def test_what_is_paired_by_name_has_the_images_own_name(make_request: MakeRequest, name: str) -> None:
    request = make_request(name=name)
    stem = name.rpartition(".")[0]
    assert EXPORTERS["labelme"](request).filename == f"{stem}.json"
    with zipfile.ZipFile(io.BytesIO(EXPORTERS["yolo"](request).data)) as archive:
        assert archive.namelist() == ["data.yaml", f"labels/{stem}.txt"]


@pytest.mark.parametrize("name", ["../../etc/x.png", "..\\x.png", "...", ""])
def test_no_name_leads_out_of_the_archive(make_request: MakeRequest, name: str) -> None:
    with zipfile.ZipFile(io.BytesIO(EXPORTERS["yolo"](make_request(name=name)).data)) as archive:
        (labels,) = [entry for entry in archive.namelist() if entry != "data.yaml"]
    folder, _, file = labels.partition("/")
    assert folder == "labels"
    assert file.removesuffix(".txt").strip(". ")
    assert "/" not in file
    assert "\\" not in file


def test_yolo_lines_are_the_droplets(make_request: MakeRequest) -> None:
    request = make_request(extra={2: {"class": "satellite"}})
    with zipfile.ZipFile(io.BytesIO(EXPORTERS["yolo"](request).data)) as archive:
        lines = archive.read("labels/field.txt").decode().splitlines()
        yaml = archive.read("data.yaml").decode()
    assert '0: "droplet"' in yaml
    assert '1: "satellite"' in yaml
    assert [line.split()[0] for line in lines] == ["1", "0"]
    for line, droplet in zip(lines, included(request), strict=True):
        points = np.array(line.split()[1:], float).reshape(-1, 2)
        assert points.min() >= 0
        assert points.max() <= 1
        assert same_pixels(points * (160, 90), droplet, request)
        assert iou(pixels_in(points * (160, 90), request), droplet.mask) >= 0.99


def test_imagej_regions_are_the_droplets(make_request: MakeRequest) -> None:
    request = make_request()
    data = EXPORTERS["imagej"](request).data
    assert data == EXPORTERS["imagej"](request).data
    with tempfile.NamedTemporaryFile(suffix=".zip") as file:
        file.write(data)
        file.flush()
        regions = roifile.roiread(file.name)
    assert [r.name for r in regions] == ["00002", "00003"]
    for region, droplet in zip(regions, included(request), strict=True):
        assert region.roitype == roifile.ROI_TYPE.TRACED
        assert region.subpixelresolution
        assert same_pixels(region.coordinates(), droplet, request)


@pytest.mark.parametrize(
    ("channels", "plane"), [(("gray",), 3), (("DAPI", "FITC"), 5), (("red", "green", "blue"), 3)]
)
def test_imagej_regions_know_their_page(
    make_request: MakeRequest, channels: tuple[str, ...], plane: int
) -> None:
    request = make_request()
    pixels = np.repeat(request.image.pixels, len(channels), axis=2)
    image = replace(request.image, pixels=pixels, channel_names=channels, page=2, n_pages=5)
    paged = replace(request, image=image)
    with zipfile.ZipFile(io.BytesIO(EXPORTERS["imagej"](paged).data)) as archive:
        region = roifile.ImagejRoi.frombytes(archive.read("00002.roi"))
    assert region.position == plane


def test_imagej_regions_of_a_giant_image_are_refused(make_request: MakeRequest) -> None:
    request = make_request()
    giant = replace(
        request.image,
        pixels=np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (2, 40_000, 1), (0, 0, 0)),
    )
    with pytest.raises(InputError, match="32767"):
        EXPORTERS["imagej"](replace(request, image=giant))


def test_sub_pixel_contours_are_kept(make_image: Callable[..., Image]) -> None:
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    contour = np.stack([30.3 + 12.4 * np.cos(angle), 25.7 + 12.4 * np.sin(angle)], axis=1)
    mask = mask_from_polygon(contour, 1.0, (60, 60))
    assert mask is not None
    (droplet,) = measure(make_image((60, 60)), [mask])
    assert outline_xy(droplet, (60, 60)) == pytest.approx(contour, abs=1e-4)
    # The same droplet half outside: its outline stays inside and covers its pixels.
    cut = mask_from_polygon(contour - (30, 0), 1.0, (60, 60))
    assert cut is not None
    (at_edge,) = measure(make_image((60, 60)), [cut])
    points = outline_xy(at_edge, (60, 60))
    assert points.min() >= 0
    filled = mask_from_polygon(points, 1.0, (60, 60))
    assert filled is not None
    assert iou(filled, cut) == 1.0


def test_outline_of_a_single_pixel_is_its_square(make_image: Callable[..., Image]) -> None:
    (droplet,) = measure(make_image((9, 9)), [Mask((4, 4, 5, 5), np.ones((1, 1), bool), 1.0)])
    assert sorted(outline_xy(droplet, (9, 9)).tolist()) == [[4, 4], [4, 5], [5, 4], [5, 5]]


@pytest.mark.parametrize("name", ["coco", "coco_polygons", "labelme", "yolo", "imagej"])
def test_no_droplets_give_a_valid_empty_file(make_request: MakeRequest, name: str) -> None:
    exported = EXPORTERS[name](make_request(droplets=[]))
    assert len(exported.data) > 20
    if exported.mimetype == "application/json":
        document = json.loads(exported.data)
        assert document.get("annotations", document.get("shapes")) == []
