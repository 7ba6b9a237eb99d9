"""Look at a part of an image enlarged, as through a stronger objective, and bring its outlines back.

Small droplets gain from it; what is measured are the image's own pixels all the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_droplet.errors import InputError
from sam_droplet.imaging.images import Image
from sam_droplet.imaging.masks import BoxXYXY, Mask, mask_from_polygon
from sam_droplet.imaging.pixels import Pixels
from sam_droplet.segmentation.prompts import FindOptions

# Droplets whose centre is in the region reach this far out of it, in shares of its longer side.
_MARGIN = 0.15
_LEAST_MARGIN_PX = 24
MOST_ENLARGED_PX = 24_000_000


@dataclass(frozen=True, eq=False)
class CloseUp:
    """Hold an enlarged part of an image: which pixels, and by how much in x and y."""

    image: Image
    box_xyxy: BoxXYXY
    factor_xy: NDArray[np.float64]


def close_up(image: Image, region_xyxy: tuple[float, float, float, float], magnification: float) -> CloseUp:
    """Enlarge a region and some margin; InputError where that is too much to look at, or nothing."""
    x0, y0, x1, y1 = region_xyxy
    margin = max(_LEAST_MARGIN_PX, _MARGIN * max(x1 - x0, y1 - y0))
    left, top = max(0, int(x0 - margin)), max(0, int(y0 - margin))
    right, bottom = min(image.width, int(x1 + margin) + 1), min(image.height, int(y1 + margin) + 1)
    if left >= right or top >= bottom:
        raise InputError(
            f"A region of the image of {image.width} x {image.height} px was expected, but "
            f"({x0:g}, {y0:g}, {x1:g}, {y1:g}) lies outside it; choose another one."
        )
    width, height = round((right - left) * magnification), round((bottom - top) * magnification)
    if width * height > MOST_ENLARGED_PX:
        raise InputError(
            f"A region of {x1 - x0:.0f} x {y1 - y0:.0f} px enlarged {magnification:g} times has "
            f"{width * height / 1e6:.0f} million pixels; at most {MOST_ENLARGED_PX / 1e6:.0f} can be "
            "looked at; choose a smaller region."
        )
    part = image.pixels[top:bottom, left:right]
    planes = [
        cv2.resize(np.ascontiguousarray(part[:, :, i]), (width, height), interpolation=cv2.INTER_CUBIC)
        for i in range(part.shape[2])
    ]
    # What is cached for the close-up must never be taken for the image.
    digest = hashlib.sha256(f"{image.digest} {left} {top} {width} {height}".encode()).hexdigest()
    pixels = cast(Pixels, np.stack(planes, axis=2))
    enlarged = replace(image, pixels=pixels, digest=digest, calibration=None)
    factor = np.array([width / (right - left), height / (bottom - top)])
    return CloseUp(enlarged, (left, top, right, bottom), factor)


def options_within(closer: CloseUp, options: FindOptions) -> FindOptions:
    """Return the options with region and sizes in the pixels of the close-up, and how much it enlarges."""
    factor = float(closer.factor_xy.mean())
    region = None
    if options.roi_xyxy is not None:
        corners = np.array(options.roi_xyxy).reshape(2, 2)
        x0, y0, x1, y1 = ((corners - closer.box_xyxy[:2]) * closer.factor_xy).ravel().tolist()
        region = (x0, y0, x1, y1)
    low, high = (
        None if v is None else v * factor for v in (options.diameter_min_px, options.diameter_max_px)
    )
    return replace(options, roi_xyxy=region, diameter_min_px=low, diameter_max_px=high)


def masks_of_image(closer: CloseUp, masks: Sequence[Mask], image: Image) -> list[Mask]:
    """Bring masks back to the image; those that the close-up cut are left out."""
    brought: list[Mask] = []
    for mask in masks:
        if _is_cut(closer, mask, image):
            continue
        contour = mask.outline_xy / closer.factor_xy + closer.box_xyxy[:2]
        back = mask_from_polygon(contour, mask.score, (image.height, image.width))
        if back is not None:
            brought.append(back)
    return brought


def _is_cut(closer: CloseUp, mask: Mask, image: Image) -> bool:
    """Whether a mask touches an edge of the close-up that is no edge of the image."""
    (x0, y0, x1, y1), (left, top, right, bottom) = mask.box_xyxy, closer.box_xyxy
    return bool(
        (x0 <= 0 and left > 0)
        or (y0 <= 0 and top > 0)
        or (x1 >= closer.image.width and right < image.width)
        or (y1 >= closer.image.height and bottom < image.height)
    )
