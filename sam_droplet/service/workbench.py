"""The façade of the doors that keep state: open, find, click and edit, always for one owner.

It joins the store with a segmenter that it knows only by its two verbs; it never imports a network.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sam_droplet.errors import InputError
from sam_droplet.imaging.images import Calibration, Image, Limits, load_image, load_image_base64
from sam_droplet.imaging.masks import mask_from_polygon
from sam_droplet.measurement.droplets import (
    Droplet,
    Filters,
    SearchProgress,
    checked_filters,
    existing_channel,
    measure,
    measuring,
)
from sam_droplet.service.assays import AssaySettings, settings_as_dict
from sam_droplet.service.image_cache import ImageCache
from sam_droplet.service.records import Annotation, ImageRecord, calibration_as_dict, same_page
from sam_droplet.service.replacement import ModelLike, ResultLike, renew_backgrounds, replace_automatic
from sam_droplet.service.store import Store

MAX_DECODING = 2
IMAGE_CACHE_BYTES = 512 << 20


class CacheLike(Protocol):
    """What keeps the networks' work on images."""

    def answers(self) -> dict[str, int]: ...
    @property
    def memory_bytes(self) -> int: ...
    def disk_bytes(self) -> int: ...


class SegmenterLike(Protocol):
    """The seam to the networks: ``pipeline.Segmenter``, or a simple one in tests."""

    @property
    def loaded(self) -> bool: ...
    def find(self, image: Image, options: Any, on_progress: SearchProgress | None = None) -> ResultLike: ...
    def predict(self, image: Image, prompt: Any, model: str = "auto") -> ResultLike: ...
    def proposals(self, image: Image) -> NDArray[np.float32]: ...
    def models(self) -> list[dict[str, Any]]: ...
    def warm_up(self) -> None: ...
    def runs_on(self) -> dict[str, str]: ...
    def gpu_memory_bytes(self) -> dict[str, int] | None: ...
    @property
    def cache(self) -> CacheLike | None: ...


@dataclass(frozen=True)
class Found:
    """The annotation after *Find droplets*: the ids that it found, and those that came and went by it."""

    annotation: Annotation
    found: list[int]
    added: list[int]
    removed: list[int]


@dataclass(frozen=True)
class Predicted:
    """What a prompt gave; ``committed`` is the droplet that was kept, if any."""

    result: ResultLike
    candidates: list[Droplet]
    committed: Droplet | None
    revision: int


@dataclass(frozen=True)
class Patch:
    """A change of an annotation; what is None stays as it is.

    calibration: a tuple of one, so that (None,) means "no scale" and None means "leave it".
    channel: likewise; the channel that droplets are looked for on, (None,) for all together.
    include takes an exclusion back; include_anyway lets droplets count whatever the filters say, and
    follow_filters takes that back.
    regions: where the page looks for droplets: {"kind", "contour": [x0, y0, …]} in image pixels.
    assays: by name, the settings of assays; None takes one away.
    search: the number of the search whose outlines the change brings back; 0 for none.
    rim_offset_px: the offset of the outlines that the change brings back; it moves none.
    """

    delete: Sequence[int] = ()
    restore: Sequence[int] = ()
    exclude: Sequence[int] = ()
    include: Sequence[int] = ()
    include_anyway: Sequence[int] = ()
    follow_filters: Sequence[int] = ()
    filters: Filters | None = None
    calibration: tuple[Calibration | None] | None = None
    channel: tuple[int | None] | None = None
    regions: Sequence[dict[str, Any]] | None = None
    assays: Mapping[str, AssaySettings | None] = field(default_factory=dict)
    search: int | None = None
    rim_offset_px: float | None = None


