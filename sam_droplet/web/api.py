"""The JSON API of the annotate page: images, droplets, prompts, edits and exports."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Literal

from flask import Blueprint, Response, jsonify, make_response, request, url_for
from flask.typing import ResponseReturnValue

from sam_droplet import __version__
from sam_droplet.errors import InputError, NotFound, SamDropletError
from sam_droplet.imaging.images import clean_name, encode_png, encode_tile, encode_view, load_image
from sam_droplet.imaging.synthetic import render_sample, sample_names
from sam_droplet.pipeline import PROMPT_MODELS, Prompt
from sam_droplet.service.records import ImageRecord
from sam_droplet.service.store import thumbnail_name
from sam_droplet.service.workbench import Patch
from sam_droplet.web import payloads
from sam_droplet.web.assays_api import assays_of
from sam_droplet.web.find_options import FIND_OPTIONS, read_options, read_rim_offset_px
from sam_droplet.web.presenters import (
    THUMBNAIL_SIDE_PX,
    annotation_json,
    droplet_json,
    edited_json,
    image_info,
    predicted_json,
)
from sam_droplet.web.responses import download
from sam_droplet.web.services import caller, services

blueprint = Blueprint("api", __name__, url_prefix="/api")

PREDICT_NAMES = ("points", "labels", "box", "multimask", "model", "commit", "candidate")
PATCH_NAMES = tuple(field.name for field in fields(Patch))
MAX_VIEW_SIDE_PX = 16_384
THUMBNAIL = {"max_side": THUMBNAIL_SIDE_PX, "stretch": None, "channel": None}
# What every picture of an image can be told.
SHOWN_AS = {"stretch": (0, 1), "channel": (0, 10_000)}
LOSSLESS_VIEW_PX = 2_000_000


@blueprint.post("/images")
def open_images() -> ResponseReturnValue:
    """Read uploaded files and keep them; files that fail do not hold the others up."""
    files = request.files.getlist("file")
    if not files:
        raise InputError("Send one or more images as multipart form data in the field 'file'.")
    payloads.check_form(("page",), many_files=True)
    page = _page(request.form.get("page"))
    opened: list[dict[str, Any]] = []
    failed: list[tuple[str, SamDropletError]] = []
    for file in files:
        name = clean_name(file.filename or "")
        try:
            record = services().workbench.open_image(caller().owner, file.read(), name, page=page)
        except SamDropletError as error:
            failed.append((name, error))
        else:
            opened.append(image_info(record))
    if not opened:
        raise failed[0][1]
    errors = [{"name": name, "error": error.message, "code": error.code} for name, error in failed]
    return jsonify({"images": opened, "errors": errors}), 201


@blueprint.get("/images")
def list_images() -> ResponseReturnValue:
    """List the caller's images, the last used first."""
    records = services().workbench.list_images(caller().owner)
    n_images, _ = services().store.usage(caller().owner)
    return jsonify({"images": [image_info(record) for record in records], "n_images": n_images})


@blueprint.delete("/images/<image_id>")
def delete_image(image_id: str) -> ResponseReturnValue:
    """Delete an image and everything that belongs to it."""
    services().workbench.delete(caller().owner, image_id)
    return "", 204


@blueprint.get("/images/<image_id>/view")
def view(image_id: str) -> ResponseReturnValue:
    """Draw an image for display; never used for measuring."""
    record = services().store.image(caller().owner, image_id)
    query = payloads.query_numbers({"max_side": (1, MAX_VIEW_SIDE_PX), **SHOWN_AS})
    _check_channel(query["channel"], record)

    def draw() -> tuple[bytes, str]:
        kind = _view_kind(record, query["max_side"])

        def make() -> bytes:
            _, image = services().workbench.image(caller().owner, image_id)
            stretch, channel = bool(query["stretch"]), query["channel"]
            return encode_view(image, query["max_side"], kind, stretch=stretch, channel=channel)

        is_thumbnail = kind == "jpeg" and query == THUMBNAIL
        data = (
            services().store.pictures.get_or_make(thumbnail_name(record.id), make) if is_thumbnail else make()
        )
        return data, f"image/{kind}"

    return _picture(_etag(record.digest, query), draw)


@blueprint.get("/images/<image_id>/tile")
def tile(image_id: str) -> ResponseReturnValue:
    """Draw one tile of a big image for display."""
    record = services().store.image(caller().owner, image_id)
    query = payloads.query_numbers({"level": (0, 16), "column": (0, 10_000), "row": (0, 10_000), **SHOWN_AS})
    _check_channel(query["channel"], record)

    def draw() -> tuple[bytes, str]:
        _, image = services().workbench.image(caller().owner, image_id)
        level, column, row = (query[name] or 0 for name in ("level", "column", "row"))
        stretch, channel = bool(query["stretch"]), query["channel"]
        return encode_tile(image, level, column, row, stretch=stretch, channel=channel), "image/jpeg"

    return _picture(_etag(record.digest, query), draw)


