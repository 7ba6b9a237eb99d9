"""The one error shape, and the headers of every response."""

from __future__ import annotations

import io
import logging
import re
import time
import uuid
from typing import Any, cast

from flask import Flask, Response, g, jsonify, redirect, render_template, request, send_file, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest, HTTPException, InternalServerError, RequestEntityTooLarge

from sam_droplet.errors import SamDropletError

log = logging.getLogger("sam_droplet.request")

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "worker-src 'self'",
        "connect-src 'self'",
        "img-src 'self' blob: data:",
        "style-src 'self'",
        "font-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "object-src 'none'",
        "frame-ancestors 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    # With no-referrer, a browser would send the form of the login with "Origin: null" and, without HTTPS, no
    # Sec-Fetch-Site: like another site's.
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_SENTENCES = {
    400: "The request could not be read; see /api-docs for what is expected.",
    404: "There is nothing at this address; check it for a typing mistake.",
    405: "This address does not take {method} requests; see /api-docs.",
}
_CODES = {400: "bad_input", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
_SHARED = re.compile(r"^(/+shared/+)[^/]+")
_DRAIN_BYTES = 256 << 20
_DRAIN_S = 10.0
_QUIET_PATHS = frozenset({"/health", "/livez", "/readyz", "/metrics"})


def init_app(app: Flask) -> None:
    """Give requests an id, log them, and send every error and header from here."""
    app.before_request(_start)
    app.after_request(_finish)
    app.register_error_handler(SamDropletError, _on_our_error)
    app.register_error_handler(HTTPException, _on_http_error)
    app.register_error_handler(Exception, _on_unexpected_error)


def error_response(body: dict[str, Any], retry_after_s: int | None = None) -> Response:
    """Send an error body: as a page to a person who opened a page, else as JSON."""
    status = int(body["status"])
    if status == 401 and _wants_page():
        query = request.query_string.decode(errors="replace")
        asked = f"{request.path}?{query}" if query else request.path
        return cast(Response, redirect(url_for("pages.login", next=asked)))
    if _wants_page():
        response = Response(
            render_template("error.html", status=status, message=body["error"]), mimetype="text/html"
        )
    else:
        response = jsonify(body)
    response.status_code = status
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    if status == 401:
        response.headers["WWW-Authenticate"] = 'ApiKey realm="SAM Droplet"'
    return response


def download(data: bytes, content_type: str, name: str) -> Response:
    """Send a file to keep; content_type goes out as it is, with its charset if it has one."""
    response = send_file(io.BytesIO(data), as_attachment=True, download_name=name, etag=False)
    response.content_type = content_type
    response.headers["Cache-Control"] = "no-store"
    return response


def _wants_page() -> bool:
    if request.blueprint == "pages" or request.endpoint == "shared.page":
        return True
    return (
        request.blueprint is None
        and request.method == "GET"
        and not request.path.startswith("/api/")
        and request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"
    )


def _on_our_error(error: SamDropletError) -> ResponseReturnValue:
    if error.status >= 500:
        log.warning("%s: %s", error.code, error.message, extra={"request_id": g.get("request_id")})
    return error_response(error.as_dict(), error.retry_after_s)


def _on_http_error(error: HTTPException) -> ResponseReturnValue:
    status = error.code or 500
    if isinstance(error, InternalServerError):  # what broke after the view, as the counting of a limit
        cause = error.original_exception
        if isinstance(cause, SamDropletError):
            return _on_our_error(cause)
        return _on_unexpected_error(cause if isinstance(cause, Exception) else error)
    if status < 400:
        return error.get_response()  # a redirect, such as to the address with a slash
    message = _SENTENCES.get(status, error.description or "The request failed.")
    if isinstance(error, RequestEntityTooLarge):
        message = too_large_text(g.config.max_upload_mb)
    body = {
        "success": False,
        "error": message.format(method=request.method) if status == 405 else message,
        "code": _CODES.get(status, (error.name or "error").lower().replace(" ", "_")),
        "status": status,
    }
    response = error_response(body)
    for name, value in error.get_headers():
        if name in ("Allow", "Retry-After"):
            response.headers[name] = value
    return response


def too_large_text(max_upload_mb: int) -> str:
    """Say what a body over every limit is told, whichever server refuses it."""
    return (
        f"The upload is too large: this server takes at most {max_upload_mb} MiB per file, "
        f"{max_upload_mb * 4 // 3 + 1} MiB per request and 500 kB of text per form; send fewer files or "
        "smaller ones."
    )


def _on_unexpected_error(error: Exception) -> ResponseReturnValue:
    if _is_bad_http(error):
        return _on_http_error(BadRequest())
    request_id = g.get("request_id", "unknown")
    log.exception("Unexpected error", exc_info=error, extra={"request_id": request_id})
    body = {
        "success": False,
        "error": f"Something broke on the server; give its administrator this number: {request_id}.",
        "code": "internal_error",
        "status": 500,
    }
    return error_response(body)


def _is_bad_http(error: Exception) -> bool:
    """Whether gunicorn could not read on in a body, such as one in chunks of which one has no size."""
    return type(error).__module__ == "gunicorn.http.errors"


def _start() -> None:
    g.started = time.monotonic()
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if given.isascii() and given.isalnum() and len(given) <= 64 else uuid.uuid4().hex


def _finish(response: Response) -> Response:
    if response.status_code >= 400:
        _drain_body()
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["X-Request-ID"] = g.get("request_id", "")
    if response.mimetype in ("application/json", "text/html"):
        response.headers.setdefault("Cache-Control", "no-store")
    _log_request(response)
    return response


def _drain_body() -> None:
    """Read what is left of a body that was refused unread.

    Closing a connection with unread bytes resets it, and a proxy then answers 502 in our place.
    """
    if not request.environ.get("wsgi.input_terminated"):
        return  # reading past the end would wait for ever; such servers have read the body already
    body, ends = request.environ["wsgi.input"], time.monotonic() + _DRAIN_S
    left = _DRAIN_BYTES
    while left > 0 and time.monotonic() < ends:
        try:
            chunk = body.read(min(left, 1 << 16))
        except Exception as error:
            if isinstance(error, OSError) or _is_bad_http(error):
                return  # the client has gone, or what it sends cannot be read
            raise
        if not chunk:
            return
        left -= len(chunk)


def _log_request(response: Response) -> None:
    caller = g.get("caller")
    level = logging.DEBUG if request.path in _QUIET_PATHS and response.status_code < 500 else logging.INFO
    log.log(
        level,
        "%s %s %d",
        request.method,
        _path_without_secret(),
        response.status_code,
        extra={
            "request_id": g.get("request_id"),
            "key_id": caller.key_id if caller else None,
            "duration_ms": round(1000 * (time.monotonic() - g.get("started", time.monotonic())), 1),
            "n_bytes_in": request.content_length,
            "remote": request.remote_addr,
        },
    )


def _path_without_secret() -> str:
    """Return the path as it may be logged: what a shared link shows is open to whoever knows its token."""
    return _SHARED.sub(r"\1…", request.path)
