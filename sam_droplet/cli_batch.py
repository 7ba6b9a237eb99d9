"""The terminal door to many images: the same settings for all, one table; goes on after a crash."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from sam_droplet import __version__
from sam_droplet.cli_options import (
    add_filters,
    add_rim_offset,
    add_scale,
    decimal,
    file_limits,
    filters_of,
    scale_of,
    typed_scale,
)
from sam_droplet.config import Config
from sam_droplet.errors import InputError, SamDropletError, Unavailable
from sam_droplet.imaging.images import Calibration, Image, Limits, load_image
from sam_droplet.measurement.droplets import Droplet, Filters, apply_filters
from sam_droplet.measurement.export import EXPORTERS, ONE_PICTURE_FORMATS, ExportRequest
from sam_droplet.measurement.export.combined import ImagePart, measured, write_droplets_csv, write_summary_csv
from sam_droplet.measurement.quality import image_quality
from sam_droplet.pipeline import MODES, FindOptions, Result, Segmenter, result_as_dict

log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
FORMATS = ("json", *ONE_PICTURE_FORMATS)
RECORDS, FILES = "records", "images"
INTERRUPTED = 130


@dataclass(frozen=True)
class Unit:
    """One image to do: its file, and the name that it has in the output folder and in the tables."""

    path: Path
    name: str


def add_batch(parser: argparse.ArgumentParser) -> None:
    """Describe ``sam-droplet batch``."""
    parser.add_argument("images", nargs="+", type=Path, metavar="FOLDER|IMAGE")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="made if need be")
    parser.add_argument("--recursive", action="store_true", help="look into folders of folders, too")
    parser.add_argument(
        "--format", choices=FORMATS, action="append", default=[], help="files per image; may be repeated"
    )
    parser.add_argument(
        "--resume", action="store_true", help="keep what is done with the same settings, do the rest"
    )
    parser.add_argument(
        "--shard", type=_shard, default=(0, 1), metavar="I/N", help="do every N-th image only, I from 0"
    )
    add_scale(parser)
    parser.add_argument("--page", type=int, default=0, help="page of multi-page TIFFs, from 0")
    parser.add_argument("--sensitivity", type=decimal, default=0.5, help="0 only clear droplets … 1 doubtful")
    parser.add_argument("--mode", choices=MODES, default=MODES[0], help="as for `segment`")
    for bound in ("min", "max"):
        sizes = parser.add_mutually_exclusive_group()
        sizes.add_argument(f"--diameter-{bound}-px", type=decimal)
        sizes.add_argument(f"--diameter-{bound}-um", type=decimal, help="needs a scale")
    add_rim_offset(parser)
    add_filters(parser)
    parser.set_defaults(run=_batch)


def _batch(arguments: argparse.Namespace, config: Config) -> int:
    units = _collected(arguments.images, arguments.recursive, arguments.output)
    index, n_shards = arguments.shard
    own = units[index::n_shards]
    batch = Batch(arguments, config)
    try:
        n_failed = batch.run(own)
        _write_tables(arguments.output, own, arguments.shard)
    except KeyboardInterrupt:
        print("sam-droplet: stopped; the same command with --resume goes on.", file=sys.stderr)
        return INTERRUPTED
    print(f"{len(own) - n_failed} of {len(own)} images measured: {arguments.output}", file=sys.stderr)
    return 1 if n_failed else 0


class Batch:
    """Do images one after the other; each ends with its record, which says that it is done."""

    def __init__(self, arguments: argparse.Namespace, config: Config) -> None:
        self._arguments = arguments
        self._output: Path = arguments.output
        self._limits = file_limits(config)
        self._segmenter = Segmenter(config)
        self._settings_sha256 = _fingerprint(arguments, self._segmenter.models())
        # A wrong setting stops here, in words.
        typed_scale(arguments)
        _options(arguments, Calibration(1.0, "typed", arguments.chamber_height_um))

    def run(self, units: Sequence[Unit]) -> int:
        """Do what is not done yet, and return how many failed; one bad file does not stop the others."""
        n_failed = 0
        for number, unit in enumerate(units, 1):
            record = self._done_before(unit) or self._do(unit)
            n_failed += record["summary"]["state"] != "done"
            print(f"[{number}/{len(units)}] {unit.name}: {_told(record)}", file=sys.stderr, flush=True)
        return n_failed

    def _done_before(self, unit: Unit) -> dict[str, Any] | None:
        if not self._arguments.resume:
            return None
        record = _read_record(self._output, unit)
        if record is None or record["summary"]["state"] != "done":
            return None
        same = record["settings_sha256"] == self._settings_sha256
        if not same or record["file_sha256"] != _file_sha256(unit.path):
            return None
        if not all((self._output / FILES / unit.name / name).exists() for name in record.get("files", ())):
            return None
        return record | {"kept": True}

    def _do(self, unit: Unit) -> dict[str, Any]:
        started = time.perf_counter()
        record: dict[str, Any] = {"settings_sha256": self._settings_sha256, "rows": [], "n_channels": 1}
        summary: dict[str, Any] = {"image": unit.name, "state": "failed"}
        try:
            data = _read(unit.path, self._limits)
            record["file_sha256"] = hashlib.sha256(data).hexdigest()
            done, kept = self._measure(unit, data)
            record |= kept
            summary |= done | {"state": "done", "seconds": round(time.perf_counter() - started, 3)}
        except InputError as error:
            summary["message"] = error.message
        except SamDropletError:
            raise  # no network, no disk: the next image would fare no better
        except Exception as error:
            log.exception("%s broke", unit.path)
            summary["message"] = f"Something broke on this image ({type(error).__name__}: {error})."
        record["summary"] = summary
        with _replacing(_record_path(self._output, unit.name)) as path:
            path.write_bytes(json.dumps(record).encode())
        return record

    def _measure(self, unit: Unit, data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the image's line of the summary, and the rest of its record; write its own files."""
        image = load_image(data, unit.path.name, self._limits, page=self._arguments.page)
        calibration = scale_of(self._arguments, image)
        result = self._segmenter.find(image, _options(self._arguments, calibration))
        filters = filters_of(self._arguments, result.droplets)
        droplets = apply_filters(result.droplets, filters)
        line, rows = measured(unit.name, droplets, calibration, self._arguments.rim_offset_px, image.page)
        files = self._write_files(unit, image, result, droplets, filters, calibration)
        quality = image_quality(image, droplets).as_dict()
        quality["flags"] = " ".join(quality["flags"])
        kept = {"rows": rows, "n_channels": image.n_channels, "files": files}
        return line | quality | _about(image, result), kept

    def _write_files(
        self,
        unit: Unit,
        image: Image,
        result: Result,
        droplets: list[Droplet],
        filters: Filters,
        calibration: Calibration | None,
    ) -> list[str]:
        """Write the files that were asked for, and return their names."""
        provenance = {
            "version": __version__,
            "model": result.model.as_dict(),
            "parameters": result.parameters,
        }
        request = ExportRequest(image, droplets, calibration, provenance, filters)
        names = []
        for name in dict.fromkeys(self._arguments.format):
            if name == "json":
                found = Result(droplets, result.model, result.parameters, result.timings_s, result.message)
                text = json.dumps(result_as_dict(image, found, calibration))
                filename, content = f"{request.stem}.json", f"{text}\n".encode()
            else:
                exported = EXPORTERS[name](request)
                filename, content = exported.filename, exported.data
            with _replacing(self._output / FILES / unit.name / filename) as path:
                path.write_bytes(content)
            names.append(filename)
        return names


