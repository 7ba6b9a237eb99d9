"""Single droplets, unrolled round their centres: every outline becomes a straight line. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_droplet.segmentation.stars import N_RAYS, Stars, unit_rays

Float32 = NDArray[np.float32]

# Along each ray from near the centre to almost twice the proposed radius.
STEPS = np.linspace(0.1, 1.9, 40, dtype=np.float32)
RADIUS_PX = 10.0
# Droplets are sampled by regions of this many px a side, so that little of a big picture is copied.
_REGION_PX = 512


@dataclass(frozen=True, eq=False)
class Unrolled:
    """Hold N unrolled droplets, each (N, 32, S): rays by steps from the centre outwards.

    grey: mean of the channels, 0..1 over the grey range of the picture. inside: False beyond its border.
    """

    grey: Float32
    inside: NDArray[np.bool_]


def unroll(
    pyramid: Sequence[NDArray[Any]],
    low_high: tuple[float, float],
    stars: Stars,
    steps: Float32 = STEPS,
    radius_px: float = RADIUS_PX,
) -> Unrolled:
    """Sample a picture along the rays of each outline, where the outline lies at step 1.

    pyramid: the picture (H, W, C), then successive halves. low_high: the grey values seen as 0 and 1.
    steps: (S,) where to look along each ray, in radii. radius_px: droplets are looked at where their radius
    is between this and twice this, in pixels of a halved picture.
    """
    grey = np.zeros((len(stars), N_RAYS, len(steps)), np.float32)
    inside = np.zeros(grey.shape, bool)
    radius = np.maximum(stars.equivalent_radii(), 1e-3)
    level = np.clip(np.floor(np.log2(radius / radius_px)), 0, len(pyramid) - 1).astype(int)
    region = np.floor(stars.centre_xy / (_REGION_PX * 2.0 ** level[:, None])).astype(int)
    keys, member = np.unique(np.column_stack([level, region]), axis=0, return_inverse=True)
    for k in range(len(keys)):
        index = np.flatnonzero(member.ravel() == k)
        picture = pyramid[keys[k, 0]]
        seen = stars.take(index).scaled(0.5 ** keys[k, 0])
        grey[index], inside[index] = _sample(picture, low_high, seen, steps)
    return Unrolled(grey, inside)


def _sample(
    picture: NDArray[Any], low_high: tuple[float, float], stars: Stars, steps: Float32
) -> tuple[Float32, NDArray[np.bool_]]:
    height, width = picture.shape[:2]
    distance = stars.radii[..., None] * steps  # (n, 32, S)
    x = stars.centre_xy[:, 0, None, None] + distance * unit_rays()[None, :, 0, None]
    y = stars.centre_xy[:, 1, None, None] + distance * unit_rays()[None, :, 1, None]
    left, top = (int(np.clip(v.min() - 2, 0, side - 1)) for v, side in ((x, width), (y, height)))
    right, bottom = (int(np.clip(v.max() + 3, 1, side)) for v, side in ((x, width), (y, height)))
    part = picture[top : max(bottom, top + 1), left : max(right, left + 1), :3].astype(np.float32)
    n_channels, (low, high) = part.shape[2], low_high
    mean = cv2.transform(part, np.full((1, n_channels), 1 / n_channels, np.float32))
    scaled = (mean - np.float32(low)) / np.float32(high - low or 1)
    shape = (-1, N_RAYS * len(steps))
    # Pixel centres lie at halves in our frame, at integers in OpenCV's.
    seen = cv2.remap(
        scaled,
        x.reshape(shape) - np.float32(left + 0.5),
        y.reshape(shape) - np.float32(top + 0.5),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    grey = np.asarray(seen.reshape(distance.shape), np.float32)
    return grey, (x >= 0) & (x <= width) & (y >= 0) & (y <= height)
