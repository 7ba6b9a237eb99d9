"""What a job of images gave, as it stands now: corrections made since on an image's page count, too."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sam_droplet.errors import NotFound
from sam_droplet.service.batch import summary_line
from sam_droplet.service.job_tables import DONE, Item, Job
from sam_droplet.service.records import Annotation
from sam_droplet.service.store import Store

if TYPE_CHECKING:
    from sam_droplet.measurement.export.combined import ImagePart

KEPT_LINES = 20_000
FEW_DROPLETS = 30
EDGE_SHARE = 0.3


@dataclass(frozen=True)
class ImageOutcome:
    """One image of a job: its numbers now (None where it has none), and what to look at twice.

    flags: sentences. is_there: False once the image was deleted.
    """

    line: Mapping[str, Any] | None
    revision: int | None
    message: str | None
    flags: tuple[str, ...]
    is_there: bool


class BatchResults:
    """Bring the results of jobs up to date; remembers what it computed. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lines: OrderedDict[tuple[str, int], dict[str, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def outcomes(self, owner: str, items: Sequence[Item]) -> list[ImageOutcome]:
        """Return the outcome of each item, in order."""
        revisions = self._store.annotation_revisions(owner, [str(i.subject["image_id"]) for i in items])
        return [self._outcome(owner, item, revisions) for item in items]

    def parts(self, owner: str, job: Job, items: Sequence[Item]) -> Iterator[ImagePart]:
        """Give the images of a job for the combined files one by one; those that failed have no rows."""
        from sam_droplet.measurement.export.combined import unique_names

        names = unique_names([str(item.subject["name"]) for item in items])
        for item, name in zip(items, names, strict=True):
            yield self._part(owner, job, item, name)

    def _outcome(self, owner: str, item: Item, revisions: Mapping[str, int]) -> ImageOutcome:
        image_id = str(item.subject["image_id"])
        revision = revisions.get(image_id)
        if item.state != DONE or item.result is None:
            return ImageOutcome(None, revision, item.message, (), revision is not None)
        line = item.result["line"]
        if revision is not None and revision != item.result["revision"]:
            line = self._line(owner, image_id, revision, line)
        flags = tuple(_flags(line, item.result))
        return ImageOutcome(line, revision, item.result["message"], flags, revision is not None)

    def _line(
        self, owner: str, image_id: str, revision: int, otherwise: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        with self._lock:
            known = self._lines.get((image_id, revision))
        if known is not None:
            return known
        try:
            annotation = self._store.annotation(owner, image_id)
        except NotFound:
            return otherwise  # deleted just now
        line = summary_line(annotation)
        with self._lock:
            self._lines[image_id, annotation.revision] = line
            while len(self._lines) > KEPT_LINES:
                self._lines.popitem(last=False)
        return line

    def _part(self, owner: str, job: Job, item: Item, name: str) -> ImagePart:
        from sam_droplet.measurement.export.combined import ImagePart, measured

        line: dict[str, Any] = {"image": name, "state": item.state, "message": item.message}
        if item.state != DONE or item.result is None:
            return ImagePart(line)
        try:
            annotation = self._store.annotation(owner, str(item.subject["image_id"]))
        except NotFound:
            return ImagePart(line | {"state": "deleted", "message": "The image was deleted after the job."})
        offset, page = annotation.rim_offset_px, annotation.image.page
        numbers, rows = measured(name, annotation.droplets, annotation.calibration, offset, page)
        about = _about(annotation) | dict(item.result["quality"]) | {"seconds": item.result["seconds"]}
        about["flags"] = " ".join(_flags(numbers, item.result))
        line |= numbers | about | {"sensitivity": job.parameters.get("sensitivity")}
        return ImagePart(line, rows)


def most_channels(items: Sequence[Item]) -> int:
    """Return the channels of the image that has most, which the columns of the long table follow."""
    return max((int(i.result["n_channels"]) for i in items if i.result is not None), default=1)


def _about(annotation: Annotation) -> dict[str, Any]:
    image, model = annotation.image, annotation.model or {}
    return {
        "width_px": image.width,
        "height_px": image.height,
        "bit_depth": image.bit_depth,
        "page": image.page,
        "n_pages": image.n_pages,
        "digest": image.digest,
        "model": model.get("name"),
        "model_sha256": model.get("sha256"),
        "message": annotation.message,
    }


def _flags(line: Mapping[str, Any], result: Mapping[str, Any]) -> list[str]:
    flags = list(result["quality"]["flags"])
    n_found, n_included = line["n_found"], line["n_included"]
    if n_included == 0:
        flags.append("No droplet counts.")
    elif n_included < FEW_DROPLETS:
        count = "1 droplet counts" if n_included == 1 else f"{n_included} droplets count"
        flags.append(f"Only {count}; CV and percentiles of so few are uncertain.")
    if n_found and line["n_touching_edge"] > EDGE_SHARE * n_found:
        share = 100 * line["n_touching_edge"] / n_found
        flags.append(f"{share:.0f} % of the droplets touch the edge of the image.")
    replaced = result.get("replaced_filters")
    if replaced:
        flags.append(f"Filters of its own gave way: {_filters_text(replaced)}.")
    return flags


def _filters_text(filters: Mapping[str, Any]) -> str:
    """Say filters so that a person can set them again."""
    parts = ["not those at the edge"] if filters["exclude_edge"] else []
    for column, (low, high) in filters["ranges"].items():
        limits = [f"at least {low:.6g}"] if low is not None else []
        limits += [f"at most {high:.6g}"] if high is not None else []
        parts.append(f"{column} {' and '.join(limits)}")
    return ", ".join(parts)
