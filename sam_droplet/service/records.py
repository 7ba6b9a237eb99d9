"""What the store hands out, and how a droplet becomes a row and comes back bit for bit."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sam_droplet.errors import InputError
from sam_droplet.imaging.images import Calibration, Image
from sam_droplet.imaging.masks import Mask
from sam_droplet.measurement.droplets import Droplet, Filters, Measures


@dataclass(frozen=True)
class ImageRecord:
    """Describe a stored image; its pixels are decoded from the stored file when they are needed."""

    id: str
    owner: str
    name: str
    digest: str
    file_sha256: str
    page: int
    width: int
    height: int
    n_channels: int
    channel_names: tuple[str, ...]
    bit_depth: int
    n_pages: int
    format: str
    notes: tuple[str, ...]
    created_at: float
    calibration: Calibration | None
    n_found: int
    n_included: int


@dataclass(frozen=True)
class Annotation:
    """Hold everything known about one image at one revision.

    droplets: those that are not deleted, with the filters applied (``included``, ``exclusion_reason``).
    settings: JSON values by name, such as the settings of an assay; see ``service.assays``.
    """

    image: ImageRecord
    revision: int
    droplets: list[Droplet]
    filters: Filters
    calibration: Calibration | None
    model: dict[str, Any] | None
    parameters: dict[str, Any]
    timings_s: dict[str, float]
    message: str | None
    settings: Mapping[str, Any]

    @property
    def rim_offset_px(self) -> float:
        """How far outside the extreme line of the rim the outlines of the networks lie."""
        return rim_offset_of(self.parameters)


def rim_offset_of(parameters: Mapping[str, Any] | None) -> float:
    """Return the rim offset in the parameters of a search; 0 before the first one."""
    return float((parameters or {}).get("rim_offset_px") or 0.0)


def image_row(image: Image) -> dict[str, Any]:
    """Return the columns of ``images`` that follow from the pixels."""
    return {
        "name": image.name,
        "digest": image.digest,
        "page": image.page,
        "width": image.width,
        "height": image.height,
        "n_channels": image.n_channels,
        "channel_names": list(image.channel_names),
        "bit_depth": image.bit_depth,
        "n_pages": image.n_pages,
        "format": image.format,
        "notes": list(image.notes),
    }


def droplet_row(droplet: Droplet) -> dict[str, Any]:
    """Return the columns of ``droplets`` other than the image, the id and the flags."""
    mask = droplet.mask
    contour = mask.contour_xy
    return {
        "source": droplet.source,
        "score": float(droplet.score),
        "model": droplet.model,
        "box_xyxy": [int(v) for v in mask.box_xyxy],
        "bits": zlib.compress(np.packbits(mask.bits).tobytes(), level=1),
        "contour": None if contour is None else np.ascontiguousarray(contour, "<f4").tobytes(),
        "measures": dataclasses.asdict(droplet.measures),
    }


def droplet_from_row(row: Mapping[str, Any]) -> Droplet:
    """Rebuild a droplet, its mask and its sub-pixel contour exactly as they were stored."""
    x0, y0, x1, y1 = row["box_xyxy"]
    packed = np.frombuffer(zlib.decompress(row["bits"]), np.uint8)
    bits = np.unpackbits(packed, count=(y1 - y0) * (x1 - x0)).view(np.bool_).reshape(y1 - y0, x1 - x0)
    contour = None
    if row["contour"] is not None:
        contour = np.frombuffer(row["contour"], "<f4").reshape(-1, 2).astype(np.float32)  # (K, 2)
    mask = Mask((x0, y0, x1, y1), bits, row["score"], contour)
    return Droplet(
        id=row["droplet_id"],
        mask=mask,
        source=row["source"],
        score=row["score"],
        model=row["model"],
        measures=_measures(row["measures"]),
        excluded_by_user=bool(row["excluded_by_user"]),
        included_by_user=bool(row["included_by_user"]),
    )


def _measures(columns: Mapping[str, Any]) -> Measures:
    by_channel = tuple(columns["mean_intensity_by_channel"])  # JSON knows no tuples
    return Measures(**{**columns, "mean_intensity_by_channel": by_channel})


def filters_as_dict(filters: Filters) -> dict[str, Any]:
    """Return filters as the JSON of the API and of the database."""
    return {
        "ranges": {column: list(limits) for column, limits in filters.ranges.items()},
        "exclude_edge": filters.exclude_edge,
    }


def filters_from_dict(data: Mapping[str, Any]) -> Filters:
    """Read what ``filters_as_dict`` wrote."""
    ranges = {column: (low, high) for column, (low, high) in data.get("ranges", {}).items()}
    return Filters(ranges=ranges, exclude_edge=bool(data.get("exclude_edge", False)))


def calibration_as_dict(calibration: Calibration | None) -> dict[str, Any] | None:
    """Return a calibration as the JSON of the API and of the database."""
    return None if calibration is None else calibration.as_dict()


def calibration_from_dict(data: Mapping[str, Any] | None) -> Calibration | None:
    """Read what ``calibration_as_dict`` wrote."""
    return None if data is None else Calibration.from_dict(data)


def same_page(image: Image, record: ImageRecord) -> Image:
    """Return the decoded image if it is the one of the record.

    Raises InputError where a newer decoder reads other pixels from the same file, because every
    stored measure would then belong to pixels that are no longer seen.
    """
    if image.digest != record.digest:
        raise InputError(
            f"{record.name!r} decodes to other pixels than when it was uploaded; upload it again."
        )
    return image
