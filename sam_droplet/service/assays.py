"""Assays of stored images: their settings are kept with the annotation, their results follow from it.

Nothing computed is stored, so no result can disagree with the droplets on screen.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from sam_droplet.errors import InputError, SamDropletError
from sam_droplet.imaging.images import Image
from sam_droplet.imaging.masks import Mask
from sam_droplet.imaging.registration import NO_SHIFT, Shift
from sam_droplet.imaging.spots import find_spots
from sam_droplet.measurement.ddpcr import Reading, ddpcr_assay, read_amplitudes
from sam_droplet.measurement.fields import SecondPicture, brightest_channel, checked_channel
from sam_droplet.measurement.loading import loading_assay
from sam_droplet.measurement.populations import intensity_classes, size_groups
from sam_droplet.service.records import Annotation, ImageRecord

_KEPT_READINGS = 8


@dataclass(frozen=True)
class DdpcrSettings:
    """Say how amplitudes are read and judged; None lets the software choose.

    second_image_id: the fluorescence picture; None takes the droplets' own image. channel: of it.
    shift_px: (dx, dy) of it against the droplets. threshold: amplitude from which a droplet is positive.
    """

    second_image_id: str | None = None
    channel: int | None = None
    shift_px: tuple[float, float] | None = None
    threshold: float | None = None
    dilution: float = 1.0
    amplitude: str = "net"


@dataclass(frozen=True)
class LoadingSettings:
    """Say where beads or cells are seen; None lets the software choose.

    second_image_id, channel, shift_px: as for ddPCR, but the shift is zero unless given. threshold: raw
    value from which a pixel belongs to an inclusion. inclusion_diameter_px: of one bead or cell.
    stock_per_ml: concentration of the stock, to compare with.
    """

    second_image_id: str | None = None
    channel: int | None = None
    shift_px: tuple[float, float] | None = None
    threshold: float | None = None
    inclusion_diameter_px: float | None = None
    stock_per_ml: float | None = None


@dataclass(frozen=True)
class GroupSettings:
    """Say into how many groups of size the droplets are split; None: as many as the data support."""

    n_groups: int | None = None


@dataclass(frozen=True)
class IntensitySettings:
    """Say which column parts high from low, and where; None: by Otsu's method."""

    column: str = "mean_intensity"
    threshold: float | None = None


AssaySettings = DdpcrSettings | LoadingSettings | GroupSettings | IntensitySettings
ASSAYS: Mapping[str, type[AssaySettings]] = {
    "ddpcr": DdpcrSettings,
    "loading": LoadingSettings,
    "groups": GroupSettings,
    "intensity": IntensitySettings,
}


@dataclass(frozen=True, eq=False)
class Outcome:
    """Hold one assay's result.

    result: JSON values, with the settings. by_id: what it says of each droplet, by table column.
    readings: what a page needs to draw it: lists of equal length. second: its second picture, if any.
    """

    result: dict[str, Any]
    by_id: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    readings: Mapping[str, list[Any]] = field(default_factory=dict)
    second: SecondPicture | None = None