def _collected(given: Sequence[Path], recursive: bool, output: Path) -> list[Unit]:
    """Return the images that were named and those in the folders, each once, in a steady order.

    Images of one name are told apart by their folders, so that each has its own place in the output.
    Pictures that an earlier run wrote into the output are none to measure; hidden files, such as macOS's
    ``._x.tif`` beside x.tif, neither.
    """
    paths: dict[Path, Path] = {}  # by where they lie, so that no way of naming one counts it twice
    for path in given:
        if not path.is_dir():
            paths.setdefault(_place(path), path)  # no such file, too: it fails as one image
            continue
        files = sorted(p for p in path.glob("**/*" if recursive else "*") if p.suffix.lower() in SUFFIXES)
        seen = [p for p in files if not any(part.startswith(".") for part in p.relative_to(path).parts)]
        inside = [p for p in seen if not (p.is_dir() or _was_written(p, output))]
        if not inside:
            raise InputError(
                f"There is no image ({', '.join(SUFFIXES)}) in {path}; check the folder, or add --recursive."
            )
        for found in inside:
            paths.setdefault(_place(found), found)
    names = Counter(path.name.casefold() for path in paths.values())  # as disks that take A.tif for a.tif
    return [
        Unit(path, path.name if names[path.name.casefold()] == 1 else _name_with_folder(path))
        for path in paths.values()
    ]


def _was_written(path: Path, output: Path) -> bool:
    """Whether a file lies where a run into this output put the files of one image."""
    folder = path.parent
    is_below = folder.parent.resolve() == (output / FILES).resolve()
    return is_below and _record_path(output, folder.name).exists()


def _place(path: Path) -> Path:
    return path.parent.resolve() / path.name


