"""The machine-readable description of the HTTP API; /openapi.json serves it, and tests hold us to it."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from sam_droplet import __version__
from sam_droplet.pipeline import PROMPT_MODELS
from sam_droplet.web.api import FIND_MODELS, MAX_VIEW_SIDE_PX
from sam_droplet.web.openapi_schemas import SCHEMAS, array, nullable, number, obj, ref
from sam_droplet.web.payloads import MAX_CONTOUR_POINTS, MAX_POINTS

blueprint = Blueprint("openapi", __name__)

Json = dict[str, Any]
_ERRORS = {
    400: "The request is wrong; the sentence says what was expected.",
    401: "A key is needed or not valid.",
    403: "The key may not do this, or another web site sent the request.",
    404: "There is no such thing, or it belongs to somebody else.",
    413: "Over a byte, pixel or quota limit.",
    415: "Not an image type that is read.",
    422: "The right type, but damaged.",
    429: "Over a quota; Retry-After says when to come back.",
    503: "Busy or starting; Retry-After says when to come back.",
}
_COMMON = (400, 401, 403, 503)
_UPLOAD = (*_COMMON, 404, 413, 415, 422)
_PROPOSALS = (
    "36 little-endian 32-bit floats per outline: centre x and y, 32 radii at equal angles from +x towards "
    "+y, score, priority."
)
_PAGE_HEADER = {
    "name": "X-SAM-Droplet",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "enum": ["1"]},
    "description": "Any value; shows that the request was meant. Not needed with an API key.",
}
_IMAGE_ID = {
    "name": "image_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
}


@blueprint.get("/openapi.json")
def description() -> ResponseReturnValue:
    """Describe the HTTP API in OpenAPI 3.1."""
    return jsonify(openapi_description())


def openapi_description() -> Json:
    """Return the OpenAPI document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "SAM Droplet",
            "version": __version__,
            "description": "Find, click, measure and export droplets on micrographs. Coordinates are image "
            "pixels in the image-corner frame: the first pixel spans 0 to 1. Boxes are half-open.",
        },
        "paths": _image_paths() | _droplet_paths() | _sample_paths() | _script_paths() | _server_paths(),
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
        "security": [{}, {"key": []}, {"bearer": []}],
    }


def _image_paths() -> Json:
    files = obj(
        {
            "file": array({"type": "string", "format": "binary"}),
            "page": {"type": "string", "pattern": "^[0-9]{1,3}$"},
        },
        ["file"],
    )
    opened = _json(obj({"images": array(ref("ImageInfo")), "errors": array(ref("FileError"))}))
    query = [
        _query("max_side", {"type": "integer", "minimum": 1, "maximum": MAX_VIEW_SIDE_PX}),
        _query("stretch", {"type": "integer", "enum": [0, 1]}),
        _query("channel", {"type": "integer", "minimum": 0, "maximum": 10_000}),
    ]
    picture = {"description": "The image for display.", "content": {"image/png": {}, "image/jpeg": {}}}
    return {
        "/api/images": {
            "get": _operation("List images", {200: _json(obj({"images": array(ref("ImageInfo"))}))}),
            "post": _operation("Open images", {201: opened}, _UPLOAD, _form(files), changes=True),
        },
        "/api/images/{image_id}": {
            "parameters": [_IMAGE_ID],
            "delete": _operation(
                "Delete an image", {204: {"description": "Gone."}}, (*_COMMON, 404), changes=True
            ),
        },
        "/api/images/{image_id}/view": {
            "parameters": [_IMAGE_ID],
            "get": _operation(
                "Draw an image",
                {200: picture, 304: {"description": "Not changed."}},
                (*_COMMON, 404),
                parameters=query,
            ),
        },
        "/api/images/{image_id}/export/{format_name}": {
            "parameters": [_IMAGE_ID, _path("format_name")],
            "get": _operation(
                "Download results",
                {200: {"description": "The file.", "content": {"*/*": {}}}},
                (*_COMMON, 404),
            ),
        },
    }


