"""The part of the API's description that is about jobs."""

from __future__ import annotations

from sam_droplet.imaging.rim_offset import MOST_RIM_OFFSET_PX
from sam_droplet.pipeline import MOST_MAGNIFICATION
from sam_droplet.service.batch import KINDS
from sam_droplet.service.job_tables import ITEM_STATES, JOB_STATES
from sam_droplet.service.jobs import MAX_ITEMS
from sam_droplet.web.find_options import FIND_MODELS
from sam_droplet.web.jobs_api import MAX_KEY_LENGTH, MAX_THUMBNAIL_PX
from sam_droplet.web.openapi_operations import (
    COMMON,
    IMAGE_ID,
    Json,
    id_parameter,
    json_answer,
    json_body,
    operation,
    path_parameter,
    query_parameter,
)
from sam_droplet.web.openapi_schemas import LENGTH_UM, MODE, array, nullable, number, obj, ref

_COUNT: Json = {"type": "integer", "minimum": 0}
_TEXT: Json = {"type": "string"}
_TIME = nullable(_TEXT)
_COUNTS = ("done", "total", "succeeded", "failed", "cancelled", "running", "waiting")


def _described(properties: Json) -> Json:
    return obj(properties, list(properties), closed=False)


JOB_SCHEMAS: Json = {
    "Job": _described(
        {
            "id": _TEXT,
            "kind": {"type": "string", "enum": list(KINDS)},
            "state": {"type": "string", "enum": list(JOB_STATES)},
            "version": _COUNT,
            "options": {"type": "object"},
            "created_at": _TEXT,
            "started_at": _TIME,
            "finished_at": _TIME,
            "progress": _described(dict.fromkeys(_COUNTS, _COUNT)),
            "queue_position": nullable(_COUNT),
            "remaining_s": nullable({"type": "number", "minimum": 0}),
            "url": _TEXT,
            "events_url": _TEXT,
            "page_url": _TEXT,
            "exports": {"type": "object"},
        }
    ),
    "JobItem": _described(
        {
            "position": _COUNT,
            "image_id": _TEXT,
            "name": _TEXT,
            "state": {"type": "string", "enum": list(ITEM_STATES)},
            "attempts": _COUNT,
            "progress": nullable({"type": "object", "required": ["stage", "done", "total"]}),
            "seconds": nullable({"type": "number"}),
            "result": nullable({"type": "object", "required": ["n_found", "n_included", "cv_percent"]}),
            "flags": array(_TEXT),
            "message": nullable(_TEXT),
            "thumbnail_url": nullable(_TEXT),
            "image_page_url": nullable(_TEXT),
        }
    ),
    "JobWithItems": _described({"job": ref("Job"), "items": array(ref("JobItem"))}),
}


def job_paths() -> Json:
    """Return the addresses of jobs."""
    whole = json_answer(ref("JobWithItems"))
    job_id, errors = id_parameter("job_id"), (*COMMON, 404)
    picture = {"description": "A small picture.", "content": {"image/jpeg": {}}}
    unchanged = {"description": "Not changed."}
    stream = {
        "description": "Events named job with a JobWithItems.",
        "content": {"text/event-stream": {}},
    }
    side: Json = {"type": "integer", "minimum": 1, "maximum": MAX_THUMBNAIL_PX}
    revision: Json = {"type": "integer", "minimum": 0, "maximum": 10**9 - 1}
    return {
        "/api/jobs": {
            "get": operation("List jobs", {200: json_answer(obj({"jobs": array(ref("Job"))}))}),
            "post": operation(
                "Start a job", {202: whole}, (*COMMON, 404, 409, 429), json_body(_request()), changes=True
            ),
        },
        "/api/jobs/{job_id}": {
            "parameters": [job_id],
            "get": operation("See how a job is going", {200: whole, 304: unchanged}, errors),
        },
        "/api/jobs/{job_id}/cancel": {
            "parameters": [job_id],
            "post": operation("Stop a job", {200: whole}, errors, changes=True),
        },
        "/api/jobs/{job_id}/retry": {
            "parameters": [job_id],
            "post": operation("Do again what failed", {202: whole}, errors, changes=True),
        },
        "/api/jobs/{job_id}/events": {
            "parameters": [job_id],
            "get": operation(
                "Watch a job", {200: stream, 204: {"description": "Finished, and all was seen."}}, errors
            ),
        },
        "/api/jobs/{job_id}/export/{format_name}": {
            "parameters": [job_id, path_parameter("format_name")],
            "get": operation(
                "Download the combined table",
                {200: {"description": "The file.", "content": {"*/*": {}}}},
                errors,
            ),
        },
        "/api/images/{image_id}/outlined": {
            "parameters": [IMAGE_ID],
            "get": operation(
                "Draw an image with its outlines",
                {200: picture, 304: unchanged},
                errors,
                parameters=[
                    query_parameter("max_side", side),
                    query_parameter("revision", revision),
                ],
            ),
        },
    }


def _request() -> Json:
    size = nullable(number(0, 1e6))
    options = obj(
        {
            "sensitivity": nullable(number(0, 1)),
            "diameter_min_px": size,
            "diameter_max_px": size,
            "diameter_min_um": size,
            "diameter_max_um": size,
            "model": {"type": "string", "enum": list(FIND_MODELS)},
            "mode": MODE,
            "filters": nullable(ref("Filters")),
            "calibration": nullable(ref("Calibration")),
            "chamber_height_um": nullable(LENGTH_UM),
            "roi_xyxy": nullable(ref("Box")),
            "magnification": nullable(number(1, MOST_MAGNIFICATION)),
            "rim_offset_px": nullable(number(-MOST_RIM_OFFSET_PX, MOST_RIM_OFFSET_PX)),
        }
    )
    ids = array({"type": "string", "pattern": "^[0-9a-f]{32}$"}, MAX_ITEMS) | {"minItems": 1}
    return obj(
        {
            "kind": {"type": "string", "enum": list(KINDS)},
            "image_ids": ids,
            "options": nullable(options),
            "idempotency_key": {"type": "string", "maxLength": MAX_KEY_LENGTH},
        },
        ["image_ids"],
    )