class AssayDesk:
    """Compute the assays of annotations; keeps what is slow and does not change, per process."""

    def __init__(self, open_image: Callable[[str, str], tuple[ImageRecord, Image]]) -> None:
        self._open_image = open_image
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def outcomes(self, owner: str, annotation: Annotation) -> dict[str, Outcome]:
        """Return the outcome of every assay that the annotation has settings for.

        One that cannot be computed (its second picture was deleted, nothing is included) says why in
        ``result["error"]`` and hides no other.
        """
        found = {}
        for name, kind in ASSAYS.items():
            given = annotation.settings.get(name)
            if given is None:
                continue
            try:
                found[name] = self.outcome(owner, annotation, _settings_from(kind, given))
            except SamDropletError as error:
                found[name] = Outcome({"settings": given, "error": error.message})
        return found

    def outcome(self, owner: str, annotation: Annotation, settings: AssaySettings) -> Outcome:
        """Compute one assay; InputError where its settings do not fit the images."""
        if isinstance(settings, DdpcrSettings):
            outcome = self._ddpcr(owner, annotation, settings)
        elif isinstance(settings, LoadingSettings):
            outcome = self._loading(owner, annotation, settings)
        elif isinstance(settings, GroupSettings):
            outcome = _groups(annotation, settings)
        else:
            outcome = _intensity(annotation, settings)
        outcome.result["settings"] = settings_as_dict(settings)
        return outcome

    def _ddpcr(self, owner: str, annotation: Annotation, settings: DdpcrSettings) -> Outcome:
        second = self._second(owner, annotation, settings)
        shift = _given_shift(settings)
        if settings.second_image_id is None:
            shift = shift or NO_SHIFT

        def read() -> Reading:
            return read_amplitudes(
                annotation.droplets,
                second,
                channel=settings.channel,
                shift=shift,
                amplitude=settings.amplitude,
            )

        key = (*_droplets_key(annotation), second.digest, settings.channel, shift, settings.amplitude)
        reading = self._keep(key, read)
        assay = ddpcr_assay(
            annotation.droplets,
            reading,
            annotation.calibration,
            threshold=settings.threshold,
            dilution=settings.dilution,
        )
        amplitude = reading.amplitude_by_id
        return Outcome(
            assay.as_dict(),
            assay.extra_columns(),
            {"ids": list(amplitude), "amplitude": list(amplitude.values())},
            SecondPicture(second, reading.channel, reading.shift),
        )

    def _loading(self, owner: str, annotation: Annotation, settings: LoadingSettings) -> Outcome:
        second = self._second(owner, annotation, settings)
        channel = (
            brightest_channel(second)
            if settings.channel is None
            else checked_channel(second, settings.channel)
        )

        def find() -> list[Mask]:
            pixels = second.pixels[:, :, channel]
            return find_spots(
                pixels, diameter_px=settings.inclusion_diameter_px, threshold=settings.threshold
            )

        key = (second.digest, channel, settings.inclusion_diameter_px, settings.threshold)
        spots = self._keep(key, find)
        assay = loading_assay(
            annotation.droplets,
            spots,
            annotation.calibration,
            shift=_given_shift(settings) or NO_SHIFT,
            stock_per_ml=settings.stock_per_ml,
            second_hw=(second.height, second.width),
        )
        counts = assay.count_by_id
        return Outcome(
            assay.as_dict() | {"channel": channel},
            assay.extra_columns(),
            {"ids": list(counts), "n_inclusions": list(counts.values())},
            SecondPicture(second, channel, assay.shift, tuple(spots)),
        )

    def _second(self, owner: str, annotation: Annotation, settings: DdpcrSettings | LoadingSettings) -> Image:
        """Return the second picture, which must have the size of the first."""
        record, image = self._open_image(owner, settings.second_image_id or annotation.image.id)
        own = annotation.image
        if (record.width, record.height) != (own.width, own.height):
            raise InputError(
                f"Both pictures of a field must have the same size, but {own.name!r} has {own.width} × "
                f"{own.height} px and {record.name!r} {record.width} × {record.height} px. "
                "Choose the pair again."
            )
        return image

    def _keep(self, key: Hashable, make: Callable[[], Any]) -> Any:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > _KEPT_READINGS:
                self._kept.popitem(last=False)
        return made


def _groups(annotation: Annotation, settings: GroupSettings) -> Outcome:
    calibration = annotation.calibration
    scale, height = (
        (1.0, None) if calibration is None else (calibration.um_per_px, calibration.chamber_height_um)
    )
    found = size_groups(annotation.droplets, n_groups=settings.n_groups, scale=scale, chamber_height=height)
    names = found.names_by_id
    return Outcome(
        found.as_dict() | {"unit": "px" if calibration is None else "um"},
        {number: {"class": name} for number, name in names.items()},
        {"ids": list(names), "class": list(names.values())},
    )


def _intensity(annotation: Annotation, settings: IntensitySettings) -> Outcome:
    found = intensity_classes(annotation.droplets, threshold=settings.threshold, column=settings.column)
    by_id = {
        number: {"intensity_class": name} for name in ("high", "low") for number in found[name].pop("ids")
    }
    numbers = sorted(by_id)
    return Outcome(
        found, by_id, {"ids": numbers, "intensity_class": [by_id[n]["intensity_class"] for n in numbers]}
    )


def _droplets_key(annotation: Annotation) -> tuple[Hashable, ...]:
    """Return what names the masks of an annotation: ids are never used twice, and masks never change."""
    return annotation.image.id, tuple(d.id for d in annotation.droplets)


def _given_shift(settings: DdpcrSettings | LoadingSettings) -> Shift | None:
    if settings.shift_px is None:
        return None
    dx, dy = settings.shift_px
    return Shift(dx, dy, 1.0, 0.0, True)


def settings_as_dict(settings: AssaySettings) -> dict[str, Any]:
    """Return settings as they come back from JSON, so that equal ones compare equal."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()
    }


def _settings_from(kind: type[AssaySettings], given: Mapping[str, Any]) -> AssaySettings:
    """Read what ``asdict`` wrote; a name that another version wrote is left out."""
    known = {f.name for f in fields(kind)}
    values = {name: value for name, value in given.items() if name in known}
    if values.get("shift_px") is not None:
        values["shift_px"] = tuple(values["shift_px"])
    return kind(**values)
