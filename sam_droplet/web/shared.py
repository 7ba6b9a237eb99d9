"""What a shared link shows to somebody without a key: one image with its results and files, to read only."""

from __future__ import annotations

import re
import time

from flask import Blueprint, g, jsonify, render_template, request, url_for
from flask.typing import ResponseReturnValue

from sam_droplet.service.access import Caller
from sam_droplet.web import api, assays_api
from sam_droplet.web.guard import is_loopback
from sam_droplet.web.presenters import annotation_json, image_info
from sam_droplet.web.services import caller, services

blueprint = Blueprint("shared", __name__)


def _follow(token: str) -> str:
    """Let the request act for the owner of what is shared, and return which image that is."""
    share = services().shares.follow(token)
    g.caller = Caller(owner=share.owner, key_id=None, scope="reader")
    return share.image_id


@blueprint.get("/shared/<token>")
def page(token: str) -> ResponseReturnValue:
    """Show the image with its results."""
    image_id = _follow(token)
    image = image_info(services().store.image(caller().owner, image_id)) | _addresses(token)
    names = services().analyst.export_names()
    return render_template("annotate.html", image=image, exports=names, token=token)


@blueprint.get("/shared/<token>/annotation")
def annotation(token: str) -> ResponseReturnValue:
    """Return the droplets of the image."""
    image_id = _follow(token)
    answer = annotation_json(services().workbench.annotation(caller().owner, image_id))
    return jsonify(answer | {"image": answer["image"] | _addresses(token)})


@blueprint.get("/shared/<token>/assays")
def assays(token: str) -> ResponseReturnValue:
    """Return the assays of the image with their settings."""
    return assays_api.assays(_follow(token))


@blueprint.get("/shared/<token>/report")
def report(token: str) -> ResponseReturnValue:
    """Return the statistics of the image."""
    return assays_api.report(_follow(token))


@blueprint.get("/shared/<token>/view")
def view(token: str) -> ResponseReturnValue:
    """Draw the image."""
    return api.view(_follow(token))


@blueprint.get("/shared/<token>/tile")
def tile(token: str) -> ResponseReturnValue:
    """Draw a tile of the image."""
    return api.tile(_follow(token))


@blueprint.get("/shared/<token>/export/<format_name>")
def export(token: str, format_name: str) -> ResponseReturnValue:
    """Download the results."""
    return api.export(_follow(token), format_name)


@blueprint.get("/api/images/<image_id>/share")
def shown(image_id: str) -> ResponseReturnValue:
    """Say how many links to the image work now."""
    services().store.image(caller().owner, image_id)
    return jsonify({"links": services().shares.count(image_id), "is_local": _is_local()})


@blueprint.post("/api/images/<image_id>/share")
def share(image_id: str) -> ResponseReturnValue:
    """Make a link by which anybody may look at the image and its results."""
    token, made = services().shares.create(caller().owner, image_id)
    return jsonify(
        {
            "url": url_for("shared.page", token=token, _external=True),
            "expires_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(made.expires_at)),
            "links": services().shares.count(image_id),
            "is_local": _is_local(),
        }
    ), 201


@blueprint.delete("/api/images/<image_id>/share")
def withdraw(image_id: str) -> ResponseReturnValue:
    """Make every link to the image invalid."""
    services().store.image(caller().owner, image_id)
    services().shares.withdraw(image_id)
    return "", 204


def _is_local() -> bool:
    """Whether the address that the browser came by is this computer's own, and useless anywhere else."""
    return is_loopback(re.sub(r":[0-9]*$", "", request.host))


def _addresses(token: str) -> dict[str, str]:
    return {
        "view_url": url_for("shared.view", token=token),
        "thumbnail_url": url_for("shared.view", token=token),
        "page_url": url_for("shared.page", token=token),
    }
