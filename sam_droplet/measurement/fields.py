"""One field in two pictures: droplets from the first, amplitudes or inclusions from the second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_droplet.errors import InputError
from sam_droplet.imaging.masks import Mask, mask_from_bits
from sam_droplet.imaging.registration import NO_SHIFT, Shift, estimate_shift
from sam_droplet.measurement.assays import (
    DdpcrEstimate,
    LoadingEstimate,
    PolydisperseEstimate,
    ddpcr_estimate,
    json_values,
    loading_estimate,
    polydisperse_estimate,
)
from sam_droplet.measurement.droplets import Droplet
from sam_droplet.measurement.intensity import Intensities
from sam_droplet.measurement.statistics import volume_pl
from sam_droplet.measurement.thresholds import ThresholdProposal, propose_threshold

if TYPE_CHECKING:
    from sam_droplet.imaging.images import Calibration, Image

AMPLITUDES = ("net", "mean", "ratio")
# Fluorescence is read inside the outer tenth of the radius: the rim refracts and the shift is rounded.
_CORE_SHARE = 0.1
# A smaller shift than this is nothing to tell.
_SHIFT_NOTED_PX = 1.5


@dataclass(frozen=True)
class DdpcrAssay:
    """Hold a digital PCR assay of one field.

    amplitude_by_id: for included droplets wholly inside the fluorescence picture. positive_by_id: at or
    above the threshold. proposal: what the methods suggest; threshold: what was used. polydisperse: None
    without a calibration. rain_concentrations: copies/µL, or copies per droplet without a calibration,
    if the threshold lay at either end of the rain.
    """

    estimate: DdpcrEstimate
    polydisperse: PolydisperseEstimate | None
    threshold: float
    proposal: ThresholdProposal
    amplitude_by_id: Mapping[int, float]
    positive_by_id: Mapping[int, bool]
    n_rain: int
    rain_concentrations: tuple[float, float]
    n_outside: int
    shift: Shift
    channel: int
    amplitude: str
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values; amplitudes and verdicts stay with the droplets (``extra_columns``)."""
        return {
            "estimate": self.estimate.as_dict(),
            "polydisperse": None if self.polydisperse is None else self.polydisperse.as_dict(),
            "n_positive": self.estimate.k,
            "n_negative": self.estimate.n - self.estimate.k,
            "threshold_proposal": json_values(vars(self.proposal)),
            "shift": json_values(vars(self.shift)),
            **json_values(
                {
                    name: getattr(self, name)
                    for name in ("threshold", "n_rain", "rain_concentrations", "n_outside", "channel")
                }
            ),
            "amplitude": self.amplitude,
            "notes": list(self.notes),
        }

    def extra_columns(self) -> dict[int, dict[str, Any]]:
        """Return ``positive`` and ``amplitude`` by droplet id, for the tables."""
        return {
            number: {"positive": self.positive_by_id[number], "amplitude": value}
            for number, value in self.amplitude_by_id.items()
        }


def ddpcr_assay(
    droplets: Sequence[Droplet],
    fluorescence: Image,
    calibration: Calibration | None,
    *,
    channel: int | None = None,
    shift: Shift | None = None,
    threshold: float | None = None,
    dilution: float = 1.0,
    amplitude: str = "net",
) -> DdpcrAssay:
    """Call every included droplet positive or negative and estimate the concentration.

    channel: of ``fluorescence``; without it the one that varies most. shift: of the fluorescence picture
    against the droplets; without it estimated, and taken as zero where that cannot be trusted.
    threshold: amplitude at or above which a droplet is positive; without it proposed.
    amplitude: "net" (mean inside minus the local background's median; evens out uneven light), "mean", or
    "ratio" (mean inside over background).
    """
    if amplitude not in AMPLITUDES:
        raise InputError(f"The amplitude must be one of {', '.join(AMPLITUDES)}, not {amplitude!r}.")
    channel = brightest_channel(fluorescence) if channel is None else _checked_channel(fluorescence, channel)
    pixels = fluorescence.pixels[:, :, channel]
    shift, shift_note = _trusted_shift(droplets, pixels) if shift is None else (shift, None)
    by_id = amplitudes(droplets, pixels, shift, kind=amplitude)
    included = [d for d in droplets if d.included]
    if not by_id:
        raise InputError(
            f"No included droplet lies wholly inside the fluorescence picture ({len(included)} included). "
            "Include droplets, or check that both pictures show the same field."
        )
    values = np.array(list(by_id.values()))
    proposal = propose_threshold(values)
    cut = proposal.value if threshold is None else threshold
    positive = values >= cut
    volumes = _volumes_pl([d for d in included if d.id in by_id], calibration)
    estimate = _estimate(values, cut, volumes, dilution)
    own = None if volumes is None else polydisperse_estimate(volumes, positive, dilution=dilution)
    notes = (shift_note, proposal.note if threshold is None else None, *estimate.notes)
    return DdpcrAssay(
        estimate=estimate,
        polydisperse=own,
        threshold=cut,
        proposal=proposal,
        amplitude_by_id=by_id,
        positive_by_id=dict(zip(by_id, positive.tolist(), strict=True)),
        n_rain=int(np.sum((values >= proposal.rain_low) & (values < proposal.rain_high))),
        rain_concentrations=_rain_concentrations(values, proposal, volumes, dilution),
        n_outside=len(included) - len(by_id),
        shift=shift,
        channel=channel,
        amplitude=amplitude,
        notes=tuple(note for note in notes if note),
    )


