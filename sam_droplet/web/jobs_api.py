"""The JSON API of jobs: work that takes longer than a request, with progress, cancel and combined files."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping
from typing import Any

from flask import (
    Blueprint,
    Response,
    current_app,
    jsonify,
    make_response,
    request,
    url_for,
)
from flask.typing import ResponseReturnValue

from sam_droplet import __version__
from sam_droplet.errors import InputError, NotFound, Unavailable
from sam_droplet.measurement.droplets import Filters, apply_filters
from sam_droplet.pipeline import MODES, MOST_MAGNIFICATION
from sam_droplet.service.batch import KINDS, subjects
from sam_droplet.service.batch_results import most_channels
from sam_droplet.service.job_tables import Job
from sam_droplet.service.jobs import MAX_ITEMS
from sam_droplet.service.records import calibration_as_dict, filters_as_dict
from sam_droplet.web import payloads
from sam_droplet.web.find_options import FIND_MODELS, read_rim_offset_px
from sam_droplet.web.job_desk import JobDesk
from sam_droplet.web.job_events import HEADERS, RETRY_MS, job_events
from sam_droplet.web.job_presenters import EXPORTS, Link, items_json, job_json
from sam_droplet.web.responses import download
from sam_droplet.web.services import caller, services

blueprint = Blueprint("jobs", __name__, url_prefix="/api")

JOB_NAMES = ("kind", "image_ids", "options", "idempotency_key")
SIZES = ("diameter_min_px", "diameter_max_px", "diameter_min_um", "diameter_max_um")
OPTION_NAMES = (
    *("sensitivity", *SIZES, "model", "mode", "filters", "calibration"),
    *("chamber_height_um", "roi_xyxy", "magnification", "rim_offset_px"),
)
MAX_KEY_LENGTH = 100
MAX_THUMBNAIL_PX = 1024
_IMAGE_ID = re.compile(r"[0-9a-f]{32}")


@blueprint.post("/jobs")
def submit() -> ResponseReturnValue:
    """Queue the work; the answer says where to look how it goes."""
    data = payloads.json_object(JOB_NAMES)
    kind = payloads.text(data, "kind", "batch", choices=KINDS)
    owner = caller().owner
    records = [services().store.image(owner, image_id) for image_id in _image_ids(data, kind)]
    job = _desk().queue.submit(
        owner, kind, _settings(data.get("options")), subjects(records), idempotency_key=_key(data)
    )
    _desk().engine.wake()
    return jsonify(_whole(job)), 202, {"Location": url_for("jobs.show", job_id=job.id)}


@blueprint.get("/jobs")
def list_jobs() -> ResponseReturnValue:
    """List the caller's jobs, the newest first."""
    return jsonify({"jobs": [job_json(job) for job in _desk().queue.jobs(caller().owner)]})


@blueprint.get("/jobs/<job_id>")
def show(job_id: str) -> ResponseReturnValue:
    """Say how a job is going, image by image."""
    body = _changes(_desk(), caller().owner, job_id, -1)
    text = json.dumps(body, ensure_ascii=False, sort_keys=True)
    etag = hashlib.sha256(text.encode()).hexdigest()[:32]
    response = make_response("", 304) if etag in request.if_none_match else jsonify(body)
    response.set_etag(etag)
    response.headers["Cache-Control"] = "no-cache"
    return response


@blueprint.post("/jobs/<job_id>/cancel")
def cancel(job_id: str) -> ResponseReturnValue:
    """Stop a job; what is done stays."""
    return jsonify(_whole(_desk().queue.cancel(caller().owner, job_id)))


@blueprint.post("/jobs/<job_id>/retry")
def retry(job_id: str) -> ResponseReturnValue:
    """Do again what failed or was cancelled."""
    job = _desk().queue.retry(caller().owner, job_id)
    _desk().engine.wake()
    return jsonify(_whole(job)), 202, {"Location": url_for("jobs.show", job_id=job.id)}


@blueprint.get("/jobs/<job_id>/events")
def events(job_id: str) -> ResponseReturnValue:
    """Stream how a job goes; a browser that lost the stream goes on after the last event that it has."""
    desk, owner = _desk(), caller().owner
    since = _last_event_id()
    job = desk.queue.job(owner, job_id)
    if job.is_finished and job.version <= since:
        return "", 204  # tells a browser not to come back
    adapter = current_app.create_url_adapter(request)
    assert adapter is not None  # there is one for every request

    # The stream outlives the request's context, so all it needs is bound here.
    def changes(seen: int) -> dict[str, Any]:
        return _changes(desk, owner, job_id, seen, lambda name, **values: adapter.build(name, values))

    stream = job_events(desk.queue, owner, job_id, changes, services().closing, since=since)
    if not desk.streams.acquire(blocking=False):
        raise Unavailable(
            "Too many pages watch their jobs at once; ask for the job itself every few seconds instead.",
            retry_after_s=RETRY_MS // 1000,
        )
    response = Response(stream, mimetype="text/event-stream", headers=HEADERS)
    response.call_on_close(desk.streams.release)
    return response


@blueprint.get("/jobs/<job_id>/export/<format_name>")
def export(job_id: str, format_name: str) -> ResponseReturnValue:
    """Download the droplets of all images in one table, as they are now."""
    from sam_droplet.measurement.export.combined import CSV, combined_csv, combined_xlsx
    from sam_droplet.measurement.export.workbook import XLSX

    if format_name not in EXPORTS:
        raise NotFound(f"There is no combined export {format_name[:30]!r}; there are {', '.join(EXPORTS)}.")
    owner = caller().owner
    job, items = _desk().queue.job_with_items(owner, job_id)
    parts, n_channels = _desk().results.parts(owner, job, items), most_channels(items)
    if format_name == "csv":
        data, mimetype = combined_csv(parts, n_channels), CSV
    else:
        data, mimetype = combined_xlsx(parts, n_channels, _about(job)), XLSX
    name = f"batch_{time.strftime('%Y-%m-%d_%H%M', time.gmtime(job.created_at))}_droplets.{format_name}"
    return download(data, mimetype, name)


