"""From the text that a client sent to typed values; whatever is wrong is told in one sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from flask import request
from numpy.typing import NDArray

from sam_droplet.errors import InputError
from sam_droplet.imaging.calibration import LEAST_UM, MOST_UM, Calibration
from sam_droplet.measurement.droplets import Filters

MAX_POINTS = 1000
MAX_CONTOUR_POINTS = 10_000
MAX_CONTOURS_POINTS = 4_000_000
MAX_IDS = 200_000
MAX_REGIONS = 100
MAX_REGION_POINTS = 1000
CALIBRATION_SOURCES = ("typed", "line", "objective", "ome", "imagej", "tiff")


def json_object(known: Collection[str]) -> dict[str, Any]:
    """Return the request's JSON object, which may hold the known names only."""
    if not request.is_json:
        came = request.mimetype[:100]
        raise InputError(
            "The body must be a JSON object, sent with the header Content-Type: application/json; "
            + (f"it came as {came!r}." if came else "it came without that header.")
        )
    return known_only(_parsed(request.get_data(cache=False), "The body"), known, "the body")


def json_form_field(name: str, known: Collection[str]) -> dict[str, Any]:
    """Return the JSON object in a form field; empty where the field is not there."""
    text = request.form.get(name, "").strip()
    if not text:
        return {}
    return known_only(_parsed(text.encode("utf-8", "surrogatepass"), f"The form field {name!r}"), known, name)


def check_form(texts: Collection[str], *, many_files: bool = False) -> None:
    """Refuse what a form holds beside these texts and its images in 'file': nobody would read it.

    many_files: take more than one image.
    """
    known_only(request.form.to_dict(), texts, "the form")
    for name, values in request.form.lists():
        if len(values) > 1:
            raise InputError(f"The form field {name!r} came {len(values)} times; send it once.")
    for name, files in request.files.lists():
        if name != "file" and name in texts:
            raise InputError(f"The form field {name!r} came as a file; send its content as text.")
        if name != "file":
            raise InputError(f"The form holds a file in the field {name!r}; send the image in 'file'.")
        if len(files) > 1 and not many_files:
            raise InputError(
                f"One image was expected in the form field 'file', but {len(files)} came; "
                "send each in a request of its own."
            )


def check_no_query() -> None:
    """Refuse what stands in the address of a request that is read from its body alone."""
    if request.args:
        name = next(iter(request.args))
        raise InputError(f"{name[:50]!r} came in the address, where nobody reads it; send it in the body.")


def query_numbers(known: Mapping[str, tuple[int, int]]) -> dict[str, int | None]:
    """Return the whole numbers of the query string, each in its range; None where one is absent."""
    known_only(request.args.to_dict(), known, "the query")
    numbers: dict[str, int | None] = {}
    for name, (low, high) in known.items():
        given = request.args.get(name)
        if given is not None and not (given.isascii() and given.isdecimal() and len(given) < 10):
            raise InputError(f"{name} must be a whole number from {low} to {high}, not {given[:20]!r}.")
        value = None if given is None else int(given)
        if value is not None and not low <= value <= high:
            raise InputError(f"{name} must be a whole number from {low} to {high}, not {value}.")
        numbers[name] = value
    return numbers


def known_only(data: Any, known: Collection[str], where: str) -> dict[str, Any]:
    """Return a JSON object after checking that every name in it is known."""
    if not isinstance(data, dict):
        raise InputError(f"Expected a JSON object as {where}, but got {_kind(data)}.")
    unknown = sorted(str(name) for name in data if name not in known)
    if unknown:
        raise InputError(f"Unknown name {unknown[0]!r} in {where}; it takes {', '.join(sorted(known))}.")
    return data


def number(
    data: Mapping[str, Any], name: str, *, low: float = -math.inf, high: float = math.inf
) -> float | None:
    """Return a finite number in [low, high], or None where it is absent or null."""
    value = data.get(name)
    if value is None:
        return None
    result = _finite(value, name)
    if not low <= result <= high:
        raise InputError(f"{name} must be {_range(low, high)}, not {value}.")
    return result


def number_or(
    data: Mapping[str, Any], name: str, default: float, *, low: float = -math.inf, high: float = math.inf
) -> float:
    """Return a finite number in [low, high], or the default where it is absent or null."""
    value = number(data, name, low=low, high=high)
    return default if value is None else value


