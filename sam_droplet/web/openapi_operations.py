"""The building blocks of the API's description: operations, answers, bodies and parameters."""

from __future__ import annotations

from typing import Any

from sam_droplet.web.openapi_schemas import ref

Json = dict[str, Any]
_ERRORS = {
    400: "The request is wrong; the sentence says what was expected.",
    401: "A key is needed or not valid.",
    403: "The key may not do this, or another web site sent the request.",
    404: "There is no such thing, or it belongs to somebody else.",
    409: "It clashes with what is there already.",
    413: "Over a byte, pixel or quota limit.",
    415: "Not an image type that is read.",
    422: "The right type, but damaged.",
    429: "Over a quota; Retry-After says when to come back.",
    503: "Busy or starting; Retry-After says when to come back.",
}
COMMON = (400, 401, 403, 503)
UPLOAD = (*COMMON, 404, 413, 415, 422)
_PAGE_HEADER = {
    "name": "X-SAM-Droplet",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "enum": ["1"]},
    "description": "Any value; shows that the request was meant. Not needed with an API key.",
}


def operation(
    summary: str,
    answers: dict[int, Json],
    errors: tuple[int, ...] = COMMON,
    body: Json | None = None,
    *,
    parameters: list[Json] | None = None,
    changes: bool = False,
) -> Json:
    """Return an operation with its answers and errors; ``changes`` asks for the page's header."""
    failures = {str(status): json_answer(ref("Error"), _ERRORS[status]) for status in errors}
    made: Json = {
        "summary": summary,
        "operationId": summary.lower().replace(" ", "_"),
        "responses": {str(status): answer for status, answer in answers.items()} | failures,
    }
    given = (parameters or []) + ([_PAGE_HEADER] if changes else [])
    if given:
        made["parameters"] = given
    if body is not None:
        made["requestBody"] = body
    return made


def json_answer(schema: Json, description: str = "Done.") -> Json:
    """Return a JSON answer."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def json_body(schema: Json) -> Json:
    """Return a body of JSON."""
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def form_body(schema: Json) -> Json:
    """Return a body of form data."""
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def path_parameter(name: str) -> Json:
    """Return a part of the address that is a name."""
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": "^[a-z-]{1,30}$"},
    }


def query_parameter(name: str, schema: Json) -> Json:
    """Return a part of the query."""
    return {"name": name, "in": "query", "schema": schema}


def id_parameter(name: str) -> Json:
    """Return a part of the address that is an id."""
    pattern = "^[0-9a-f]{32}$"
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": pattern}}


IMAGE_ID = id_parameter("image_id")
