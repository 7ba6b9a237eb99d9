"""The fields of the original application's advanced analysis: criteria, clusters, overlaps, pictures.

Clusters are groups of size by a mixture model; overlaps are counted by pixels, and only where asked for.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from sam_droplet.errors import InputError
from sam_droplet.imaging.images import Calibration, Image, encode_view
from sam_droplet.measurement.droplets import Droplet, droplet_record, summarize
from sam_droplet.measurement.export.canvas import PngCanvas
from sam_droplet.measurement.export.outlines import outline_xy, zipped
from sam_droplet.measurement.export.table import cell, csv_bytes
from sam_droplet.measurement.overlaps import contained_ids, parts_distance_px
from sam_droplet.measurement.populations import SizeGroups, size_groups
from sam_droplet.measurement.summary import describe
from sam_droplet.service.replacement import ResultLike, model_as_dict
from sam_droplet.web import payloads
from sam_droplet.web.legacy_answers import intensity_analysis, intensity_group, mask_json

# name: (default, lowest, highest, description)
ADVANCED_FILTERS: dict[str, tuple[float, float, float, str]] = {
    "edge_threshold": (5.0, 0.0, 1e6, "Masks as near as this to the image's edge are left out, in pixels."),
    "min_circularity": (0.53, 0.0, 1.0, "Less round masks are left out; a disc has 1."),
    "max_blob_distance": (80.0, 0.0, 1e6, "Masks whose parts lie farther apart are left out, in pixels."),
    "overlap_min_percentage": (80.0, 1.0, 100.0, "So much of a small mask lies in the one that holds it."),
}
CRITERIA = ("edge", "circularity", "distant_blob")
COLUMNS = (
    *("mask_id", "area", "circularity", "blob_distance", "stability_score", "bbox_x", "bbox_y"),
    *("bbox_width", "bbox_height", "aspect_ratio", "cluster_id", "edge_touching", "low_circularity"),
    *("distant_blob", "included_in_clustering", "overlap_count", "overlapping_small_mask_ids"),
)
_BREAKDOWN = ("Empty", "Single", "Double", "Triple", "Quadruple", "Quintuple")
_COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7")
_LEFT_OUT = "#d55e00"
# Of the filters of the other addresses, those that leave nothing out.
INTENSITY_FILTERS = ("intensity_threshold", "enable_intensity_coloring")
_PICTURE_SIDE_PX = 1600
_SAFE_NAME = re.compile(r"[a-z0-9_]{1,60}")


@dataclass(frozen=True)
class AdvancedFilters:
    """Hold the limits of ``ADVANCED_FILTERS``."""

    edge_threshold: float
    min_circularity: float
    max_blob_distance: float
    overlap_min_percentage: float


@dataclass(frozen=True)
class IntensityGroups:
    """Say where the high group begins, if anywhere, and whether a picture shows both groups."""

    threshold: float | None
    is_coloured: bool


@dataclass(frozen=True, eq=False)
class _Judged:
    droplets: list[Droplet]
    failed_by_id: dict[int, tuple[str, ...]]
    distance_by_id: dict[int, float]
    inside_by_id: dict[int, list[int]]
    groups: SizeGroups

    @property
    def clustered(self) -> list[Droplet]:
        return [d for d in self.droplets if not self.failed_by_id[d.id]]

    def cluster_of(self, droplet: Droplet) -> int | None:
        """Return the cluster's number, 0 for the smallest droplets; None where left out."""
        name = self.groups.names_by_id.get(droplet.id)
        return None if name is None else [g.name for g in self.groups.groups].index(name)


def read_advanced_filters(given: Any) -> AdvancedFilters:
    """Read an ``advanced_filters`` object."""
    data = payloads.known_only({} if given is None else given, ADVANCED_FILTERS, "advanced_filters")
    return AdvancedFilters(
        **{
            name: payloads.number_or(data, name, default, low=low, high=high)
            for name, (default, low, high, _) in ADVANCED_FILTERS.items()
        }
    )


