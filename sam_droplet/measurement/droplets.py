"""Droplets: what is measured on each, which are included and why the others are not.

Measured on the raw pixels and always in px; µm, µm² and pL are derived from the calibration.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol

from sam_droplet.errors import InputError
from sam_droplet.imaging.masks import Mask
from sam_droplet.measurement.geometry import Shape, shapes_alike
from sam_droplet.measurement.intensity import Intensities, Intensity
from sam_droplet.measurement.stacks import measure_alike
from sam_droplet.measurement.statistics import rounded, volumes_pl
from sam_droplet.measurement.summary import summarize

if TYPE_CHECKING:
    from sam_droplet.imaging.images import Calibration, Image

__all__ = [
    "COLUMNS",
    "Droplet",
    "Filters",
    "Measures",
    "apply_filters",
    "channel_of",
    "droplet_record",
    "measure",
    "summarize",
]

SHAPE_COLUMNS = tuple(f.name for f in fields(Shape))
INTENSITY_COLUMNS = tuple(f.name for f in fields(Intensity) if f.name != "mean_intensity_by_channel")
# The order of the table, of the filters and so of the reasons for exclusion.
COLUMNS = (*SHAPE_COLUMNS, *INTENSITY_COLUMNS)
_CHANNEL_PREFIX = "mean_intensity_c"
_CHANNEL_COLUMN = re.compile(rf"{_CHANNEL_PREFIX}([0-9]{{1,5}})")


@dataclass(frozen=True)
class Measures(Intensity, Shape):
    """All numbers of one droplet; the field names are the column names."""

    def column(self, name: str) -> float | None:
        """Return one column by name, ``mean_intensity_c0``... included; InputError if unknown."""
        if name in COLUMNS:
            value: float | None = getattr(self, name)
            return value
        channel = channel_of(name)
        if channel is not None and channel < len(self.mean_intensity_by_channel):
            return self.mean_intensity_by_channel[channel]
        raise InputError(f"There is no column {name!r}; use one of {', '.join(COLUMNS)} or score.")


def channel_of(column: str) -> int | None:
    """Return whose mean the column of a channel holds, ``mean_intensity_c0``...; None for all other names."""
    match = _CHANNEL_COLUMN.fullmatch(column)
    return None if match is None else int(match[1])


@dataclass(frozen=True, eq=False)
class Droplet:
    """Hold one droplet: its pixels, where it comes from, its numbers, and whether it counts.

    source: "auto", "point", "box" or "manual". exclusion_reason: None exactly where included.
    included_although: the reason that the filters give, where it counts only because the user said so.
    """

    id: int
    mask: Mask
    source: str
    score: float
    model: str
    measures: Measures
    included: bool = True
    exclusion_reason: str | None = None
    excluded_by_user: bool = False
    included_by_user: bool = False
    included_although: str | None = None


@dataclass(frozen=True)
class Filters:
    """Say which droplets count: an inclusive (low, high) range per column, None for no limit."""

    ranges: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    exclude_edge: bool = False


class SearchProgress(Protocol):
    """Told what is done and what there is in all of a stage, "finding" or "measuring"; may raise to end."""

    def __call__(self, done: int, total: int, stage: str = "finding", /) -> None: ...


def measuring(on_progress: SearchProgress | None) -> Callable[[int, int], None] | None:
    """Return what tells a search of its measurements: the ``on_progress`` of ``measure``."""
    return None if on_progress is None else lambda done, total: on_progress(done, total, "measuring")


def measure(
    image: Image,
    masks: Sequence[Mask],
    *,
    source: str = "auto",
    model: str = "",
    first_id: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Droplet]:
    """Measure masks on the raw pixels of their image, in the order given.

    masks: all of the image's, for each keeps the background ring of its neighbours clean.
    on_progress: called with how many are measured, of how many; what it raises ends the work.
    Raises InputError where a mask reaches outside the image.
    """
    hw = (image.height, image.width)
    intensities = Intensities(image.pixels, masks)
    done = 0

    def measure_these(alike: Sequence[Mask]) -> list[Measures]:
        nonlocal done
        pairs = zip(shapes_alike(alike, hw), intensities.measure_alike(alike), strict=True)
        measures = [Measures(**vars(shape), **vars(intensity)) for shape, intensity in pairs]
        done += len(alike)
        if on_progress is not None:
            on_progress(done, len(masks))
        return measures

    return [
        Droplet(number, mask, source, mask.score, model, measures)
        for number, (mask, measures) in enumerate(
            zip(masks, measure_alike(masks, measure_these), strict=True), first_id
        )
    ]


def apply_filters(droplets: Sequence[Droplet], filters: Filters) -> list[Droplet]:
    """Return the same droplets with ``included`` and the reason for or against it set anew.

    The reason is the first that applies: "user", "touches_edge", then the columns in table order
    as ``<column>_below`` or ``<column>_above``. A droplet without the number passes its range.
    What the user included counts whatever the filters say; what the user excluded never does.
    """
    ranges = _checked_ranges(filters.ranges)
    return [_judged(d, _filter_reason(d, ranges, filters.exclude_edge)) for d in droplets]


def checked_filters(filters: Filters, n_channels: int) -> Filters:
    """Return filters whose channels a picture has; InputError for a column of one that it has not."""
    for column in filters.ranges:
        existing_channel(channel_of(column), n_channels)
    return filters


def existing_channel(channel: int | None, n_channels: int) -> int | None:
    """Return a channel that an image has, or None for all together; InputError for one that it has not."""
    if channel is not None and not 0 <= channel < n_channels:
        raise InputError(f"The image has channels 0 to {n_channels - 1}; there is no channel {channel}.")
    return channel


def _judged(droplet: Droplet, filtered: str | None) -> Droplet:
    """Let the user's word stand above what the filters say."""
    is_kept = droplet.included_by_user and not droplet.excluded_by_user
    reason = "user" if droplet.excluded_by_user else None if is_kept else filtered
    return replace(
        droplet,
        included=reason is None,
        exclusion_reason=reason,
        included_although=filtered if is_kept else None,
    )


