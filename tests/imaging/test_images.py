"""Round trips of every format and pixel type, views, and the real micrographs."""

from __future__ import annotations

import base64
import hashlib
import io
import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageOps

from sam_droplet.errors import InputError, NotFound, PayloadTooLarge, UnsupportedMedia
from sam_droplet.imaging.images import (
    TILE_SIDE_PX,
    Image,
    Limits,
    encode_png,
    encode_tile,
    encode_view,
    load_image,
    load_image_base64,
    load_image_file,
)

from .hostile import png, png_chunk, written, written_tiff

SHARED = Path(__file__).parents[3] / "shared" / "data"
GRAY = ("gray",)
COLOUR = ("red", "green", "blue")


def noise(*shape: int, dtype: Any = np.uint8, high: int = 256) -> np.ndarray[Any, Any]:
    return np.asarray(np.random.default_rng(sum(shape)).integers(0, high, shape), dtype)


def discs(dtype: Any = np.uint8) -> np.ndarray[Any, Any]:
    y, x = np.mgrid[:40, :60]
    inside = (x - 20) ** 2 + (y - 15) ** 2 < 81
    return np.asarray(np.where(inside, 230, 30), dtype)


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("shape", [(31, 45), (31, 45, 3)])
def test_8_bit_images_come_back_exactly(file_format: str, shape: tuple[int, ...]) -> None:
    array = noise(*shape)
    image = load_image(written(array, file_format), "x")
    assert image.format == file_format.lower()
    assert image.pixels.dtype == np.uint8
    assert np.array_equal(image.pixels.squeeze(), array)
    assert image.channel_names == (GRAY if array.ndim == 2 else COLOUR)
    assert (image.width, image.height, image.bit_depth, image.n_pages) == (45, 31, 8, 1)
    assert image.notes == ()


def test_lossless_webp_and_full_quality_jpeg_keep_colour_order() -> None:
    array = np.zeros((32, 48, 3), np.uint8)
    array[:, :16, 0], array[:, 16:32, 1], array[:, 32:, 2] = 250, 120, 60
    assert np.array_equal(load_image(written(array, "WEBP", lossless=True), "x").pixels, array)
    jpeg = load_image(written(array, "JPEG", quality=100, subsampling=0), "x").pixels
    assert np.abs(jpeg.astype(int) - array).max() <= 3


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)])
def test_16_bit_png_is_not_clipped(shape: tuple[int, ...]) -> None:
    array = noise(*shape, dtype=np.uint16, high=65_536)
    array.flat[:4] = [0, 255, 256, 40_000]
    image = load_image(encode_png(array), "x.png")
    assert image.pixels.dtype == np.uint16
    assert np.array_equal(image.pixels.squeeze(), array)
    assert image.bit_depth == 16


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("u1", np.uint8),
        ("u2", np.uint16),
        ("u4", np.uint16),
        ("u8", np.uint16),
        ("i1", np.uint16),
        ("i2", np.uint16),
        ("i4", np.uint16),
        ("f2", np.float32),
        ("f4", np.float32),
        ("f8", np.float32),
    ],
)
def test_every_tiff_element_type_keeps_its_values(order: str, dtype: str, expected: type) -> None:
    array = noise(24, 17, dtype=dtype, high=100)
    image = load_image(written_tiff(array, byteorder=order), "x.tif")
    assert image.pixels.dtype == expected
    assert np.array_equal(image.pixels[:, :, 0], array.astype(float))


def test_negative_and_large_integers_become_floats_without_change() -> None:
    array = np.array([[-5, 0], [70_000, 16_777_216]], np.int32)
    image = load_image(written_tiff(array), "x.tif")
    assert image.pixels.dtype == np.float32
    assert np.array_equal(image.pixels[:, :, 0], array)
    assert image.notes == ()
    rounded = load_image(written_tiff(array * 100 + 1), "x.tif")
    assert "rounded" in rounded.notes[0]


@pytest.mark.parametrize(("largest", "bits"), [(255, 8), (1023, 10), (4095, 12), (4096, 14), (65_535, 16)])
def test_significant_bits_of_values_stored_in_16(largest: int, bits: int) -> None:
    array = noise(20, 20, dtype=np.uint16, high=200)
    array[3, 4] = largest
    for data in (written_tiff(array), encode_png(array)):
        image = load_image(data, "x")
        assert image.pixels.dtype == np.uint16
        assert (image.bit_depth, int(image.pixels.max())) == (bits, largest)


def test_one_bit_images_are_black_and_white() -> None:
    bits = noise(33, 21, high=2).astype(bool)
    for file_format in ("PNG", "BMP", "TIFF"):
        image = load_image(written(bits, file_format), "x")
        assert np.array_equal(image.pixels[:, :, 0], bits * 255), file_format
        assert (image.bit_depth, image.channel_names) == (8, GRAY)


