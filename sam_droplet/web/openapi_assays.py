"""The part of the API's description that is about assays, statistics and objectives."""

from __future__ import annotations

from sam_droplet.measurement.ddpcr import AMPLITUDES
from sam_droplet.measurement.populations import GROUPS_MAX
from sam_droplet.service.assays import ASSAYS
from sam_droplet.web.assays_api import MAX_CHANNEL
from sam_droplet.web.openapi_operations import (
    COMMON,
    IMAGE_ID,
    Json,
    json_answer,
    json_body,
    operation,
    query_parameter,
)
from sam_droplet.web.openapi_schemas import LENGTH_UM, array, column_name, nullable, number, obj, ref

_COUNT: Json = {"type": "integer", "minimum": 0}
_TEXT: Json = {"type": "string"}
_OBJECT: Json = {"type": "object"}
_ASSAY: Json = {
    "type": "object",
    "description": "The result, its settings, and under droplets one list per column.",
    "required": ["settings", "droplets"],
}


def assay_paths() -> Json:
    """Return the addresses of assays, statistics, presets and objectives."""
    taken = json_body({"anyOf": list(assay_settings().values())})
    every = obj({name: nullable(_ASSAY) for name in ASSAYS}, list(ASSAYS))
    shown = obj({"revision": _COUNT, "assays": every}, ["revision", "assays"])
    kept = obj({"revision": _COUNT, "assay": nullable(_ASSAY)}, ["revision", "assay"])
    report = dict.fromkeys(("summary", "edge_weighted_summary", "quality"), _OBJECT)
    preset = {"name": _TEXT, "title": _TEXT, "description": _TEXT, "filters": ref("Filters")}
    errors = (*COMMON, 404, 422)
    objective = obj({"name": _TEXT, "um_per_px": LENGTH_UM}, ["name", "um_per_px"])
    objectives = {200: json_answer(obj({"objectives": array(objective)}, ["objectives"]))}
    return {
        "/api/objectives": {
            "get": operation("List objectives", objectives),
            "post": operation("Save an objective", objectives, COMMON, json_body(objective), changes=True),
            "delete": operation(
                "Forget an objective",
                objectives,
                (*COMMON, 404),
                parameters=[query_parameter("name", _TEXT) | {"required": True}],
                changes=True,
            ),
        },
        "/api/images/{image_id}/assays": {
            "parameters": [IMAGE_ID],
            "get": operation("Read the assays", {200: json_answer(shown)}, (*COMMON, 404)),
        },
        "/api/images/{image_id}/assays/{name}": {
            "parameters": [IMAGE_ID, _NAME],
            "put": operation("Set an assay up", {200: json_answer(kept)}, errors, taken, changes=True),
            "delete": operation(
                "Take an assay away",
                {200: json_answer(obj({"revision": _COUNT}, ["revision"]))},
                (*COMMON, 404),
                changes=True,
            ),
        },
        "/api/images/{image_id}/report": {
            "parameters": [IMAGE_ID],
            "get": operation(
                "Read all statistics",
                {
                    200: json_answer(
                        obj(
                            {"revision": _COUNT, "methods": _TEXT, **report},
                            ["revision", "methods", *report],
                        )
                    )
                },
                errors,
            ),
        },
        "/api/images/{image_id}/pages/{page}": {
            "parameters": [
                IMAGE_ID,
                {"name": "page", "in": "path", "required": True, "schema": _COUNT | {"maximum": 10**6}},
            ],
            "post": operation(
                "Open another page",
                {201: json_answer(obj({"image": ref("ImageInfo")}, ["image"]))},
                (*errors, 413),
                changes=True,
            ),
        },
        "/api/images/{image_id}/presets": {
            "parameters": [IMAGE_ID],
            "get": operation(
                "List filter presets",
                {200: json_answer(obj({"presets": array(obj(preset, list(preset)))}))},
                (*COMMON, 404),
            ),
        },
    }


_NAME: Json = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "enum": list(ASSAYS)},
}


def assay_settings() -> Json:
    """Return what each assay takes; null stands for a value that is chosen for the caller."""
    second = {
        "second_image_id": nullable({"type": "string", "maxLength": 100}),
        "channel": nullable({"type": "integer", "minimum": 0, "maximum": MAX_CHANNEL}),
        "shift_px": nullable(
            {"type": "array", "items": number(-100_000, 100_000), "minItems": 2, "maxItems": 2}
        ),
        "threshold": nullable(number(-1e12, 1e12)),
    }
    ddpcr = {
        "dilution": nullable(number(1e-9, 1e12)),
        "amplitude": {"type": "string", "enum": list(AMPLITUDES)},
    }
    loading = {
        "inclusion_diameter_px": nullable(number(1, 1e5)),
        "stock_per_ml": nullable(number(0, 1e18)),
    }
    groups = {"n_groups": nullable({"type": "integer", "minimum": 1, "maximum": GROUPS_MAX})}
    intensity = {
        "column": column_name(),
        "threshold": nullable(number(-1e12, 1e12)),
    }
    return {
        "ddpcr": obj(second | ddpcr),
        "loading": obj(second | loading),
        "groups": obj(groups),
        "intensity": obj(intensity),
    }
