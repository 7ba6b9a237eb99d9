"""The numbers of an image do not depend on how the camera was turned or on its magnification."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sam_droplet.config import load_config
from sam_droplet.imaging.images import Calibration, encode_png, load_image
from sam_droplet.imaging.synthetic import render_sample
from sam_droplet.measurement.droplets import Droplet, apply_filters, summarize
from sam_droplet.measurement.presets import preset_filters
from sam_droplet.pipeline import Segmenter

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
SIZES = ("mean", "dn10", "dn50", "dn90", "dv50", "d_32", "d_43")


def enlarged(pixels: Pixels) -> Pixels:
    return np.asarray(cv2.resize(pixels, None, fx=1.25, fy=1.25, interpolation=cv2.INTER_CUBIC), np.uint8)


def reduced(pixels: Pixels) -> Pixels:
    return np.asarray(cv2.resize(pixels, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA), np.uint8)


SIDE_PX = render_sample("emulsion").shape[1]
# Each with what it does to the number of micrometres in a pixel.
CHANGES: dict[str, tuple[Callable[[Pixels], Pixels], float]] = {
    "turned": (lambda pixels: np.rot90(pixels), 1.0),
    "mirrored": (lambda pixels: pixels[:, ::-1], 1.0),
    "tiled": (lambda pixels: np.concatenate([pixels, pixels], axis=1), 1.0),
    "enlarged": (enlarged, 1 / 1.25),
    "reduced": (reduced, 1 / 0.8),
}


def _on_seam(droplet: Droplet, width_px: int) -> bool:
    """Tell whether a droplet lies where copies meet side by side: an edge of the picture they show."""
    x, _, width, _ = droplet.mask.bbox_xywh
    return width_px == 2 * SIDE_PX and x <= SIDE_PX <= x + width


@pytest.fixture(scope="module")
def measure(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Pixels, float], dict[str, Any]]:
    segmenter = Segmenter(load_config({}, {"data_dir": Path(tmp_path_factory.mktemp("data"))}))

    def numbers(pixels: Pixels, um_per_px: float) -> dict[str, Any]:
        image = load_image(encode_png(np.ascontiguousarray(pixels)), "field.png")
        droplets = [d for d in segmenter.find(image).droplets if not _on_seam(d, image.width)]
        counted = apply_filters(droplets, preset_filters("polydisperse", droplets))
        return summarize(counted, Calibration(um_per_px, "typed"))

    return numbers


@pytest.fixture(scope="module")
def original(measure: Callable[[Pixels, float], dict[str, Any]]) -> dict[str, Any]:
    return measure(render_sample("emulsion"), 1.0)


@pytest.mark.parametrize("name", ["turned", "mirrored"])
def test_turning_changes_no_number(
    measure: Callable[[Pixels, float], dict[str, Any]], original: dict[str, Any], name: str
) -> None:
    changed = measure(CHANGES[name][0](render_sample("emulsion")), 1.0)
    assert changed["n_included"] == original["n_included"]
    for quantity in ("diameter_um", "volume_pl", "circularity", "mean_intensity"):
        for statistic, value in original[quantity].items():
            assert changed[quantity][statistic] == pytest.approx(value, rel=1e-4), (quantity, statistic)


@pytest.mark.parametrize("name", ["tiled", "enlarged", "reduced"])
def test_summary_survives(
    measure: Callable[[Pixels, float], dict[str, Any]], original: dict[str, Any], name: str
) -> None:
    change, um_per_px = CHANGES[name]
    changed = measure(change(render_sample("emulsion")), um_per_px)
    for size in SIZES:
        assert changed["diameter_um"][size] == pytest.approx(original["diameter_um"][size], rel=0.01), size
    assert changed["circularity"]["mean"] == pytest.approx(original["circularity"]["mean"], rel=0.01)
    assert changed["mean_intensity"]["mean"] == pytest.approx(original["mean_intensity"]["mean"], rel=0.01)
    # A volume moves three times as much as its diameter, and the spread with every single droplet.
    assert changed["volume_pl"]["mean"] == pytest.approx(original["volume_pl"]["mean"], rel=0.015)
    assert changed["diameter_um"]["cv_percent"] == pytest.approx(
        original["diameter_um"]["cv_percent"], rel=0.02
    )