def test_colour_palettes_are_applied_and_gray_ones_give_one_channel() -> None:
    indices = noise(20, 30, high=4)
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 200, 0], [9, 9, 250]], np.uint8)
    for file_format in ("PNG", "BMP"):
        for table in (colours, np.repeat(colours[:, 2:], 3, axis=1)):
            palette = PillowImage.fromarray(indices).convert("L")
            palette.putpalette(table.tobytes())
            buffer = io.BytesIO()
            palette.save(buffer, file_format)
            image = load_image(buffer.getvalue(), "x")
            expected = table[indices] if table is colours else table[indices][:, :, :1]
            assert np.array_equal(image.pixels, expected), file_format


def test_transparency_is_dropped_and_said() -> None:
    array = noise(12, 14, 4)
    for data in (written(array, "PNG"), written(array, "WEBP", lossless=True, exact=True)):
        image = load_image(data, "x")
        assert np.array_equal(image.pixels, array[:, :, :3])
        assert image.notes == ("transparency ignored: pixels are measured as if opaque",)
    array[:, :, 3] = 255
    assert load_image(written(array, "PNG"), "x").notes == ()
    gray_alpha = load_image(written(array[:, :, :2], "PNG"), "x")
    assert np.array_equal(gray_alpha.pixels[:, :, 0], array[:, :, 0])


def test_cmyk_jpeg_looks_like_the_rgb_it_came_from() -> None:
    array = np.zeros((32, 32, 3), np.uint8)
    array[:, 16:] = (220, 40, 90)
    buffer = io.BytesIO()
    PillowImage.fromarray(array).convert("CMYK").save(buffer, "JPEG", quality=100)
    image = load_image(buffer.getvalue(), "x")
    assert image.channel_names == COLOUR
    assert image.notes == ("CMYK converted to RGB",)
    assert np.abs(image.pixels[4:28, [4, 28]].astype(int) - array[4:28, [4, 28]]).max() <= 4


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once_and_reported(file_format: str, orientation: int) -> None:
    array = np.zeros((40, 64, 3), np.uint8)
    array[:8, :24], array[32:, 48:, 0] = 255, 120
    picture = PillowImage.fromarray(array)
    exif = picture.getexif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    options = {"quality": 100} if file_format in ("JPEG", "WEBP") else {}
    picture.save(buffer, file_format, exif=exif, **options)
    image = load_image(buffer.getvalue(), "x")
    with PillowImage.open(buffer) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    assert image.orientation_applied == orientation
    assert np.array_equal(image.pixels, expected)