def _checked_ranges(
    ranges: Mapping[str, tuple[float | None, float | None]],
) -> list[tuple[str, float | None, float | None]]:
    """Return the ranges in table order; InputError for an unknown column or a bad limit."""
    order = {name: position for position, name in enumerate((*COLUMNS, "score"))}
    for name, limits in ranges.items():
        if name not in order and channel_of(name) is None:
            raise InputError(f"There is no column {name!r} to filter by; use one of {', '.join(order)}.")
        given = [limit for limit in limits if limit is not None]
        if not all(isinstance(limit, (int, float)) and isfinite(limit) for limit in given):
            raise InputError(f"The limits of {name} must be finite numbers or null, not {tuple(limits)}.")
    ordered = sorted(ranges.items(), key=lambda item: (order.get(item[0], len(order)), item[0]))
    return [(name, low, high) for name, (low, high) in ordered]


def _filter_reason(
    droplet: Droplet, ranges: Sequence[tuple[str, float | None, float | None]], exclude_edge: bool
) -> str | None:
    if exclude_edge and droplet.measures.touches_edge:
        return "touches_edge"
    for name, low, high in ranges:
        value = droplet.score if name == "score" else droplet.measures.column(name)
        if value is None:
            continue
        if low is not None and value < low:
            return f"{name}_below"
        if high is not None and value > high:
            return f"{name}_above"
    return None


def droplet_record(droplet: Droplet, calibration: Calibration | None) -> dict[str, Any]:
    """Return the flat JSON record that the page, the API and every file show.

    Floats carry seven significant digits; the micrometre columns are None without a calibration.
    """
    m = droplet.measures
    record: dict[str, Any] = {
        "id": droplet.id,
        "source": droplet.source,
        "model": droplet.model,
        "score": rounded(droplet.score),
        "included": droplet.included,
        "exclusion_reason": droplet.exclusion_reason,
        "excluded_by_user": droplet.excluded_by_user,
        "included_by_user": droplet.included_by_user,
        "included_although": droplet.included_although,
    }
    record.update({name: rounded(getattr(m, name)) for name in COLUMNS})
    if len(m.mean_intensity_by_channel) > 1:
        for channel, value in enumerate(m.mean_intensity_by_channel):
            record[f"{_CHANNEL_PREFIX}{channel}"] = rounded(value)
    record |= dict.fromkeys(("diameter_um", "area_um2", "volume_pl", "feret_max_um", "feret_min_um"))
    if calibration is not None:
        um = calibration.um_per_px
        record["diameter_um"] = rounded(m.diameter_px * um)
        record["area_um2"] = rounded(m.area_px * um**2)
        volume = float(volumes_pl(m.diameter_px * um, calibration.chamber_height_um))
        record["volume_pl"] = rounded(volume)
        record["feret_max_um"] = rounded(m.feret_max_px * um)
        record["feret_min_um"] = rounded(m.feret_min_px * um)
    record["bbox"] = list(droplet.mask.bbox_xywh)
    return record
