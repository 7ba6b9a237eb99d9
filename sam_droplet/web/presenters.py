"""From records to the JSON of the page: the shapes are part of the contract and change with it only."""

from __future__ import annotations

import time
from typing import Any

from flask import url_for

from sam_droplet.imaging.images import Calibration
from sam_droplet.measurement.droplets import Droplet, droplet_record, summarize
from sam_droplet.service.records import Annotation, ImageRecord, calibration_as_dict, filters_as_dict
from sam_droplet.service.replacement import model_as_dict
from sam_droplet.service.workbench import Predicted

THUMBNAIL_SIDE_PX = 320


def image_info(record: ImageRecord) -> dict[str, Any]:
    """Return what the page shows about an image."""
    return {
        "id": record.id,
        "name": record.name,
        "width": record.width,
        "height": record.height,
        "n_channels": record.n_channels,
        "channel_names": list(record.channel_names),
        "bit_depth": record.bit_depth,
        "n_pages": record.n_pages,
        "page": record.page,
        "format": record.format,
        "notes": list(record.notes),
        "digest": record.digest,
        "calibration": calibration_as_dict(record.calibration),
        "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created_at)),
        "n_found": record.n_found,
        "n_included": record.n_included,
        "view_url": url_for("api.view", image_id=record.id),
        "thumbnail_url": url_for("api.view", image_id=record.id, max_side=THUMBNAIL_SIDE_PX),
        "page_url": url_for("pages.annotate", image_id=record.id),
    }


def droplet_json(droplet: Droplet, calibration: Calibration | None) -> dict[str, Any]:
    """Return a droplet's record with its outline as a flat list [x0, y0, x1, y1, …]."""
    record = droplet_record(droplet, calibration)
    record["contour"] = [round(v, 2) for v in droplet.mask.outline_xy.ravel().tolist()]
    return record


def annotation_json(annotation: Annotation) -> dict[str, Any]:
    """Return everything about an image that the page draws and lists."""
    return {
        "image": image_info(annotation.image),
        "revision": annotation.revision,
        "droplets": [droplet_json(d, annotation.calibration) for d in annotation.droplets],
        "filters": filters_as_dict(annotation.filters),
        "calibration": calibration_as_dict(annotation.calibration),
        "channel": annotation.settings.get("channel"),
        "regions": annotation.settings.get("regions") or [],
        "summary": summarize(annotation.droplets, annotation.calibration),
        "search": annotation.settings.get("search") or 0,
        "model": annotation.model,
        "parameters": annotation.parameters,
        "timings_s": annotation.timings_s,
        "message": annotation.message,
    }


def edited_json(annotation: Annotation) -> dict[str, Any]:
    """Return what changed with an edit, without the droplets themselves."""
    return {
        "revision": annotation.revision,
        "summary": summarize(annotation.droplets, annotation.calibration),
        "n_found": annotation.image.n_found,
        "n_included": annotation.image.n_included,
        "calibration": calibration_as_dict(annotation.calibration),
        "filters": filters_as_dict(annotation.filters),
    }


def predicted_json(predicted: Predicted, calibration: Calibration | None) -> dict[str, Any]:
    """Return the candidates of a prompt; an id of null says that a candidate is not kept."""
    answer: dict[str, Any] = {
        "candidates": [droplet_json(d, calibration) | {"id": None} for d in predicted.candidates],
        "model": model_as_dict(predicted.result.model),
        "parameters": predicted.result.parameters,
        "timings_s": predicted.result.timings_s,
        "message": predicted.result.message,
        "revision": predicted.revision,
    }
    if predicted.committed is not None:
        answer["droplet"] = droplet_json(predicted.committed, calibration)
    return answer
