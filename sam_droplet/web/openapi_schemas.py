"""The JSON schemas of what the API takes and gives."""

from __future__ import annotations

from typing import Any

from sam_droplet.imaging.calibration import LEAST_UM, MOST_UM
from sam_droplet.measurement.droplets import COLUMNS
from sam_droplet.pipeline import MODES
from sam_droplet.web.payloads import CALIBRATION_SOURCES

Json = dict[str, Any]

MODE: Json = {"type": "string", "enum": list(MODES)}


def obj(properties: Json, required: list[str] | None = None, *, closed: bool = True) -> Json:
    """Return the schema of an object; closed where no other names are taken."""
    schema: Json = {"type": "object", "properties": properties, "required": required or []}
    return schema | {"additionalProperties": False} if closed else schema


def array(items: Json, at_most: int | None = None) -> Json:
    """Return the schema of a list."""
    return {"type": "array", "items": items} | ({} if at_most is None else {"maxItems": at_most})


def number(low: float, high: float) -> Json:
    """Return the schema of a number in [low, high]."""
    return {"type": "number", "minimum": low, "maximum": high}


def nullable(schema: Json) -> Json:
    """Return a schema that null fits as well."""
    return {"anyOf": [schema, {"type": "null"}]}


def ref(name: str) -> Json:
    """Return a reference to one of ``SCHEMAS``."""
    return {"$ref": f"#/components/schemas/{name}"}


def column_name(*more: str) -> Json:
    """Return the schema of a column's name: those of every image, more, and one per channel where several."""
    return {
        "anyOf": [{"enum": [*COLUMNS, *more]}, {"type": "string", "pattern": "^mean_intensity_c[0-9]{1,5}$"}]
    }


def _all_required(properties: Json) -> Json:
    return obj(properties, list(properties), closed=False)


LENGTH_UM = number(LEAST_UM, MOST_UM)

_TEXT: Json = {"type": "string"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_FLAG: Json = {"type": "boolean"}
_NUMBER: Json = {"type": "number"}
_OBJECT: Json = {"type": "object"}
_OPTIONAL_TEXT = nullable(_TEXT)
_OPTIONAL_NUMBER = nullable(_NUMBER)

_CALIBRATION = obj(
    {
        "um_per_px": LENGTH_UM,
        "source": {"type": "string", "enum": list(CALIBRATION_SOURCES)},
        "chamber_height_um": nullable(LENGTH_UM),
    },
    ["um_per_px"],
)
_FILTERS = obj(
    {
        "ranges": {
            "type": "object",
            "description": "By column; each [min, max] with null for no limit.",
            "propertyNames": column_name("score"),
            "additionalProperties": {
                "type": "array",
                "items": nullable({"type": "number", "minimum": -1e9, "maximum": 1e9}),
                "minItems": 2,
                "maxItems": 2,
            },
        },
        "exclude_edge": _FLAG,
    }
)
_REGION = _all_required(
    {
        "kind": {"type": "string", "enum": ["search", "leave-out"]},
        "contour": {"type": "array", "items": number(-1e9, 1e9), "minItems": 6, "maxItems": 2000},
    }
)
_IMAGE_INFO = _all_required(
    {
        "id": _TEXT,
        "name": _TEXT,
        "width": _COUNT,
        "height": _COUNT,
        "n_channels": _COUNT,
        "channel_names": array(_TEXT),
        "bit_depth": _COUNT,
        "n_pages": _COUNT,
        "page": _COUNT,
        "format": _TEXT,
        "notes": array(_TEXT),
        "digest": _TEXT,
        "calibration": nullable(ref("Calibration")),
        "created_at": _TEXT,
        "n_found": _COUNT,
        "n_included": _COUNT,
        "view_url": _TEXT,
        "thumbnail_url": _TEXT,
        "page_url": _TEXT,
    }
)
_DROPLET = _all_required(
    {
        "id": nullable({"type": "integer", "minimum": 1}),
        "source": {"type": "string", "enum": ["auto", "point", "box", "manual"]},
        "model": _TEXT,
        "score": _NUMBER,
        "included": _FLAG,
        "exclusion_reason": _OPTIONAL_TEXT,
        "excluded_by_user": _FLAG,
        "included_by_user": _FLAG,
        "included_although": _OPTIONAL_TEXT,
        **{name: _FLAG if name == "touches_edge" else _OPTIONAL_NUMBER for name in COLUMNS},
        "diameter_um": _OPTIONAL_NUMBER,
        "area_um2": _OPTIONAL_NUMBER,
        "volume_pl": _OPTIONAL_NUMBER,
        "bbox": array(_NUMBER),
        "contour": array(_NUMBER),
    }
)
_MODEL = _all_required({"name": _TEXT, "sha256": _TEXT, "device": _TEXT})
_ANNOTATION = _all_required(
    {
        "image": ref("ImageInfo"),
        "revision": _COUNT,
        "droplets": array(ref("Droplet")),
        "filters": ref("Filters"),
        "calibration": nullable(ref("Calibration")),
        "channel": nullable(_COUNT),
        "regions": array(ref("Region")),
        "summary": _OBJECT,
        "search": _COUNT,
        "model": nullable(_MODEL),
        "parameters": _OBJECT,
        "timings_s": _OBJECT,
        "message": _OPTIONAL_TEXT,
    }
)

SCHEMAS: Json = {
    "Error": _all_required(
        {"success": {"const": False}, "error": _TEXT, "code": _TEXT, "status": {"type": "integer"}}
    ),
    "FileError": _all_required({"name": _TEXT, "error": _TEXT, "code": _TEXT}),
    "Point": {"type": "array", "items": number(-1e6, 1e6), "minItems": 2, "maxItems": 2},
    "Box": {"type": "array", "items": number(-1e6, 1e6), "minItems": 4, "maxItems": 4},
    "Calibration": _CALIBRATION,
    "Filters": _FILTERS,
    "Region": _REGION,
    "ImageInfo": _IMAGE_INFO,
    "Droplet": _DROPLET,
    "Annotation": _ANNOTATION,
    "Edited": _all_required(
        {
            "revision": _COUNT,
            "summary": _OBJECT,
            "n_found": _COUNT,
            "n_included": _COUNT,
            "calibration": nullable(ref("Calibration")),
            "filters": ref("Filters"),
        }
    ),
    "Predicted": _all_required(
        {
            "candidates": array(ref("Droplet")),
            "model": _MODEL,
            "parameters": _OBJECT,
            "timings_s": _OBJECT,
            "message": _OPTIONAL_TEXT,
            "revision": _COUNT,
        }
    ),
    "Segmentation": _all_required(
        {
            "success": {"const": True},
            "num_masks": _COUNT,
            "original_count": _COUNT,
            "preprocessing_removed": _COUNT,
            "user_filter_removed": _COUNT,
            "preprocessing_info": _OBJECT,
            "masks": array(_OBJECT),
            "filters_applied": _OBJECT,
            "preprocessing_applied": _OBJECT,
            "summary_statistics": _OBJECT,
            "original_masks_for_frontend": array(_OBJECT),
            "model": _MODEL,
            "message": _OPTIONAL_TEXT,
        }
    ),
}
