"""What is refused, with which status, how fast, and that damage never surfaces as anything else."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sam_droplet.errors import InputError, PayloadTooLarge, UnreadableImage, UnsupportedMedia
from sam_droplet.imaging.images import Image, Limits, load_image

from . import hostile

RNG = np.random.default_rng(7)
SMALL = RNG.integers(0, 255, (24, 32), np.uint8)
COLOUR = RNG.integers(0, 255, (24, 32, 3), np.uint8)
DEEP = RNG.integers(0, 4095, (24, 32)).astype(np.uint16)
HYPERSTACK = RNG.integers(0, 255, (2, 2, 24, 32), np.uint8)


def _seeds() -> dict[str, bytes]:
    tiff = hostile.written_tiff
    ome = {"axes": "ZCYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}
    return {
        "png": hostile.written(COLOUR, "PNG"),
        "png16": hostile.png(32, 24, b"".join(b"\0" + r.astype(">u2").tobytes() for r in DEEP), bits=16),
        "png-palette": hostile.png(
            4, 2, b"\0\x1b\0\xe4", bits=2, colour=3, extra=hostile.png_chunk(b"PLTE", bytes(range(12)))
        ),
        "jpeg": hostile.written(COLOUR, "JPEG"),
        "jpeg-progressive": hostile.written(COLOUR, "JPEG", progressive=True),
        "webp": hostile.written(COLOUR, "WEBP"),
        "webp-lossless": hostile.written(COLOUR, "WEBP", lossless=True),
        "bmp": hostile.written(COLOUR, "BMP"),
        "bmp-1": hostile.written(SMALL > 128, "BMP"),
        "tiff": tiff(SMALL),
        "tiff-big": tiff(DEEP, bigtiff=True, byteorder=">"),
        "tiff-lzw": tiff(DEEP, compression="lzw", predictor=True),
        "tiff-deflate-tiles": tiff(COLOUR, compression="zlib", tile=(16, 16), photometric="rgb"),
        "tiff-jpeg": tiff(COLOUR, compression="jpeg", photometric="ycbcr", tile=(16, 16)),
        "tiff-zstd": tiff(DEEP.astype(np.float32), compression="zstd", predictor=True),
        "tiff-packbits": tiff(SMALL, compression="packbits"),
        "tiff-stack": tiff(HYPERSTACK[0], photometric="minisblack"),
        "tiff-imagej": tiff(HYPERSTACK, imagej=True, metadata={"axes": "ZCYX", "unit": "um"}),
        "tiff-ome": tiff(HYPERSTACK, ome=True, photometric="minisblack", metadata=ome),
        "tiff-palette": tiff(
            SMALL, photometric="palette", colormap=np.arange(768, dtype=np.uint16).reshape(3, 256)
        ),
    }


SEEDS = _seeds()


def outcome(data: bytes, limits: Limits | None = None) -> str:
    """ "image" for a sound Image, else the name of the InputError; anything else is the test's failure."""
    try:
        image = load_image(data, "x", limits or Limits(max_pixels=1_000_000))
    except InputError as error:
        return type(error).__name__ if error.message else "no message"
    assert isinstance(image, Image)
    assert image.pixels.size > 0
    assert bool(np.isfinite(image.pixels).all())
    assert image.view().shape == (image.height, image.width, 3)
    return "image"


OUTCOMES = {"image", "InputError", "PayloadTooLarge", "UnsupportedMedia", "UnreadableImage", "NotFound"}


@pytest.mark.parametrize("seed", SEEDS)
def test_seeds_themselves_are_read(seed: str) -> None:
    assert outcome(SEEDS[seed]) == "image"


@pytest.mark.parametrize("seed", SEEDS)
def test_truncated_files_are_refused_at_every_length(seed: str) -> None:
    data = SEEDS[seed]
    complete = load_image(data, "x")
    lengths = {*range(1, 40), *np.linspace(40, len(data) - 1, 40).astype(int).tolist()}
    for length in sorted(lengths):
        # What only padding or trailing metadata is missing from may still be read, but whole.
        if outcome(data[:length]) == "image":
            assert load_image(data[:length], "x").digest == complete.digest, length


