"""Two pictures of one field: which channel, and where the droplets of the first lie in the second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_droplet.errors import InputError
from sam_droplet.imaging.masks import Mask, mask_from_bits
from sam_droplet.imaging.registration import NO_SHIFT, Shift, estimate_shift
from sam_droplet.measurement.assays import json_values
from sam_droplet.measurement.droplets import Droplet
from sam_droplet.measurement.statistics import volumes_pl

if TYPE_CHECKING:
    from sam_droplet.imaging.images import Calibration, Image

# Fluorescence is read inside the outer tenth of the radius: the rim refracts and the shift is rounded.
_CORE_SHARE = 0.1
# A smaller shift than this is nothing to tell.
_SHIFT_NOTED_PX = 1.5


@dataclass(frozen=True, eq=False)
class SecondPicture:
    """Hold the second picture of a field as an assay used it.

    shift: where the droplets lie in it. inclusions: beads or cells found in it, in its own frame.
    """

    image: Image
    channel: int
    shift: Shift
    inclusions: tuple[Mask, ...] = ()


def brightest_channel(image: Image) -> int:
    """Return the channel whose bright pixels stand out most from its median."""
    spans = []
    for channel in range(image.n_channels):
        middle, high = np.percentile(image.pixels[:, :, channel], (50, 99.8))
        spans.append(float(high - middle))
    return int(np.argmax(spans))


def checked_channel(image: Image, channel: int) -> int:
    """Return a channel that the picture has; InputError for one that it has not."""
    if not 0 <= channel < image.n_channels:
        raise InputError(
            f"The picture has channels 0 to {image.n_channels - 1}; there is no channel {channel}."
        )
    return channel


def trusted_shift(droplets: Sequence[Droplet], pixels: NDArray[Any]) -> tuple[Shift, str | None]:
    """Return the estimated shift, or none where it cannot be trusted, and what to tell about it."""
    found = align_droplets(droplets, pixels)
    return (found if found.reliable else NO_SHIFT), _shift_note(found)


def align_droplets(droplets: Sequence[Droplet], pixels: NDArray[Any]) -> Shift:
    """Estimate where the droplets lie in a fluorescence channel (H, W) of the same field.

    All droplets help, excluded ones too. The map of droplets is matched, and not the brightfield picture:
    a dense lattice of bright-centred, dark-rimmed discs fits itself equally well at every lattice step,
    while the outlines of unequal droplets fit in one place.
    """
    hw = (int(pixels.shape[0]), int(pixels.shape[1]))
    if not droplets:
        return replace(NO_SHIFT, score=0.0, reliable=False)
    outlines = np.zeros(hw, np.float32)
    for droplet in droplets:
        x0, y0, x1, y1 = droplet.mask.box_xyxy
        if x1 > hw[1] or y1 > hw[0]:
            raise InputError(
                f"Both pictures of a field must have the same size; the fluorescence picture has "
                f"{hw[1]} x {hw[0]} px, and a droplet reaches to x = {x1}, y = {y1}. Choose the pair again."
            )
        outlines[y0:y1, x0:x1][core_bits(droplet.mask)] = 1.0
    raw = np.asarray(pixels, np.float32)
    dark, middle = (float(v) for v in np.percentile(raw, (0.5, 50)))
    # The logarithm lets the many dim droplets weigh as much as the few bright ones.
    even = np.log(np.maximum(raw - dark, 0) + 0.15 * (middle - dark) + 1e-6 * max(1.0, float(raw.max())))
    diameter = float(np.median([d.measures.diameter_px for d in droplets]))
    return estimate_shift(outlines, even, feature_px=diameter)


def shift_as_dict(shift: Shift) -> dict[str, Any]:
    """Return a shift as JSON values, in px, degrees and per cent."""
    numbers = {name: getattr(shift, name) for name in ("dx_px", "dy_px", "turn_degrees", "stretch_percent")}
    about = {name: getattr(shift, name) for name in ("score", "runner_up", "reliable")}
    return json_values(numbers | about | {"middle_xy": shift.middle_xy, "slopes": shift.slopes})


def moved_mask(mask: Mask, shift_xy: tuple[int, int], image_hw: tuple[int, int]) -> Mask | None:
    """Return a mask shifted by whole pixels and clipped to the image; None where nothing is left."""
    dx, dy = shift_xy
    x0, y0, x1, y1 = mask.box_xyxy
    left, top = max(x0 + dx, 0), max(y0 + dy, 0)
    right, bottom = min(x1 + dx, image_hw[1]), min(y1 + dy, image_hw[0])
    if right <= left or bottom <= top:
        return None
    bits = mask.bits[top - y0 - dy : bottom - y0 - dy, left - x0 - dx : right - x0 - dx]
    return mask_from_bits(bits, mask.score, offset_xy=(left, top))


def lies_within(droplet: Droplet, shift: Shift, image_hw: tuple[int, int]) -> bool:
    """Whether all of a droplet's pixels lie in the second picture, of this height and width."""
    shift_xy = shift.rounded_at(droplet.measures.center_x_px, droplet.measures.center_y_px)
    moved = moved_mask(droplet.mask, shift_xy, image_hw)
    return moved is not None and moved.area_px == droplet.mask.area_px


def core_bits(mask: Mask) -> NDArray[np.bool_]:
    """Return the mask's bits without the outer tenth of its radius; all of them where nothing is left."""
    padded = np.pad(mask.bits, 1).astype(np.uint8)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    core = np.asarray(depth > _CORE_SHARE * float(depth.max()) + 0.5)
    return core if core.any() else mask.bits


def droplet_volumes_pl(
    droplets: Sequence[Droplet], calibration: Calibration | None
) -> NDArray[np.float64] | None:
    """Return volumes (N,) in pL, as the chamber of the calibration allows; None without a calibration."""
    if calibration is None:
        return None
    diameters = np.array([d.measures.diameter_px for d in droplets]) * calibration.um_per_px
    return volumes_pl(diameters, calibration.chamber_height_um)


def _shift_note(shift: Shift) -> str | None:
    if not shift.reliable:
        return (
            "The shift between the two pictures could not be found with certainty, so none was applied; "
            "check the overlay."
        )
    if max(abs(shift.dx_px), abs(shift.dy_px)) < _SHIFT_NOTED_PX:
        return None
    turned = ""
    if any(shift.slopes):
        turned = f" (and turned by {shift.turn_degrees:.2f}°, stretched by {shift.stretch_percent:.2f} %)"
    return (
        f"The fluorescence picture is shifted by {shift.dx_px:.1f} px in x and {shift.dy_px:.1f} px in y "
        f"against the droplets{turned}; amplitudes are read at the shifted places."
    )