def read_intensity_groups(given: Any) -> IntensityGroups:
    """Read a ``filters`` object of ``/advanced_analysis``."""
    data = payloads.known_only({} if given is None else given, INTENSITY_FILTERS, "filters")
    groups = IntensityGroups(
        payloads.number(data, "intensity_threshold"), payloads.flag(data, "enable_intensity_coloring", False)
    )
    if groups.is_coloured and groups.threshold is None:
        raise InputError("enable_intensity_coloring needs intensity_threshold, which parts the two groups.")
    return groups


def analysis_json(
    image: Image,
    result: ResultLike,
    filters: AdvancedFilters,
    calibration: Calibration | None,
    *,
    intensity: IntensityGroups,
    with_images: bool = True,
) -> dict[str, Any]:
    """Return the answer of ``/advanced_analysis``; with_images: a picture of every mask."""
    judged = _judge(result.droplets, filters, calibration)
    masks = {d.id: mask_json(d, image, calibration, with_images) for d in judged.droplets}
    answer: dict[str, Any] = {
        "success": True,
        "filename": image.name,
        "analysis_results": {
            "processing_summary": _processing(judged, image, result),
            "filtering_criteria": asdict(filters),
            "clustering_info": _clustering(judged),
            "overlap_analysis": _overlaps(judged),
            "cluster_statistics": _cluster_statistics(judged),
        },
        "visualizations": _pictures(judged, image),
        "clustered_masks": _clustered(judged, masks),
        "filtered_out_masks": {name: [masks[d.id] for d in _left_out(judged, name)] for name in CRITERIA},
        "csv_data": [_row(judged, d) for d in judged.droplets],
        "summary": summarize(judged.droplets, calibration),
        "um_per_px": None if calibration is None else calibration.um_per_px,
        "chamber_height_um": None if calibration is None else calibration.chamber_height_um,
        "model": model_as_dict(result.model),
        "message": result.message,
    }
    if intensity.threshold is not None:
        means = [d.measures.mean_intensity for d in judged.clustered]
        answer["analysis_results"]["intensity_analysis"] = intensity_analysis(means, intensity.threshold)
        for droplet in judged.droplets:
            mean = droplet.measures.mean_intensity
            masks[droplet.id]["intensity_group"] = intensity_group(mean, intensity.threshold)
    if intensity.is_coloured:
        answer["visualizations"]["intensity_groups"] = _intensity_picture(judged, image, intensity)
    return answer


def _judge(droplets: Sequence[Droplet], filters: AdvancedFilters, calibration: Calibration | None) -> _Judged:
    distances = {d.id: parts_distance_px(d.mask) for d in droplets}
    failed: dict[int, tuple[str, ...]] = {}
    for droplet in droplets:
        verdicts = (
            droplet.measures.edge_distance_px <= filters.edge_threshold,
            droplet.measures.circularity < filters.min_circularity,
            distances[droplet.id] > filters.max_blob_distance,
        )
        failed[droplet.id] = tuple(name for name, out in zip(CRITERIA, verdicts, strict=True) if out)
    included = [
        replace(d, included=not failed[d.id], exclusion_reason=(failed[d.id] or (None,))[0]) for d in droplets
    ]
    inside = contained_ids([d for d in included if d.included], filters.overlap_min_percentage / 100)
    height_px = None if calibration is None else calibration.chamber_height_px
    groups = size_groups(included, chamber_height=height_px)
    return _Judged(included, failed, distances, inside, groups)


def _left_out(judged: _Judged, criterion: str) -> list[Droplet]:
    return [d for d in judged.droplets if criterion in judged.failed_by_id[d.id]]


