"""The JSON API of analyses: assays on an image and a second picture of its field, statistics, presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from sam_droplet.errors import InputError, NotFound
from sam_droplet.measurement.ddpcr import AMPLITUDES
from sam_droplet.measurement.droplets import COLUMNS, channel_of
from sam_droplet.measurement.populations import GROUPS_MAX
from sam_droplet.service.assays import (
    ASSAYS,
    AssaySettings,
    DdpcrSettings,
    GroupSettings,
    IntensitySettings,
    LoadingSettings,
    Outcome,
)
from sam_droplet.service.records import filters_as_dict
from sam_droplet.web import payloads
from sam_droplet.web.services import caller, services

blueprint = Blueprint("assays", __name__, url_prefix="/api")

MAX_CHANNEL = 10_000
MAX_SHIFT_PX = 100_000.0
_SECOND = ("second_image_id", "channel", "shift_px", "threshold")
_NAMES = {
    "ddpcr": (*_SECOND, "dilution", "amplitude"),
    "loading": (*_SECOND, "inclusion_diameter_px", "stock_per_ml"),
    "groups": ("n_groups",),
    "intensity": ("column", "threshold"),
}


@blueprint.get("/images/<image_id>/assays")
def assays(image_id: str) -> ResponseReturnValue:
    """Return the result of every assay that is set up for an image; null for the others."""
    annotation, outcomes = services().analyst.analysis(caller().owner, image_id)
    found = {name: outcome_json(outcomes[name]) if name in outcomes else None for name in ASSAYS}
    return jsonify({"revision": annotation.revision, "assays": found})


@blueprint.put("/images/<image_id>/assays/<name>")
def set_up(image_id: str, name: str) -> ResponseReturnValue:
    """Set an assay up and return its result; files hold it from now on."""
    data = payloads.json_object(_NAMES[_known(name)])
    outcome, revision = services().analyst.set_assay(
        caller().owner, image_id, name, _read_settings(name, data)
    )
    return jsonify({"revision": revision, "assay": None if outcome is None else outcome_json(outcome)})


@blueprint.delete("/images/<image_id>/assays/<name>")
def take_away(image_id: str, name: str) -> ResponseReturnValue:
    """Take an assay away from the image and its files."""
    _, revision = services().analyst.set_assay(caller().owner, image_id, _known(name), None)
    return jsonify({"revision": revision})


@blueprint.get("/images/<image_id>/report")
def report(image_id: str) -> ResponseReturnValue:
    """Return all statistics with their intervals, what to beware of, and a paragraph for the paper."""
    return jsonify(services().analyst.report(caller().owner, image_id))


@blueprint.get("/images/<image_id>/presets")
def presets(image_id: str) -> ResponseReturnValue:
    """List filters for common samples, with limits that fit this image's droplets."""
    found = services().analyst.presets(caller().owner, image_id)
    rows = [
        {
            "name": name,
            "title": preset.title,
            "description": preset.description,
            "filters": filters_as_dict(filters),
        }
        for name, (preset, filters) in found.items()
    ]
    return jsonify({"presets": rows})


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as JSON, with what a page needs to draw it under ``droplets``."""
    second = outcome.second
    drawn: dict[str, Any] = {"droplets": outcome.readings, "second_name": None}
    if second is not None:
        drawn["second_name"] = second.image.name
        drawn["second_channel"] = second.image.channel_names[second.channel]
        if second.inclusions:
            boxes = [mask.box_xyxy for mask in second.inclusions]
            drawn["inclusions_xyxy"] = [list(box) for box in boxes]
    return outcome.result | drawn


def assays_of(data: Mapping[str, Any]) -> dict[str, AssaySettings | None]:
    """Return the settings of assays from ``{"assays": {name: settings | null}}``; names left out stay."""
    given = data.get("assays") or {}
    payloads.known_only(given, ASSAYS, "assays")
    for name, settings in given.items():
        if settings is not None:
            payloads.known_only(settings, _NAMES[name], f"assays.{name}")
    return {name: None if s is None else _read_settings(name, s) for name, s in given.items()}


def _known(name: str) -> str:
    if name not in ASSAYS:
        raise NotFound(f"There is no assay {name[:30]!r}; there are {', '.join(ASSAYS)}.")
    return name


def _read_settings(name: str, data: Mapping[str, Any]) -> AssaySettings:
    if name == "groups":
        return GroupSettings(payloads.integer(data, "n_groups", low=1, high=GROUPS_MAX))
    threshold = payloads.number(data, "threshold", low=-1e12, high=1e12)
    if name == "intensity":
        return IntensitySettings(_column(data), threshold)
    shared: dict[str, Any] = {
        "second_image_id": payloads.text(data, "second_image_id", "") or None,
        "channel": payloads.integer(data, "channel", low=0, high=MAX_CHANNEL),
        "shift_px": _shift(data),
        "threshold": threshold,
    }
    if name == "ddpcr":
        return DdpcrSettings(
            **shared,
            dilution=payloads.number_or(data, "dilution", 1.0, low=1e-9, high=1e12),
            amplitude=payloads.text(data, "amplitude", "net", choices=AMPLITUDES),
        )
    return LoadingSettings(
        **shared,
        inclusion_diameter_px=payloads.number(data, "inclusion_diameter_px", low=1, high=1e5),
        stock_per_ml=payloads.number(data, "stock_per_ml", low=0, high=1e18),
    )


def _column(data: Mapping[str, Any]) -> str:
    column = payloads.text(data, "column", "mean_intensity")
    if column not in COLUMNS and channel_of(column) is None:
        raise InputError(f"There is no column {column[:50]!r}; use one of {', '.join(COLUMNS)}.")
    return column


def _shift(data: Mapping[str, Any]) -> tuple[float, float] | None:
    if data.get("shift_px") is None:
        return None
    points = payloads.points_xy({"shift_px": [data["shift_px"]]}, "shift_px", at_most=1)
    if abs(points).max() > MAX_SHIFT_PX:
        raise InputError(f"shift_px must be [dx, dy] of at most {MAX_SHIFT_PX:g} pixels.")
    dx, dy = points[0].tolist()
    return dx, dy
