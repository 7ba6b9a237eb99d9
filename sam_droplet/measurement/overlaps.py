"""Droplets inside droplets, and masks in several parts, by their pixels and never by their boxes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from sam_droplet.imaging.masks import Mask, contained_share
from sam_droplet.measurement.droplets import Droplet

# So much of a droplet lies in the one that holds it; less is two that overlap.
_PARENT_SHARE = 0.8


def contained_ids(droplets: Sequence[Droplet], min_share: float) -> dict[int, list[int]]:
    """Return for each droplet the ids of the smaller ones of which at least ``min_share`` lies inside it."""
    boxes = np.array([d.mask.box_xyxy for d in droplets], np.int64).reshape(-1, 4)
    areas = np.array([d.mask.area_px for d in droplets], np.int64)
    inside: dict[int, list[int]] = {}
    for index, droplet in enumerate(droplets):
        x0, y0, x1, y1 = boxes[index]
        near = (boxes[:, 0] < x1) & (boxes[:, 2] > x0) & (boxes[:, 1] < y1) & (boxes[:, 3] > y0)
        smaller = np.flatnonzero(near & (areas < areas[index]))
        inside[droplet.id] = [
            droplets[int(i)].id
            for i in smaller
            if contained_share(droplets[int(i)].mask, droplet.mask) >= min_share
        ]
    return inside


def parent_ids(droplets: Sequence[Droplet]) -> dict[int, int]:
    """Return the id of the smallest droplet that holds it for each one inside another (a double emulsion)."""
    areas = {d.id: d.mask.area_px for d in droplets}
    parents: dict[int, int] = {}
    for holder, ids in contained_ids(droplets, _PARENT_SHARE).items():
        for number in ids:
            if number not in parents or areas[holder] < areas[parents[number]]:
                parents[number] = holder
    return parents


def parts_distance_px(mask: Mask) -> float:
    """Return the largest distance between the centres of a mask's separate parts; 0 for one in one piece."""
    n, _, _, centres_xy = cv2.connectedComponentsWithStats(mask.bits.view(np.uint8))
    if n <= 2:
        return 0.0
    centres = centres_xy[1:]
    return float(np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1)).max())