def _name_with_folder(path: Path) -> str:
    folder = str(path.absolute().parent)
    return f"{path.stem}-{hashlib.sha256(folder.encode()).hexdigest()[:8]}{path.suffix}"


def _shard(text: str) -> tuple[int, int]:
    index, _, total = text.partition("/")
    if not (index.isdecimal() and total.isdecimal() and int(index) < int(total)):
        raise argparse.ArgumentTypeError(f"I/N with I from 0 to N-1 was expected, such as 0/4, not {text!r}")
    return int(index), int(total)


def _options(arguments: argparse.Namespace, calibration: Calibration | None) -> FindOptions:
    sizes = {}
    for bound in ("min", "max"):
        um = getattr(arguments, f"diameter_{bound}_um")
        sizes[bound] = getattr(arguments, f"diameter_{bound}_px")
        if um is not None and calibration is None:
            raise InputError("The sizes are in µm, but this file holds no scale; give --um-per-px.")
        if um is not None and calibration is not None:
            sizes[bound] = um / calibration.um_per_px
    return FindOptions(
        sensitivity=arguments.sensitivity,
        mode=arguments.mode,
        diameter_min_px=sizes["min"],
        diameter_max_px=sizes["max"],
        rim_offset_px=arguments.rim_offset_px,
    )


def _about(image: Image, result: Result) -> dict[str, Any]:
    return {
        "width_px": image.width,
        "height_px": image.height,
        "bit_depth": image.bit_depth,
        "page": image.page,
        "n_pages": image.n_pages,
        "digest": image.digest,
        "model": result.model.name,
        "model_sha256": result.model.sha256,
        "sensitivity": result.parameters.get("sensitivity"),
        "message": result.message,
    }


def _told(record: Mapping[str, Any]) -> str:
    summary = record["summary"]
    if summary["state"] != "done":
        return str(summary["message"])
    if record.get("kept"):
        return f"{summary['n_included']} droplets, done before"
    return f"{summary['n_included']} droplets, {summary['seconds']:.2f} s"


def _fingerprint(arguments: argparse.Namespace, models: Sequence[Mapping[str, Any]]) -> str:
    """Return what tells results of other settings, weights or program versions apart."""
    given = {k: v for k, v in vars(arguments).items() if k not in ("images", "output", "recursive", "run")}
    del given["resume"], given["shard"]
    needed = {"find"} if arguments.mode == MODES[0] else {"find", arguments.mode}
    used = [m for m in models if m["available"] and needed & set(m["answers"])]
    weights = {m["name"]: _file_sha256(Path(str(m["path"]))) for m in used}
    return hashlib.sha256(json.dumps([__version__, given, weights], sort_keys=True).encode()).hexdigest()


def _read(path: Path, limits: Limits) -> bytes:
    try:
        if path.stat().st_size > limits.max_bytes:
            raise InputError(f"{path} is larger than the limit of {limits.max_bytes / 2**20:g} MiB.")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def _file_sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _record_path(output: Path, name: str) -> Path:
    return output / RECORDS / f"{name}.json"


def _read_record(output: Path, unit: Unit) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads(_record_path(output, unit.name).read_bytes())
    except (OSError, ValueError):
        return None  # not done yet
    return record


def _write_tables(output: Path, units: Sequence[Unit], shard: tuple[int, int]) -> None:
    """Write the long table and the line per image from the records, one image in memory at a time."""
    suffix = "" if shard[1] == 1 else f"-{shard[0]}-of-{shard[1]}"
    n_channels = max((part[1] for part in _parts(output, units)), default=1)
    with _replacing(output / f"droplets{suffix}.csv") as path, _table(path) as stream:
        write_droplets_csv(stream, (part for part, _ in _parts(output, units)), n_channels)
    with _replacing(output / f"summary{suffix}.csv") as path, _table(path) as stream:
        write_summary_csv(stream, (part for part, _ in _parts(output, units)))


def _parts(output: Path, units: Sequence[Unit]) -> Iterator[tuple[ImagePart, int]]:
    for unit in units:
        record = _read_record(output, unit)
        if record is not None:
            yield ImagePart(record["summary"], record["rows"]), int(record["n_channels"])


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a place to write to, which takes the file's name once it is whole; Unavailable where it cannot."""
    # No longer than a file name may be, however long that of the image is.
    name = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    temporary = path.with_name(f".{name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise Unavailable(
            f"{path} cannot be written ({error.strerror}); --resume goes on once it can."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _table(path: Path) -> TextIO:
    # A file name that is no UTF-8, such as one from an old archive, must not end a table.
    return path.open("w", encoding="utf-8-sig", errors="backslashreplace", newline="")
