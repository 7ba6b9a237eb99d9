"""What a lab would use instead: Hough circles and Otsu with watershed, each tuned with the truth at hand.

Both are told the true sizes and may keep their best of several settings per image. That flatters
them; DropletNet is told nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sam_droplet.errors import InputError
from sam_droplet.imaging.images import Image
from sam_droplet.imaging.masks import Mask, mask_from_bits, mask_from_polygon
from sam_droplet.segmentation.stars import unit_rays

Grey = NDArray[np.uint8]
# More circles than this are noise, and matching them would take minutes.
_MOST = 6000


def hough_circles(image: Image, true_radii: NDArray[np.float64]) -> Iterator[list[Mask]]:
    """Yield the masks of cv2.HoughCircles for 12 settings, given the range of true radii."""
    grey = cv2.medianBlur(_grey(image), 3)
    low, high = np.percentile(true_radii, (2, 98)) if len(true_radii) else (5.0, 50.0)
    for accumulator, edge, spacing in product((12, 18, 26), (60, 120), (1.0, 1.5)):
        circles = cv2.HoughCircles(
            grey,
            cv2.HOUGH_GRADIENT,
            dp=1,
            minDist=max(3.0, spacing * float(low)),
            param1=edge,
            param2=accumulator,
            minRadius=max(2, int(0.85 * low)),
            maxRadius=max(4, int(np.ceil(1.15 * high))),
        )
        found = np.empty((0, 3)) if circles is None else np.asarray(circles, float).reshape(-1, 3)[:_MOST]
        drawn = (
            mask_from_polygon(c[:2] + 0.5 + c[2] * unit_rays(48), 1.0, (image.height, image.width))
            for c in found
        )
        yield [mask for mask in drawn if mask is not None]


def otsu_watershed(image: Image, true_radii: NDArray[np.float64]) -> Iterator[list[Mask]]:
    """Yield the masks of Otsu's threshold split by watershed, for both polarities and three spacings."""
    try:
        from skimage.filters import threshold_otsu
        from skimage.segmentation import watershed
    except ImportError as error:
        raise InputError("The accuracy benchmark needs scikit-image: pip install scikit-image") from error

    grey = cv2.GaussianBlur(_grey(image), (0, 0), 1.0)
    typical = float(np.median(true_radii)) if len(true_radii) else 15.0
    threshold = threshold_otsu(grey)
    for bright, spacing in product((True, False), (0.4, 0.7, 1.0)):
        foreground = ndimage.binary_fill_holes((grey > threshold) == bright)
        depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(foreground), 1.0)
        size = 2 * max(1, int(spacing * typical)) + 1
        peaks = (depth == ndimage.maximum_filter(depth, size)) & (depth > 0.3 * typical)
        markers, count = ndimage.label(peaks)
        labels = watershed(-depth, markers, mask=foreground) if 0 < count <= _MOST else markers * 0
        yield [mask for mask in _regions(labels) if mask.area_px > 0.2 * np.pi * typical**2]


def _regions(labels: NDArray[np.int32]) -> Iterator[Mask]:
    for index, window in enumerate(ndimage.find_objects(labels), 1):
        if window is not None:
            offset = window[1].start, window[0].start
            mask = mask_from_bits(labels[window] == index, 1.0, offset_xy=offset)
            if mask is not None:
                yield mask


def _grey(image: Image) -> Grey:
    return np.asarray(image.view(stretch=True).mean(axis=2), np.uint8)


CLASSICAL: dict[str, Callable[[Image, NDArray[np.float64]], Iterator[list[Mask]]]] = {
    "Hough circles": hough_circles,
    "Otsu + watershed": otsu_watershed,
}