def length_um(data: Mapping[str, Any], name: str) -> float | None:
    """Return the side of a pixel or the height of a chamber, or None where it is absent or null."""
    return number(data, name, low=LEAST_UM, high=MOST_UM)


def json_value(name: str, text: str) -> Any:
    """Read one JSON value from a form field, such as 0.5 or true."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"The form field {name!r} must hold a number, true or false, not {text[:20]!r}."
        ) from error


def integer(data: Mapping[str, Any], name: str, *, low: int, high: int) -> int | None:
    """Return a whole number in [low, high], or None where it is absent or null."""
    value = number(data, name, low=low, high=high)
    if value is not None and value != int(value):
        raise InputError(f"{name} must be a whole number, not {value}.")
    return None if value is None else int(value)


def flag(data: Mapping[str, Any], name: str, default: bool) -> bool:
    """Return true or false."""
    value = data.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InputError(f"{name} must be true or false, not {_kind(value)}.")
    return value


def text(data: Mapping[str, Any], name: str, default: str, *, choices: Collection[str] = ()) -> str:
    """Return a string, one of the choices where there are any."""
    value = data.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise InputError(f"{name} must be text, not {_kind(value)}.")
    if choices and value not in choices:
        raise InputError(f"{name} must be one of {', '.join(sorted(choices))}, not {value[:50]!r}.")
    return value


def droplet_ids(data: Mapping[str, Any], name: str) -> list[int]:
    """Return a list of droplet ids; empty where it is absent."""
    values = data.get(name)
    if values is None:
        return []
    if not isinstance(values, list):
        raise InputError(f"{name} must be a list of droplet ids such as [1, 2], not {_kind(values)}.")
    if len(values) > MAX_IDS:
        raise InputError(f"{name} names {len(values)} droplets; send at most {MAX_IDS} at once.")
    numbers = [_finite(v, name) for v in values]
    if any(not 0 < v < 2**31 or v != int(v) for v in numbers):
        raise InputError(f"{name} must hold droplet ids, which are whole numbers from 1 on.")
    return [int(v) for v in numbers]


def points_xy(data: Mapping[str, Any], name: str, *, at_most: int) -> NDArray[np.float64]:
    """Return points as (N, 2) float64 in the image-corner frame; (0, 2) where it is absent."""
    values = data.get(name)
    if values is None:
        return np.empty((0, 2), np.float64)
    if not isinstance(values, list) or not all(isinstance(p, list) and len(p) == 2 for p in values):
        raise InputError(f"{name} must be a list of [x, y] pairs in image pixels, not {_kind(values)}.")
    if len(values) > at_most:
        raise InputError(f"{name} holds {len(values)} points; send at most {at_most}.")
    flat = [_finite(v, name) for point in values for v in point]
    return np.asarray(flat, np.float64).reshape(-1, 2)


def contours_xy(data: Mapping[str, Any], name: str) -> list[NDArray[np.float64]]:
    """Return a list of outlines, each (K, 2) with K >= 3; at least one."""
    values = data.get(name)
    if not isinstance(values, list) or not values:
        raise InputError(f"{name} must be a list of outlines [[x, y], ...] in image pixels.")
    contours = [points_xy({name: value}, name, at_most=MAX_CONTOUR_POINTS) for value in values]
    if sum(len(contour) for contour in contours) > MAX_CONTOURS_POINTS:
        raise InputError(f"{name} hold more than {MAX_CONTOURS_POINTS} points; send fewer at once.")
    if min(len(contour) for contour in contours) < 3:
        raise InputError(f"Each of the {name} needs at least 3 points.")
    return contours


def box_xyxy(data: Mapping[str, Any], name: str) -> tuple[float, float, float, float] | None:
    """Return a box with its corners in order, or None where it is absent or null."""
    values = data.get(name)
    if values is None:
        return None
    if not isinstance(values, list) or len(values) != 4:
        raise InputError(f"{name} must be [x0, y0, x1, y1] in image pixels, not {_kind(values)}.")
    xa, ya, xb, yb = (_finite(v, name) for v in values)
    if xa == xb or ya == yb:
        raise InputError(f"{name} is empty: its corners must differ in x and in y.")
    return min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb)


def region_xyxy(
    data: Mapping[str, Any], name: str, image_wh: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """Return a region of interest, grown to whole pixels and cut at the image's edges."""
    box = box_xyxy(data, name)
    if box is None:
        return None
    width, height = image_wh
    x0, y0 = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
    x1, y1 = min(width, math.ceil(box[2])), min(height, math.ceil(box[3]))
    if x0 >= x1 or y0 >= y1:
        raise InputError(f"{name} lies outside the image, which is {width} × {height} pixels.")
    return x0, y0, x1, y1


