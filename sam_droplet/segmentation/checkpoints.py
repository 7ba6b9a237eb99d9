"""Which weights exist, where they are, their SHA-256: find, fetch, verify. Never loads a network."""

from __future__ import annotations

import hashlib
import http
import http.client
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sam_droplet.config import Config
from sam_droplet.errors import Conflict, ModelUnavailable, NotFound

MODEL_FOLDER = Path(__file__).resolve().parents[2] / "model"
CHUNK_BYTES = 1 << 20
TIMEOUT_S = 30
ATTEMPTS = 4  # a broken connection is taken up again where it broke

# What users point with.
PROMPTS = ("clicks", "boxes")

Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True)
class Checkpoint:
    """Name one file of weights. What is None is not known beforehand, or there is no setting for it."""

    name: str
    filename: str
    role: str
    setting: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    url: str | None = None


DROPLET_NET = Checkpoint(
    name="droplet-net",
    filename="droplet_net.safetensors",
    role="finds every droplet of an image; comes with the product",
    setting="DROPLET_MODEL_PATH",
)
MOBILE_SAM = Checkpoint(
    name="mobile-sam",
    filename="mobile_sam.pt",
    role="outlines any object under clicks and boxes",
    setting="SAM_MODEL_PATH",
    size_bytes=40_728_226,
    sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
    url="https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/"
    "f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt",
)
# Trained here, and not there yet: `sam-droplet train --model mobile-sam` makes it.
OWN_MOBILE_SAM = Checkpoint(
    name="mobile-sam-droplets",
    filename="mobile_sam_droplets.safetensors",
    role="outlines droplets, beads and blobs under clicks and boxes; answers where mobile-sam is not there",
)
CHECKPOINTS = (DROPLET_NET, MOBILE_SAM, OWN_MOBILE_SAM)


@dataclass(frozen=True)
class FoundCheckpoint:
    """Say where a checkpoint is on this machine, or would be; size_bytes is None where it is absent."""

    checkpoint: Checkpoint
    path: Path
    size_bytes: int | None

    @property
    def available(self) -> bool:
        """Whether there is a file; ``verify`` says whether it is the published one."""
        return self.size_bytes is not None


@dataclass(frozen=True)
class Verification:
    """The outcome of hashing a file: ``published`` is None where no hash is published for it."""

    found: FoundCheckpoint
    sha256: str | None
    published: bool | None

    @property
    def sentence(self) -> str:
        """Say it in words, for the terminal."""
        name, path = self.found.checkpoint.name, self.found.path
        if self.sha256 is None:
            return f"{name}: not here ({path})"
        if self.published is None:
            return f"{name}: SHA-256 {self.sha256} ({path})"
        if self.published:
            return f"{name}: verified, SHA-256 {self.sha256} ({path})"
        return (
            f"{name}: NOT the published file, SHA-256 {self.sha256}, "
            f"published {self.found.checkpoint.sha256} ({path})"
        )


def checkpoint_named(name: str) -> Checkpoint:
    """Look a checkpoint up; raises NotFound with the names there are."""
    for checkpoint in CHECKPOINTS:
        if checkpoint.name == name:
            return checkpoint
    known = ", ".join(checkpoint.name for checkpoint in CHECKPOINTS)
    raise NotFound(f"There is no model named {name!r}: expected one of {known}.")


def find_checkpoints(config: Config) -> list[FoundCheckpoint]:
    """List every checkpoint with its place on this machine; reads no file."""
    return [find(checkpoint, config) for checkpoint in CHECKPOINTS]


def find(checkpoint: Checkpoint, config: Config) -> FoundCheckpoint:
    """Locate one checkpoint: where its setting says, else in the product's model folder."""
    chosen: Path | None = getattr(config, checkpoint.setting.lower()) if checkpoint.setting else None
    path = chosen if chosen is not None else MODEL_FOLDER / checkpoint.filename
    return FoundCheckpoint(checkpoint, path, path.stat().st_size if path.is_file() else None)


def find_prompted(config: Config) -> FoundCheckpoint:
    """Locate the MobileSAM weights that answer clicks and boxes: those that SAM_MODEL_PATH names, else the
    official ones, else our own. What is not available leaves clicks and boxes to DropletNet.
    """
    official = find(MOBILE_SAM, config)
    own = find(OWN_MOBILE_SAM, config)
    return own if own.available and not official.available and config.sam_model_path is None else official


def list_rows(config: Config) -> list[dict[str, str | int | bool | list[str] | None]]:
    """Return one record per checkpoint, for ``model list`` and the API, with what it answers here."""
    prompted = find_prompted(config)

    def answers(found: FoundCheckpoint) -> list[str]:
        if found.checkpoint == DROPLET_NET:
            return ["find"] if prompted.available else ["find", *PROMPTS]
        return [*PROMPTS, "refined", "everything"] if found == prompted and found.available else []

    return [
        {
            "name": found.checkpoint.name,
            "available": found.available,
            "answers": answers(found),
            "role": found.checkpoint.role,
            "path": str(found.path),
            "size_bytes": found.size_bytes,
            "published_sha256": found.checkpoint.sha256,
            "url": found.checkpoint.url,
        }
        for found in find_checkpoints(config)
    ]


def verify(name: str, config: Config) -> Verification:
    """Hash the file of one checkpoint and compare it with the published SHA-256, where there is one."""
    found = find(checkpoint_named(name), config)
    if not found.available:
        return Verification(found, None, None)
    digest = file_sha256(found.path)
    expected = found.checkpoint.sha256
    return Verification(found, digest, None if expected is None else digest == expected)


