"""Commands that do from a script what the page did: filled with the settings of an image, ready to copy."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sam_droplet.service.records import Annotation, filters_as_dict

FIND_NAMES = ("sensitivity", "diameter_min_px", "diameter_max_px", "mode", "rim_offset_px")
DEFAULTS = {
    "sensitivity": 0.5,
    "diameter_min_px": None,
    "diameter_max_px": None,
    "mode": "droplets",
    "rim_offset_px": 0.0,
}


@dataclass(frozen=True)
class Snippet:
    """One example: what it does, and the text to copy."""

    title: str
    code: str


@dataclass(frozen=True)
class Settings:
    """Say what an image was found and filtered with; ``image_id`` is None where there is no image yet."""

    name: str = "image.tif"
    image_id: str | None = None
    find: Mapping[str, Any] | None = None
    filters: Mapping[str, Any] | None = None
    um_per_px: float | None = None
    chamber_height_um: float | None = None

    @property
    def scale(self) -> dict[str, float]:
        """Return the scale's numbers by the names that every door gives them."""
        named = {"um_per_px": self.um_per_px, "chamber_height_um": self.chamber_height_um}
        return {name: value for name, value in named.items() if value is not None}


def settings_of(annotation: Annotation) -> Settings:
    """Return the settings of an image as they are now; what is at its default is left out."""
    given = {name: annotation.parameters.get(name, DEFAULTS[name]) for name in FIND_NAMES}
    filters = filters_as_dict(annotation.filters)
    scale = annotation.calibration
    return Settings(
        name=annotation.image.name,
        image_id=annotation.image.id,
        find={name: value for name, value in given.items() if value != DEFAULTS[name]},
        filters=filters if filters["ranges"] or filters["exclude_edge"] else None,
        um_per_px=scale.um_per_px if scale else None,
        chamber_height_um=scale.chamber_height_um if scale else None,
    )


def snippets(root: str, settings: Settings, *, needs_key: bool) -> list[Snippet]:
    """Return the examples for a server at ``root``, which ends in a slash."""
    made = [
        Snippet("One file, one answer (curl)", _one_file(root, settings, needs_key)),
        Snippet("A folder of files with these settings (Python)", _folder(root, settings, needs_key)),
        Snippet("On this computer, without a server", _command_line(settings)),
    ]
    if settings.image_id is not None:
        made.insert(
            1, Snippet("The results of this image, as on its page (curl)", _export(root, settings, needs_key))
        )
    return made


def _one_file(root: str, settings: Settings, needs_key: bool) -> str:
    fields = {**(settings.find or {}), **settings.scale}
    parts = ["curl", *_key(needs_key), "-F", f"file=@{_curl_name(settings.name)}"]
    for name, value in fields.items():
        parts += ["-F", f"{name}={_plain(value)}"]
    return _shell([*parts, f"{root}segment_file"])


def _curl_name(name: str) -> str:
    """Quote a file's name for curl itself, to which a comma means another file and a semicolon a type."""
    if not set(name) & set(',;"'):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _plain(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.12g}"


def _export(root: str, settings: Settings, needs_key: bool) -> str:
    url = f"{root}api/images/{settings.image_id}/export/csv"
    return _shell(["curl", *_key(needs_key), "-OJ", url])


def _key(needs_key: bool) -> list[str]:
    return ["-H", "X-API-Key: $KEY"] if needs_key else []


def _shell(parts: list[str]) -> str:
    """Quote for a shell, but leave $KEY to be filled in by it."""
    return " ".join(f'"{part}"' if "$KEY" in part else shlex.quote(part) for part in parts)


def _command_line(settings: Settings) -> str:
    parts = ["sam-droplet", "segment", settings.name]
    for name, value in {**settings.scale, **(settings.find or {})}.items():
        parts += [f"--{name.replace('_', '-')}", _plain(value)]
    return _shell([*parts, "--format", "csv", "--output", "droplets.csv"])


def _folder(root: str, settings: Settings, needs_key: bool) -> str:
    headers = '{"X-API-Key": KEY}' if needs_key else '{"X-SAM-Droplet": "1"}'
    edits: dict[str, Any] = {}
    if settings.filters:
        edits["filters"] = settings.filters
    if settings.scale:
        edits["calibration"] = settings.scale
    lines = [
        "from pathlib import Path",
        "",
        "import requests",
        "",
        f"server = {_python(root + 'api/images')}",
        f"headers = {headers}",
        f"options = {_python(dict(settings.find or {}))}",
        'for path in Path(".").glob("*.tif"):',
        '    answer = requests.post(server, headers=headers, files={"file": (path.name, path.read_bytes())})',
        "    answer.raise_for_status()",
        "    image = f\"{server}/{answer.json()['images'][0]['id']}\"",
        '    requests.post(f"{image}/find", headers=headers, json={"options": options}).raise_for_status()',
    ]
    if edits:
        lines.append(f"    edits = {_python(edits)}")
        lines.append(
            '    requests.patch(f"{image}/annotation", headers=headers, json=edits).raise_for_status()'
        )
    lines += [
        '    table = requests.get(f"{image}/export/csv", headers=headers)',
        "    table.raise_for_status()",
        '    path.with_suffix(".csv").write_bytes(table.content)',
    ]
    return "\n".join(lines)


def _python(value: Any) -> str:
    """Write plain data as Python, with the quotes of the rest of the example."""
    text = json.dumps(value, ensure_ascii=False)
    for word, name in (("null", "None"), ("true", "True"), ("false", "False")):
        text = _outside_strings(text, word, name)
    return text


def _outside_strings(text: str, word: str, name: str) -> str:
    parts = text.split('"')
    return '"'.join(part.replace(word, name) if i % 2 == 0 else part for i, part in enumerate(parts))
