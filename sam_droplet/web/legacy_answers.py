"""From droplets to the fields that client scripts of the original application read."""

from __future__ import annotations

import base64
import dataclasses
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sam_droplet.errors import InputError
from sam_droplet.imaging.calibration import with_chamber
from sam_droplet.imaging.images import Calibration, Image
from sam_droplet.imaging.masks import Mask, rle_encode
from sam_droplet.measurement.droplets import Droplet, Filters, apply_filters, droplet_record, summarize
from sam_droplet.service.preprocessing import Preprocessing
from sam_droplet.service.replacement import ResultLike, model_as_dict
from sam_droplet.web import payloads

# name: (default, description); null means no limit.
FILTERS: dict[str, tuple[Any, str]] = {
    "area_min": (None, "Smallest area in pixels."),
    "area_max": (None, "Largest area in pixels."),
    "mean_min": (None, "Lowest mean intensity, in raw pixel values."),
    "mean_max": (None, "Highest mean intensity, in raw pixel values."),
    "min_threshold": (None, "No pixel of the droplet may be darker than this raw value."),
    "max_threshold": (None, "No pixel of the droplet may be brighter than this raw value."),
    "std_min": (None, "Lowest standard deviation of the intensity."),
    "std_max": (None, "Highest standard deviation of the intensity."),
    "min_edge_distance": (None, "Least distance from the image edge in pixels."),
    "intensity_threshold": (None, "Mean intensity that parts the high from the low group."),
    "enable_intensity_coloring": (
        False,
        "Whether the two groups get colours of their own; changes no number.",
    ),
}
_RANGES = {
    "area_px": ("area_min", "area_max"),
    "mean_intensity": ("mean_min", "mean_max"),
    "min_intensity": ("min_threshold", None),
    "max_intensity": (None, "max_threshold"),
    "sd_intensity": ("std_min", "std_max"),
    "edge_distance_px": ("min_edge_distance", None),
}
PREPROCESSING: dict[str, tuple[Any, str]] = {
    "gaussian_blur": (False, "Blur before finding droplets; never before measuring."),
    "gaussian_kernel_size": (5, "Width of the blur's kernel: odd pixels."),
    "gaussian_sigma": (1.0, "Standard deviation of the blur in pixels."),
    "median_filter": (False, "Median filter before finding droplets."),
    "median_kernel_size": (5, "Width of the median filter: odd pixels."),
    "morphological_opening": (False, "Remove bright specks before finding droplets."),
    "opening_kernel_size": (3, "Width of the opening: odd pixels."),
    "morphological_closing": (False, "Remove dark specks before finding droplets."),
    "closing_kernel_size": (3, "Width of the closing: odd pixels."),
    "contrast_enhancement": (False, "Even out the contrast (CLAHE) before finding droplets."),
    "clahe_clip_limit": (2.0, "Contrast limit of the CLAHE."),
    "clahe_grid_size": (8, "Tiles of the CLAHE in x and y."),
    "unsharp_mask": (False, "Sharpen before finding droplets."),
    "unsharp_radius": (1.0, "Radius of the sharpening in pixels."),
    "unsharp_amount": (1.0, "Strength of the sharpening."),
}


@dataclass(frozen=True)
class LegacyFilters:
    """Hold the filters as they were given and as ranges of our columns."""

    given: dict[str, Any]
    filters: Filters
    intensity_threshold: float | None


def read_filters(given: Mapping[str, Any]) -> LegacyFilters:
    """Read a ``filters`` object; InputError for a value that is not a number or an empty range."""
    payloads.flag(given, "enable_intensity_coloring", False)
    ranges: dict[str, tuple[float | None, float | None]] = {}
    for column, (low_name, high_name) in _RANGES.items():
        low = payloads.number(given, low_name) if low_name else None
        high = payloads.number(given, high_name) if high_name else None
        if low is not None and high is not None and low > high:
            raise InputError(f"{low_name} ({low:g}) must not be above {high_name} ({high:g}).")
        if low is not None or high is not None:
            ranges[column] = (low, high)
    applied = {name: given.get(name, default) for name, (default, _) in FILTERS.items()}
    return LegacyFilters(applied, Filters(ranges=ranges), payloads.number(given, "intensity_threshold"))


