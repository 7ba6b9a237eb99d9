"""Pixel size from each kind of file, and that numbers meant for paper are never taken for one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_droplet.errors import InputError
from sam_droplet.imaging.calibration import Calibration, from_imagej, from_ome, from_tiff, um_per_unit
from sam_droplet.imaging.images import load_image

from .hostile import written, written_tiff

GRAY = np.zeros((16, 16), np.uint8)


def of(**options: Any) -> Calibration | None:
    return load_image(written_tiff(GRAY, **options), "x.tif").calibration


@pytest.mark.parametrize(
    ("size", "unit", "um"),
    [(0.65, "µm", 0.65), (650, "nm", 0.65), (0.00065, "mm", 0.65), (6500, "Å", 0.65), (0.65, None, 0.65)],
)
def test_ome_physical_size_in_any_unit(size: float, unit: str | None, um: float) -> None:
    units = {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit} if unit else {}
    found = of(ome=True, metadata={"PhysicalSizeX": size, "PhysicalSizeY": size, **units})
    assert found is not None
    assert found.um_per_px == pytest.approx(um)
    assert found.source == "ome"


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"PhysicalSizeX": 1.0, "PhysicalSizeXUnit": "pixel"},
        {"PhysicalSizeX": 1.0, "PhysicalSizeXUnit": "reference frame"},
        {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.9},
        {"PhysicalSizeX": 0.0},
    ],
)
def test_ome_without_a_usable_size_gives_none(metadata: dict[str, Any]) -> None:
    assert of(ome=True, metadata=metadata) is None


@pytest.mark.parametrize("unit", ["um", "µm", "micron", "microns", "\\u00B5m", "micrometer"])
def test_imagej_resolution_and_unit(unit: str) -> None:
    description = f"ImageJ=1.54f\nunit={unit}\n".encode()
    found = of(description=description, metadata=None, resolution=(2.5, 2.5), resolutionunit="none")
    assert found == Calibration(0.4, "imagej")


def test_imagej_file_as_tifffile_writes_it() -> None:
    found = of(imagej=True, metadata={"unit": "um"}, resolution=(1 / 0.325, 1 / 0.325))
    assert found is not None
    assert found.um_per_px == pytest.approx(0.325, rel=1e-6)


@pytest.mark.parametrize(
    ("unit", "per_unit"),
    [("pixel", 1.0), ("", 2.0), ("inch", 72.0), ("inch", 300.0), ("cm", 28.346), ("um", 0.0)],
)
def test_imagej_without_a_usable_unit_gives_none(unit: str, per_unit: float) -> None:
    assert from_imagej(unit, per_unit, per_unit) is None


@pytest.mark.parametrize(
    "dpi", [1, 72, 96, 100, 120, 144, 150, 200, 300, 350, 360, 600, 720, 1200, 1440, 2400, 2880, 4800, 9600]
)
def test_resolutions_for_paper_are_never_trusted(dpi: float) -> None:
    assert of(resolution=(dpi, dpi), resolutionunit="inch") is None
    assert from_tiff(3, dpi / 2.54, dpi / 2.54) is None


@pytest.mark.parametrize("um", [0.065, 0.1, 0.325, 0.65, 1.11, 2.0, 3.45, 6.5, 12.9])
@pytest.mark.parametrize(("unit", "um_per"), [("inch", 25_400.0), ("centimeter", 10_000.0)])
def test_resolutions_of_microscopes_are_trusted(um: float, unit: str, um_per: float) -> None:
    found = of(resolution=(um_per / um, um_per / um), resolutionunit=unit)
    assert found is not None
    assert found.um_per_px == pytest.approx(um, rel=1e-5)
    assert found.source == "tiff"


def test_ome_wins_over_tiff_resolution() -> None:
    found = of(
        ome=True,
        metadata={"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5},
        resolution=(25_400 / 0.7, 25_400 / 0.7),
        resolutionunit="inch",
    )
    assert found == Calibration(0.5, "ome")


def test_pixels_that_are_not_square_and_missing_units_give_none() -> None:
    assert from_tiff(2, 25_400, 12_700) is None
    assert from_tiff(1, 25_400, 25_400) is None
    assert from_tiff(2, 0, 0) is None
    assert of() is None


@pytest.mark.parametrize(
    "options",
    [
        {"imagej": True, "resolution": (2, 1), "metadata": {"unit": "um"}},
        {"resolution": (25_400, 12_700), "resolutionunit": "INCH"},
        {"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 1000,
                                   "PhysicalSizeYUnit": "nm"}},
    ],
)  # fmt: skip
def test_pixels_that_are_not_square_are_told(options: dict[str, Any]) -> None:
    image = load_image(written_tiff(GRAY, **options), "x.tif")
    assert image.calibration is None
    assert image.notes == (
        "pixels are not square (0.5 times as wide as high), so the file's scale is not used",
    )


@pytest.mark.parametrize("resolution", [(2, 2), (72, 72), (0, 0)])
def test_square_pixels_without_a_scale_are_not_told(resolution: tuple[int, int]) -> None:
    assert load_image(written_tiff(GRAY, resolution=resolution), "x.tif").notes == ()


def test_dots_per_inch_of_png_and_jpeg_are_ignored() -> None:
    for file_format in ("PNG", "JPEG", "BMP"):
        data = written(GRAY, file_format, dpi=(39_000, 39_000))
        assert load_image(data, "x").calibration is None


@pytest.mark.parametrize(
    ("um", "spellings"),
    [
        (1e4, "cm centimeter centimetres"),
        (1e3, "mm millimeter millimeters millimetre"),
        (1.0, "um \N{MICRO SIGN}m \N{GREEK SMALL LETTER MU}m \\u00B5m \\u03bcm micron microns micrometres"),
        (1e-3, "nm nanometer nanometers nanometre"),
        (1e-4, "\N{ANGSTROM SIGN} \\u00C5 angstrom"),
        (25_400.0, "in inch inches"),
        (None, "pixel pixels ms"),
    ],
)
def test_units_are_known_by_their_long_names_too(um: float | None, spellings: str) -> None:
    assert {um_per_unit(spelling) for spelling in spellings.split()} == {um}


def test_units_are_known_in_any_case() -> None:
    assert um_per_unit(" NM ") == 1e-3
    assert um_per_unit("parsec") is None


@settings(deadline=None)
@given(st.text(max_size=60), st.text(max_size=10), st.floats(), st.floats())
def test_nothing_senseless_is_ever_believed(text: str, unit: str, x: float, y: float) -> None:
    xml = f'<Pixels PhysicalSizeX="{text}" PhysicalSizeXUnit="{unit}">'
    for found in (from_ome(xml), from_imagej(unit, x, y), from_tiff(2, x, y), from_tiff(3, x, y)):
        assert found is None or 1e-5 <= found.um_per_px <= 1e3


@pytest.mark.parametrize("height_um", [0.0, -40.0, float("nan"), float("inf"), 1e-300, 1e300])
def test_a_chamber_is_as_high_at_every_door(height_um: float) -> None:
    with pytest.raises(InputError, match="chamber height must be from 1e-06 to 1e"):
        Calibration(1.0, "typed", height_um)
