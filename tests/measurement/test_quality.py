"""Focus, saturation and coverage of images whose truth is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest

from sam_droplet.imaging.images import Image
from sam_droplet.imaging.masks import Mask
from sam_droplet.measurement.droplets import Droplet, measure
from sam_droplet.measurement.quality import image_quality

MakeDisc = Callable[..., Mask]
MakeImage = Callable[..., Image]


@pytest.fixture
def scene(make_disc: MakeDisc, make_image: MakeImage) -> tuple[Image, list[Droplet]]:
    """Twelve droplets of radius 20 with a dark rim of three pixels, sharp."""
    pixels = np.full((300, 400), 150, np.uint8)
    masks = []
    for i in range(4):
        for j in range(3):
            x, y = 60 + 90 * i, 60 + 90 * j
            cv2.circle(pixels, (x, y), 20, 60, 3, cv2.LINE_AA)
            masks.append(make_disc(x + 0.5, y + 0.5, 20))
    image = make_image(pixels)
    return image, measure(image, masks)


def blurred(image: Image, sigma: float) -> Image:
    return replace(image, pixels=cv2.GaussianBlur(image.pixels[:, :, 0], (0, 0), sigma)[:, :, None])


def test_sharp_image_raises_no_flag(scene: tuple[Image, list[Droplet]]) -> None:
    image, droplets = scene
    found = image_quality(image, droplets)
    assert found.flags == ()
    assert found.saturated_percent == 0
    assert found.overlap_percent == 0
    assert found.coverage_percent == pytest.approx(100 * 12 * np.pi * 400 / (300 * 400), rel=0.01)
    assert json.loads(json.dumps(found.as_dict())) == found.as_dict()


def test_rim_widens_with_blur_until_it_is_flagged(scene: tuple[Image, list[Droplet]]) -> None:
    image, droplets = scene
    widths = [image_quality(blurred(image, sigma), droplets).rim_width_px or 0 for sigma in (0.5, 1, 2, 3, 4)]
    assert widths == sorted(widths)
    flags = image_quality(blurred(image, 4), droplets).flags
    assert any("out of focus" in flag for flag in flags)


def test_saturation_is_judged_at_the_images_own_bit_depth(scene: tuple[Image, list[Droplet]]) -> None:
    image, droplets = scene
    twelve_bit = np.where(image.pixels > 100, 4095, 900).astype(np.uint16)
    found = image_quality(replace(image, pixels=twelve_bit, bit_depth=12), droplets)
    assert found.saturated_percent is not None
    assert found.saturated_percent > 50
    assert any("saturated" in flag for flag in found.flags)
    deeper = image_quality(replace(image, pixels=twelve_bit, bit_depth=16), droplets)
    assert deeper.saturated_percent == 0
    floats = image_quality(replace(image, pixels=twelve_bit.astype(np.float32), bit_depth=32), droplets)
    assert floats.saturated_percent is None


def test_layers_of_droplets_are_flagged(scene: tuple[Image, list[Droplet]], make_disc: MakeDisc) -> None:
    image, droplets = scene
    second = measure(image, [make_disc(75, 60, 20)], first_id=50)
    found = image_quality(image, [*droplets, *second])
    assert found.overlap_percent > 2
    assert any("layers" in flag for flag in found.flags)


def test_a_picture_that_droplets_hardly_cover_is_flagged(make_image: MakeImage, make_disc: MakeDisc) -> None:
    image = make_image((300, 300))
    few = measure(image, [make_disc(100, 100, 10)])
    assert "cover only 0.35 % of the image" in image_quality(image, few).flags[0]
    many = measure(image, [make_disc(60 + 60 * i, 60 + 60 * j, 14) for i in range(4) for j in range(4)])
    assert not any("cover" in flag for flag in image_quality(image, many).flags)


def test_image_without_droplets_is_judged_without_them(make_image: MakeImage) -> None:
    found = image_quality(make_image((50, 60)), [])
    assert (found.saturated_percent, found.rim_width_px, found.coverage_percent) == (None, None, 0)
