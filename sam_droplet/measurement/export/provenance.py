"""What a reader needs to get the same numbers again: settings, a sentence for the paper, and the way back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sam_droplet.errors import Conflict, InputError
from sam_droplet.imaging.images import Calibration
from sam_droplet.imaging.masks import Mask, rle_decode, rle_encode
from sam_droplet.measurement.droplets import Droplet, Filters, Measures, apply_filters, measure
from sam_droplet.measurement.export.request import Exported, ExportRequest
from sam_droplet.measurement.statistics import significant
from sam_droplet.measurement.summary import summarize

if TYPE_CHECKING:
    from sam_droplet.imaging.images import Image

SETTINGS_FORMAT = 1


def settings_dict(request: ExportRequest) -> dict[str, Any]:
    """Return everything that made the result, as JSON values, without the droplets themselves."""
    image, calibration = request.image, request.calibration
    return {
        "settings_format": SETTINGS_FORMAT,
        "software": "SAM Droplet",
        "version": request.version,
        "image": {
            "name": image.name,
            "digest": image.digest,
            "width": image.width,
            "height": image.height,
            "n_channels": image.n_channels,
            "bit_depth": image.bit_depth,
            "format": image.format,
            "page": image.page,
        },
        "calibration": None if calibration is None else calibration.as_dict(),
        "rim_offset_px": request.rim_offset_px,
        "filters": {
            "ranges": {name: list(limits) for name, limits in request.filters.ranges.items()},
            "exclude_edge": request.filters.exclude_edge,
        },
        "edits": edits(request),
        "provenance": dict(request.provenance),
        "assays": {name: dict(result) for name, result in request.assays.items()},
    }


def edits(request: ExportRequest) -> dict[str, int]:
    """Count what a person changed: droplets added, excluded and included by hand."""
    sources = Counter(d.source for d in request.droplets)
    return {
        **{f"added_by_{name}": sources[name] for name in ("point", "box", "manual")},
        "excluded_by_user": sum(d.excluded_by_user for d in request.droplets),
        "included_by_user": sum(d.included_by_user for d in request.droplets),
    }


def export_settings(request: ExportRequest) -> Exported:
    """Write settings.json: all settings, and every droplet's pixels, from which ``rerun`` measures anew."""
    hw = (request.image.height, request.image.width)
    droplets = [
        {
            "id": d.id,
            "source": d.source,
            "model": d.model,
            "score": d.score,
            "excluded_by_user": d.excluded_by_user,
            "included_by_user": d.included_by_user,
            # The one number that hangs on which other outlines there were when it was read.
            "background_intensity": d.measures.background_intensity,
            "segmentation": rle_encode(d.mask, hw),
            "contour": None if d.mask.contour_xy is None else _shortest(d.mask.contour_xy),
            "assays": dict(request.extra.get(d.id, {})),
        }
        for d in request.droplets
    ]
    document = settings_dict(request) | {"droplets": droplets}
    data = (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode()
    return Exported("settings.json", "application/json", data)


def _shortest(contour_xy: NDArray[np.float32]) -> list[list[float]]:
    """Return points (K, 2) with as few digits as give the same float32 again."""
    points: list[list[float]] = contour_xy.astype(np.str_).astype(np.float64).tolist()
    return points


@contextmanager
def refusing_damage() -> Iterator[None]:
    """Say in one InputError that a settings.json is damaged, where what is made of it breaks."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"A settings.json of format {SETTINGS_FORMAT} was expected, but a part is missing or damaged "
            f"({type(error).__name__}: {error}). Take the file from the bundle again."
        ) from error


@refusing_damage()
def rerun(image: Image, settings: Mapping[str, Any]) -> list[Droplet]:
    """Measure and filter the droplets of a settings.json again on its image; the same numbers come out.

    Raises Conflict where the pixels are not those of the settings, InputError for a damaged file.
    """
    digest = settings["image"]["digest"]
    filters, _ = filters_of(settings), calibration_of(settings)  # of which the files are made
    records = [(r, _recorded(r), _mask(r)) for r in settings["droplets"]]
    if digest != image.digest:
        raise Conflict(
            f"The settings belong to an image with other pixels ({settings['image'].get('name')}); "
            "open that image."
        )
    found = [(record, kept, mask) for record, kept, mask in records if mask is not None]
    measured = measure(image, [mask for _, _, mask in found])
    droplets = [
        Droplet(mask=mask, measures=_with_background(fresh.measures, record), **kept)
        for (record, kept, mask), fresh in zip(found, measured, strict=True)
    ]
    return apply_filters(droplets, filters)


def _recorded(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a settings.json says of a droplet beside its pixels."""
    return {
        "id": int(record["id"]),
        "source": str(record["source"]),
        "score": float(record["score"]),
        "model": str(record["model"]),
        "excluded_by_user": bool(record["excluded_by_user"]),
        "included_by_user": bool(record.get("included_by_user", False)),  # files of before have no such word
    }


def _with_background(measures: Measures, record: Mapping[str, Any]) -> Measures:
    """Keep the background that was read among the outlines of that time, some deleted or drawn since."""
    if "background_intensity" not in record:  # files of before have no such word
        return measures
    kept = record["background_intensity"]
    return replace(measures, background_intensity=None if kept is None else float(kept))


def filters_of(settings: Mapping[str, Any]) -> Filters:
    """Return the filters of a settings.json."""
    given = settings["filters"]
    ranges = {name: (limits[0], limits[1]) for name, limits in given["ranges"].items()}
    return Filters(ranges, bool(given["exclude_edge"]))


def calibration_of(settings: Mapping[str, Any]) -> Calibration | None:
    """Return the calibration of a settings.json, with the source that it had."""
    given = settings.get("calibration")
    return None if given is None else Calibration.from_dict(given)


def _mask(record: Mapping[str, Any]) -> Mask | None:
    """Return a droplet's pixels and its sub-pixel outline, as they were written."""
    mask = rle_decode(record["segmentation"], float(record["score"]))
    contour = record.get("contour")
    if mask is None or contour is None:
        return mask
    return replace(mask, contour_xy=np.asarray(contour, np.float32).reshape(-1, 2))


def export_methods(request: ExportRequest) -> Exported:
    """Write a paragraph for the methods section."""
    text = methods_text(request) + "\n"
    return Exported(f"{request.stem}_methods.txt", "text/plain; charset=utf-8", text.encode())


def methods_text(request: ExportRequest) -> str:
    """Return a paragraph that names software, model, calibration, definitions, exclusions and result."""
    image, calibration = request.image, request.calibration
    summary = summarize(request.droplets, calibration)
    scale = (
        "; lengths are in pixels, as the image was not calibrated"
        if calibration is None
        else f", at {calibration.um_per_px:.5g} µm per pixel (source: {calibration.source})"
    )
    sentences = [
        f"Droplets {_place_phrase(request)} ({image.width} x {image.height} px, {image.bit_depth}-bit) were "
        f"found with SAM Droplet {request.version}{_model_phrase(request)} and measured on the raw "
        f"pixels{scale}.",
        "The diameter is that of the disc of equal area, d = 2(A/π)^½, with A the number of pixels; "
        "circularity is min(1, 4πA/P²) with the four-direction Crofton perimeter "
        f"P{_volume_phrase(calibration, summary)}.",
        _rim_phrase(request),
        _small_phrase(request),
        _counts_phrase(request, summary),
        _size_phrase(summary),
        _ddpcr_phrase(request.assays.get("ddpcr")),
        _loading_phrase(request.assays.get("loading")),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _place_phrase(request: ExportRequest) -> str:
    page, name = request.page_text, request.image.name
    return f"on {page} of {name}" if page else f"in {name}"


def _volume_phrase(calibration: Calibration | None, summary: Mapping[str, Any]) -> str:
    if calibration is None:  # there are no volumes
        return ""
    height = calibration.chamber_height_um
    if height is None:
        return "; volumes assume spheres"
    return (
        f"; droplets wider than the chamber, {height:.6g} µm high ({summary['n_flattened']} of "
        f"{summary['n_included']}), were taken for spheres cut off flat, "
        "V = π/12 [2d³ − (d − h)² (2d + h)], and others for spheres"
    )


def _rim_phrase(request: ExportRequest) -> str:
    offset = request.rim_offset_px
    if not offset:
        return "A droplet ends at the extreme (darkest or brightest) line of its rim."
    side = "outside" if offset > 0 else "inside"
    return f"A droplet ends {abs(offset):g} px {side} the extreme (darkest or brightest) line of its rim."


def _small_phrase(request: ExportRequest) -> str:
    n = (request.provenance.get("parameters") or {}).get("n_much_smaller")
    if not n:
        return ""
    what = "outline was" if n == 1 else "outlines were"
    return f"{n} {what} left out as satellites or dust: less than a third as wide as the droplets."


def _ddpcr_phrase(result: Mapping[str, Any] | None) -> str:
    """Say how many droplets were positive, by which threshold, and what follows."""
    if result is None or "error" in result:
        return ""
    estimate = result["estimate"]
    volume = estimate["mean_volume_pl"]
    of_volume = (
        "" if volume is None else f" and the mean volume of these droplets, {significant(volume, 4)} pL"
    )
    # Copies per droplet are those in the droplets as they are: nothing is multiplied.
    diluted = "" if volume is None else f", dilution factor {estimate['dilution']:g}"
    threshold = significant(result["threshold"], 4)
    return (
        f"For digital PCR, {estimate['k']} of {estimate['n']} droplets were positive (amplitude "
        f"{result['amplitude']!r} at or above {threshold}; {result['n_rain']} in the rain); "
        f"with λ = -ln(1 - k/n){of_volume}: {estimate['statement'].rstrip('.')}{diluted}."
    )


def _loading_phrase(result: Mapping[str, Any] | None) -> str:
    """Say how many inclusions the droplets held, and how that compares with Poisson's law."""
    if result is None or "error" in result:
        return ""
    lam, low, high = (significant(value, 4) for value in (result["lam"], *result["lam_interval"]))
    fano = "" if result["fano"] is None else f", Fano factor {significant(result['fano'], 3)}"
    return (
        f"{result['n_droplets']} droplets held {result['n_inclusions']} inclusions: λ = {lam} "
        f"(exact 95 % interval {low} to {high}){fano}; {100 * result['empty_share']:.1f} % were "
        f"empty, {100 * result['single_share']:.1f} % held one and {100 * result['multiple_share']:.1f} % "
        "more."
    )


def _model_phrase(request: ExportRequest) -> str:
    model = request.provenance.get("model")
    if not isinstance(model, Mapping) or not model.get("name"):
        return ""
    found_by = sorted({d.model for d in request.droplets if d.source == "auto" and d.model})
    if found_by and model["name"] not in found_by:  # that of a search which was undone
        return f" (model {' and '.join(found_by)})"
    digest = str(model.get("sha256") or "")
    return f" (model {model['name']}" + (f", SHA-256 {digest[:12]}…)" if digest else ")")


def _counts_phrase(request: ExportRequest, summary: Mapping[str, Any]) -> str:
    reasons = _reasons_phrase(summary["excluded_by_reason"], request.filters)
    excluded = f" (excluded: {reasons})" if reasons else ""
    made = edits(request)
    added = sum(n for name, n in made.items() if name.startswith("added"))
    by_hand = f" {added} were added and {made['excluded_by_user']} excluded by hand."
    kept = _reasons_phrase(summary["included_although_by_reason"], request.filters)
    although = f" Included by hand although the filters leave them out: {kept}." if kept else ""
    return (
        f"Of {summary['n_found']} droplets, {summary['n_included']} were included{excluded}."
        f"{by_hand if added or made['excluded_by_user'] else ''}{although}"
    )


def _reasons_phrase(counts: Mapping[str, int], filters: Filters) -> str:
    return ", ".join(f"{n} {_reason_phrase(reason, filters)}" for reason, n in counts.items())


def _reason_phrase(reason: str, filters: Filters) -> str:
    """Say why droplets are excluded, with the limit that was set."""
    if reason in ("touches_edge", "user"):
        return "at the image border" if reason == "touches_edge" else "by hand"
    column, _, side = reason.rpartition("_")  # such as diameter_px_above
    limit = filters.ranges.get(column, (None, None))[side == "above"]
    unit = " px²" if column == "area_px" else " px" if column.endswith("_px") else ""
    told = "the limit" if limit is None else f"{limit:.7g}{unit}"
    return f"with {column.removesuffix('_px').replace('_', ' ')} {side} {told}"


def _size_phrase(summary: Mapping[str, Any]) -> str:
    unit, sizes = ("px", summary["diameter_px"])
    if summary["diameter_um"] is not None:
        unit, sizes = "µm", summary["diameter_um"]
    if sizes["mean"] is None:
        return ""
    if sizes["sd"] is None:
        return f"The diameter was {significant(sizes['mean'], 4)} {unit} (n = 1)."
    mean, sd = significant(sizes["mean"], 4), significant(sizes["sd"], 3)
    cv, cv_se = significant(sizes["cv_percent"], 3), significant(sizes["cv_se_percent"], 2)
    text = (
        f"The diameter was {mean} ± {sd} {unit} (mean ± SD, n = {sizes['n']}), with a coefficient "
        f"of variation of {cv} ± {cv_se} % (± SE)"
    )
    volumes = summary["volume_pl"]
    return (
        f"{text}."
        if volumes is None
        else f"{text}, and the mean volume {significant(volumes['mean'], 4)} pL."
    )
