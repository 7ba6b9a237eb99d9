"""Label images read back by our own reader and tifffile."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from sam_droplet.imaging.images import load_image
from sam_droplet.measurement.droplets import measure
from sam_droplet.measurement.export import EXPORTERS, ExportRequest

MakeRequest = Callable[..., ExportRequest]


def test_labels_hold_the_ids_and_areas_of_the_included(make_request: MakeRequest) -> None:
    request = make_request()
    labels = tifffile.imread(io.BytesIO(EXPORTERS["labels"](request).data))
    assert labels.dtype == np.uint16
    assert labels.shape == (90, 160)
    ids, counts = np.unique(labels[labels > 0], return_counts=True)
    assert dict(zip(ids.tolist(), counts.tolist(), strict=True)) == {
        d.id: d.measures.area_px for d in request.droplets if d.included
    }


def test_labels_carry_the_calibration_that_our_reader_finds(make_request: MakeRequest) -> None:
    data = EXPORTERS["labels"](make_request(um_per_px=1.11)).data
    image = load_image(data, "labels.tif")
    assert image.calibration is not None
    assert image.calibration.um_per_px == pytest.approx(1.11, rel=1e-6)
    assert image.calibration.source == "imagej"


def test_labels_without_calibration_claim_none(make_request: MakeRequest) -> None:
    assert load_image(EXPORTERS["labels"](make_request()).data, "labels.tif").calibration is None


def test_ids_above_sixteen_bits_need_thirty_two(make_request: MakeRequest) -> None:
    request = make_request(um_per_px=0.5)
    droplets = [replace(d, id=d.id + 70_000) for d in request.droplets]
    data = EXPORTERS["labels"](replace(request, droplets=droplets)).data
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        labels, page = tiff.asarray(), tiff.pages.first
        numerator, denominator = page.tags["XResolution"].value
    assert labels.dtype == np.uint32
    assert set(np.unique(labels).tolist()) == {0, 70_002, 70_003}
    assert numerator / denominator == pytest.approx(20_000)


def test_smaller_droplet_is_on_top(make_request: MakeRequest, make_disc: Callable[..., object]) -> None:
    request = make_request()
    small = make_disc(120, 50, 5)
    droplets = [*request.droplets, replace(request.droplets[1], id=9, mask=small)]
    labels = tifffile.imread(io.BytesIO(EXPORTERS["labels"](replace(request, droplets=droplets)).data))
    assert labels[50, 120] == 9
    assert labels[50, 130] == 3


def test_ome_tiff_carries_size_and_unit(make_request: MakeRequest) -> None:
    ome_types = pytest.importorskip("ome_types", reason="ome-types is a development dependency")
    data = EXPORTERS["ome"](make_request(um_per_px=1.11)).data
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        labels, description = tiff.asarray(), tiff.ome_metadata
    pixels = ome_types.from_xml(description).images[0].pixels
    assert (pixels.physical_size_x, pixels.physical_size_y) == (1.11, 1.11)
    assert pixels.physical_size_x_unit.value == "µm"
    assert set(np.unique(labels).tolist()) == {0, 2, 3}
    image = load_image(data, "labels.ome.tif")
    assert image.calibration is not None
    assert (image.calibration.um_per_px, image.calibration.source) == (1.11, "ome")


def test_ome_tiff_is_identified_by_its_content(make_request: MakeRequest) -> None:
    def identifier(request: ExportRequest) -> str:
        with tifffile.TiffFile(io.BytesIO(EXPORTERS["ome"](request).data)) as tiff:
            found = re.search(r'UUID="urn:uuid:([^"]+)"', tiff.ome_metadata or "")
        assert found is not None
        return found[1]

    request = make_request()
    assert identifier(request) == identifier(make_request())
    assert identifier(replace(request, droplets=request.droplets[:2])) != identifier(request)


def test_ome_tiff_without_calibration_claims_none(make_request: MakeRequest) -> None:
    assert load_image(EXPORTERS["ome"](make_request()).data, "labels.ome.tif").calibration is None


def test_label_stack_keeps_overlapping_droplets_whole(
    make_request: MakeRequest, make_disc: Callable[..., object]
) -> None:
    request = make_request(um_per_px=0.5)
    small = measure(request.image, [make_disc(120, 50, 5)], first_id=9)
    stack = tifffile.imread(
        io.BytesIO(EXPORTERS["label_stack"](replace(request, droplets=[*request.droplets, *small])).data)
    )
    assert stack.shape == (2, 90, 160)
    areas = {d.id: d.measures.area_px for d in [*request.droplets, *small] if d.included}
    counts = {i: int((stack == i).sum()) for i in areas}
    assert counts == areas


@pytest.mark.parametrize("name", ["labels", "label_stack", "ome"])
def test_labels_of_no_droplets_are_empty(make_request: MakeRequest, name: str) -> None:
    labels = tifffile.imread(io.BytesIO(EXPORTERS[name](make_request(droplets=[])).data))
    assert labels.shape[-2:] == (90, 160)
    assert not labels.any()