def regions(data: Any) -> list[dict[str, Any]]:
    """Return regions ``{"kind": "search" | "leave-out", "contour": [x0, y0, x1, y1, …]}``."""
    if not isinstance(data, list) or len(data) > MAX_REGIONS:
        raise InputError(f"regions must be a list of at most {MAX_REGIONS} regions, not {_kind(data)}.")
    result = []
    for given in data:
        known_only(given, ("kind", "contour"), "a region")
        contour = given.get("contour")
        if (
            not isinstance(contour, list)
            or len(contour) % 2
            or not 6 <= len(contour) <= 2 * MAX_REGION_POINTS
        ):
            raise InputError(
                f"The contour of a region must be [x0, y0, x1, y1, …] with 3 to {MAX_REGION_POINTS} corners."
            )
        kind = text(given, "kind", "search", choices=("search", "leave-out"))
        result.append({"kind": kind, "contour": [_finite(value, "contour") for value in contour]})
    return result


def filters(data: Any) -> Filters:
    """Return filters from ``{"ranges": {column: [min|null, max|null]}, "exclude_edge": bool}``.

    Whether a column exists depends on the image, so it is checked where the filters are applied.
    """
    known_only(data, ("ranges", "exclude_edge"), "filters")
    ranges = data.get("ranges") or {}
    known_only(ranges, ranges, "filters.ranges")
    return Filters(
        ranges={column: _limits(column, limits) for column, limits in ranges.items()},
        exclude_edge=flag(data, "exclude_edge", False),
    )


def calibration(data: Any) -> Calibration | None:
    """Return a scale from ``{"um_per_px": 0.5, "source": "typed", "chamber_height_um": 40}``."""
    if data is None:
        return None
    known_only(data, ("um_per_px", "source", "chamber_height_um"), "calibration")
    um_per_px = length_um(data, "um_per_px")
    if um_per_px is None:
        raise InputError("calibration needs um_per_px, the width of one pixel in micrometres.")
    source = text(data, "source", "typed", choices=CALIBRATION_SOURCES)
    return Calibration(um_per_px, source, length_um(data, "chamber_height_um"))


def _parsed(data: bytes, what: str) -> Any:
    """Return the value of a JSON text; InputError, saying what is wrong and where, for anything else."""
    try:
        text = data.decode(json.detect_encoding(data))
        value = json.loads(text, object_pairs_hook=_each_name_once)
        if "\\u" in text:
            # Half of a surrogate pair can be written so; neither the database nor an answer can hold it.
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise InputError(
            f"{what} must be a JSON object, but it is not JSON: {error.msg}, "
            f"in line {error.lineno}, column {error.colno}."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{what} must be JSON in UTF-8, but byte {error.start + 1} is not.") from error
    except UnicodeEncodeError as error:
        raise InputError(f"{what} holds half of a character (\\ud800 to \\udfff); send it whole.") from error
    except ValueError as error:  # more digits than Python reads
        raise InputError(f"{what} holds a number that is too large.") from error
    except RecursionError as error:
        raise InputError(f"{what} is nested too deeply; send it flat, as /api-docs shows.") from error
    return value


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise InputError(f"{twice[:50]!r} came {names.count(twice)} times in one JSON object; send it once.")
    return found


def _limits(column: str, limits: Any) -> tuple[float | None, float | None]:
    if not isinstance(limits, list) or len(limits) != 2:
        raise InputError(f"The range of {column} must be [min, max] with null for no limit.")
    low, high = (None if v is None else _finite(v, column) for v in limits)
    if low is not None and high is not None and low > high:
        raise InputError(
            f"The range of {column} is empty: its minimum {low:g} is above its maximum {high:g}."
        )
    return low, high


def _finite(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{name} must hold numbers, not {_kind(value)}.")
    try:
        result = float(value)
    except OverflowError as error:
        raise InputError(f"{name} holds a number that is too large.") from error
    if not math.isfinite(result):
        raise InputError(f"{name} must hold finite numbers.")
    return result


def _range(low: float, high: float) -> str:
    if high == math.inf:
        return f"at least {low:g}"
    return f"from {low:g} to {high:g}" if low != -math.inf else f"at most {high:g}"


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
