"""What a reader needs to get the same numbers again: settings, a sentence for the paper, and the way back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sam_droplet import __version__
from sam_droplet.errors import Conflict, InputError
from sam_droplet.imaging.masks import rle_decode, rle_encode
from sam_droplet.measurement.droplets import Droplet, Filters, apply_filters, measure
from sam_droplet.measurement.export.request import Exported, ExportRequest
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
        "version": str(request.provenance.get("version", __version__)),
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
        "calibration": None
        if calibration is None
        else {"um_per_px": calibration.um_per_px, "source": calibration.source},
        "filters": {
            "ranges": {name: list(limits) for name, limits in request.filters.ranges.items()},
            "exclude_edge": request.filters.exclude_edge,
        },
        "edits": edits(request),
        "provenance": dict(request.provenance),
        "assays": {name: dict(result) for name, result in request.assays.items()},
    }


def edits(request: ExportRequest) -> dict[str, int]:
    """Count what a person changed: droplets added by hand, and droplets excluded by hand."""
    sources = Counter(d.source for d in request.droplets)
    return {
        **{f"added_by_{name}": sources[name] for name in ("point", "box", "manual")},
        "excluded_by_user": sum(d.excluded_by_user for d in request.droplets),
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
            "segmentation": rle_encode(d.mask, hw),
        }
        for d in request.droplets
    ]
    document = settings_dict(request) | {"droplets": droplets}
    data = (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode()
    return Exported("settings.json", "application/json", data)


def rerun(image: Image, settings: Mapping[str, Any]) -> list[Droplet]:
    """Measure and filter the droplets of a settings.json again on its image; the same numbers come out.

    Raises Conflict where the pixels are not those of the settings, InputError for a damaged file.
    """
    try:
        digest = settings["image"]["digest"]
        filters = Filters(
            {name: (limits[0], limits[1]) for name, limits in settings["filters"]["ranges"].items()},
            bool(settings["filters"]["exclude_edge"]),
        )
        records = [(r, rle_decode(r["segmentation"], float(r["score"]))) for r in settings["droplets"]]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(
            f"A settings.json of format {SETTINGS_FORMAT} was expected, but a part is missing or damaged "
            f"({type(error).__name__}: {error}). Take the file from the bundle again."
        ) from error
    if digest != image.digest:
        raise Conflict(
            f"The settings belong to an image with other pixels ({settings['image'].get('name')}); "
            "open that image."
        )
    found = [(record, mask) for record, mask in records if mask is not None]
    measured = measure(image, [mask for _, mask in found])
    droplets = [
        Droplet(
            id=int(record["id"]),
            mask=mask,
            source=str(record["source"]),
            score=float(record["score"]),
            model=str(record["model"]),
            measures=fresh.measures,
            excluded_by_user=bool(record["excluded_by_user"]),
        )
        for (record, mask), fresh in zip(found, measured, strict=True)
    ]
    return apply_filters(droplets, filters)


def export_methods(request: ExportRequest) -> Exported:
    """Write a paragraph for the methods section."""
    text = methods_text(request) + "\n"
    return Exported(f"{request.stem}_methods.txt", "text/plain; charset=utf-8", text.encode())


def methods_text(request: ExportRequest) -> str:
    """Return a paragraph that names software, model, calibration, definitions, exclusions and result."""
    image, calibration = request.image, request.calibration
    summary = summarize(request.droplets, calibration)
    scale = (
        "lengths are in pixels, as the image was not calibrated"
        if calibration is None
        else f"at {calibration.um_per_px:.5g} µm per pixel (source: {calibration.source})"
    )
    version = request.provenance.get("version", __version__)
    return " ".join(
        [
            f"Droplets in {image.name} ({image.width} x {image.height} px, {image.bit_depth}-bit) were "
            f"found with SAM Droplet {version}{_model_phrase(request)} and measured on the raw pixels, "
            f"{scale}.",
            "The diameter is that of the disc of equal area, d = 2(A/π)^½, with A the number of pixels; "
            "circularity is min(1, 4πA/P²) with the four-direction Crofton perimeter P; "
            "volumes assume spheres.",
            _counts_phrase(request, summary),
            _size_phrase(summary),
        ]
    ).strip()


def _model_phrase(request: ExportRequest) -> str:
    model = request.provenance.get("model")
    if not isinstance(model, Mapping) or not model.get("name"):
        return ""
    digest = str(model.get("sha256") or "")
    return f" (model {model['name']}" + (f", SHA-256 {digest[:12]}…)" if digest else ")")


def _counts_phrase(request: ExportRequest, summary: Mapping[str, Any]) -> str:
    reasons = "; ".join(f"{n} {reason}" for reason, n in summary["excluded_by_reason"].items())
    excluded = f" ({summary['n_excluded']} were excluded: {reasons})" if reasons else ""
    made = edits(request)
    added = sum(n for name, n in made.items() if name.startswith("added"))
    by_hand = (
        f" {added} were added and {made['excluded_by_user']} excluded by hand." if any(made.values()) else ""
    )
    return f"Of {summary['n_found']} droplets, {summary['n_included']} were included{excluded}.{by_hand}"


def _size_phrase(summary: Mapping[str, Any]) -> str:
    unit, sizes = ("px", summary["diameter_px"])
    if summary["diameter_um"] is not None:
        unit, sizes = "µm", summary["diameter_um"]
    if sizes["mean"] is None:
        return ""
    if sizes["sd"] is None:
        return f"The diameter was {sizes['mean']:.4g} {unit} (n = 1)."
    text = (
        f"The diameter was {sizes['mean']:.4g} ± {sizes['sd']:.3g} {unit} (mean ± SD, n = {sizes['n']}), "
        f"with a coefficient of variation of {sizes['cv_percent']:.3g} ± {sizes['cv_se_percent']:.2g} % "
        "(± SE)"
    )
    volumes = summary["volume_pl"]
    return f"{text}." if volumes is None else f"{text}, and the mean volume {volumes['mean']:.4g} pL."
