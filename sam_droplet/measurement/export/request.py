"""What every exporter takes and gives."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from sam_droplet import __version__
from sam_droplet.measurement.droplets import Droplet, Filters
from sam_droplet.measurement.limits import limit_notes
from sam_droplet.measurement.summary import summarize

if TYPE_CHECKING:
    from sam_droplet.imaging.images import Calibration, Image
    from sam_droplet.measurement.fields import SecondPicture


@dataclass(frozen=True, eq=False)
class ExportRequest:
    """Hold what is on screen: the image, its droplets as filtered, and how they came about.

    provenance: version, model with its SHA-256, parameters, counts of manual edits...; JSON values.
    extra: by droplet id, the columns that assays add: class, positive, n_inclusions, amplitude...
    assays: results of assays by name ("ddpcr", "loading", "groups", "intensity"); JSON values.
    second: the second picture of the field, as an assay used it.
    """

    image: Image
    droplets: Sequence[Droplet]
    calibration: Calibration | None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    filters: Filters = field(default_factory=Filters)
    extra: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    assays: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    second: SecondPicture | None = None

    @property
    def included(self) -> list[Droplet]:
        """Droplets that count."""
        return [d for d in self.droplets if d.included]

    def summary(self, *, edge_weighted: bool = False) -> dict[str, Any]:
        """Summarize the droplets, with intervals or weights, and a note where the CV hangs on a limit."""
        wh = (self.image.width, self.image.height) if edge_weighted else None
        summary = summarize(self.droplets, self.calibration, intervals=True, edge_weights_wh=wh)
        summary["notes"] += self._limit_notes
        return summary

    @cached_property
    def _limit_notes(self) -> list[str]:
        return limit_notes(self.droplets, self.filters)

    @property
    def rim_offset_px(self) -> float:
        """How far outside the extreme line of the rim outlines lie, by the parameters of the search."""
        parameters = self.provenance.get("parameters")
        given = parameters.get("rim_offset_px") if isinstance(parameters, Mapping) else None
        return float(given or 0.0)

    @property
    def scale(self) -> dict[str, Any]:
        """What turns the pixels of a file into lengths: the scale columns and the rim offset."""
        columns = scale_columns(self.calibration)
        if columns["chamber_height_um"] is None:  # lists of settings name it only where there is one
            del columns["chamber_height_um"]
        return columns | {"rim_offset_px": self.rim_offset_px}

    @property
    def about(self) -> dict[str, Any]:
        """What every file says of its numbers: the scale, and of several pages which one, from 0."""
        image = self.image
        return self.scale | ({"page": image.page, "n_pages": image.n_pages} if image.n_pages > 1 else {})

    @property
    def page_text(self) -> str:
        """The page in words, counted from 1; empty for an image that is the only one of its file."""
        image = self.image
        return f"page {image.page + 1} of {image.n_pages}" if image.n_pages > 1 else ""

    @property
    def about_text(self) -> str:
        """The scale, and which page it is, in words."""
        scale = self.scale
        told = "not calibrated, lengths in px"
        if scale["um_per_px"] is not None:
            told = f"{scale['um_per_px']:.6g} µm/px ({scale['calibration_source']})"
        if "chamber_height_um" in scale:
            told += f", chamber {scale['chamber_height_um']:.6g} µm high"
        offset = scale["rim_offset_px"]
        if offset:
            told += f", outlines moved by {offset:+g} px"
        return f"{self.page_text}, {told}" if self.page_text else told

    @property
    def caption(self) -> str:
        """What a picture is of, and by which software, for the text inside its file."""
        name = "".join(character for character in self.image.name if character.isprintable())
        return f"{name}: {self.about_text}. SAM Droplet {self.version}"

    @property
    def version(self) -> str:
        """Version of the software that made the result."""
        return str(self.provenance.get("version", __version__))

    @property
    def stem(self) -> str:
        """The image's name as a safe start of a file name; a page after the first is numbered."""
        stem = re.sub(r"[^\w.-]+", "_", PurePath(self.image.name).stem).strip("._") or "image"
        return f"{stem[:80]}_page{self.image.page + 1}" if self.image.page else stem[:80]

    @property
    def image_stem(self) -> str:
        """The image's name without its ending, as it is: tools that look for a file of that name find it.

        Only what no file name may hold is replaced; a page after the first is numbered.
        """
        stem = re.sub(r'[\x00-\x1f\x7f"*/:<>?\\|]+', "_", PurePath(self.image.name).stem)
        stem = stem if stem.strip(". ") else "image"
        return f"{stem}_page{self.image.page + 1}" if self.image.page else stem


def scale_columns(calibration: Calibration | None) -> dict[str, Any]:
    """Return um_per_px, calibration_source and chamber_height_um; None and "none" without a calibration."""
    if calibration is None:
        return {"um_per_px": None, "calibration_source": "none", "chamber_height_um": None}
    return {
        "um_per_px": calibration.um_per_px,
        "calibration_source": calibration.source,
        "chamber_height_um": calibration.chamber_height_um,
    }


@dataclass(frozen=True)
class Exported:
    """Hold one finished file."""

    filename: str
    mimetype: str
    data: bytes
