"""The machine-readable description of the HTTP API; /openapi.json serves it, and tests hold us to it."""

from __future__ import annotations

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from sam_droplet import __version__
from sam_droplet.imaging.rim_offset import MOST_RIM_OFFSET_PX
from sam_droplet.pipeline import MOST_MAGNIFICATION, PROMPT_MODELS
from sam_droplet.web.api import MAX_VIEW_SIDE_PX
from sam_droplet.web.find_options import FIND_MODELS
from sam_droplet.web.openapi_assays import assay_paths, assay_settings
from sam_droplet.web.openapi_jobs import JOB_SCHEMAS, job_paths
from sam_droplet.web.openapi_operations import (
    COMMON,
    IMAGE_ID,
    UPLOAD,
    Json,
    form_body,
    json_answer,
    json_body,
    operation,
    path_parameter,
    query_parameter,
)
from sam_droplet.web.openapi_schemas import MODE, SCHEMAS, array, nullable, number, obj, ref
from sam_droplet.web.openapi_scripts import script_paths
from sam_droplet.web.payloads import MAX_CONTOUR_POINTS, MAX_POINTS

blueprint = Blueprint("openapi", __name__)

_PROPOSALS = (
    "35 little-endian 32-bit floats per outline: centre x and y, 32 radii at equal angles from +x towards "
    "+y, score."
)


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
        "paths": _image_paths()
        | _droplet_paths()
        | assay_paths()
        | job_paths()
        | _sample_paths()
        | script_paths()
        | _server_paths(),
        "components": {
            "schemas": SCHEMAS | JOB_SCHEMAS,
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
    opened = json_answer(obj({"images": array(ref("ImageInfo")), "errors": array(ref("FileError"))}))
    query = [
        query_parameter("max_side", {"type": "integer", "minimum": 1, "maximum": MAX_VIEW_SIDE_PX}),
        query_parameter("stretch", {"type": "integer", "enum": [0, 1]}),
        query_parameter("channel", {"type": "integer", "minimum": 0, "maximum": 10_000}),
    ]
    links = {"links": {"type": "integer", "minimum": 0}, "is_local": {"type": "boolean"}}
    made = {"url": {"type": "string"}, "expires_at": {"type": "string"}}
    place = [
        query_parameter(name, {"type": "integer", "minimum": 0, "maximum": most, "default": 0})
        for name, most in {"level": 16, "column": 10_000, "row": 10_000}.items()
    ]
    picture = {"description": "The image for display.", "content": {"image/png": {}, "image/jpeg": {}}}
    return {
        "/api/images": {
            "get": operation(
                "List images",
                {200: json_answer(obj({"images": array(ref("ImageInfo")), "n_images": {"type": "integer"}}))},
            ),
            "post": operation("Open images", {201: opened}, UPLOAD, form_body(files), changes=True),
        },
        "/api/images/{image_id}": {
            "parameters": [IMAGE_ID],
            "delete": operation(
                "Delete an image", {204: {"description": "Gone."}}, (*COMMON, 404), changes=True
            ),
        },
        "/api/images/{image_id}/view": {
            "parameters": [IMAGE_ID],
            "get": operation(
                "Draw an image",
                {200: picture, 304: {"description": "Not changed."}},
                (*COMMON, 404),
                parameters=query,
            ),
        },
        "/api/images/{image_id}/tile": {
            "parameters": [IMAGE_ID],
            "get": operation(
                "Draw a tile of a big image",
                {200: picture, 304: {"description": "Not changed."}},
                (*COMMON, 404),
                parameters=[*place, *query[1:]],
            ),
        },
        "/api/images/{image_id}/share": {
            "parameters": [IMAGE_ID],
            "get": operation("Count links", {200: json_answer(obj(links))}, (*COMMON, 404)),
            "post": operation(
                "Make a link", {201: json_answer(obj(links | made))}, (*COMMON, 404), changes=True
            ),
            "delete": operation(
                "Withdraw all links", {204: {"description": "Gone."}}, (*COMMON, 404), changes=True
            ),
        },
        "/api/images/{image_id}/export/{format_name}": {
            "parameters": [IMAGE_ID, path_parameter("format_name")],
            "get": operation(
                "Download results",
                {200: {"description": "The file.", "content": {"*/*": {}}}},
                (*COMMON, 404),
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
            "mode": MODE,
            "roi_xyxy": nullable(ref("Box")),
            "magnification": number(1, MOST_MAGNIFICATION),
            "rim_offset_px": number(-MOST_RIM_OFFSET_PX, MOST_RIM_OFFSET_PX),
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
            "include_anyway": ids,
            "follow_filters": ids,
            "filters": nullable(ref("Filters")),
            "calibration": nullable(ref("Calibration")),
            "channel": nullable({"type": "integer", "minimum": 0, "maximum": 10_000}),
            "regions": nullable(array(ref("Region"), 100)),
            "assays": nullable(obj({name: nullable(schema) for name, schema in assay_settings().items()})),
            "search": nullable({"type": "integer", "minimum": 0, "maximum": 2**31 - 1}),
            "rim_offset_px": nullable(number(-MOST_RIM_OFFSET_PX, MOST_RIM_OFFSET_PX)),
        }
    )
    contour = obj({"contour": array(ref("Point"), MAX_CONTOUR_POINTS)}, ["contour"])
    found = {"allOf": [ref("Annotation"), {"type": "object", "required": ["found", "added", "removed"]}]}
    one = obj({"droplet": ref("Droplet"), "revision": {"type": "integer"}}, ["droplet", "revision"])
    redrawn = obj({"contours": array(array(ref("Point"), MAX_CONTOUR_POINTS)), "replaces": ids}, ["contours"])
    several = obj(
        {"droplets": array(ref("Droplet")), "revision": {"type": "integer"}}, ["droplets", "revision"]
    )
    errors = (*COMMON, 404, 422)
    return {
        "/api/images/{image_id}/annotation": {
            "parameters": [IMAGE_ID],
            "get": operation("Read the droplets", {200: json_answer(ref("Annotation"))}, (*COMMON, 404)),
            "patch": operation(
                "Edit", {200: json_answer(ref("Edited"))}, errors, json_body(patch), changes=True
            ),
        },
        "/api/images/{image_id}/find": {
            "parameters": [IMAGE_ID],
            "post": operation(
                "Find droplets",
                {200: json_answer(found)},
                errors,
                json_body(obj({"options": options, "roi_xyxy": nullable(ref("Box"))})),
                changes=True,
            ),
        },
        "/api/images/{image_id}/predict": {
            "parameters": [IMAGE_ID],
            "post": operation(
                "Outline what points and a box mean",
                {200: json_answer(ref("Predicted"))},
                errors,
                json_body(prompt),
                changes=True,
            ),
        },
        "/api/images/{image_id}/proposals": {
            "parameters": [IMAGE_ID],
            "get": operation(
                "Read the outlines that clicks are answered from",
                {
                    200: {"description": _PROPOSALS, "content": {"application/octet-stream": {}}},
                    304: {"description": "Not changed."},
                },
                (*COMMON, 404),
            ),
        },
        "/api/images/{image_id}/redraw": {
            "parameters": [IMAGE_ID],
            "post": operation(
                "Put drawn outlines in the place of droplets",
                {201: json_answer(several)},
                errors,
                json_body(redrawn),
                changes=True,
            ),
        },
        "/api/images/{image_id}/droplets": {
            "parameters": [IMAGE_ID],
            "post": operation(
                "Keep a drawn droplet", {201: json_answer(one)}, errors, json_body(contour), changes=True
            ),
        },
    }


def _sample_paths() -> Json:
    opened = json_answer(obj({"images": array(ref("ImageInfo")), "errors": array(ref("FileError"))}))
    picture = {"description": "A small picture.", "content": {"image/jpeg": {}}}
    return {
        "/api/samples": {
            "get": operation("List samples", {200: json_answer(obj({"samples": array({"type": "object"})}))})
        },
        "/api/samples/{name}": {
            "parameters": [path_parameter("name")],
            "post": operation("Open a sample", {201: opened}, (*COMMON, 404, 413), changes=True),
        },
        "/api/samples/{name}/thumbnail": {
            "parameters": [path_parameter("name")],
            "get": operation(
                "Draw a sample", {200: picture, 304: {"description": "Not changed."}}, (*COMMON, 404)
            ),
        },
        "/api/models": {
            "get": operation(
                "List networks",
                {
                    200: json_answer(
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


def _server_paths() -> Json:
    status = json_answer(obj({"status": {"type": "string"}}, ["status"], closed=False))
    health = json_answer(
        {
            "type": "object",
            "required": [
                "status",
                "timestamp",
                "model_loaded",
                "runs_on",
                "gpu_available",
                "memory_usage",
                "cpu_percent",
            ],
        }
    )
    return {
        "/health": {"get": operation("Health", {200: health}, ())},
        "/livez": {"get": operation("Alive", {200: status}, ())},
        "/readyz": {"get": operation("Ready", {200: status}, (503,))},
        "/admin/stats": {"get": operation("Use per key", {200: json_answer({"type": "object"})})},
        "/admin/health": {"get": operation("Health in detail", {200: json_answer({"type": "object"})})},
        "/metrics": {
            "get": operation(
                "Prometheus numbers", {200: {"description": "Text.", "content": {"text/plain": {}}}}
            )
        },
        "/openapi.json": {"get": operation("This description", {200: json_answer({"type": "object"})})},
    }