def read_preprocessing(given: Mapping[str, Any]) -> Preprocessing:
    """Read a ``preprocessing`` object."""
    values: dict[str, Any] = {}
    for name, (default, _) in PREPROCESSING.items():
        if isinstance(default, bool):
            values[name] = payloads.flag(given, name, default)
        elif name.endswith("kernel_size"):
            values[name] = _odd(given, name, default)
        elif isinstance(default, int):
            values[name] = payloads.integer(given, name, low=1, high=64) or default
        else:
            values[name] = payloads.number_or(given, name, default, low=0.01, high=100)
    return Preprocessing(**values)


def read_calibration(given: Mapping[str, Any], image: Image) -> Calibration | None:
    """Return the scale that was sent, else the file's own, with the height of the chamber that was sent."""
    um_per_px = payloads.length_um(given, "um_per_px")
    height_um = payloads.length_um(given, "chamber_height_um")
    scale = image.calibration if um_per_px is None else Calibration(um_per_px, "typed")
    refusal = "chamber_height_um needs a scale, and this file holds none; send um_per_px."
    return with_chamber(scale, height_um, refusal)


def segmentation_json(
    image: Image,
    result: ResultLike,
    filters: LegacyFilters,
    preprocessing: Preprocessing,
    calibration: Calibration | None,
    *,
    with_images: bool,
) -> dict[str, Any]:
    """Return the answer of ``/segment`` and ``/segment_file``."""
    droplets = apply_filters(result.droplets, filters.filters)
    masks = [mask_json(d, image, calibration, with_images) for d in droplets]
    for mask in masks:
        mask["intensity_group"] = intensity_group(
            mask["pixel_stats"]["mean_intensity"], filters.intensity_threshold
        )
    kept = [mask for mask, droplet in zip(masks, droplets, strict=True) if droplet.included]
    return {
        "success": True,
        "filename": image.name,
        "width": image.width,
        "height": image.height,
        "num_masks": len(kept),
        "original_count": len(droplets),
        # Always 0: nothing is taken away before the filters that the caller sent.
        "preprocessing_removed": 0,
        "user_filter_removed": len(droplets) - len(kept),
        "preprocessing_info": {"steps": preprocessing.steps(), "measured_on": "raw pixels"},
        "masks": kept,
        "filters_applied": filters.given,
        "preprocessing_applied": dataclasses.asdict(preprocessing),
        "summary_statistics": _statistics(kept, filters.intensity_threshold),
        "original_masks_for_frontend": masks,
        "summary": summarize(droplets, calibration),
        "model": model_as_dict(result.model),
        "um_per_px": None if calibration is None else calibration.um_per_px,
        "chamber_height_um": None if calibration is None else calibration.chamber_height_um,
        "parameters": result.parameters,
        "timings_s": result.timings_s,
        "message": result.message,
    }


def mask_json(
    droplet: Droplet, image: Image, calibration: Calibration | None, with_image: bool
) -> dict[str, Any]:
    """Return one mask; ``image`` is a black and white PNG of the whole image's size."""
    record = droplet_record(droplet, calibration)
    size = (image.height, image.width)
    return {
        "id": droplet.id,
        "image": mask_data_url(droplet.mask, size) if with_image else None,
        "area": record["area_px"],
        "bbox": list(droplet.mask.bbox_xywh),
        "stability_score": droplet.score,
        "max_feret_diameter": record["feret_max_px"],
        "pixel_stats": {
            "mean_intensity": record["mean_intensity"],
            "min_intensity": record["min_intensity"],
            "max_intensity": record["max_intensity"],
            "std_intensity": record["sd_intensity"],
            "median_intensity": record["median_intensity"],
            "pixel_count": droplet.mask.area_px,
            "max_feret_diameter": record["feret_max_px"],
            "circularity": record["circularity"],
        },
        "edge_stats": _edge_stats(droplet.mask, record, size),
        "center_x_px": record["center_x_px"],
        "center_y_px": record["center_y_px"],
        "diameter_px": record["diameter_px"],
        "diameter_um": record["diameter_um"],
        "exclusion_reason": droplet.exclusion_reason,
        "model": droplet.model,
        "rle": rle_encode(droplet.mask, size),
    }