def _trusted_shift(droplets: Sequence[Droplet], pixels: NDArray[Any]) -> tuple[Shift, str | None]:
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
        outlines[y0:y1, x0:x1][_core(droplet.mask)] = 1.0
    raw = np.asarray(pixels, np.float32)
    dark, middle = (float(v) for v in np.percentile(raw, (0.5, 50)))
    # The logarithm lets the many dim droplets weigh as much as the few bright ones.
    even = np.log(np.maximum(raw - dark, 0) + 0.15 * (middle - dark) + 1e-6 * max(1.0, float(raw.max())))
    diameter = float(np.median([d.measures.diameter_px for d in droplets]))
    return estimate_shift(outlines, even, feature_px=diameter)


def amplitudes(
    droplets: Sequence[Droplet], pixels: NDArray[Any], shift: Shift = NO_SHIFT, *, kind: str = "net"
) -> dict[int, float]:
    """Return the amplitude of each included droplet by id, read from a raw channel (H, W).

    Droplets that the shift puts partly outside the picture, and with "net" or "ratio" those without any
    background around them, are missing.
    """
    hw = (int(pixels.shape[0]), int(pixels.shape[1]))
    moved = {d.id: moved_mask(d.mask, shift.rounded_xy, hw) for d in droplets}
    present = [mask for mask in moved.values() if mask is not None]
    intensities = Intensities(pixels, present)
    found = {}
    for droplet in droplets:
        mask = moved[droplet.id]
        if not droplet.included or mask is None or mask.area_px < droplet.mask.area_px:
            continue
        x0, y0, x1, y1 = mask.box_xyxy
        mean = float(pixels[y0:y1, x0:x1][_core(mask)].mean(dtype=np.float64))
        ring = intensities.background_pixels(mask) if kind != "mean" else np.zeros(1)
        if len(ring):
            found[droplet.id] = _amplitude(mean, float(np.median(ring)), kind)
    return found


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


def brightest_channel(image: Image) -> int:
    """Return the channel whose bright pixels stand out most from its median."""
    spans = []
    for channel in range(image.n_channels):
        middle, high = np.percentile(image.pixels[:, :, channel], (50, 99.8))
        spans.append(float(high - middle))
    return int(np.argmax(spans))


