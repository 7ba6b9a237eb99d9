"""One request for all export tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sam_droplet.imaging.images import Image
from sam_droplet.imaging.masks import Mask
from sam_droplet.measurement.droplets import Filters, apply_filters, measure
from sam_droplet.measurement.export import ExportRequest


@pytest.fixture
def make_request(make_disc: Callable[..., Mask], make_image: Callable[..., Image]) -> Callable[..., Any]:
    """Three droplets on a 90 x 160 image; the first, of radius 6, is excluded as too small."""

    def make(*, um_per_px: float | None = None, name: str = "field.tif", **changes: Any) -> ExportRequest:
        pixels = np.random.default_rng(0).integers(0, 255, (90, 160, 1)).astype(np.uint8)
        image = make_image(pixels, um_per_px=um_per_px, name=name)
        masks = [make_disc(20, 30, 6), make_disc(60.3, 40.6, 15), make_disc(120, 50, 20, 17)]
        filters = Filters({"diameter_px": (20, None)})
        droplets = apply_filters(measure(image, masks, model="droplet-net"), filters)
        values = {
            "image": image,
            "droplets": droplets,
            "calibration": image.calibration,
            "filters": filters,
            "provenance": {"version": "1.2.3", "model": {"name": "droplet-net", "sha256": "ab" * 32}},
        }
        return ExportRequest(**(values | changes))

    return make
