"""Looking closer at a region: what is found comes back to where it is in the image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sam_droplet.errors import InputError
from sam_droplet.imaging.images import Image, encode_png, load_image
from sam_droplet.imaging.masks import Mask, mask_from_bits
from sam_droplet.segmentation.closeup import close_up, masks_of_image, options_within
from sam_droplet.segmentation.prompts import FindOptions

DISCS = ((60.3, 50.7, 4.0), (90.0, 80.2, 5.5), (100.0, 55.0, 3.0), (10.0, 10.0, 6.0))
REGION = (40.0, 35.0, 110.0, 95.0)


def discs_image() -> Image:
    y, x = np.mgrid[:300, :400] + 0.5
    pixels = np.full((300, 400), 2000.0)
    for a, b, r in DISCS:
        pixels += 40_000 * np.clip(r - np.hypot(x - a, y - b) + 0.5, 0, 1)
    return load_image(encode_png(pixels.astype(np.uint16)), "discs.png")


def bright_objects(image: Image) -> list[Mask]:
    bright = (image.pixels[:, :, 0] > 22_000).astype(np.uint8)
    n, labels = cv2.connectedComponents(bright)
    return [mask for k in range(1, n) if (mask := mask_from_bits(labels == k, 0.5)) is not None]


def test_what_the_close_up_shows_comes_back_to_its_place() -> None:
    image = discs_image()
    closer = close_up(image, REGION, 3.0)
    assert closer.image.pixels.dtype == image.pixels.dtype
    assert closer.image.digest != image.digest
    masks = masks_of_image(closer, bright_objects(closer.image), image)
    assert len(masks) == 3  # the fourth is cut by the close-up's edge or lies outside it
    for x, y, radius in DISCS[:3]:
        mask = min(masks, key=lambda m: float(np.hypot(*(m.outline_xy.mean(axis=0) - (x, y)))))
        low, high = mask.outline_xy.min(axis=0), mask.outline_xy.max(axis=0)
        assert (low + high) / 2 == pytest.approx((x, y), abs=0.3)
        assert (high - low).mean() == pytest.approx(2 * radius, abs=0.5)
        assert mask.score == 0.5


def test_droplets_that_only_the_close_up_cuts_are_left_out() -> None:
    image = discs_image()
    closer = close_up(image, (60.0, 60.0, 80.0, 70.0), 2.0)
    left, top, right, bottom = closer.box_xyxy
    inside = [
        (x, y) for x, y, r in DISCS if left < x - r and x + r < right and top < y - r and y + r < bottom
    ]
    assert len(masks_of_image(closer, bright_objects(closer.image), image)) == len(inside)


def test_sizes_and_region_are_told_in_the_pixels_of_the_close_up() -> None:
    closer = close_up(discs_image(), REGION, 3.0)
    options = options_within(closer, FindOptions(0.7, 5.0, None, REGION, magnification=3.0))
    assert (options.sensitivity, options.magnification, options.diameter_max_px) == (0.7, 3.0, None)
    assert options.diameter_min_px == pytest.approx(15.0, rel=0.02)
    corners = np.array(options.roi_xyxy).reshape(2, 2) / closer.factor_xy + closer.box_xyxy[:2]
    assert corners.ravel().tolist() == pytest.approx(REGION)


def test_too_much_is_told_in_a_sentence() -> None:
    with pytest.raises(InputError, match="smaller region"):
        close_up(load_image(encode_png(np.zeros((4000, 4000), np.uint8)), "x"), (0, 0, 4000, 4000), 4.0)
    with pytest.raises(InputError, match="needs a region"):
        FindOptions(magnification=2.0)
    with pytest.raises(InputError, match="magnification must be"):
        FindOptions(magnification=20.0, roi_xyxy=REGION)


@pytest.mark.parametrize("region", [(5000, 10, 5100, 60), (10, 5000, 60, 5100), (-900, 10, -800, 60)])
def test_a_region_beside_the_image_is_told_in_a_sentence(region: tuple[float, float, float, float]) -> None:
    with pytest.raises(InputError, match="region of the image of 400 x 300 px was expected"):
        close_up(discs_image(), region, 2.0)
