"""Pages, channels and storage of TIFF as ImageJ, OME-TIFF, tifffile and Pillow write them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from sam_droplet.errors import NotFound
from sam_droplet.imaging.images import Limits, load_image

from .hostile import tiff, tiff_entries, written_tiff

RNG = np.random.default_rng(11)


def stack(*shape: int, dtype: Any = np.uint8) -> np.ndarray[Any, Any]:
    return RNG.integers(0, 250, shape).astype(dtype)


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits", "zstd"])
@pytest.mark.parametrize("tile", [None, (32, 16)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_lossless_storages_come_back_exactly(compression: str | None, tile: Any, dtype: Any) -> None:
    array = stack(50, 70, dtype=dtype)
    predictor = compression is not None and compression != "packbits"
    data = written_tiff(array, compression=compression, tile=tile, predictor=predictor)
    assert np.array_equal(load_image(data, "x").pixels[:, :, 0], array)


def test_jpeg_in_tiff_is_close_and_in_rgb_order() -> None:
    array = np.zeros((64, 64, 3), np.uint8)
    array[:, :32] = (200, 60, 20)
    converted = np.asarray(PillowImage.fromarray(array).convert("YCbCr"))
    for photometric, stored in (("rgb", array), ("ycbcr", converted)):
        data = written_tiff(stored, compression="jpeg", photometric=photometric, tile=(32, 32))
        image = load_image(data, "x")
        assert image.is_colour
        assert np.abs(image.pixels[8:56, 8:24].astype(int) - array[8:56, 8:24]).max() <= 6, photometric


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_rgb_interleaved_or_in_planes(planar: str, dtype: Any) -> None:
    array = stack(30, 40, 3, dtype=dtype)
    stored = array if planar == "contig" else np.moveaxis(array, 2, 0)
    image = load_image(written_tiff(stored, photometric="rgb", planarconfig=planar), "x")
    assert np.array_equal(image.pixels, array)
    assert image.channel_names == ("red", "green", "blue")


def test_many_samples_in_planes_are_channels() -> None:
    array = stack(5, 30, 40, dtype=np.uint16)
    image = load_image(written_tiff(array, photometric="minisblack", planarconfig="separate"), "x")
    assert np.array_equal(image.pixels, np.moveaxis(array, 0, 2))
    assert image.channel_names[4] == "channel 5"


def test_alpha_is_dropped_and_said() -> None:
    array = stack(30, 40, 4)
    image = load_image(written_tiff(array, photometric="rgb", extrasamples=["unassalpha"]), "x")
    assert np.array_equal(image.pixels, array[:, :, :3])
    assert "transparency" in image.notes[0]


def test_pages_of_one_file_are_read_one_by_one_also_of_different_sizes() -> None:
    pages = [stack(20, 30), stack(20, 30), stack(44, 10, dtype=np.uint16), stack(8, 9, 3)]
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for page in pages:
            writer.write(page, photometric="rgb" if page.ndim == 3 else "minisblack", metadata=None)
    for index, page in enumerate(pages):
        image = load_image(buffer.getvalue(), "x", page=index)
        assert np.array_equal(image.pixels.squeeze(), page)
        assert (image.page, image.n_pages) == (index, 4)
    for wrong in (-1, 4):
        with pytest.raises(NotFound, match="0 to 3"):
            load_image(buffer.getvalue(), "x", page=wrong)


def test_thumbnails_and_pyramid_levels_are_no_pages() -> None:
    array = stack(64, 64)
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(array[::8, ::8], subfiletype=1)
        writer.write(array, subifds=1)
        writer.write(array[::2, ::2], subfiletype=1)
    image = load_image(buffer.getvalue(), "x")
    assert image.n_pages == 1
    assert np.array_equal(image.pixels[:, :, 0], array)


@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_imagej_hyperstack_pages_are_slices_and_frames_with_all_channels(dtype: Any, byteorder: str) -> None:
    array = stack(2, 3, 4, 20, 30, dtype=dtype)
    data = written_tiff(array, imagej=True, metadata={"axes": "TZCYX"}, byteorder=byteorder)
    for t in range(2):
        for z in range(3):
            image = load_image(data, "x", page=3 * t + z)
            assert (image.n_pages, image.n_channels) == (6, 4)
            assert np.array_equal(image.pixels, np.moveaxis(array[t, z], 0, 2))


def test_imagej_colour_stack_and_single_slice_with_an_old_description() -> None:
    array = stack(3, 20, 30, 3)
    data = written_tiff(array, imagej=True, metadata={"axes": "ZYXS"})
    image = load_image(data, "x", page=2)
    assert image.is_colour
    assert np.array_equal(image.pixels, array[2])
    cut = written_tiff(stack(20, 30), description="ImageJ=1.54f\nimages=40\nslices=40\n", metadata=None)
    assert load_image(cut, "x").n_pages == 1


@pytest.mark.parametrize("order", ["TZCYX", "CTZYX", "ZCTYX"])
def test_ome_pages_hold_their_channels_with_names(order: str) -> None:
    sizes = {"T": 2, "Z": 3, "C": 2, "Y": 20, "X": 30}
    array = stack(*(sizes[axis] for axis in order))
    metadata = {"axes": order, "Channel": {"Name": ["bright field", "GFP & <dye>"]}}
    data = written_tiff(array, ome=True, photometric="minisblack", metadata=metadata)
    in_order = array.transpose([order.index(axis) for axis in "TZCYX"]).reshape(-1, 2, 20, 30)
    seen = [load_image(data, "x", page=page) for page in range(6)]
    assert {image.n_pages for image in seen} == {6}
    assert seen[0].channel_names == ("bright field", "GFP & <dye>")
    ours = sorted(image.pixels.tobytes() for image in seen)
    assert ours == sorted(np.moveaxis(page, 0, 2).tobytes() for page in in_order)
    assert np.array_equal(seen[0].pixels, np.moveaxis(in_order[0], 0, 2))


def test_ome_colour_samples_are_not_taken_for_channels_twice() -> None:
    array = stack(2, 20, 30, 3)
    data = written_tiff(array, ome=True, photometric="rgb", metadata={"axes": "ZYXS"})
    image = load_image(data, "x", page=1)
    assert image.is_colour
    assert image.n_pages == 2
    assert np.array_equal(image.pixels, array[1])


def test_ome_whose_planes_are_not_in_order_falls_back_to_single_pages() -> None:
    array = stack(2, 20, 30)
    description = (
        '<OME><Image><Pixels DimensionOrder="XYCZT" SizeC="2" SizeZ="1" SizeT="1">'
        '<TiffData FirstC="0" IFD="1"/><TiffData FirstC="1" IFD="0"/></Pixels></Image></OME>'
    )
    data = written_tiff(array, photometric="minisblack", description=description, metadata=None)
    image = load_image(data, "x", page=1)
    assert (image.n_pages, image.n_channels) == (2, 1)
    assert np.array_equal(image.pixels[:, :, 0], array[1])


def test_axes_that_tifffile_writes_are_understood() -> None:
    array = stack(3, 2, 20, 30)
    data = written_tiff(array, photometric="minisblack", metadata={"axes": "TCYX"})
    image = load_image(data, "x", page=2)
    assert (image.n_pages, image.n_channels) == (3, 2)
    assert np.array_equal(image.pixels, np.moveaxis(array[2], 0, 2))
    plain = load_image(written_tiff(array[:, 0], photometric="minisblack"), "x", page=2)
    assert np.array_equal(plain.pixels[:, :, 0], array[2, 0])


@pytest.mark.parametrize(
    "description",
    ["{", '{"shape": [2], "axes": "CC"}', "[" * 10_000, '{"axes": 1}', "ImageJ=\nchannels=-3\nimages=x"],
)
def test_senseless_descriptions_are_ignored(description: str) -> None:
    array = stack(20, 30)
    data = written_tiff(array, description=description, metadata=None)
    assert np.array_equal(load_image(data, "x").pixels[:, :, 0], array)


def test_inverted_gray_is_turned_so_that_larger_is_brighter() -> None:
    array = stack(20, 30, dtype=np.uint16)
    image = load_image(written_tiff(array, photometric="miniswhite"), "x")
    assert np.array_equal(image.pixels[:, :, 0], 65_535 - array)
    assert "inverted" in image.notes[0]


def test_palette_is_applied_except_for_imagej_whose_indices_are_the_data() -> None:
    indices = stack(20, 30)
    colours = RNG.integers(0, 65_535, (3, 256)).astype(np.uint16)
    painted = load_image(written_tiff(indices, photometric="palette", colormap=colours), "x")
    assert np.array_equal(painted.pixels, (colours >> 8).astype(np.uint8).T[indices])
    description = "ImageJ=1.54f\nunit=pixel\n"
    raw = load_image(
        written_tiff(
            indices, photometric="palette", colormap=colours, description=description, metadata=None
        ),
        "x",
    )
    assert np.array_equal(raw.pixels[:, :, 0], indices)


def test_cmyk_becomes_rgb() -> None:
    inks = np.zeros((4, 5, 4), np.uint8)
    inks[0, 0], inks[1, 1] = (255, 0, 0, 0), (0, 0, 0, 255)
    image = load_image(written_tiff(inks, photometric="separated"), "x")
    assert image.pixels[0, 0].tolist() == [0, 255, 255]
    assert image.pixels[1, 1].tolist() == [0, 0, 0]
    assert image.pixels[2, 2].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "F", "LA"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
def test_what_pillow_writes_is_read_as_pillow_reads_it(mode: str, compression: str) -> None:
    gray = stack(20, 30)
    source = (
        PillowImage.fromarray(gray.astype(np.uint16) * 9)
        if mode == "I;16"
        else PillowImage.fromarray(gray).convert(mode)
    )
    buffer = io.BytesIO()
    source.save(buffer, "TIFF", compression=compression)
    image = load_image(buffer.getvalue(), "x")
    expected = (
        source.convert("L")
        if mode in ("1", "P", "LA")
        else source.convert("RGB")
        if mode == "CMYK"
        else source
    )
    wanted = np.asarray(expected)
    wanted = wanted[:, :, :3] if wanted.ndim == 3 else wanted[:, :, None]
    assert np.abs(image.pixels.astype(float) - wanted).max() <= (1 if mode == "CMYK" else 0)


def test_12_bits_packed_are_read_as_12() -> None:
    values = np.array([[0, 1, 4095, 2048], [7, 100, 3000, 4094]], np.uint16)
    packed = bytearray()
    for first, second in values.reshape(-1, 2).tolist():
        packed += bytes([first >> 4, (first & 15) << 4 | second >> 8, second & 255])
    entries = tiff_entries(4, 2, t258=12, t279=len(packed))
    start = 8 + 2 + 12 * len(entries) + 4
    entries = [(tag, kind, n, start if tag == 273 else value) for tag, kind, n, value in entries]
    image = load_image(tiff([entries], tail=bytes(packed)), "x")
    assert np.array_equal(image.pixels[:, :, 0], values)
    assert image.bit_depth == 12


def test_page_limit_counts_directories() -> None:
    data = written_tiff(stack(6, 8, 8), photometric="minisblack")
    assert load_image(data, "x", Limits(max_pages=6), page=5).n_pages == 6
