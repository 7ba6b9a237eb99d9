"""What a search changes on an annotation: which droplets go, which stay, and which come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging.images import Image
from sam_droplet.imaging.masks import Mask, iou, is_centred_in
from sam_droplet.imaging.rim_offset import offset_mask
from sam_droplet.measurement.droplets import Droplet, measure
from sam_droplet.measurement.intensity import Intensities, background_reach_px
from sam_droplet.service.annotation_edit import AnnotationEdit
from sam_droplet.service.records import rim_offset_of

SAME_DROPLET_IOU = 0.5


class ModelLike(Protocol):
    """Which model answered."""

    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def device(self) -> str: ...


class ResultLike(Protocol):
    """What a segmenter returns."""

    @property
    def droplets(self) -> list[Droplet]: ...
    @property
    def model(self) -> ModelLike: ...
    @property
    def parameters(self) -> dict[str, Any]: ...
    @property
    def timings_s(self) -> dict[str, float]: ...
    @property
    def message(self) -> str | None: ...


def model_as_dict(model: ModelLike) -> dict[str, Any]:
    """Return which model answered as JSON."""
    return {"name": model.name, "sha256": model.sha256, "device": model.device}


def replace_automatic(
    edit: AnnotationEdit,
    result: ResultLike,
    image: Image,
    roi_xyxy: tuple[float, float, float, float] | None,
) -> tuple[list[int], list[int]]:
    """Put found droplets in the place of the earlier automatic ones; return the ids that came and went.

    What is found exactly as before keeps its id, so it is in both lists. What the user made, excluded
    or included survives; a new droplet on top of such a one is not added. Where the search has another
    rim offset than the one before, the survivors' outlines move, too.
    """
    before = edit.droplets()
    replaced = [d.id for d in before if _is_replaced(d, roi_xyxy)]
    surviving = [d for d in before if not _is_replaced(d, roi_xyxy)]
    change_px = rim_offset_of(result.parameters) - edit.rim_offset_px
    drawn = [d for d in surviving if change_px and d.source != "manual"]
    moved = _moved(drawn, change_px, image)
    staying = [d.mask for d in surviving if d not in drawn] + [d.mask for d in moved]
    new = _beside(result.droplets, staying)
    replaced += [d.id for d in drawn]
    edit.set_deleted(replaced, True)
    found = edit.put_automatic([replace(d, source="auto") for d in new])
    # One that comes back may have been read between others than there are now.
    edit.set_backgrounds({i: d.measures.background_intensity for i, d in zip(found, new, strict=True)})
    came = found + edit.add(moved)
    renew_backgrounds(edit, image, staying)
    edit.set_provenance(
        model=model_as_dict(result.model),
        parameters=result.parameters,
        timings_s=result.timings_s,
        message=result.message,
    )
    return came, replaced


def renew_backgrounds(edit: AnnotationEdit, image: Image, added: Sequence[Mask]) -> None:
    """Read the background of added droplets, and of those around them, between all that there are now."""
    droplets = edit.droplets()
    if not added or not droplets:
        return
    near = [droplets[i] for i in _near(droplets, added)]
    read = Intensities(image.pixels, [d.mask for d in droplets]).backgrounds([d.mask for d in near])
    edit.set_backgrounds({d.id: value for d, value in zip(near, read, strict=True)})


def _near(droplets: Sequence[Droplet], added: Sequence[Mask]) -> list[int]:
    """Return the indices of the droplets whose background rings may reach into added masks."""
    reach = np.array([background_reach_px(d.mask) for d in droplets])[:, None]
    boxes = np.array([d.mask.box_xyxy for d in droplets]) + np.hstack([-reach, -reach, reach, reach])
    is_near = np.zeros(len(droplets), bool)
    for mask in added:
        is_near |= _meet(boxes, mask)
    return np.flatnonzero(is_near).tolist()


def _moved(droplets: Sequence[Droplet], change_px: float, image: Image) -> list[Droplet]:
    """Return droplets whose outlines lie farther out, measured anew; those that vanish are left out."""
    pairs = [(d, offset_mask(d.mask, change_px, (image.height, image.width))) for d in droplets]
    kept = [(d, mask) for d, mask in pairs if mask is not None]
    measured = measure(image, [mask for _, mask in kept])
    return [
        replace(d, mask=mask, measures=fresh.measures)
        for (d, mask), fresh in zip(kept, measured, strict=True)
    ]


def _is_replaced(droplet: Droplet, roi_xyxy: tuple[float, float, float, float] | None) -> bool:
    if droplet.source != "auto" or droplet.excluded_by_user or droplet.included_by_user:
        return False
    return roi_xyxy is None or is_centred_in(droplet.mask, roi_xyxy)


def _beside(droplets: Sequence[Droplet], masks: Sequence[Mask]) -> list[Droplet]:
    """Return the droplets that are none of these masks."""
    boxes = np.array([mask.box_xyxy for mask in masks]).reshape(-1, 4)

    def is_new(droplet: Droplet) -> bool:
        near = np.flatnonzero(_meet(boxes, droplet.mask))
        return not any(iou(droplet.mask, masks[i]) > SAME_DROPLET_IOU for i in near.tolist())

    return [droplet for droplet in droplets if is_new(droplet)]


def _meet(boxes_xyxy: NDArray[np.number], mask: Mask) -> NDArray[np.bool_]:
    """Return which boxes (N, 4) share a place with that of a mask, (N,)."""
    x0, y0, x1, y1 = mask.box_xyxy
    left, top, right, bottom = boxes_xyxy.T
    return np.asarray((left < x1) & (right > x0) & (top < y1) & (bottom > y0))