@pytest.mark.parametrize(
    "block", [b"", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0"]
)
def test_damaged_or_senseless_exif_leaves_the_image_as_stored(block: bytes) -> None:
    array = noise(6, 9)
    rows = b"".join(b"\0" + row.tobytes() for row in array)
    image = load_image(png(9, 6, rows, extra=png_chunk(b"eXIf", block)), "x")
    assert image.orientation_applied == 1
    assert np.array_equal(image.pixels[:, :, 0], array)


def test_nan_and_infinity_are_replaced_and_said() -> None:
    array = np.array([[np.nan, 1.5], [np.inf, -np.inf], [-2.0, 7.0]], np.float32)
    image = load_image(written_tiff(array), "x.tif")
    assert image.pixels[:, :, 0].tolist() == [[-2.0, 1.5], [7.0, -2.0], [-2.0, 7.0]]
    assert image.notes == ("3 NaN or infinite pixel values replaced by the smallest or largest finite one",)
    too_large = load_image(written_tiff(np.array([[1e300, 1.0], [2.0, 3.0]])), "x.tif")
    assert too_large.pixels[0, 0, 0] == 3.0
    with pytest.raises(InputError, match="NaN"):
        load_image(written_tiff(np.full((3, 3), np.nan, np.float32)), "x.tif")


def test_complex_numbers_are_refused() -> None:
    with pytest.raises(UnsupportedMedia, match="complex64"):
        load_image(written_tiff(noise(4, 4).astype(np.complex64)), "x.tif")


def test_digest_covers_pixels_shape_and_type_but_not_the_file() -> None:
    array = noise(8, 6)
    as_png = load_image(written(array, "PNG"), "a.png")
    assert load_image(written_tiff(array), "b.tif").digest == as_png.digest
    expected = hashlib.sha256(b"(8, 6, 1) |u1\n" + array.tobytes()).hexdigest()
    assert as_png.digest == expected
    others = [array.T.copy(), array.astype(np.uint16), array.reshape(6, 8), array ^ 1]
    digests = {load_image(written_tiff(other), "x").digest for other in others}
    assert len(digests | {expected}) == 5


def test_pixels_cannot_be_changed_but_a_view_can() -> None:
    image = load_image(written(noise(8, 6), "PNG"), "x")
    with pytest.raises(ValueError, match="read-only"):
        image.pixels[0, 0, 0] = 1
    assert image.view().flags.writeable


def test_name_is_kept_without_folders_and_control_characters() -> None:
    data = written(noise(4, 4), "PNG")
    for given, kept in [
        ("../../etc/pässwd.png", "pässwd.png"),
        ("C:\\images\\a.tif", "a.tif"),
        ("a\0b\r\n.png", "ab.png"),
        ("", "image"),
        ("x/", "image"),
    ]:
        assert load_image(data, given).name == kept
    assert len(load_image(data, "n" * 5000).name) == 200


def test_base64_with_and_without_data_url() -> None:
    array = noise(5, 7)
    text = base64.b64encode(written(array, "PNG")).decode()
    wrapped = "\n".join(text[i : i + 60] for i in range(0, len(text), 60))
    for given in (text, "data:image/png;base64," + text, "DATA:;base64," + text, wrapped, text.rstrip("=")):
        assert np.array_equal(load_image_base64(given).pixels[:, :, 0], array)
    for wrong in ("data:image/png," + text, "not base64!", text + "é", "====", "A"):
        with pytest.raises(InputError, match=r"base64|empty|PNG"):
            load_image_base64(wrong)
    with pytest.raises(InputError, match="empty"):
        load_image_base64("")
    with pytest.raises(PayloadTooLarge):
        load_image_base64("A" * 4000, limits=Limits(max_bytes=1000))


def test_files_are_read_by_path(tmp_path: Path) -> None:
    path = tmp_path / "wrong-extension.jpg"
    path.write_bytes(written(noise(5, 7), "PNG"))
    image = load_image_file(str(path))
    assert (image.name, image.format) == ("wrong-extension.jpg", "png")
    with pytest.raises(PayloadTooLarge):
        load_image_file(path, Limits(max_bytes=10))
    for missing in (tmp_path / "none.png", tmp_path, "/dev/zero", "a\0b", "x" * 5000):
        with pytest.raises(InputError):
            load_image_file(missing)


def test_only_tiff_has_more_than_page_0() -> None:
    with pytest.raises(NotFound, match="page 1"):
        load_image(written(noise(4, 4), "PNG"), "x", page=1)
    with pytest.raises(NotFound):
        load_image(written(noise(4, 4), "PNG"), "x", page=-1)


def gray16(array: np.ndarray[Any, Any]) -> Image:
    return load_image(written_tiff(array), "x.tif")


def test_8_bit_view_is_the_image_itself_unless_stretched() -> None:
    array = discs()
    image = load_image(written(array, "PNG"), "x")
    assert np.array_equal(image.view(), np.repeat(array[:, :, None], 3, axis=2))
    assert set(np.unique(image.view(stretch=True))) == {0, 255}
    assert image.display_window() == (30.0, 230.0)
    colour = noise(9, 11, 3)
    assert np.array_equal(load_image(written(colour, "PNG"), "x").view(), colour)


def test_view_of_deep_pixels_spans_percentiles_1_to_99_8() -> None:
    array = np.arange(10_000, dtype=np.uint16).reshape(100, 100) + 1000
    image = gray16(array)
    low, high = image.display_window()
    assert low == pytest.approx(np.percentile(array, 1), abs=1)
    assert high == pytest.approx(np.percentile(array, 99.8), abs=1)
    view = image.view()[:, :, 0].ravel()
    assert view[0] == 0
    assert view[-1] == 255
    assert np.all(np.diff(view.astype(int)) >= 0)
    assert abs(int(view[5000]) - round((6000 - low) / (high - low) * 255)) <= 1
    as_float = load_image(written_tiff(array.astype(np.float32) / 7 - 20), "x.tif")
    assert np.abs(as_float.view().astype(int) - image.view()).max() <= 1


def test_view_shows_a_few_bright_pixels_on_black_and_survives_a_flat_image() -> None:
    array = np.zeros((100, 100), np.uint16)
    array[50, 50] = 900
    assert gray16(array).view().max() == 255
    flat = gray16(np.full((10, 12), 7000, np.uint16))
    assert flat.view().shape == (10, 12, 3)
    assert flat.view().max() == 0


def test_colour_of_deep_pixels_is_stretched_by_one_window() -> None:
    array = noise(20, 30, 3, dtype=np.uint16, high=1000)
    array[:, :, 1] *= 4
    view = load_image(encode_png(array), "x").view()
    assert view[:, :, 1].mean() > 3 * view[:, :, 0].mean()


def test_channels_are_added_up_in_their_colours_or_shown_alone() -> None:
    channels = np.stack([discs(np.uint16), discs(np.uint16)[::-1] * 20])
    image = load_image(written_tiff(channels, photometric="minisblack", metadata={"axes": "CYX"}), "x.tif")
    assert (image.n_channels, image.n_pages) == (2, 1)
    assert image.channel_names == ("channel 1", "channel 2")
    view = image.view()
    inside_first, inside_second = view[15, 20], view[24, 20]
    assert inside_first[0] == 255
    assert inside_second[1] == 255
    assert view[:, :, 2].max() == 0
    alone = image.view(channel=1)
    assert np.array_equal(alone[:, :, 0], alone[:, :, 2])
    assert alone[24, 20, 0] == 255
    for wrong in (-1, 2):
        with pytest.raises(InputError, match="channel"):
            image.view(channel=wrong)


def test_encoded_png_reads_back_and_other_types_are_refused() -> None:
    for array in (noise(5, 6), noise(5, 6, 1), noise(5, 6, 3), noise(5, 6, 4), noise(5, 6, dtype=np.uint16)):
        with PillowImage.open(io.BytesIO(encode_png(array))) as opened:
            assert np.array_equal(np.asarray(opened).squeeze(), array.squeeze())
    for wrong in (np.zeros((4, 4), np.float32), np.zeros((4, 4), np.int64)):
        with pytest.raises(ValueError, match="uint8"):
            encode_png(wrong)


def shown(encoded: bytes) -> np.ndarray[Any, Any]:
    decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert decoded is not None
    return decoded


@pytest.mark.parametrize("file_format", ["jpeg", "png"])
def test_encoded_view_is_shrunk_and_stretched_like_the_view(file_format: Any) -> None:
    y, x = np.mgrid[:120, :200]
    array = (2000 + 20 * x + 10 * y).astype(np.uint16)
    image = gray16(array)
    full = shown(encode_view(image, format=file_format))
    assert np.abs(full.astype(int) - image.view()).max() <= 4
    small = shown(encode_view(image, 50, file_format))
    assert small.shape == (30, 50, 3)
    expected = cv2.resize(image.view(), (50, 30), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - expected).max() <= 6
    with pytest.raises(InputError, match="max_side"):
        encode_view(image, 0)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_tiles_join_to_the_view(level: int) -> None:
    y, x = np.mgrid[:700, :1301]
    image = gray16((1000 + 10 * x + 20 * y).astype(np.uint16))
    side = TILE_SIDE_PX << level
    rows = []
    for row in range(-(-image.height // side)):
        columns = range(-(-image.width // side))
        rows.append(np.concatenate([shown(encode_tile(image, level, c, row)) for c in columns], axis=1))
    joined = np.concatenate(rows)
    assert joined.shape == (-(-700 >> level), -(-1301 >> level), 3)
    expected = cv2.resize(image.view(), joined.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(joined.astype(int) - expected).max() <= 8
    with pytest.raises(NotFound, match="no tile"):
        encode_tile(image, level, 0, len(rows))


def test_jpeg_side_limit_is_said_in_words() -> None:
    image = load_image(written(np.zeros((2, 65_600), np.uint8), "PNG"), "x")
    with pytest.raises(InputError, match="65500"):
        encode_view(image)
    assert encode_view(image, format="png").startswith(b"\x89PNG")
    assert encode_view(image, 1000).startswith(b"\xff\xd8")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared real micrographs are not on this machine")
@pytest.mark.parametrize(
    ("name", "width", "height"),
    [
        ("ddPCR_0_0.png", 1024, 1024),
        ("ddPCR_0_1.png", 1024, 1024),
        ("bead_1.jpg", 1920, 1200),
        ("bead.png", 1920, 1200),
        ("array_2407x5204.jpg", 2407, 5204),
        ("channel_608x726.jpg", 608, 726),
    ],
)
def test_real_micrographs_are_read(name: str, width: int, height: int) -> None:
    image = load_image_file(SHARED / name)
    assert (image.width, image.height, image.name) == (width, height, name)
    assert image.pixels.dtype == np.uint8
    with PillowImage.open(SHARED / name) as opened:
        expected = np.asarray(opened.convert("RGB"))
    assert np.abs(image.view().astype(int) - expected).max() == 0
    assert image.calibration is None


def test_a_large_float_image_is_shown_in_little_more_memory_than_it_has() -> None:
    pixels = np.random.default_rng(1).random((1500, 2000), np.float32)
    image = load_image(written_tiff(pixels), "x.tif")
    tracemalloc.start()
    image.view()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * pixels.nbytes
