"""The terminal door to assays on two pictures of one field: ddPCR concentration and loading."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sam_droplet import __version__
from sam_droplet.config import Config
from sam_droplet.errors import InputError
from sam_droplet.imaging.images import Calibration, Image, Limits, load_image_file
from sam_droplet.imaging.registration import NO_SHIFT, Shift
from sam_droplet.imaging.spots import find_spots
from sam_droplet.measurement.droplets import Droplet, Filters, apply_filters, summarize
from sam_droplet.measurement.export import EXPORTERS, ExportRequest
from sam_droplet.measurement.fields import (
    DdpcrAssay,
    LoadingAssay,
    brightest_channel,
    ddpcr_assay,
    loading_assay,
)
from sam_droplet.measurement.presets import PRESETS, preset_filters
from sam_droplet.pipeline import FindOptions, Result, Segmenter


def add_assay(parser: argparse.ArgumentParser) -> None:
    """Describe ``sam-droplet assay ddpcr`` and ``sam-droplet assay loading``."""
    kinds = parser.add_subparsers(required=True, metavar="KIND")
    ddpcr = kinds.add_parser("ddpcr", help="copies per microlitre from a fluorescence picture of the field")
    ddpcr.add_argument("--fluorescence", type=Path, required=True, help="the same field through the filter")
    ddpcr.add_argument(
        "--threshold", type=float, help="amplitude from which a droplet is positive; else proposed"
    )
    ddpcr.add_argument("--dilution", type=float, default=1.0, help="how many times the sample was diluted")
    _add_common(ddpcr, preset="ddpcr")
    ddpcr.set_defaults(run=_ddpcr)
    loading = kinds.add_parser("loading", help="beads or cells per droplet from a picture that shows them")
    loading.add_argument(
        "--inclusions", type=Path, required=True, help="the same field, beads or cells bright"
    )
    loading.add_argument("--inclusion-diameter-px", type=float, help="of one bead or cell; else estimated")
    loading.add_argument("--stock-per-ml", type=float, help="concentration of the stock, to compare with")
    _add_common(loading, preset="polydisperse")
    loading.set_defaults(run=_loading)


def _add_common(parser: argparse.ArgumentParser, preset: str) -> None:
    parser.add_argument("image", type=Path, help="the droplets in brightfield")
    parser.add_argument("--um-per-px", type=float, help="calibration; else the file's own, if it has one")
    parser.add_argument("--preset", choices=[*PRESETS, "none"], default=preset, help="which droplets count")
    parser.add_argument("--sensitivity", type=float, default=0.5)
    parser.add_argument(
        "--shift-px", type=float, nargs=2, metavar=("DX", "DY"), help="of the second picture; else estimated"
    )
    parser.add_argument("--output", type=Path, help="also write a ZIP with every table, picture and setting")


def _ddpcr(arguments: argparse.Namespace, config: Config) -> int:
    image, droplets, filters, result, calibration = _found(arguments, config)
    fluorescence = load_image_file(arguments.fluorescence, _limits(config))
    assay = ddpcr_assay(
        droplets,
        fluorescence,
        calibration,
        shift=_shift(arguments),
        threshold=arguments.threshold,
        dilution=arguments.dilution,
    )
    return _report("ddpcr", assay, arguments, (image, droplets, filters, result, calibration))


def _loading(arguments: argparse.Namespace, config: Config) -> int:
    image, droplets, filters, result, calibration = _found(arguments, config)
    second = load_image_file(arguments.inclusions, _limits(config))
    pixels = second.pixels[:, :, brightest_channel(second)]
    spots = find_spots(pixels, diameter_px=arguments.inclusion_diameter_px)
    assay = loading_assay(
        droplets,
        spots,
        calibration,
        shift=_shift(arguments) or NO_SHIFT,
        stock_per_ml=arguments.stock_per_ml,
    )
    return _report("loading", assay, arguments, (image, droplets, filters, result, calibration))


Found = tuple[Image, list[Droplet], Filters, Result, Calibration | None]


def _found(arguments: argparse.Namespace, config: Config) -> Found:
    """Find the droplets of the brightfield picture and sort out what does not count."""
    if arguments.um_per_px is not None and not 0 < arguments.um_per_px < float("inf"):
        raise InputError(f"--um-per-px must be a positive number, but it is {arguments.um_per_px:g}.")
    image = load_image_file(arguments.image, _limits(config))
    typed = None if arguments.um_per_px is None else Calibration(arguments.um_per_px, "typed")
    result = Segmenter(config).find(image, FindOptions(sensitivity=arguments.sensitivity))
    if not result.droplets:
        raise InputError(result.message or "No droplet was found.")
    none = arguments.preset == "none"
    filters = Filters() if none else preset_filters(arguments.preset, result.droplets)
    return image, apply_filters(result.droplets, filters), filters, result, typed or image.calibration


def _shift(arguments: argparse.Namespace) -> Shift | None:
    if arguments.shift_px is None:
        return None
    dx, dy = arguments.shift_px
    return Shift(dx, dy, 1.0, 0.0, True)


def _report(name: str, assay: DdpcrAssay | LoadingAssay, arguments: argparse.Namespace, found: Found) -> int:
    """Print the assay as one JSON document; write the bundle where asked for."""
    image, droplets, filters, result, calibration = found
    values: Mapping[str, Any] = assay.as_dict()
    printed = {
        "assay": name,
        "image": image.name,
        "um_per_px": calibration.um_per_px if calibration else None,
        "calibration_source": calibration.source if calibration else None,
        "model": result.model.as_dict(),
        "preset": arguments.preset,
        name: values,
        "summary": summarize(droplets, calibration),
    }
    print(json.dumps(printed, indent=1))
    if arguments.output:
        provenance = {
            "version": __version__,
            "model": result.model.as_dict(),
            "parameters": result.parameters,
        }
        request = ExportRequest(
            image, droplets, calibration, provenance, filters, assay.extra_columns(), {name: values}
        )
        arguments.output.write_bytes(EXPORTERS["bundle"](request).data)
    return 0


def _limits(config: Config) -> Limits:
    return Limits(config.max_upload_bytes, config.max_image_pixels, config.max_pages)