def _processing(judged: _Judged, image: Image, result: ResultLike) -> dict[str, Any]:
    n = len(judged.droplets)
    return {
        "total_masks": n,
        "masks_clustered": len(judged.clustered),
        "masks_filtered_out": n - len(judged.clustered),
        **{f"filtered_{name}": len(_left_out(judged, name)) for name in CRITERIA},
        "image_width": image.width,
        "image_height": image.height,
        "timings_s": result.timings_s,
    }


def _clustering(judged: _Judged) -> dict[str, Any]:
    return {
        "method": "mixture of log-normal diameters, number of clusters by BIC",
        "features": ["diameter_px"],
        "n_clusters": len(judged.groups.groups),
        "n_masks": len(judged.clustered),
        "cluster_names": [g.name for g in judged.groups.groups],
    }


def _overlaps(judged: _Judged) -> dict[str, Any]:
    counts = Counter(len(ids) for ids in judged.inside_by_id.values())
    names = {n: _BREAKDOWN[n] if n < len(_BREAKDOWN) else f"{n} Overlaps" for n in counts}
    return {
        "total_overlaps": sum(n * count for n, count in counts.items()),
        "masks_with_overlaps": sum(count for n, count in counts.items() if n),
        "simple_breakdown": {names[n]: counts[n] for n in sorted(counts)},
        "overlaps": [
            {"mask_id": number, "overlap_count": len(ids), "overlapping_small_mask_ids": ids}
            for number, ids in judged.inside_by_id.items()
            if ids
        ],
    }


def _cluster_statistics(judged: _Judged) -> list[dict[str, Any]]:
    rows = []
    for number, group in enumerate(judged.groups.groups):
        members = [d.measures for d in judged.clustered if judged.cluster_of(d) == number]
        rows.append(
            {
                "cluster_id": number,
                "name": group.name,
                "count": group.diameter.n,
                "percentage": group.share_by_number_percent,
                "volume_percentage": group.share_by_volume_percent,
                "area": describe(np.array([float(m.area_px) for m in members])),
                "diameter": describe(np.array([m.diameter_px for m in members])),
                "circularity": describe(np.array([m.circularity for m in members])),
            }
        )
    return rows


def _clustered(judged: _Judged, masks: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, list[Any]] = {str(number): [] for number in range(len(judged.groups.groups))}
    for droplet in judged.clustered:
        found[str(judged.cluster_of(droplet))].append(masks[droplet.id])
    return found