@pytest.mark.parametrize("seed", SEEDS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_damage_gives_an_image_or_an_input_error(seed: str, data: st.DataObject) -> None:
    mutated = bytearray(SEEDS[seed])
    edits = st.tuples(st.integers(0, len(mutated) - 1), st.binary(min_size=1, max_size=8))
    for position, replacement in data.draw(st.lists(edits, min_size=1, max_size=6)):
        mutated[position : position + len(replacement)] = replacement
    cut = data.draw(st.integers(0, 3))
    if cut == 0:
        del mutated[data.draw(st.integers(0, len(mutated))) :]
    assert outcome(bytes(mutated)) in OUTCOMES


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(
        [
            b"",
            b"\x89PNG\r\n\x1a\n",
            b"\xff\xd8\xff",
            b"RIFF\0\1\0\0WEBP",
            b"BM\0\0\0\0\0\0\0\0",
            b"II*\0",
            b"MM\0*",
            b"II+\0",
        ]
    ),
    st.binary(max_size=300),
)
def test_any_bytes_give_an_image_or_an_input_error(start: bytes, rest: bytes) -> None:
    assert outcome(start + rest) in OUTCOMES


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>', "SVG"),
        (b"<svg onload=alert(1)>", "SVG"),
        (b"\n<!DOCTYPE html><html><body>hi</body></html>", "HTML"),
        (hostile.animation("GIF"), "GIF"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "pdf"),
        (b"PK\x03\x04" + bytes(60), "zip"),
        (b"just some text\n", "text/plain"),
        (bytes(2000), "unknown type"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60), "unknown type|jp2"),
        (b"II*\0\x10\0\0\0CR\x02\0" + bytes(300), "raw|cr2|canon"),
    ],
)
def test_other_types_are_refused_by_content_whatever_their_name(data: bytes, named: str) -> None:
    with pytest.raises(UnsupportedMedia, match=named) as caught:
        load_image(data, "droplets.png")
    assert caught.value.status == 415


def test_empty_file_is_the_callers_fault() -> None:
    with pytest.raises(InputError, match="empty") as caught:
        load_image(b"", "x.png")
    assert caught.value.status == 400


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_animations_are_refused(file_format: str) -> None:
    with pytest.raises(UnsupportedMedia, match="animation"):
        load_image(hostile.animation(file_format), "x")


def _lzw_like_bomb() -> bytes:
    return hostile.png(60_000, 60_000, bytes(10_000_000))


BOMBS: dict[str, Callable[[], bytes]] = {
    "png": lambda: hostile.png(100_000, 100_000, bytes(1_000_000)),
    "png compressed": _lzw_like_bomb,
    "jpeg": lambda: hostile.jpeg(65_500, 65_500),
    "webp": lambda: hostile.webp(16_000, 16_000),
    "bmp": lambda: hostile.bmp(50_000, -50_000),
    "tiff": lambda: hostile.tiff([hostile.tiff_entries(1 << 20, 1 << 20)]),
    "tiff second page": lambda: hostile.tiff(
        [hostile.tiff_entries(), hostile.tiff_entries(1 << 16, 1 << 16)]
    ),
    "tiff tile": lambda: hostile.tiff([hostile.tiff_entries(16, 16, t322=1 << 20, t323=1 << 20)]),
    "tiff samples": lambda: hostile.tiff([hostile.tiff_entries(10_000, 10_000, t277=60)]),
    "tiff 100,000 pages": lambda: hostile.tiff([hostile.tiff_entries()] * 100_000),
    "tiff strips": lambda: hostile.tiff(
        [
            [
                (t, k, 250_000 if t in (273, 279) else n, 200 if t in (273, 279) else v)
                for t, k, n, v in hostile.tiff_entries()
            ]
        ],
        tail=bytes(1_100_000),
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_refused_from_the_header_within_200_ms(bomb: str) -> None:
    data = BOMBS[bomb]()
    load_image(SEEDS["png"], "warm-up")  # libmagic reads its database once
    times_s = []
    for _ in range(3):  # the least of three: other work on the machine is not what is measured
        start = time.perf_counter()
        with pytest.raises(PayloadTooLarge) as caught:
            load_image(data, "x")
        times_s.append(time.perf_counter() - start)
    assert min(times_s) < 0.2
    assert caught.value.status == 413


def test_limits_are_those_given() -> None:
    data = SEEDS["tiff-stack"]
    assert outcome(data, Limits(len(data), 24 * 32, 2)) == "image"
    for tight in (Limits(len(data) - 1), Limits(max_pixels=24 * 32 - 1), Limits(max_pages=1)):
        with pytest.raises(PayloadTooLarge):
            load_image(data, "x", tight)


def imagej_stack_behind_one_directory(n_pages: int, n_stored: int) -> bytes:
    """What ImageJ writes for large stacks: pages of 8 × 8 pixels, page k filled with k."""
    description = f"ImageJ=1.54f\nimages={n_pages}\nslices={n_pages}\n".encode()
    entries = hostile.tiff_entries(8, 8, t279=64)
    start = 8 + 2 + 12 * (len(entries) + 1) + 4
    places = {273: start + len(description)}
    entries = [(tag, kind, n, places.get(tag, value)) for tag, kind, n, value in entries]
    entries.insert(5, (270, 2, len(description), start))
    pixels = np.repeat(np.arange(n_stored, dtype=np.uint8), 64).tobytes()
    return hostile.tiff([entries], tail=description + pixels)


def test_imagej_stack_behind_one_directory_counts_its_pages() -> None:
    data = imagej_stack_behind_one_directory(30, 30)
    image = load_image(data, "x", page=29)
    assert image.n_pages == 30
    assert set(np.unique(image.pixels)) == {29}
    with pytest.raises(PayloadTooLarge, match="30"):
        load_image(data, "x", Limits(max_pages=29))
    with pytest.raises(UnreadableImage, match="30 images"):
        load_image(imagej_stack_behind_one_directory(30, 10), "x")
    start = time.perf_counter()
    with pytest.raises(UnreadableImage, match="999999999 images"):
        load_image(imagej_stack_behind_one_directory(999_999_999, 10), "x")
    assert time.perf_counter() - start < 0.2


@pytest.mark.parametrize(
    "data",
    [
        hostile.tiff([hostile.tiff_entries()], last_offset=8),
        hostile.tiff([hostile.tiff_entries()], last_offset=1 << 30),
        b"II*\0\x08\0\0\0" + struct.pack("<H", 60_000) + bytes(12 * 60_000),
        b"II*\0\0\0\0\0",
        b"II*\0",
        hostile.tiff([hostile.tiff_entries(0, 4)]),
        hostile.tiff([hostile.tiff_entries(t273=1 << 30)]),
        hostile.tiff([hostile.tiff_entries(t258=4000)]),
        hostile.tiff([hostile.tiff_entries(200, 200)], tail=bytes(100)),
    ],
    ids=[
        "circle",
        "chain past the end",
        "60,000 tags",
        "no page",
        "header only",
        "no pixels",
        "strip past the end",
        "4000 bits",
        "short strip",
    ],
)
def test_damaged_tiffs_are_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableImage) as caught:
        load_image(data, "x")
    assert caught.value.status == 422


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"t259": 34_925}, "34925"),
        ({"t259": 6}, "number 6"),
        ({"t262": 32_803}, "32803"),
        ({"t262": 6}, "6"),
        ({"t32997": 5}, "volume"),
    ],
)
def test_tiff_storage_that_is_not_read_is_named(changes: dict[str, int], named: str) -> None:
    with pytest.raises(UnsupportedMedia, match=named):
        load_image(hostile.tiff([hostile.tiff_entries(**changes)]), "x")