@blueprint.post("/images/<image_id>/pages/<int:page>")
def open_page(image_id: str, page: int) -> ResponseReturnValue:
    """Open another page of the file as an image of its own."""
    record = services().workbench.open_page(caller().owner, image_id, page)
    return jsonify({"image": image_info(record)}), 201


@blueprint.get("/images/<image_id>/annotation")
def annotation(image_id: str) -> ResponseReturnValue:
    """Return the droplets of an image and everything about them."""
    return jsonify(annotation_json(services().workbench.annotation(caller().owner, image_id)))


@blueprint.post("/images/<image_id>/find")
def find(image_id: str) -> ResponseReturnValue:
    """Find droplets."""
    record = services().store.image(caller().owner, image_id)
    data = payloads.json_object(("options", "roi_xyxy"))
    given = payloads.known_only(data.get("options") or {}, FIND_OPTIONS, "options")
    options = read_options(
        given | {k: v for k, v in data.items() if k == "roi_xyxy"}, record.width, record.height
    )
    found = services().workbench.find(caller().owner, image_id, options)
    ids = {"found": found.found, "added": found.added, "removed": found.removed}
    return jsonify(annotation_json(found.annotation) | ids)


@blueprint.post("/images/<image_id>/predict")
def predict(image_id: str) -> ResponseReturnValue:
    """Outline what points and a box mean; keep it if asked to."""
    record = services().store.image(caller().owner, image_id)
    data = payloads.json_object(PREDICT_NAMES)
    prompt = _prompt(data)
    predicted = services().workbench.predict(
        caller().owner,
        image_id,
        prompt,
        source="box" if prompt.box_xyxy else "point",
        model=payloads.text(data, "model", "auto", choices=PROMPT_MODELS),
        commit=payloads.flag(data, "commit", False),
        candidate=payloads.integer(data, "candidate", low=0, high=100) or 0,
    )
    return jsonify(predicted_json(predicted, record.calibration))


@blueprint.get("/images/<image_id>/proposals")
def proposals(image_id: str) -> ResponseReturnValue:
    """Send the outlines that a click may be answered with, so that a page can preview them."""
    outlines = services().workbench.proposals(caller().owner, image_id)
    response = Response(outlines.astype("<f4").tobytes(), mimetype="application/octet-stream")
    response.add_etag()
    response.headers["Cache-Control"] = "private, no-cache"
    return response.make_conditional(request)


@blueprint.post("/images/<image_id>/droplets")
def add_droplet(image_id: str) -> ResponseReturnValue:
    """Keep a droplet that the user outlined by hand."""
    record = services().store.image(caller().owner, image_id)
    data = payloads.json_object(("contour",))
    contour = payloads.points_xy(data, "contour", at_most=payloads.MAX_CONTOUR_POINTS)
    if len(contour) < 3:
        raise InputError(f"contour needs at least 3 points, not {len(contour)}.")
    droplet, revision = services().workbench.add_contour(caller().owner, image_id, contour)
    return jsonify({"droplet": droplet_json(droplet, record.calibration), "revision": revision}), 201


@blueprint.post("/images/<image_id>/redraw")
def redraw(image_id: str) -> ResponseReturnValue:
    """Put outlines that the user drew in the place of droplets, in one step."""
    record = services().store.image(caller().owner, image_id)
    data = payloads.json_object(("contours", "replaces"))
    contours, replaces = payloads.contours_xy(data, "contours"), payloads.droplet_ids(data, "replaces")
    droplets, revision = services().workbench.redraw(caller().owner, image_id, contours, replaces)
    return jsonify(
        {"droplets": [droplet_json(d, record.calibration) for d in droplets], "revision": revision}
    ), 201


@blueprint.patch("/images/<image_id>/annotation")
def edit(image_id: str) -> ResponseReturnValue:
    """Delete, restore, exclude or include droplets; change the filters or the scale."""
    data = payloads.json_object(PATCH_NAMES)
    patch = Patch(
        delete=payloads.droplet_ids(data, "delete"),
        restore=payloads.droplet_ids(data, "restore"),
        exclude=payloads.droplet_ids(data, "exclude"),
        include=payloads.droplet_ids(data, "include"),
        include_anyway=payloads.droplet_ids(data, "include_anyway"),
        follow_filters=payloads.droplet_ids(data, "follow_filters"),
        filters=None if data.get("filters") is None else payloads.filters(data["filters"]),
        calibration=(payloads.calibration(data["calibration"]),) if "calibration" in data else None,
        channel=(payloads.integer(data, "channel", low=0, high=10_000),) if "channel" in data else None,
        regions=None if data.get("regions") is None else payloads.regions(data["regions"]),
        assays=assays_of(data),
        search=payloads.integer(data, "search", low=0, high=2**31 - 1),
        rim_offset_px=read_rim_offset_px(data),
    )
    return jsonify(edited_json(services().workbench.edit(caller().owner, image_id, patch)))


