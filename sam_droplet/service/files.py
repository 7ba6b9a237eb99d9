"""Content-addressed files: bytes stored once under their SHA-256, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import shutil
import tempfile
from pathlib import Path

from sam_droplet.errors import NotFound, Unavailable

log = logging.getLogger(__name__)

_DIGEST = re.compile(r"[0-9a-f]{64}")


class FileStore:
    """Keep immutable blobs below one folder; safe for many processes at once."""

    def __init__(self, folder: Path, *, min_free_bytes: int = 64 << 20) -> None:
        self.folder = folder
        self.min_free_bytes = min_free_bytes

    def put(self, data: bytes) -> str:
        """Store bytes and return their SHA-256 in hex; storing the same bytes again costs nothing.

        Raises Unavailable where the disk is full or cannot be written.
        """
        digest = hashlib.sha256(data).hexdigest()
        target = self.path_of(digest)
        try:
            # A blob that was damaged on disk is written anew: uploading again is the cure that ``get`` names.
            if target.exists() and _holds(target, digest):
                os.utime(target)  # keeps a blob that is in use out of the sweep of unreferenced ones
                return digest
            target.parent.mkdir(parents=True, exist_ok=True)
            self._check_free_space(len(data))
            write_atomically(target, data)
        except OSError as error:
            raise _unavailable(error) from error
        return digest

    def get(self, digest: str) -> bytes:
        """Return the bytes of a digest, checked against it."""
        try:
            data = self.path_of(digest).read_bytes()
        except FileNotFoundError as error:
            raise NotFound(
                "The stored file of this image is gone from the data folder; upload the image again."
            ) from error
        except OSError as error:
            raise _unavailable(error) from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise NotFound("The stored file of this image is damaged on disk; upload the image again.")
        return data

    def delete(self, digest: str) -> bool:
        """Remove a blob, which may be gone already; return False where it cannot be removed now.

        On Windows a file that a virus scanner or a backup reads cannot; a later sweep takes it.
        """
        try:
            self.path_of(digest).unlink(missing_ok=True)
        except OSError as error:
            log.warning("A file could not be deleted and is left for the next sweep: %s", error)
            return False
        return True

    def path_of(self, digest: str) -> Path:
        """Return where the bytes of a digest lie, whether or not they are there."""
        return self.folder / digest[:2] / digest

    def check_writable(self) -> None:
        """Raise Unavailable where a small file could not be stored now."""
        try:
            self._check_free_space(0)
            write_atomically(self.folder / ".probe", b"")
        except OSError as error:
            raise _unavailable(error) from error

    def _check_free_space(self, n_bytes: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < n_bytes + self.min_free_bytes:
            raise OSError(errno.ENOSPC, "the data folder's disk is nearly full")


def is_digest(name: str) -> bool:
    """Whether a file has the name of a blob."""
    return _DIGEST.fullmatch(name) is not None


def _holds(path: Path, digest: str) -> bool:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == digest


def write_atomically(target: Path, data: bytes) -> None:
    """Write a file that takes its name once it is whole and on the disk; OSError where it cannot."""
    descriptor, name = tempfile.mkstemp(prefix=".tmp-", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _unavailable(error: OSError) -> Unavailable:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = "The server's disk is full, so nothing was saved; free space in the data folder."
    elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        message = "The server's data folder cannot be written, so nothing was saved; check its permissions."
    else:
        message = f"The server's data folder failed ({error.strerror}), so nothing was saved; try again."
    return Unavailable(message, retry_after_s=30)
