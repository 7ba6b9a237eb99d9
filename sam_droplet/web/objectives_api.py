"""The JSON API of saved objectives."""

from __future__ import annotations

from dataclasses import asdict

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue

from sam_droplet.errors import InputError
from sam_droplet.web import payloads
from sam_droplet.web.services import caller, services

blueprint = Blueprint("objectives", __name__, url_prefix="/api")


@blueprint.get("/objectives")
def list_objectives() -> ResponseReturnValue:
    """List the caller's objectives."""
    return _listed()


@blueprint.post("/objectives")
def save_objective() -> ResponseReturnValue:
    """Save an objective under a name; the list as it is then comes back."""
    data = payloads.json_object(("name", "um_per_px"))
    um_per_px = payloads.length_um(data, "um_per_px")
    if um_per_px is None:
        raise InputError("An objective needs um_per_px, the width of one pixel in micrometres.")
    services().objectives.save(caller().owner, payloads.text(data, "name", ""), um_per_px)
    return _listed()


@blueprint.delete("/objectives")
def delete_objective() -> ResponseReturnValue:
    """Forget the objective named in the query; in a path, "/" and "." have meanings of their own."""
    given = payloads.known_only(request.args.to_dict(), ("name",), "the query")
    services().objectives.delete(caller().owner, given.get("name", ""))
    return _listed()


def _listed() -> ResponseReturnValue:
    return jsonify({"objectives": [asdict(o) for o in services().objectives.list(caller().owner)]})