def file_sha256(path: Path) -> str:
    """Hash a file in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(name: str, config: Config, progress: Progress | None = None) -> Path:
    """Bring the published weights to their place and return it; does nothing where they are there.

    The file appears under its name only once its SHA-256 is right; what an interrupted fetch left is
    taken up again. Raises NotFound (nothing to fetch), Conflict (another file is in the way) or
    ModelUnavailable (unreachable, or not the published bytes).
    """
    checkpoint = checkpoint_named(name)
    if checkpoint.url is None or checkpoint.sha256 is None or checkpoint.size_bytes is None:
        trained = "are made by `sam-droplet train --model mobile-sam`"
        come = trained if checkpoint == OWN_MOBILE_SAM else "come with the product"
        raise NotFound(f"{name} cannot be fetched: its weights {come}.")
    return fetch_checkpoint(checkpoint, config, progress)


def fetch_checkpoint(checkpoint: Checkpoint, config: Config, progress: Progress | None = None) -> Path:
    """Fetch a checkpoint whose url, size and SHA-256 are known; see ``fetch``."""
    target = find(checkpoint, config).path
    if target.is_file():
        if file_sha256(target) == checkpoint.sha256:
            return target
        raise Conflict(
            f"{target} is there but is not the published {checkpoint.name}. It was left alone: "
            f"move it away, or let {checkpoint.setting} point elsewhere, then fetch again."
        )
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _download_from_any(checkpoint, config, part, progress)
        _accept(checkpoint, part, target)
    except OSError as error:
        raise ModelUnavailable(f"{target} could not be written: {error}. Free space or choose another place "
                               f"with {checkpoint.setting}.") from error  # fmt: skip
    return target


def _download_from_any(checkpoint: Checkpoint, config: Config, part: Path, progress: Progress | None) -> None:
    """Try the mirror, if one is set, then the publisher; say what went wrong with each."""
    failures = []
    for url in _addresses(checkpoint, config):
        try:
            _download(url, checkpoint, part, progress or (lambda done, total: None))
        except _DownloadFailed as failure:
            failures.append(f"{url}: {failure}")
        else:
            return
    raise ModelUnavailable(
        f"{checkpoint.name} could not be fetched ({'; '.join(failures)}). With no network, copy "
        f"{checkpoint.filename} (SHA-256 {checkpoint.sha256}) to {part.with_suffix('')} by hand, or name "
        "a mirror with MODEL_MIRROR_URL. Everything else works without it."
    )


def _addresses(checkpoint: Checkpoint, config: Config) -> list[str]:
    official = checkpoint.url or ""
    if config.model_mirror_url is None:
        return [official]
    mirror = config.model_mirror_url
    if not mirror.endswith(checkpoint.filename):
        mirror = f"{mirror.rstrip('/')}/{checkpoint.filename}"
    return [mirror, official]


class _DownloadFailed(Exception):  # an outcome that never leaves this module
    """One address gave no complete file; the text says why."""


def _download(url: str, checkpoint: Checkpoint, part: Path, progress: Progress) -> None:
    """Fill ``part`` from one address, taking a broken connection up again where it broke."""
    total = checkpoint.size_bytes or 0
    reason = "the connection broke off"
    leftover = _size(part) > 0
    for _ in range(ATTEMPTS):
        try:
            _continue_download(url, part, total, progress)
        except urllib.error.HTTPError as error:
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise _DownloadFailed(f"answered {error.code} {error.reason}") from error
            part.unlink(missing_ok=True)
        except urllib.error.URLError as error:
            raise _DownloadFailed(f"not reachable, {error.reason}") from error
        except (http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
            reason = f"the connection broke off, {error or type(error).__name__}"
        if _size(part) < total:
            continue
        digest = file_sha256(part)
        if digest == checkpoint.sha256:
            return
        part.unlink()  # resuming it could never make it right
        if not leftover:
            raise _DownloadFailed(f"sent other bytes, SHA-256 {digest} instead of {checkpoint.sha256}")
        leftover = False  # the fault may lie in what an earlier fetch left: once more from the start
    raise _DownloadFailed(f"{reason} after {_size(part)} of {total} bytes")


def _continue_download(url: str, part: Path, total: int, progress: Progress) -> None:
    start = _size(part)
    if start >= total:
        return  # complete, or more than complete: the hash decides
    request = urllib.request.Request(url)  # noqa: S310 - the settings table allows https, http and file only
    if start:
        request.add_header("Range", f"bytes={start}-")
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
        # A server that does not resume sends the whole file again from its first byte.
        done = start if _resumes_at(response, start) else 0
        with part.open("ab" if done else "wb") as file:
            _copy(response, file, done, total, progress)


def _resumes_at(response: http.client.HTTPResponse, start: int) -> bool:
    answered = re.match(r"bytes (\d+)-", response.headers.get("Content-Range") or "")
    return response.status == 206 and answered is not None and int(answered[1]) == start


def _copy(
    source: http.client.HTTPResponse, file: IO[bytes], done: int, total: int, progress: Progress
) -> None:
    while done <= total:  # an address that never ends must not fill the disk
        chunk = source.read(CHUNK_BYTES)
        if not chunk:
            return
        file.write(chunk)
        done += len(chunk)
        progress(min(done, total), total)


def _accept(checkpoint: Checkpoint, part: Path, target: Path) -> None:
    if target.exists() and file_sha256(target) != checkpoint.sha256:
        raise Conflict(f"{target} appeared meanwhile and is not the published {checkpoint.name}.")
    part.replace(target)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
