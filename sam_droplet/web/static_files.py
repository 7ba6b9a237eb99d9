"""Scripts and styles under addresses that change with their content: browsers may keep them for good."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePosixPath
from typing import Any

from flask import Flask, Response

_VERSION = re.compile("v[0-9a-f]{12}")
# By name: a computer's own list may call them text/plain, as Windows often does, or not know .mjs.
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_FOR_GOOD = "public, max-age=31536000, immutable"


def init_app(app: Flask) -> None:
    """Put the version of all files into the address of each: modules import each other by relative paths.

    A file stays reachable without a version or under an older one, which a page opened before an upgrade
    asks for; it is then asked for again each time. So it is with FLASK_DEBUG, where files are being edited.
    """
    version = files_version(Path(app.static_folder or ""))

    def add_version(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint == "static" and not app.debug:
            values["filename"] = f"{version}/{values['filename']}"

    def serve(filename: str) -> Response:
        first, _, rest = filename.partition("/")
        response = app.send_static_file(rest if _VERSION.fullmatch(first) else filename)
        if kind := _TYPES.get(PurePosixPath(filename).suffix):
            response.mimetype = kind
        response.headers["Cache-Control"] = _FOR_GOOD if first == version else "no-cache"
        return response

    app.url_defaults(add_version)
    app.view_functions["static"] = serve


def files_version(folder: Path) -> str:
    """Return a name for the names and contents of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"v{digest.hexdigest()[:12]}"