class Workbench:
    """Carry out what a user of the pages does."""

    def __init__(self, store: Store, segmenter: SegmenterLike, limits: Limits) -> None:
        self.store = store
        self.segmenter = segmenter
        self.limits = limits
        self._images = ImageCache(IMAGE_CACHE_BYTES)
        self._decoding = threading.BoundedSemaphore(MAX_DECODING)

    def read_image(self, data: bytes, name: str, *, page: int = 0) -> Image:
        """Decode a file; only a few at once, so that many large uploads cannot fill the memory."""
        with self._decoding:
            return load_image(data, name, self.limits, page=page)

    def read_image_base64(self, text: str, name: str) -> Image:
        """Decode a file that came as base64 text."""
        with self._decoding:
            return load_image_base64(text, name, self.limits)

    def open_image(self, owner: str, data: bytes, name: str, *, page: int = 0) -> ImageRecord:
        """Read and keep an uploaded file; the same pixels and name give what is there already."""
        image = self.read_image(data, name, page=page)
        record, _ = self.store.add_image(owner, image, data)
        # The page asks for the picture at once: spare it decoding the file once more.
        self._images.get_or_load(record.id, lambda: same_page(image, record))
        return record

    def list_images(self, owner: str) -> list[ImageRecord]:
        """Return the owner's images, the last used first."""
        return self.store.images(owner)

    def image(self, owner: str, image_id: str) -> tuple[ImageRecord, Image]:
        """Return an image's record and its decoded pixels."""
        record = self.store.image(owner, image_id)
        self.store.note_use(owner, image_id)
        return record, self._pixels(record)

    def annotation(self, owner: str, image_id: str) -> Annotation:
        """Return the droplets of an image with all that belongs to them."""
        annotation = self.store.annotation(owner, image_id)
        self.store.note_use(owner, image_id)
        return annotation

    def find(self, owner: str, image_id: str, options: Any) -> Found:
        """Find droplets and replace the earlier automatic ones, those inside the region if one was searched.

        What the user made, excluded or included survives; a new droplet on top of such a one is not added.
        """
        _, image = self.image(owner, image_id)
        result = self.search(owner, image_id, image, options)
        with self.store.editing(owner, image_id) as edit:
            found, replaced = replace_automatic(edit, result, image, options.roi_xyxy)
            edit.save()
            added, removed = sorted(set(found) - set(replaced)), sorted(set(replaced) - set(found))
            return Found(edit.annotation(), found, added, removed)

    def predict(
        self,
        owner: str,
        image_id: str,
        prompt: Any,
        *,
        source: str,
        model: str = "auto",
        commit: bool = False,
        candidate: int = 0,
    ) -> Predicted:
        """Outline what a prompt points at; with ``commit`` keep one candidate.

        A prompt on background gives no candidate and commits nothing; the message says so.
        """
        _, image = self.image(owner, image_id)
        seen = self._seen(owner, image_id, image)
        # A click draws the same edge of the rim as the search did.
        prompt = replace(prompt, rim_offset_px=self.store.rim_offset_px(owner, image_id))
        result = _measured_on(image, self.segmenter.predict(seen, prompt, model), seen)
        candidates = [replace(d, source=source) for d in result.droplets]
        if not commit or not candidates:
            return Predicted(result, candidates, None, self.store.annotation_revision(owner, image_id))
        if not 0 <= candidate < len(candidates):
            raise InputError(f"candidate must be 0 to {len(candidates) - 1}, not {candidate}.")
        committed, revision = self._commit(owner, image_id, image, candidates[candidate])
        return Predicted(result, candidates, committed, revision)

    def proposals(self, owner: str, image_id: str) -> NDArray[np.float32]:
        """Return the outlines that clicks are answered from, (N, 35); see ``pipeline.Segmenter``."""
        _, image = self.image(owner, image_id)
        return self.segmenter.proposals(self._seen(owner, image_id, image))

    def search(
        self, owner: str, image_id: str, image: Image, options: Any, on_progress: SearchProgress | None = None
    ) -> ResultLike:
        """Find droplets on the channel that was chosen for the image; measured on all of its channels."""
        seen = self._seen(owner, image_id, image)
        return _measured_on(image, self.segmenter.find(seen, options, on_progress), seen, on_progress)

    def open_page(self, owner: str, image_id: str, page: int) -> ImageRecord:
        """Open another page of an image's file as an image of its own, with the scale of the first."""
        record = self.store.image(owner, image_id)
        opened = self.open_image(owner, self.store.file_bytes(record), record.name, page=page)
        if opened.calibration is None and record.calibration is not None:
            self.edit(owner, opened.id, Patch(calibration=(record.calibration,)))
        return opened

    def redraw(
        self, owner: str, image_id: str, contours_xy: Sequence[NDArray[np.float64]], replaces: Sequence[int]
    ) -> tuple[list[Droplet], int]:
        """Put hand-drawn outlines, each (K, 2) in the image-corner frame, in the place of droplets.

        All or nothing, as one revision. Outlines that cover no pixel centre are left out. Returns the
        new droplets and the revision; InputError where no outline is left, NotFound for unknown ids.
        """
        _, image = self.image(owner, image_id)
        drawn = [mask_from_polygon(contour, 1.0, (image.height, image.width)) for contour in contours_xy]
        masks = [mask for mask in drawn if mask is not None]
        if not masks:
            raise InputError("No contour covers a pixel centre of the image; draw larger, in image pixels.")
        measured = measure(image, masks, source="manual", model="manual")
        with self.store.editing(owner, image_id) as edit:
            edit.set_deleted(replaces, True)
            new_ids = set(edit.add(measured))
            renew_backgrounds(edit, image, masks)
            edit.save()
            return [d for d in edit.droplets() if d.id in new_ids], edit.revision

    def add_contour(self, owner: str, image_id: str, contour_xy: NDArray[np.float64]) -> tuple[Droplet, int]:
        """Keep a hand-drawn outline, (K, 2) in the image-corner frame; return it and the revision."""
        (droplet,), revision = self.redraw(owner, image_id, [contour_xy], ())
        return droplet, revision

    def edit(self, owner: str, image_id: str, patch: Patch) -> Annotation:
        """Apply a change; repeating it changes nothing, and its inverse undoes it."""
        with self.store.editing(owner, image_id) as edit:
            edit.set_deleted(patch.delete, True)
            edit.set_deleted(patch.restore, False)
            edit.set_excluded(patch.exclude, True)
            edit.set_excluded(patch.include, False)
            edit.set_included(patch.include_anyway, True)
            edit.set_included(patch.follow_filters, False)
            if patch.filters is not None:
                edit.set_filters(checked_filters(patch.filters, edit.n_channels))
            if patch.channel is not None:
                edit.set_setting("channel", existing_channel(patch.channel[0], edit.n_channels))
            if patch.regions is not None:
                edit.set_setting("regions", list(patch.regions) or None)
            for name, settings in patch.assays.items():
                edit.set_setting(name, None if settings is None else settings_as_dict(settings))
            if patch.calibration is not None:
                edit.set_calibration(patch.calibration[0])
            if patch.search is not None:
                edit.set_search(patch.search)
            if patch.rim_offset_px is not None:
                edit.set_rim_offset(patch.rim_offset_px)
            edit.save()
            return edit.annotation()

    def delete(self, owner: str, image_id: str) -> None:
        """Delete an image with everything that belongs to it."""
        self.store.delete_image(owner, image_id)

    def segment_once(
        self,
        image: Image,
        options: Any,
        preprocess: Callable[[Image], Image] | None = None,
    ) -> ResultLike:
        """Find droplets on an image that is not kept.

        Preprocessing changes what the network sees; intensities are measured on the raw pixels.
        """
        seen = image if preprocess is None else preprocess(image)
        return _measured_on(image, self.segmenter.find(seen, options), seen)

    def _seen(self, owner: str, image_id: str, image: Image) -> Image:
        """Return what the networks look at: one channel where one was chosen."""
        if image.n_channels < 2:
            return image
        channel = self.store.setting(owner, image_id, "channel")
        return image if channel is None else image.only_channel(int(channel))

    def _pixels(self, record: ImageRecord) -> Image:
        def load() -> Image:
            data = self.store.file_bytes(record)
            return same_page(self.read_image(data, record.name, page=record.page), record)

        return self._images.get_or_load(record.id, load)

    def _commit(self, owner: str, image_id: str, image: Image, droplet: Droplet) -> tuple[Droplet, int]:
        with self.store.editing(owner, image_id) as edit:
            (new_id,) = edit.add([droplet])
            renew_backgrounds(edit, image, [droplet.mask])
            edit.save()
            (committed,) = [d for d in edit.droplets() if d.id == new_id]
            return committed, edit.revision


@dataclass(frozen=True)
class _Remeasured:
    droplets: list[Droplet]
    model: ModelLike
    parameters: dict[str, Any]
    timings_s: dict[str, float]
    message: str | None


def _measured_on(
    image: Image, result: ResultLike, seen: Image, on_progress: SearchProgress | None = None
) -> ResultLike:
    """Return a result with its droplets measured on the image itself, where the networks saw another."""
    if seen is image:
        return result
    droplets = measure(
        image,
        [d.mask for d in result.droplets],
        model=result.model.name,
        on_progress=measuring(on_progress),
    )
    return _Remeasured(droplets, result.model, result.parameters, result.timings_s, result.message)


def provenance_as_dict(annotation: Annotation) -> dict[str, Any]:
    """Return what a reader of an exported file needs to do the same again."""
    return {
        "image": annotation.image.name,
        "digest": annotation.image.digest,
        "revision": annotation.revision,
        "model": annotation.model,
        "parameters": annotation.parameters,
        "timings_s": annotation.timings_s,
        "calibration": calibration_as_dict(annotation.calibration),
    }
