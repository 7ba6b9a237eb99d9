"""Both pictures of one field in one: the droplets' in gray, the other one in green, moved onto it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_droplet.errors import InputError
from sam_droplet.imaging.images import Image, encode_png
from sam_droplet.imaging.registration import Shift
from sam_droplet.measurement.export.canvas import PngCanvas
from sam_droplet.measurement.export.outlines import outline_xy
from sam_droplet.measurement.export.pictures import assay_colour
from sam_droplet.measurement.export.request import Exported, ExportRequest

Gray = NDArray[np.uint8]

INCLUSION = "#cc79a7"
_SIDE_MIN_PX, _SIDE_MAX_PX = 1200, 4000


def export_pair(request: ExportRequest) -> Exported:
    """Draw both pictures of a field over each other, with the droplets and what was read from them.

    Positive or loaded droplets are orange, the others blue, those outside the second picture gray;
    inclusions are violet. InputError without a second picture.
    """
    second = request.second
    if second is None:
        raise InputError(
            "There is no second picture; set up ddPCR or loading with one, then this picture shows both."
        )
    image = request.image
    first = image.view(stretch=True).max(axis=2)
    over = _over_the_first(second.image.view(stretch=True, channel=second.channel)[:, :, 0], second.shift)
    base = (0.7 * first).astype(np.uint8)
    picture = np.stack([base, np.maximum(base, over), base], axis=2)
    longest = max(image.width, image.height)
    scale = min(max(1.0, _SIDE_MIN_PX / longest), _SIDE_MAX_PX / longest)
    canvas = PngCanvas(image.width, image.height, scale=scale)
    canvas.image(encode_png(picture), "image/png", image.width, image.height)
    _draw(canvas, request, second.shift)
    return Exported(f"{request.stem}_pair.png", "image/png", canvas.finish(request.caption))


def _over_the_first(view: Gray, shift: Shift) -> Gray:
    """Move the second picture so that its droplets lie on those of the first."""
    dx, dy = shift.at(0.0, 0.0)
    xx, xy, yx, yy = shift.slopes
    matrix = np.array([[1 + xx, xy, dx], [yx, 1 + yy, dy]])  # from the first picture to the second
    size = view.shape[1], view.shape[0]
    return np.asarray(
        cv2.warpAffine(view, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP), np.uint8
    )


def _draw(canvas: PngCanvas, request: ExportRequest, shift: Shift) -> None:
    image: Image = request.image
    wh = (image.width, image.height)
    pen = max(1.0, max(wh) / 1200)
    for droplet in sorted(request.droplets, key=lambda d: d.included):
        colour = assay_colour(droplet, request)
        canvas.polygon(outline_xy(droplet, wh), colour, pen, "", dashed=not droplet.included)
    for inclusion in request.second.inclusions if request.second else ():
        outline = inclusion.outline_xy.astype(np.float64)
        x, y = outline.mean(axis=0).tolist()
        back = shift.at(x - shift.dx_px, y - shift.dy_px)
        canvas.polygon(outline - back, INCLUSION, pen, "")