@dataclass(frozen=True)
class LoadingAssay:
    """Hold which droplet holds which inclusion.

    count_by_id: for each included droplet. parents: for each inclusion the droplet's id, None where it
    lies in no included droplet. n_outside: how many do.
    """

    estimate: LoadingEstimate
    count_by_id: Mapping[int, int]
    parents: tuple[int | None, ...]
    n_outside: int

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values; the counts stay with the droplets (``extra_columns``)."""
        return {**self.estimate.as_dict(), "n_outside": self.n_outside}

    def extra_columns(self) -> dict[int, dict[str, Any]]:
        """Return ``n_inclusions`` by droplet id, for the tables."""
        return {number: {"n_inclusions": count} for number, count in self.count_by_id.items()}


def loading_assay(
    droplets: Sequence[Droplet],
    inclusions: Sequence[Mask],
    calibration: Calibration | None,
    *,
    shift: Shift = NO_SHIFT,
    min_share: float = 0.5,
    stock_per_ml: float | None = None,
) -> LoadingAssay:
    """Count the inclusions (beads, cells) of each included droplet by mask containment.

    inclusions: masks in the frame of their own picture; ``shift`` says where the droplets lie there.
    min_share: share of an inclusion's pixels that must lie in a droplet. Of overlapping droplets the
    smaller one gets the inclusion.
    """
    included = [d for d in droplets if d.included]
    if not included:
        raise InputError("Loading needs at least one included droplet; find droplets or relax the filters.")
    dx, dy = shift.rounded_xy
    owners = _OwnerMap(included)
    parents = tuple(owners.owner(mask, (-dx, -dy), min_share) for mask in inclusions)
    held = Counter(parent for parent in parents if parent is not None)
    counts = {d.id: held[d.id] for d in included}
    volumes = _volumes_pl(included, calibration)
    estimate = loading_estimate(
        Counter(counts.values()),
        stock_per_ml=stock_per_ml,
        volume_pl=None if volumes is None else float(volumes.mean()),
    )
    return LoadingAssay(estimate, counts, parents, sum(parent is None for parent in parents))


class _OwnerMap:
    """Answer which droplet owns a mask, from one picture of droplet ids."""

    def __init__(self, droplets: Sequence[Droplet]) -> None:
        self._width = max(d.mask.box_xyxy[2] for d in droplets)
        self._height = max(d.mask.box_xyxy[3] for d in droplets)
        self._ids = np.zeros((self._height, self._width), np.int64)
        for droplet in sorted(droplets, key=lambda d: -d.mask.area_px):
            x0, y0, x1, y1 = droplet.mask.box_xyxy
            self._ids[y0:y1, x0:x1][droplet.mask.bits] = droplet.id

    def owner(self, mask: Mask, shift_xy: tuple[int, int], min_share: float) -> int | None:
        moved = moved_mask(mask, shift_xy, (self._height, self._width))
        if moved is None:
            return None
        x0, y0, x1, y1 = moved.box_xyxy
        ids, counts = np.unique(self._ids[y0:y1, x0:x1][moved.bits], return_counts=True)
        counts[ids == 0] = 0
        best = int(np.argmax(counts))
        return int(ids[best]) if counts[best] >= min_share * mask.area_px and counts[best] else None


def _amplitude(mean: float, background: float, kind: str) -> float:
    if kind == "mean":
        return mean
    if kind == "net":
        return mean - background
    return mean / background if background > 0 else inf


def _core(mask: Mask) -> NDArray[np.bool_]:
    """Return the mask's bits without the outer tenth of its radius; all of them where nothing is left."""
    padded = np.pad(mask.bits, 1).astype(np.uint8)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    core = np.asarray(depth > _CORE_SHARE * float(depth.max()) + 0.5)
    return core if core.any() else mask.bits


def _volumes_pl(droplets: Sequence[Droplet], calibration: Calibration | None) -> NDArray[np.float64] | None:
    if calibration is None:
        return None
    diameters = np.array([d.measures.diameter_px for d in droplets]) * calibration.um_per_px
    return np.asarray(volume_pl(1.0) * diameters**3)


def _estimate(
    values: NDArray[np.float64], cut: float, volumes: NDArray[np.float64] | None, dilution: float
) -> DdpcrEstimate:
    mean = None if volumes is None else float(volumes.mean())
    return ddpcr_estimate(int(np.sum(values >= cut)), len(values), mean, dilution=dilution)


def _rain_concentrations(
    values: NDArray[np.float64],
    proposal: ThresholdProposal,
    volumes: NDArray[np.float64] | None,
    dilution: float,
) -> tuple[float, float]:
    """Return the concentrations with all rain negative and with all rain positive."""
    estimates = [_estimate(values, cut, volumes, dilution) for cut in (proposal.rain_high, proposal.rain_low)]
    low, high = (e.lam if e.copies_per_ul is None else e.copies_per_ul for e in estimates)
    return low, high


def _shift_note(shift: Shift) -> str | None:
    if not shift.reliable:
        return (
            "The shift between the two pictures could not be found with certainty, so none was applied; "
            "check the overlay."
        )
    if max(abs(shift.dx_px), abs(shift.dy_px)) < _SHIFT_NOTED_PX:
        return None
    return (
        f"The fluorescence picture is shifted by {shift.dx_px:.1f} px in x and {shift.dy_px:.1f} px in y "
        "against the droplets; amplitudes are read at the shifted places."
    )


def _checked_channel(image: Image, channel: int) -> int:
    if not 0 <= channel < image.n_channels:
        raise InputError(
            f"The picture has channels 0 to {image.n_channels - 1}; there is no channel {channel}."
        )
    return channel
