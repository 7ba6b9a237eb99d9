"""A small picture of an image with its outlines, to judge a whole batch at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sam_droplet.imaging.images import encode_view
from sam_droplet.measurement.export.pictures import EXCLUDED, INCLUDED

if TYPE_CHECKING:
    from sam_droplet.imaging.images import Image
    from sam_droplet.measurement.droplets import Droplet

_FRACTION_BITS = 4
_JPEG_QUALITY = 85
# Thicker lines would fill smaller droplets.
_WIDE_PEN_FROM_PX = 16.0


def outlined_thumbnail(image: Image, droplets: Sequence[Droplet], max_side: int) -> bytes:
    """Return a JPEG of at most ``max_side`` px a side: included droplets in blue, excluded ones in red."""
    shown = encode_view(image, max_side, "png")
    picture = np.asarray(cv2.imdecode(np.frombuffer(shown, np.uint8), cv2.IMREAD_COLOR))
    scale_xy = np.array([picture.shape[1] / image.width, picture.shape[0] / image.height])
    sizes = [d.measures.diameter_px for d in droplets]
    pen = 2 if sizes and float(np.median(sizes)) * scale_xy[0] >= _WIDE_PEN_FROM_PX else 1
    for included, colour in ((False, EXCLUDED), (True, INCLUDED)):
        outlines = [
            # OpenCV's frame has a pixel's centre at its number, ours at its number and a half.
            np.round((d.mask.outline_xy * scale_xy - 0.5) * (1 << _FRACTION_BITS)).astype(np.int32)
            for d in droplets
            if d.included is included
        ]
        cv2.polylines(picture, outlines, True, _bgr(colour), pen, cv2.LINE_AA, _FRACTION_BITS)
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return encoded.tobytes()


def _bgr(colour: str) -> tuple[int, int, int]:
    return int(colour[5:7], 16), int(colour[3:5], 16), int(colour[1:3], 16)
