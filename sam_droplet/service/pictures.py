"""Pictures that cost more to make than to keep: thumbnails and samples. Losing one costs only time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sam_droplet.service.files import write_atomically


class PictureStore:
    """Keep made pictures by name below one folder; safe for many processes at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get_or_make(self, name: str, make: Callable[[], bytes]) -> bytes:
        """Return the picture of a name, making it where it is not there; name: letters, digits, - and dot."""
        path = self.folder / name
        try:
            return path.read_bytes()
        except OSError:
            data = make()
        self._keep(path, data)
        return data

    def forget(self, name: str) -> None:
        """Delete a picture, if it is there; one that cannot be deleted is only a spare file."""
        with suppress(OSError):
            (self.folder / name).unlink(missing_ok=True)

    def _keep(self, path: Path, data: bytes) -> None:
        """Write a picture whole or not at all; a full or read-only disk must not keep it from being shown."""
        with suppress(OSError):
            self.folder.mkdir(exist_ok=True)
            write_atomically(path, data)
