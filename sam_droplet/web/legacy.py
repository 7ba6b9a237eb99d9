"""The addresses of the original application, so that its client scripts keep working.

Same requests and fields; numbers are measured on raw pixels, and nothing is removed without a count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue

from sam_droplet.errors import InputError
from sam_droplet.imaging.images import Image, clean_name
from sam_droplet.imaging.pixel_statistics import pixel_statistics
from sam_droplet.service.preprocessing import Preprocessing
from sam_droplet.service.replacement import ResultLike
from sam_droplet.web import legacy_analysis, legacy_answers, payloads
from sam_droplet.web.find_options import WHOLE_OPTIONS, read_whole_options
from sam_droplet.web.legacy_analysis import ADVANCED_FILTERS
from sam_droplet.web.legacy_answers import FILTERS, PREPROCESSING
from sam_droplet.web.responses import download
from sam_droplet.web.services import services

blueprint = Blueprint("legacy", __name__)

HISTOGRAM_BINS = 50
OPTIONS = (*WHOLE_OPTIONS, "um_per_px", "chamber_height_um", "mask_images")


@blueprint.post("/segment")
def segment() -> ResponseReturnValue:
    """Find droplets in an image sent as base64 text."""
    payloads.check_no_query()
    data = payloads.json_object(("image", "preprocessing", "filters", "filename", *OPTIONS))
    image = _image_of(data)
    filters = payloads.known_only(data.get("filters") or {}, FILTERS, "filters")
    preprocessing = payloads.known_only(data.get("preprocessing") or {}, PREPROCESSING, "preprocessing")
    return _answer(image, filters, preprocessing, data)


@blueprint.post("/segment_file")
def segment_file() -> ResponseReturnValue:
    """Find droplets in an uploaded file."""
    services().engine.gate.check_room()  # a full queue is told before anything is decoded
    payloads.check_no_query()
    image = _uploaded_image()
    options = {
        name: request.form[name] if name == "mode" else payloads.json_value(name, request.form[name])
        for name in OPTIONS
        if name in request.form
    }
    filters = payloads.json_form_field("filters", FILTERS)
    preprocessing = payloads.json_form_field("preprocessing", PREPROCESSING)
    return _answer(image, filters, preprocessing, options)


@blueprint.post("/advanced_analysis")
def advanced_analysis() -> ResponseReturnValue:
    """Find droplets, leave out what the criteria say, and describe groups of size and overlaps."""
    payloads.check_no_query()
    data = payloads.json_object(
        ("image", "preprocessing", "advanced_filters", "filters", "filename", *OPTIONS)
    )
    image = _image_of(data)
    filters = legacy_analysis.read_advanced_filters(data.get("advanced_filters"))
    intensity = legacy_analysis.read_intensity_groups(data.get("filters"))
    preprocessing = payloads.known_only(data.get("preprocessing") or {}, PREPROCESSING, "preprocessing")
    calibration = legacy_answers.read_calibration(data, image)
    with_images = payloads.flag(data, "mask_images", True)
    result = _found(image, legacy_answers.read_preprocessing(preprocessing), data)
    return jsonify(
        legacy_analysis.analysis_json(
            image, result, filters, calibration, intensity=intensity, with_images=with_images
        )
    )


@blueprint.post("/download_analysis")
def download_analysis() -> ResponseReturnValue:
    """Pack what ``/advanced_analysis`` answered into one ZIP."""
    data = payloads.json_object(("csv_data", "analysis_results", "visualizations"))
    packed = legacy_analysis.analysis_zip(
        data.get("csv_data"), data.get("analysis_results"), data.get("visualizations") or {}
    )
    return download(packed, "application/zip", "droplet_analysis.zip")


@blueprint.post("/analyze_image")
def analyze_image() -> ResponseReturnValue:
    """Describe an uploaded image's pixels, at their own bit depth."""
    image = _uploaded_image()
    overall = asdict(pixel_statistics(image.pixels, HISTOGRAM_BINS))
    info = {
        "width": image.width,
        "height": image.height,
        "channels": image.n_channels,
        "total_pixels": image.width * image.height,
        "bit_depth": image.bit_depth,
        "um_per_px": image.calibration.um_per_px if image.calibration else None,
    }
    analysis = {"overall_stats": overall, "image_info": info}
    return jsonify({"success": True, "filename": image.name, "analysis": analysis})


@blueprint.get("/defaults")
def defaults() -> ResponseReturnValue:
    """Say which filters and preprocessing there are, and what they do when nothing is sent."""
    return jsonify(
        {
            "defaults": {
                "filters": {name: default for name, (default, _) in FILTERS.items()},
                "preprocessing": {name: default for name, (default, _) in PREPROCESSING.items()},
                "advanced_filters": {name: default for name, (default, *_) in ADVANCED_FILTERS.items()},
            },
            "description": {
                "filters": {name: text for name, (_, text) in FILTERS.items()},
                "preprocessing": {name: text for name, (_, text) in PREPROCESSING.items()},
                "advanced_filters": {name: text for name, (*_, text) in ADVANCED_FILTERS.items()},
            },
        }
    )


def _image_of(data: Mapping[str, Any]) -> Image:
    services().engine.gate.check_room()  # a full queue is told before anything is decoded
    encoded = data.get("image")
    if not isinstance(encoded, str) or not encoded:
        raise InputError("image must be the image file as base64 text, with or without data: in front.")
    name = clean_name(payloads.text(data, "filename", "image"))
    return services().workbench.read_image_base64(encoded, name)


def _uploaded_image() -> Image:
    payloads.check_form(("preprocessing", "filters", *OPTIONS))
    file = request.files.get("file")
    if file is None:
        raise InputError("Send the image as multipart form data in the field 'file'.")
    return services().workbench.read_image(file.read(), clean_name(file.filename or ""))


def _answer(
    image: Image, filters: dict[str, Any], preprocessing: dict[str, Any], options: dict[str, Any]
) -> ResponseReturnValue:
    wanted_filters = legacy_answers.read_filters(filters)
    wanted_preprocessing = legacy_answers.read_preprocessing(preprocessing)
    calibration = legacy_answers.read_calibration(options, image)
    with_images = payloads.flag(options, "mask_images", True)
    result = _found(image, wanted_preprocessing, options)
    return jsonify(
        legacy_answers.segmentation_json(
            image, result, wanted_filters, wanted_preprocessing, calibration, with_images=with_images
        )
    )


def _found(image: Image, preprocessing: Preprocessing, options: Mapping[str, Any]) -> ResultLike:
    change = preprocessing.apply if preprocessing.steps() else None
    return services().workbench.segment_once(image, read_whole_options(options), change)