def mask_data_url(mask: Mask, image_hw: tuple[int, int]) -> str:
    """Return a mask as a 1-bit PNG of the image's size, in a data URL: white is the object."""
    height, width = image_hw
    x0, y0, x1, y1 = mask.box_xyxy
    rows = np.zeros((y1 - y0, width), np.bool_)
    rows[:, x0:x1] = mask.bits
    scanlines = np.zeros((height, 1 + (width + 7) // 8), np.uint8)  # each opens with its filter, 0
    scanlines[y0:y1, 1:] = np.packbits(rows, axis=1)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        _png_chunk(kind, data)
        for kind, data in (
            (b"IHDR", header),
            (b"IDAT", zlib.compress(scanlines.tobytes(), 1)),
            (b"IEND", b""),
        )
    )
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _edge_stats(mask: Mask, record: Mapping[str, Any], image_hw: tuple[int, int]) -> dict[str, Any]:
    height, width = image_hw
    x0, y0, x1, y1 = mask.box_xyxy
    distances = {"left": x0, "top": y0, "right": width - x1, "bottom": height - y1}
    return {
        "min_distance_to_edge": record["edge_distance_px"],
        "touches_edge": record["touches_edge"],
        "distances": distances,
        "edge_touching_sides": [side for side, distance in distances.items() if distance == 0],
    }


def _statistics(masks: Sequence[Mapping[str, Any]], threshold: float | None) -> dict[str, Any]:
    ferets = [mask["max_feret_diameter"] for mask in masks]
    means = [mask["pixel_stats"]["mean_intensity"] for mask in masks]
    return {
        "total_masks": len(masks),
        "masks_with_diameter": len(ferets),
        "average_diameter": float(np.mean(ferets)) if ferets else None,
        "diameter_stats": _spread(ferets),
        "equivalent_diameter_stats": _spread([mask["diameter_px"] for mask in masks]),
        "intensity_analysis": intensity_analysis(means, threshold),
    }


def intensity_group(mean: float, threshold: float | None) -> str | None:
    """Return "high" at or above the threshold and "low" below; None without a threshold."""
    if threshold is None:
        return None
    return "high" if mean >= threshold else "low"


def intensity_analysis(means: Sequence[float], threshold: float | None) -> dict[str, Any]:
    """Describe the mean intensities of all masks, and of those at or above and below the threshold."""
    by_group = {g: [v for v in means if intensity_group(v, threshold) == g] for g in ("high", "low")}
    return {
        "threshold": threshold,
        "overall": _spread(means),
        "high_intensity": _spread(by_group["high"]),
        "low_intensity": _spread(by_group["low"]),
    }


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """Return count, mean, sample SD (n - 1), CV in per cent, median, min and max; None where undefined."""
    if not values:
        return {"count": 0} | dict.fromkeys(("mean", "std", "cv", "median", "min", "max"))
    mean = float(np.mean(values))
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {
        "count": len(values),
        "mean": mean,
        "std": std,
        "cv": None if std is None or mean == 0 else 100 * std / mean,
        "median": float(np.median(values)),
        "min": float(min(values)),
        "max": float(max(values)),
    }


def _odd(given: Mapping[str, Any], name: str, default: int) -> int:
    value = payloads.integer(given, name, low=1, high=99)
    if value is not None and value % 2 == 0:
        raise InputError(f"{name} must be odd, such as {value + 1}, not {value}.")
    return default if value is None else value