def _droplet_paths() -> Json:
    number_or_null = nullable(number(0, 1e6))
    options = obj(
        {
            "sensitivity": nullable(number(0, 1)),
            "diameter_min_px": number_or_null,
            "diameter_max_px": number_or_null,
            "model": {"type": "string", "enum": list(FIND_MODELS)},
            "mode": {"type": "string", "enum": ["droplets", "refined", "everything"]},
            "roi_xyxy": nullable(ref("Box")),
        }
    )
    prompt = obj(
        {
            "points": array(ref("Point"), MAX_POINTS),
            "labels": array({"type": "integer", "enum": [0, 1]}, MAX_POINTS),
            "box": nullable(ref("Box")),
            "multimask": {"type": "boolean"},
            "model": {"type": "string", "enum": list(PROMPT_MODELS)},
            "commit": {"type": "boolean"},
            "candidate": {"type": "integer", "minimum": 0, "maximum": 100},
        }
    )
    ids = array({"type": "integer", "minimum": 1, "maximum": 2**31 - 1})
    patch = obj(
        {
            "delete": ids,
            "restore": ids,
            "exclude": ids,
            "include": ids,
            "filters": nullable(ref("Filters")),
            "calibration": nullable(ref("Calibration")),
        }
    )
    contour = obj({"contour": array(ref("Point"), MAX_CONTOUR_POINTS)}, ["contour"])
    found = {"allOf": [ref("Annotation"), {"type": "object", "required": ["added", "removed"]}]}
    one = obj({"droplet": ref("Droplet"), "revision": {"type": "integer"}}, ["droplet", "revision"])
    errors = (*_COMMON, 404, 422)
    return {
        "/api/images/{image_id}/annotation": {
            "parameters": [_IMAGE_ID],
            "get": _operation("Read the droplets", {200: _json(ref("Annotation"))}, (*_COMMON, 404)),
            "patch": _operation("Edit", {200: _json(ref("Edited"))}, errors, _body(patch), changes=True),
        },
        "/api/images/{image_id}/find": {
            "parameters": [_IMAGE_ID],
            "post": _operation(
                "Find droplets",
                {200: _json(found)},
                errors,
                _body(obj({"options": options, "roi_xyxy": nullable(ref("Box"))})),
                changes=True,
            ),
        },
        "/api/images/{image_id}/predict": {
            "parameters": [_IMAGE_ID],
            "post": _operation(
                "Outline what points and a box mean",
                {200: _json(ref("Predicted"))},
                errors,
                _body(prompt),
                changes=True,
            ),
        },
        "/api/images/{image_id}/proposals": {
            "parameters": [_IMAGE_ID],
            "get": _operation(
                "Read the outlines that clicks are answered from",
                {
                    200: {"description": _PROPOSALS, "content": {"application/octet-stream": {}}},
                    304: {"description": "Not changed."},
                },
                (*_COMMON, 404),
            ),
        },
        "/api/images/{image_id}/droplets": {
            "parameters": [_IMAGE_ID],
            "post": _operation(
                "Keep a drawn droplet", {201: _json(one)}, errors, _body(contour), changes=True
            ),
        },
    }


def _sample_paths() -> Json:
    opened = _json(obj({"images": array(ref("ImageInfo")), "errors": array(ref("FileError"))}))
    picture = {"description": "A small picture.", "content": {"image/jpeg": {}}}
    return {
        "/api/samples": {
            "get": _operation("List samples", {200: _json(obj({"samples": array({"type": "object"})}))})
        },
        "/api/samples/{name}": {
            "parameters": [_path("name")],
            "post": _operation("Open a sample", {201: opened}, (*_COMMON, 404, 413), changes=True),
        },
        "/api/samples/{name}/thumbnail": {
            "parameters": [_path("name")],
            "get": _operation(
                "Draw a sample", {200: picture, 304: {"description": "Not changed."}}, (*_COMMON, 404)
            ),
        },
        "/api/models": {
            "get": _operation(
                "List networks",
                {
                    200: _json(
                        obj(
                            {
                                "models": array({"type": "object"}),
                                "prompt_model": {"type": "string"},
                                "find_model": {"type": "string"},
                            }
                        )
                    )
                },
            )
        },
    }


def _script_paths() -> Json:
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
            "um_per_px": text,
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
            "um_per_px": nullable(number(1e-6, 1e6)),
            "mask_images": {"type": "boolean"},
        },
        ["image"],
    )
    errors = (*_UPLOAD, 429)
    answer = {200: _json(ref("Segmentation"))}
    return {
        "/segment_file": {"post": _operation("Find droplets in a file", answer, errors, _form(form))},
        "/segment": {"post": _operation("Find droplets in base64 text", answer, errors, _body(body))},
        "/analyze_image": {
            "post": _operation(
                "Describe an image",
                {200: _json({"type": "object", "required": ["success", "analysis"]})},
                errors,
                _form(obj({"file": file}, ["file"])),
            )
        },
        "/defaults": {
            "get": _operation(
                "Default values", {200: _json({"type": "object", "required": ["defaults", "description"]})}
            )
        },
    }


def _server_paths() -> Json:
    status = _json(obj({"status": {"type": "string"}}, ["status"], closed=False))
    health = _json(
        {
            "type": "object",
            "required": [
                "status",
                "timestamp",
                "model_loaded",
                "gpu_available",
                "memory_usage",
                "cpu_percent",
            ],
        }
    )
    return {
        "/health": {"get": _operation("Health", {200: health}, ())},
        "/livez": {"get": _operation("Alive", {200: status}, ())},
        "/readyz": {"get": _operation("Ready", {200: status}, (503,))},
        "/admin/stats": {"get": _operation("Use per key", {200: _json({"type": "object"})})},
        "/admin/health": {"get": _operation("Health in detail", {200: _json({"type": "object"})})},
        "/metrics": {
            "get": _operation(
                "Prometheus numbers", {200: {"description": "Text.", "content": {"text/plain": {}}}}
            )
        },
        "/openapi.json": {"get": _operation("This description", {200: _json({"type": "object"})})},
    }


def _operation(
    summary: str,
    answers: dict[int, Json],
    errors: tuple[int, ...] = _COMMON,
    body: Json | None = None,
    *,
    parameters: list[Json] | None = None,
    changes: bool = False,
) -> Json:
    failures = {str(status): _json(ref("Error"), _ERRORS[status]) for status in errors}
    operation: Json = {
        "summary": summary,
        "operationId": summary.lower().replace(" ", "_"),
        "responses": {str(status): answer for status, answer in answers.items()} | failures,
    }
    given = (parameters or []) + ([_PAGE_HEADER] if changes else [])
    if given:
        operation["parameters"] = given
    if body is not None:
        operation["requestBody"] = body
    return operation


def _json(schema: Json, description: str = "Done.") -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _body(schema: Json) -> Json:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _form(schema: Json) -> Json:
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def _path(name: str) -> Json:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": "^[a-z-]{1,30}$"},
    }


def _query(name: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "schema": schema}