@blueprint.get("/images/<image_id>/outlined")
def outlined(image_id: str) -> ResponseReturnValue:
    """Draw an image small with the outlines of its droplets."""
    from sam_droplet.measurement.export.thumbnail import outlined_thumbnail

    query = payloads.query_numbers({"max_side": (1, MAX_THUMBNAIL_PX), "revision": (0, 10**9 - 1)})
    workbench, owner = services().workbench, caller().owner
    revision = services().store.annotation_revision(owner, image_id)
    side = query["max_side"] or MAX_THUMBNAIL_PX
    etag = hashlib.sha256(f"{__version__} {image_id} {revision} {side}".encode()).hexdigest()[:32]
    if etag in request.if_none_match:
        response = make_response("", 304)
    else:
        _, image = workbench.image(owner, image_id)
        droplets = workbench.annotation(owner, image_id).droplets
        response = Response(outlined_thumbnail(image, droplets, side), mimetype="image/jpeg")
    response.set_etag(etag)
    response.headers["Cache-Control"] = "private, max-age=86400" if query["revision"] else "no-cache"
    return response


def _desk() -> JobDesk:
    return services().jobs


def _whole(job: Job) -> dict[str, Any]:
    return _changes(_desk(), job.owner, job.id, -1)


def _changes(desk: JobDesk, owner: str, job_id: str, since: int, link: Link = url_for) -> dict[str, Any]:
    job, items = desk.queue.job_with_items(owner, job_id, since=since)
    return {"job": job_json(job, link), "items": items_json(desk.results, owner, items, link)}


def _last_event_id() -> int:
    given = request.headers.get("Last-Event-ID", "") or request.args.get("since", "")
    return int(given) if given.isascii() and given.isdecimal() and len(given) < 10 else -1


def _image_ids(data: Mapping[str, Any], kind: str) -> list[str]:
    given = data.get("image_ids")
    if not isinstance(given, list) or not given:
        raise InputError("image_ids must be a list of image ids, as POST /api/images gives them.")
    if any(not isinstance(v, str) or not _IMAGE_ID.fullmatch(v) for v in given):
        raise InputError("image_ids must hold image ids, which are 32 characters from 0-9 and a-f.")
    ids = list(dict.fromkeys(given))
    at_most = 1 if kind == "find" else MAX_ITEMS
    if len(ids) > at_most:
        raise InputError(f"A {kind} job takes at most {at_most} images, not {len(ids)}.")
    return ids


def _key(data: Mapping[str, Any]) -> str | None:
    key = payloads.text(data, "idempotency_key", "")
    if len(key) > MAX_KEY_LENGTH:
        raise InputError(f"idempotency_key must be at most {MAX_KEY_LENGTH} characters long.")
    return key or None


def _settings(given: Any) -> dict[str, Any]:
    """Read the settings that all images of the job share; what was not given is not in the result."""
    data = payloads.known_only({} if given is None else given, OPTION_NAMES, "options")
    payloads.text(data, "model", "auto", choices=FIND_MODELS)
    sizes = {name: payloads.number(data, name, low=0, high=1e6) for name in SIZES}
    _check_sizes(sizes)
    calibration = payloads.calibration(data.get("calibration"))
    filters = None if data.get("filters") is None else payloads.filters(data["filters"])
    apply_filters([], filters or Filters())  # says at once which column there is not
    settings: dict[str, Any] = {
        "sensitivity": payloads.number_or(data, "sensitivity", 0.5, low=0, high=1),
        **sizes,
        "mode": payloads.text(data, "mode", MODES[0], choices=MODES),
        "filters": None if filters is None else filters_as_dict(filters),
        "calibration": calibration_as_dict(calibration),
        "chamber_height_um": payloads.length_um(data, "chamber_height_um"),
        "roi_xyxy": payloads.box_xyxy(data, "roi_xyxy"),
        "magnification": payloads.number(data, "magnification", low=1, high=MOST_MAGNIFICATION),
        "rim_offset_px": read_rim_offset_px(data),
    }
    if (settings["magnification"] or 1) > 1 and settings["roi_xyxy"] is None:
        raise InputError("A magnification needs a region to enlarge: give roi_xyxy, too.")
    return {name: value for name, value in settings.items() if value is not None}


def _check_sizes(sizes: Mapping[str, float | None]) -> None:
    by_unit = {unit: (sizes[f"diameter_min_{unit}"], sizes[f"diameter_max_{unit}"]) for unit in ("px", "um")}
    if all(any(v is not None for v in limits) for limits in by_unit.values()):
        raise InputError("Give the diameters to look for either in px or in µm, not in both.")
    for unit, (low, high) in by_unit.items():
        if low is not None and high is not None and low > high:
            raise InputError(f"diameter_min_{unit} ({low:g}) must not exceed diameter_max_{unit} ({high:g}).")


def _about(job: Job) -> dict[str, Any]:
    from sam_droplet.measurement.export.workbook import flattened

    about = {"software": f"SAM Droplet {__version__}", "job": job.id, "kind": job.kind, "state": job.state}
    return about | dict(flattened(job.parameters, "options."))
