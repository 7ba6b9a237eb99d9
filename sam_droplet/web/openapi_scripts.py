"""The part of the API's description that is about the original application's addresses."""

from __future__ import annotations

from sam_droplet.imaging.rim_offset import MOST_RIM_OFFSET_PX
from sam_droplet.web.legacy_analysis import ADVANCED_FILTERS
from sam_droplet.web.openapi_operations import (
    COMMON,
    UPLOAD,
    Json,
    form_body,
    json_answer,
    json_body,
    operation,
)
from sam_droplet.web.openapi_schemas import LENGTH_UM, MODE, array, nullable, number, obj, ref

_ANALYSIS_FIELDS = (
    *("success", "analysis_results", "visualizations", "clustered_masks", "filtered_out_masks"),
    *("csv_data", "summary"),
)


def script_paths() -> Json:
    """Return the addresses that client scripts of the original application know."""
    text = {"type": "string", "maxLength": 10_000}
    file = {"type": "string", "format": "binary"}
    form = obj(
        {
            "file": file,
            "filters": text,
            "preprocessing": text,
            "sensitivity": text,
            "diameter_min_px": text,
            "diameter_max_px": text,
            "mode": MODE,
            "rim_offset_px": text,
            "um_per_px": text,
            "chamber_height_um": text,
            "mask_images": text,
        },
        ["file"],
    )
    body = obj(
        {
            "image": {"type": "string"},
            "filename": {"type": "string"},
            "filters": {"type": "object"},
            "preprocessing": {"type": "object"},
            "sensitivity": nullable(number(0, 1)),
            "diameter_min_px": nullable(number(0, 1e6)),
            "diameter_max_px": nullable(number(0, 1e6)),
            "mode": MODE,
            "rim_offset_px": nullable(number(-MOST_RIM_OFFSET_PX, MOST_RIM_OFFSET_PX)),
            "um_per_px": nullable(LENGTH_UM),
            "chamber_height_um": nullable(LENGTH_UM),
            "mask_images": {"type": "boolean"},
        },
        ["image"],
    )
    advanced = obj(
        body["properties"]
        | {
            "advanced_filters": obj(
                {name: nullable(number(low, high)) for name, (_, low, high, _) in ADVANCED_FILTERS.items()}
            ),
            "filters": obj(
                {
                    "intensity_threshold": nullable({"type": "number"}),
                    "enable_intensity_coloring": {"type": "boolean"},
                }
            ),
        },
        ["image"],
    )
    flat = {"type": ["string", "number", "boolean", "null"]}
    packed = obj(
        {
            "csv_data": array({"type": "object", "additionalProperties": flat}),
            "analysis_results": {"type": "object"},
            "visualizations": {
                "type": "object",
                "propertyNames": {"pattern": "^[a-z0-9_]{1,60}$"},
                "additionalProperties": {"type": "string", "description": "A PNG as data URL."},
            },
        },
        ["csv_data", "analysis_results"],
    )
    errors = (*UPLOAD, 429)
    answer = {200: json_answer(ref("Segmentation"))}
    return {
        "/segment_file": {"post": operation("Find droplets in a file", answer, errors, form_body(form))},
        "/segment": {"post": operation("Find droplets in base64 text", answer, errors, json_body(body))},
        "/advanced_analysis": {
            "post": operation(
                "Describe groups and overlaps",
                {200: json_answer({"type": "object", "required": list(_ANALYSIS_FIELDS)})},
                errors,
                json_body(advanced),
            )
        },
        "/download_analysis": {
            "post": operation(
                "Pack an advanced analysis",
                {200: {"description": "The archive.", "content": {"application/zip": {}}}},
                (*COMMON, 413, 429),
                json_body(packed),
            )
        },
        "/analyze_image": {
            "post": operation(
                "Describe an image",
                {200: json_answer({"type": "object", "required": ["success", "analysis"]})},
                errors,
                form_body(obj({"file": file}, ["file"])),
            )
        },
        "/defaults": {
            "get": operation(
                "Default values",
                {200: json_answer({"type": "object", "required": ["defaults", "description"]})},
            )
        },
    }
