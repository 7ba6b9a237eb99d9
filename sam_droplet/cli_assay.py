"""The terminal door to assays on two pictures of one field: ddPCR concentration and loading."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam_droplet import __version__
from sam_droplet.cli_options import add_rim_offset, add_scale, decimal, file_limits, scale_of, write_output
from sam_droplet.config import Config
from sam_droplet.errors import InputError
from sam_droplet.imaging.images import Calibration, Image, load_image_file
from sam_droplet.imaging.registration import NO_SHIFT, Shift
from sam_droplet.imaging.spots import find_spots
from sam_droplet.measurement.ddpcr import AMPLITUDES, DdpcrAssay, ddpcr_assay, read_amplitudes
from sam_droplet.measurement.droplets import Droplet, Filters, apply_filters, measure, summarize
from sam_droplet.measurement.export import EXPORTERS, ExportRequest
from sam_droplet.measurement.fields import SecondPicture, brightest_channel
from sam_droplet.measurement.loading import LoadingAssay, loading_assay
from sam_droplet.measurement.presets import PRESETS, preset_filters
from sam_droplet.pipeline import FindOptions, Result, Segmenter


def add_assay(parser: argparse.ArgumentParser) -> None:
    """Describe ``sam-droplet assay ddpcr`` and ``sam-droplet assay loading``."""
    kinds = parser.add_subparsers(required=True, metavar="KIND")
    ddpcr = kinds.add_parser("ddpcr", help="copies per microlitre from a fluorescence picture of the field")
    ddpcr.add_argument(
        "--fluorescence",
        type=Path,
        dest="second",
        metavar="IMAGE",
        help="the same field through the filter; else the image itself",
    )
    ddpcr.add_argument(
        "--threshold", type=decimal, help="amplitude from which a droplet is positive; else proposed"
    )
    ddpcr.add_argument("--dilution", type=decimal, default=1.0, help="how many times the sample was diluted")
    ddpcr.add_argument(
        "--amplitude",
        choices=AMPLITUDES,
        default="net",
        help="mean inside minus the background (net), mean, or ratio",
    )
    _add_common(ddpcr, preset="ddpcr")
    ddpcr.set_defaults(run=_ddpcr)
    loading = kinds.add_parser("loading", help="beads or cells per droplet from a picture that shows them")
    loading.add_argument(
        "--inclusions",
        type=Path,
        dest="second",
        metavar="IMAGE",
        help="the same field, beads or cells bright; else the image itself",
    )
    loading.add_argument("--inclusion-diameter-px", type=decimal, help="of one bead or cell; else estimated")
    loading.add_argument(
        "--threshold", type=decimal, help="raw value from which a pixel belongs to a bead or cell"
    )
    loading.add_argument("--stock-per-ml", type=decimal, help="concentration of the stock, to compare with")
    # Unequal droplets hold unequal numbers, and what is much smaller is no droplet that could be loaded.
    _add_common(loading, preset="monodisperse")
    loading.set_defaults(run=_loading)


def _add_common(parser: argparse.ArgumentParser, preset: str) -> None:
    parser.add_argument("image", type=Path, help="the droplets in brightfield")
    add_scale(parser)
    parser.add_argument("--preset", choices=[*PRESETS, "none"], default=preset, help="which droplets count")
    parser.add_argument("--sensitivity", type=decimal, default=0.5)
    add_rim_offset(parser)
    parser.add_argument("--page", type=int, default=0, help="of the image, from 0")
    parser.add_argument("--droplet-channel", type=int, help="find droplets on this channel only, from 0")
    parser.add_argument(
        "--second-page",
        type=int,
        help="of the second picture, from 0; of the image itself where there is none",
    )
    parser.add_argument("--channel", type=int, help="of the second picture, from 0; else the brightest")
    parser.add_argument(
        "--shift-px",
        type=decimal,
        nargs=2,
        metavar=("DX", "DY"),
        help="of the second picture; else ddpcr estimates it and loading takes none",
    )
    parser.add_argument("--output", type=Path, help="also write a ZIP with every table, picture and setting")


@dataclass(frozen=True)
class _Field:
    """What was found on the first picture of a field, and its second picture."""

    image: Image
    second: Image
    droplets: list[Droplet]
    filters: Filters
    result: Result
    calibration: Calibration | None
    shift: Shift | None


def _ddpcr(arguments: argparse.Namespace, config: Config) -> int:
    field = _field(arguments, config)
    reading = read_amplitudes(
        field.droplets,
        field.second,
        channel=arguments.channel,
        shift=field.shift,
        amplitude=arguments.amplitude,
    )
    assay = ddpcr_assay(
        field.droplets,
        reading,
        field.calibration,
        threshold=arguments.threshold,
        dilution=arguments.dilution,
    )
    return _report(
        "ddpcr", assay, arguments, field, SecondPicture(field.second, reading.channel, reading.shift)
    )


def _loading(arguments: argparse.Namespace, config: Config) -> int:
    field = _field(arguments, config)
    channel = brightest_channel(field.second) if arguments.channel is None else arguments.channel
    pixels = field.second.only_channel(channel).pixels[:, :, 0]
    if arguments.inclusion_diameter_px is not None and arguments.inclusion_diameter_px < 1:
        raise InputError("--inclusion-diameter-px must be 1 pixel or more.")
    spots = find_spots(pixels, diameter_px=arguments.inclusion_diameter_px, threshold=arguments.threshold)
    shift = field.shift or NO_SHIFT
    assay = loading_assay(
        field.droplets,
        spots,
        field.calibration,
        shift=shift,
        stock_per_ml=arguments.stock_per_ml,
        second_hw=(pixels.shape[0], pixels.shape[1]),
    )
    second = SecondPicture(field.second, channel, shift, tuple(spots))
    return _report("loading", assay, arguments, field, second)


def _field(arguments: argparse.Namespace, config: Config) -> _Field:
    """Find the droplets of the first picture, sort out what does not count, and read the second one."""
    image = load_image_file(arguments.image, file_limits(config), page=arguments.page)
    second = image
    if arguments.second is not None or arguments.second_page is not None:
        path, page = arguments.second or arguments.image, arguments.second_page or 0
        second = load_image_file(path, file_limits(config), page=page)
        if (second.width, second.height) != (image.width, image.height):
            raise InputError(
                f"Both pictures of a field must have the same size, but {image.name!r} has {image.width} × "
                f"{image.height} px and {second.name!r} {second.width} × {second.height} px."
            )
    calibration = scale_of(arguments, image)
    seen = image if arguments.droplet_channel is None else image.only_channel(arguments.droplet_channel)
    options = FindOptions(sensitivity=arguments.sensitivity, rim_offset_px=arguments.rim_offset_px)
    result = Segmenter(config).find(seen, options)
    if not result.droplets:
        raise InputError(result.message or "No droplet was found.")
    droplets = result.droplets
    if seen is not image:
        droplets = measure(image, [d.mask for d in droplets], model=result.model.name)
    none = arguments.preset == "none"
    filters = Filters() if none else preset_filters(arguments.preset, droplets)
    return _Field(
        image,
        second,
        apply_filters(droplets, filters),
        filters,
        result,
        calibration,
        NO_SHIFT if second is image and arguments.shift_px is None else _shift(arguments),
    )


def _shift(arguments: argparse.Namespace) -> Shift | None:
    if arguments.shift_px is None:
        return None
    dx, dy = arguments.shift_px
    return Shift(dx, dy, 1.0, 0.0, True)


def _report(
    name: str,
    assay: DdpcrAssay | LoadingAssay,
    arguments: argparse.Namespace,
    field: _Field,
    second: SecondPicture,
) -> int:
    """Print the assay as one JSON document; write the bundle where asked for."""
    image, calibration, model = field.image, field.calibration, field.result.model.as_dict()
    values: Mapping[str, Any] = assay.as_dict()
    printed = {
        "assay": name,
        "image": image.name,
        "second_image": second.image.name,
        "channel": second.channel,
        "um_per_px": calibration.um_per_px if calibration else None,
        "calibration_source": calibration.source if calibration else None,
        "chamber_height_um": calibration.chamber_height_um if calibration else None,
        "model": model,
        "preset": arguments.preset,
        name: values,
        "summary": summarize(field.droplets, calibration),
    }
    print(json.dumps(printed, indent=1))
    if arguments.output:
        provenance = {"version": __version__, "model": model, "parameters": field.result.parameters}
        request = ExportRequest(
            image,
            field.droplets,
            calibration,
            provenance,
            field.filters,
            assay.extra_columns(),
            {name: values},
            second,
        )
        read = [path for path in (arguments.image, arguments.second) if path is not None]
        write_output(arguments.output, EXPORTERS["bundle"](request).data, keep=read)
    return 0