def _row(judged: _Judged, droplet: Droplet) -> dict[str, Any]:
    record = droplet_record(droplet, None)
    failed, inside = judged.failed_by_id[droplet.id], judged.inside_by_id.get(droplet.id, [])
    x, y, width, height = droplet.mask.bbox_xywh
    values = (
        *(droplet.id, record["area_px"], record["circularity"], judged.distance_by_id[droplet.id]),
        *(record["score"], x, y, width, height, record["aspect_ratio"], judged.cluster_of(droplet)),
        *("edge" in failed, "circularity" in failed, "distant_blob" in failed, not failed),
        *(len(inside), ";".join(str(number) for number in inside)),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _pictures(judged: _Judged, image: Image) -> dict[str, str]:
    clusters = [(d, _COLOURS[(judged.cluster_of(d) or 0) % len(_COLOURS)]) for d in judged.clustered]
    held = {number for ids in judged.inside_by_id.values() for number in ids}
    holders = {number for number, ids in judged.inside_by_id.items() if ids}
    overlaps = [
        (d, _COLOURS[1] if d.id in holders else _COLOURS[2] if d.id in held else _COLOURS[0])
        for d in judged.clustered
    ]
    drawn = {"cluster_overview": clusters, "overlap_analysis": overlaps}
    drawn |= {f"filtered_{name}": [(d, _LEFT_OUT) for d in _left_out(judged, name)] for name in CRITERIA}
    return {name: _picture(image, outlines) for name, outlines in drawn.items()}


def _intensity_picture(judged: _Judged, image: Image, intensity: IntensityGroups) -> str:
    colours = {"low": _COLOURS[0], "high": _COLOURS[1]}
    groups = [(d, intensity_group(d.measures.mean_intensity, intensity.threshold)) for d in judged.clustered]
    return _picture(image, [(d, colours[group]) for d, group in groups if group is not None])


def _picture(image: Image, outlines: Sequence[tuple[Droplet, str]]) -> str:
    longest = max(image.width, image.height)
    canvas = PngCanvas(image.width, image.height, scale=min(1.0, _PICTURE_SIDE_PX / longest))
    canvas.image(encode_view(image, min(longest, _PICTURE_SIDE_PX), "png"), "image/png", *_size(image))
    for droplet, colour in outlines:
        canvas.polygon(outline_xy(droplet, _size(image)), colour, max(1.5, longest / 800), "")
    return f"data:image/png;base64,{base64.b64encode(canvas.finish()).decode('ascii')}"


def _size(image: Image) -> tuple[int, int]:
    return image.width, image.height


def analysis_zip(csv_data: Any, analysis_results: Any, visualizations: Any) -> bytes:
    """Return the answer of ``/download_analysis``: a table, the results, the pictures and a README."""
    rows = _checked_rows(csv_data)
    if not isinstance(analysis_results, dict):
        raise InputError("analysis_results must be the object that /advanced_analysis answered with.")
    pictures = _checked_pictures(visualizations)
    columns = list(dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)]))
    table = csv_bytes(columns, ([cell(row.get(name)) for name in columns] for row in rows))
    files = {
        "analysis.csv": table,
        "analysis_results.json": _as_json(analysis_results),
        **{f"{name}.png": data for name, data in pictures.items()},
    }
    about = {
        "analysis.csv": "one row per mask, UTF-8",
        "analysis_results.json": "criteria, clusters and overlaps",
    }
    listed = "\n".join(f"{name}: {about.get(name, 'picture')}" for name in files)
    return zipped({"README.txt": f"SAM Droplet: advanced analysis\n\n{listed}\n".encode(), **files})


def _as_json(analysis_results: dict[str, Any]) -> bytes:
    try:
        text = json.dumps(analysis_results, ensure_ascii=False, indent=1, allow_nan=False)
    except ValueError as error:
        raise InputError(
            "analysis_results must hold finite numbers, but NaN or an infinite one came; send null instead."
        ) from error
    except RecursionError as error:
        raise InputError("analysis_results is nested too deeply; send it as it came.") from error
    return (text + "\n").encode()


def _checked_rows(csv_data: Any) -> list[Mapping[str, Any]]:
    flat = (str, int, float, bool, type(None))
    if not isinstance(csv_data, list) or not all(
        isinstance(row, dict) and all(isinstance(v, flat) for v in row.values()) for row in csv_data
    ):
        raise InputError("csv_data must be a list of flat objects, as /advanced_analysis answered with.")
    return csv_data


def _checked_pictures(visualizations: Any) -> dict[str, bytes]:
    if not isinstance(visualizations, dict):
        raise InputError("visualizations must be an object of PNG data URLs, by name.")
    pictures = {}
    for name, url in visualizations.items():
        if not _SAFE_NAME.fullmatch(str(name)):
            raise InputError(f"A picture's name must be a-z, 0-9 and _ only, not {str(name)[:40]!r}.")
        if not isinstance(url, str) or not url.startswith("data:image/png;base64,"):
            raise InputError(f"The picture {name} must be a data URL of a PNG.")
        try:
            data = base64.b64decode(url.partition(",")[2], validate=True)
        except (binascii.Error, ValueError) as error:
            raise InputError(f"The picture {name} is not valid base64.") from error
        if not data.startswith(b"\x89PNG\r\n\x1a\n"):
            raise InputError(f"The picture {name} is not a PNG.")
        pictures[str(name)] = data
    return pictures
