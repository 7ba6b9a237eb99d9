"""Digital PCR on one field: droplets from one picture, amplitudes from a second one or the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sam_droplet.errors import InputError
from sam_droplet.imaging.registration import NO_SHIFT, Shift
from sam_droplet.measurement.assays import (
    DdpcrEstimate,
    PolydisperseEstimate,
    ddpcr_estimate,
    json_values,
    polydisperse_estimate,
)
from sam_droplet.measurement.droplets import Droplet
from sam_droplet.measurement.fields import (
    brightest_channel,
    checked_channel,
    core_bits,
    droplet_volumes_pl,
    moved_mask,
    shift_as_dict,
    trusted_shift,
)
from sam_droplet.measurement.intensity import Intensities
from sam_droplet.measurement.thresholds import ThresholdProposal, propose_threshold

if TYPE_CHECKING:
    from sam_droplet.imaging.images import Calibration, Image

AMPLITUDES = ("net", "mean", "ratio")


@dataclass(frozen=True, eq=False)
class Reading:
    """Hold the amplitudes of one field by droplet id, included or not, and how they were read.

    Droplets that lie partly outside the fluorescence picture are missing. shift_note: what to tell.
    """

    amplitude_by_id: Mapping[int, float]
    shift: Shift
    shift_note: str | None
    channel: int
    amplitude: str


def read_amplitudes(
    droplets: Sequence[Droplet],
    fluorescence: Image,
    *,
    channel: int | None = None,
    shift: Shift | None = None,
    amplitude: str = "net",
) -> Reading:
    """Read the amplitude of every droplet from a picture of the same field.

    channel: of ``fluorescence``; without it the one that varies most. shift: of the fluorescence picture
    against the droplets; without it estimated, and taken as zero where that cannot be trusted.
    amplitude: "net" (mean inside minus the local background's median; evens out uneven light), "mean", or
    "ratio" (mean inside over background).
    """
    if amplitude not in AMPLITUDES:
        raise InputError(f"The amplitude must be one of {', '.join(AMPLITUDES)}, not {amplitude!r}.")
    channel = brightest_channel(fluorescence) if channel is None else checked_channel(fluorescence, channel)
    pixels = fluorescence.pixels[:, :, channel]
    shift, note = trusted_shift(droplets, pixels) if shift is None else (shift, None)
    return Reading(amplitudes(droplets, pixels, shift, kind=amplitude), shift, note, channel, amplitude)


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
            # Exact, for pages compare amplitudes with it, and it may lie just above those that are all alike.
            "threshold": self.threshold,
            "threshold_proposal": json_values(vars(self.proposal)),
            "shift": shift_as_dict(self.shift),
            **json_values(
                {
                    name: getattr(self, name)
                    for name in ("n_rain", "rain_concentrations", "n_outside", "channel")
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
    reading: Reading,
    calibration: Calibration | None,
    *,
    threshold: float | None = None,
    dilution: float = 1.0,
) -> DdpcrAssay:
    """Call every included droplet positive or negative and estimate the concentration.

    threshold: amplitude at or above which a droplet is positive; without it proposed.
    """
    included = [d for d in droplets if d.included]
    read = [d for d in included if d.id in reading.amplitude_by_id]
    if not read:
        ratio = reading.amplitude == "ratio"
        raise InputError(
            f"No included droplet lies wholly inside the fluorescence picture ({len(included)} included)"
            f"{' with a background above 0, which a ratio needs' if ratio else ''}. Include droplets, "
            f"{'choose the amplitude net, ' if ratio else ''}or check that both pictures show the same field."
        )
    values = np.array([reading.amplitude_by_id[d.id] for d in read])
    proposal = propose_threshold(values)
    cut = proposal.value if threshold is None else threshold
    positive = values >= cut
    volumes = droplet_volumes_pl(read, calibration)
    estimate = _estimate(values, cut, volumes, dilution)
    own = None if volumes is None else polydisperse_estimate(volumes, positive, dilution=dilution)
    unread = _unread_note(len(included) - len(read), len(included), reading.amplitude)
    notes = (reading.shift_note, unread, proposal.note if threshold is None else None, *estimate.notes)
    return DdpcrAssay(
        estimate=estimate,
        polydisperse=own,
        threshold=cut,
        proposal=proposal,
        amplitude_by_id={d.id: reading.amplitude_by_id[d.id] for d in read},
        positive_by_id={d.id: bool(p) for d, p in zip(read, positive, strict=True)},
        n_rain=int(np.sum((values >= proposal.rain_low) & (values < proposal.rain_high))),
        rain_concentrations=_rain_concentrations(values, proposal, volumes, dilution),
        n_outside=len(included) - len(read),
        shift=reading.shift,
        channel=reading.channel,
        amplitude=reading.amplitude,
        notes=tuple(note for note in notes if note),
    )


def _unread_note(n: int, n_included: int, amplitude: str) -> str | None:
    """Say how many included droplets are in no number of the assay, and why."""
    if n == 0:
        return None
    why = {"net": " or without any background", "ratio": " or without a background above 0"}
    told = f"partly outside the fluorescence picture{why.get(amplitude, '')}"
    return f"Not read: {n} of {n_included} included droplets, {told}."


def amplitudes(
    droplets: Sequence[Droplet], pixels: NDArray[Any], shift: Shift = NO_SHIFT, *, kind: str = "net"
) -> dict[int, float]:
    """Return the amplitude of each droplet by id, read from a raw channel (H, W).

    Missing are droplets that the shift puts partly outside the picture, with "net" or "ratio" those without
    any background around them, and with "ratio" those whose background is not above 0.
    """
    hw = (int(pixels.shape[0]), int(pixels.shape[1]))
    moved = {
        d.id: moved_mask(d.mask, shift.rounded_at(d.measures.center_x_px, d.measures.center_y_px), hw)
        for d in droplets
    }
    seen = [mask for mask in moved.values() if mask is not None]
    whole = {d.id: mask for d in droplets if (mask := moved[d.id]) and mask.area_px == d.mask.area_px}
    intensities = Intensities(pixels, seen)
    backgrounds = [0.0] * len(whole) if kind == "mean" else intensities.backgrounds([*whole.values()])
    found = {}
    for (number, mask), background in zip(whole.items(), backgrounds, strict=True):
        x0, y0, x1, y1 = mask.box_xyxy
        mean = float(pixels[y0:y1, x0:x1][core_bits(mask)].mean(dtype=np.float64))
        if background is None or (kind == "ratio" and background <= 0):
            continue
        found[number] = _amplitude(mean, background, kind)
    return found


def _amplitude(mean: float, background: float, kind: str) -> float:
    if kind == "mean":
        return mean
    return mean - background if kind == "net" else mean / background


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
