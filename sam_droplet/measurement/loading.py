"""Loading: which droplet of one field holds which bead or cell of another picture of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sam_droplet.errors import InputError
from sam_droplet.imaging.masks import Mask
from sam_droplet.imaging.registration import NO_SHIFT, Shift
from sam_droplet.measurement.assays import LoadingEstimate, loading_estimate
from sam_droplet.measurement.droplets import Droplet
from sam_droplet.measurement.fields import droplet_volumes_pl, lies_within, moved_mask, shift_as_dict

if TYPE_CHECKING:
    from sam_droplet.imaging.images import Calibration

# So much of a bead or cell lies in the droplet that holds it.
_OWNED_SHARE = 0.5


@dataclass(frozen=True)
class LoadingAssay:
    """Hold which droplet holds which inclusion.

    count_by_id: for each included droplet that lies wholly in the inclusions' picture. parents: for each
    inclusion the droplet's id, None where it lies in no included droplet. n_outside: how many do.
    n_unseen: included droplets that lie partly outside the inclusions' picture, which are not counted.
    shift: of the inclusions' picture, as used. lacks_volume: whether a stock was given, but no calibration.
    """

    estimate: LoadingEstimate
    count_by_id: Mapping[int, int]
    parents: tuple[int | None, ...]
    n_outside: int
    shift: Shift
    n_unseen: int = 0
    lacks_volume: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values; the counts stay with the droplets (``extra_columns``)."""
        about = {"n_outside": self.n_outside, "n_unseen": self.n_unseen}
        said = {"shift": shift_as_dict(self.shift), "notes": self.notes()}
        return self.estimate.as_dict() | about | said

    def notes(self) -> list[str]:
        """Say in words what a reviewer would ask about."""
        notes = []
        if not self.parents:
            notes.append("Nothing bright was found in the second picture; check its channel.")
        if self.n_outside:
            notes.append(f"{self.n_outside} of {len(self.parents)} inclusions lie in no included droplet.")
        if self.n_unseen:
            n = self.n_unseen + len(self.count_by_id)
            notes.append(
                f"Not counted: {self.n_unseen} of {n} included droplets, partly outside the second picture."
            )
        if self.lacks_volume:
            notes.append("Without a calibration there are no volumes and so no λ from the stock.")
        return notes

    def extra_columns(self) -> dict[int, dict[str, Any]]:
        """Return ``n_inclusions`` by droplet id, for the tables."""
        return {number: {"n_inclusions": count} for number, count in self.count_by_id.items()}


def loading_assay(
    droplets: Sequence[Droplet],
    inclusions: Sequence[Mask],
    calibration: Calibration | None,
    *,
    shift: Shift = NO_SHIFT,
    stock_per_ml: float | None = None,
    second_hw: tuple[int, int] | None = None,
) -> LoadingAssay:
    """Count the inclusions (beads, cells) of each included droplet by mask containment.

    inclusions: masks in the frame of their own picture; ``shift`` says where the droplets lie there.
    second_hw: height and width of that picture; what the shift puts partly outside of it is not counted, as
    it would pass for empty.
    Half of an inclusion's pixels must lie in a droplet; of overlapping droplets the smaller one gets it.
    """
    included = [d for d in droplets if d.included]
    if not included:
        raise InputError("Loading needs at least one included droplet; find droplets or relax the filters.")
    owners = _OwnerMap(included)
    parents = tuple(owners.owner(mask, _shift_back(mask, shift)) for mask in inclusions)
    held = Counter(parent for parent in parents if parent is not None)
    seen = [d for d in included if second_hw is None or lies_within(d, shift, second_hw)]
    if not seen:
        raise InputError("No included droplet lies wholly inside the second picture; check the shift.")
    counts = {d.id: held[d.id] for d in seen}
    volumes = droplet_volumes_pl(seen, calibration)
    estimate = loading_estimate(
        Counter(counts.values()),
        stock_per_ml=stock_per_ml,
        volume_pl=None if volumes is None else float(volumes.mean()),
    )
    return LoadingAssay(
        estimate=estimate,
        count_by_id=counts,
        parents=parents,
        n_outside=sum(parent is None for parent in parents),
        shift=shift,
        n_unseen=len(included) - len(seen),
        lacks_volume=stock_per_ml is not None and volumes is None,
    )


def _shift_back(inclusion: Mask, shift: Shift) -> tuple[int, int]:
    """Return by how much an inclusion moves to lie over the droplets, in whole pixels."""
    x0, y0, x1, y1 = inclusion.box_xyxy
    x, y = (x0 + x1) / 2 - shift.dx_px, (y0 + y1) / 2 - shift.dy_px  # slopes are slight
    dx, dy = shift.rounded_at(x, y)
    return -dx, -dy


class _OwnerMap:
    """Answer which droplet owns a mask, from one picture of droplet ids."""

    def __init__(self, droplets: Sequence[Droplet]) -> None:
        self._width = max(d.mask.box_xyxy[2] for d in droplets)
        self._height = max(d.mask.box_xyxy[3] for d in droplets)
        self._ids = np.zeros((self._height, self._width), np.int64)
        for droplet in sorted(droplets, key=lambda d: -d.mask.area_px):
            x0, y0, x1, y1 = droplet.mask.box_xyxy
            self._ids[y0:y1, x0:x1][droplet.mask.bits] = droplet.id

    def owner(self, mask: Mask, shift_xy: tuple[int, int]) -> int | None:
        moved = moved_mask(mask, shift_xy, (self._height, self._width))
        if moved is None:
            return None
        x0, y0, x1, y1 = moved.box_xyxy
        ids, counts = np.unique(self._ids[y0:y1, x0:x1][moved.bits], return_counts=True)
        counts[ids == 0] = 0
        best = int(np.argmax(counts))
        return int(ids[best]) if counts[best] >= _OWNED_SHARE * mask.area_px and counts[best] else None