def test_jpeg_with_thousands_of_scans_is_refused() -> None:
    with pytest.raises(UnreadableImage, match="scans"):
        load_image(hostile.jpeg(5000, 5000, n_scans=5000), "x")


def test_jpeg_tile_larger_than_its_place_is_refused() -> None:
    tile = hostile.jpeg(60_000, 60_000)
    entries = hostile.tiff_entries(16, 16, t259=7, t322=16, t323=16)
    entries = [entry for entry in entries if entry[0] not in (273, 278, 279)]
    start = 8 + 2 + 12 * (len(entries) + 2) + 4
    entries += [(324, 4, 1, start), (325, 4, 1, len(tile))]
    with pytest.raises(UnreadableImage):
        load_image(hostile.tiff([entries], tail=tile), "x")


def test_deflate_bomb_in_a_strip_is_not_inflated() -> None:
    strip = zlib.compress(bytes(300_000_000), 9)
    entries = hostile.tiff_entries(4, 4, t259=8, t279=len(strip))
    start = 8 + 2 + 12 * len(entries) + 4
    entries = [(tag, kind, count, start if tag == 273 else value) for tag, kind, count, value in entries]
    start_s = time.perf_counter()
    assert outcome(hostile.tiff([entries], tail=strip)) in {"image", "UnreadableImage"}
    assert time.perf_counter() - start_s < 0.2


def test_pixel_data_that_stop_early_inside_a_sound_png_are_noticed() -> None:
    half = b"".join(b"\0" + row.tobytes() for row in SMALL[:12])
    with pytest.raises(UnreadableImage):
        load_image(hostile.png(32, 24, half), "x")


def test_ome_xml_with_an_entity_bomb_or_foreign_files_is_harmless() -> None:
    entities = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
    description = (
        f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a0 "{"a" * 100}">{entities}]><OME>'
        '<Image><Pixels DimensionOrder="XYZCT" SizeX="4" SizeY="4" SizeZ="999999999" SizeC="999999999" '
        'SizeT="1" Type="uint8"><TiffData PlaneCount="999999999"><UUID FileName="/etc/passwd">u</UUID>'
        "</TiffData></Pixels></Image>&a11;</OME>"
    )
    data = hostile.written_tiff(SMALL, description=description, metadata=None)
    start = time.perf_counter()
    image = load_image(data, "x.ome.tif")
    assert time.perf_counter() - start < 0.2
    assert np.array_equal(image.pixels[:, :, 0], SMALL)
    assert image.n_pages == 1