@blueprint.get("/images/<image_id>/export/<format_name>")
def export(image_id: str, format_name: str) -> ResponseReturnValue:
    """Download what is on screen."""
    exported = services().analyst.export(caller().owner, image_id, format_name)
    return download(exported.data, exported.mimetype, exported.filename)


@blueprint.get("/samples")
def samples() -> ResponseReturnValue:
    """List the synthetic sample micrographs."""
    return jsonify({"samples": sample_list()})


@blueprint.post("/samples/<name>")
def open_sample(name: str) -> ResponseReturnValue:
    """Open a copy of a sample micrograph."""
    _check_sample(name)
    record = services().workbench.open_image(caller().owner, _sample(name), f"sample-{name}.png")
    return jsonify({"images": [image_info(record)], "errors": []}), 201


@blueprint.get("/samples/<name>/thumbnail")
def sample_thumbnail(name: str) -> ResponseReturnValue:
    """Draw a sample micrograph small."""
    _check_sample(name)

    def draw() -> tuple[bytes, str]:
        def make() -> bytes:
            return encode_view(load_image(_sample(name), name), THUMBNAIL_SIDE_PX, "jpeg")

        kept_as = f"sample-{name}-{__version__}-small.jpg"
        return services().store.pictures.get_or_make(kept_as, make), "image/jpeg"

    return _picture(_etag(__version__, {"sample": name}), draw)


def _sample(name: str) -> bytes:
    """Return a sample micrograph as PNG; rendering one takes seconds, so it is done once per version."""
    kept_as = f"sample-{name}-{__version__}.png"
    return services().store.pictures.get_or_make(kept_as, lambda: encode_png(render_sample(name)))


@blueprint.get("/models")
def models() -> ResponseReturnValue:
    """Say which networks there are and which one answers what."""
    # Where they lie on the server's disk is for administrators: /admin/health.
    rows = [{k: v for k, v in row.items() if k != "path"} for row in services().engine.models()]
    prompt_model = next((row["name"] for row in rows if "clicks" in row["answers"]), "droplet-net")
    return jsonify({"models": rows, "prompt_model": prompt_model, "find_model": "droplet-net"})


def sample_list() -> list[dict[str, str]]:
    """Return the samples as the page lists them."""
    return [
        {
            "name": sample.name,
            "title": sample.title,
            "description": sample.description,
            "thumbnail_url": url_for("api.sample_thumbnail", name=sample.name),
        }
        for sample in sample_names()
    ]


def _prompt(data: Mapping[str, Any]) -> Prompt:
    points = payloads.points_xy(data, "points", at_most=payloads.MAX_POINTS)
    labels = data.get("labels")
    if labels is None:
        labels = [1] * len(points)
    if not isinstance(labels, list) or any(isinstance(v, bool) or v not in (0, 1) for v in labels):
        raise InputError("labels must be a list with 1 (inside) or 0 (outside) for every point.")
    return Prompt(
        points_xy=tuple((x, y) for x, y in points.tolist()),
        point_labels=tuple(labels),
        box_xyxy=payloads.box_xyxy(data, "box"),
        multimask=payloads.flag(data, "multimask", False),
    )


def _page(given: str | None) -> int:
    if given is None or not given.strip():
        return 0
    if not given.strip().isdecimal() or len(given) > 9:
        raise InputError(f"page must be a whole number from 0 on, not {given[:20]!r}.")
    return int(given)


def _check_sample(name: str) -> None:
    names = [sample.name for sample in sample_names()]
    if name not in names:
        raise NotFound(f"There is no sample {name[:50]!r}; there are {', '.join(names)}.")


def _check_channel(channel: int | None, record: ImageRecord) -> None:
    if channel is not None and channel >= record.n_channels:
        raise InputError(f"channel must be 0 to {record.n_channels - 1}, not {channel}.")


def _picture(etag: str, draw: Callable[[], tuple[bytes, str]]) -> Response:
    """Send a picture that the browser may keep for a day; it is drawn only where the browser lacks it."""
    if etag in request.if_none_match:
        response = make_response("", 304)
    else:
        data, mimetype = draw()
        response = Response(data, mimetype=mimetype)
    response.set_etag(etag)
    response.headers["Cache-Control"] = "private, max-age=86400"
    return response


def _view_kind(record: ImageRecord, max_side: int | None) -> Literal["jpeg", "png"]:
    if max_side is not None and max_side < max(record.width, record.height):
        return "jpeg"
    return "png" if record.width * record.height <= LOSSLESS_VIEW_PX else "jpeg"


def _etag(digest: str, query: Mapping[str, Any]) -> str:
    return hashlib.sha256(f"{__version__} {digest} {sorted(query.items())}".encode()).hexdigest()[:32]
