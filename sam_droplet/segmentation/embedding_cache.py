"""What a network made of an image, kept in memory and on disk, bounded in bytes, computed once.

Several processes may share the folder: files appear whole (written aside, then renamed), and a lock
file per key lets one process compute while the others wait for its result.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

Arrays = dict[str, NDArray[np.generic]]

# A lock this old is ignored, whoever made it; nobody writes a file for so long, either.
_STALE_LOCK_S = 120.0
_POLL_S = 0.02
# The disk that stays free for images and results: as it fills up, the cache gives back what it holds.
RESERVE_BYTES = 256 << 20


class EmbeddingCache:
    """Map keys to named arrays: least recently used go first, in memory and on disk."""

    def __init__(self, folder: Path | None, *, memory_bytes: int, disk_bytes: int) -> None:
        self._folder = folder
        self._memory_limit, self._disk_limit = memory_bytes, disk_bytes
        self._memory: OrderedDict[str, Arrays] = OrderedDict()
        self._memory_used, self._asked = 0, Counter[str]()
        self._guard = threading.Lock()
        self._key_locks: dict[str, threading.Lock] = {}
        if folder is not None:
            with suppress(OSError):  # read-only or full: answers are right, only not kept
                folder.mkdir(parents=True, exist_ok=True)
                _delete_leftovers(folder)

    def get_or_compute(self, key: str, compute: Callable[[], Arrays]) -> Arrays:
        """Return the arrays of ``key``; concurrent callers, also in other processes, compute once."""
        name = hashlib.sha256(key.encode()).hexdigest()
        with self._guard:
            own = self._key_locks.setdefault(name, threading.Lock())
        try:
            with own:
                arrays, source = self._recall(name), "memory"
                if arrays is None:
                    with self._process_lock(name):
                        arrays, source = self._load(name), "disk"
                        if arrays is None:
                            arrays, source = compute(), "computed"
                            self._save(name, arrays)
                self._remember(name, arrays)
        finally:  # a stopped search ends here, too
            with self._guard:
                self._key_locks.pop(name, None)
        with self._guard:
            self._asked[source] += 1
        return arrays

    def answers(self) -> dict[str, int]:
        """Return how often this process was answered from "memory", from "disk", or had it "computed"."""
        with self._guard:
            return dict(self._asked)

    @property
    def memory_bytes(self) -> int:
        """Bytes held in this process's memory."""
        return self._memory_used

    def disk_bytes(self) -> int:
        """Return the bytes held on disk by all processes; looks at the folder."""
        return sum(size for _, size, _ in self._files())

    def __contains__(self, key: str) -> bool:
        name = hashlib.sha256(key.encode()).hexdigest()
        return name in self._memory or (self._folder is not None and self._path(name).exists())

    def _recall(self, name: str) -> Arrays | None:
        with self._guard:
            if name in self._memory:
                self._memory.move_to_end(name)
                return self._memory[name]
        return None

    def _remember(self, name: str, arrays: Arrays) -> None:
        with self._guard:
            self._memory[name] = arrays
            self._memory.move_to_end(name)
            while len(self._memory) > 1 and sum(map(_nbytes, self._memory.values())) > self._memory_limit:
                self._memory.popitem(last=False)
            self._memory_used = sum(map(_nbytes, self._memory.values()))

    def _path(self, name: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{name}.safetensors"

    def _load(self, name: str) -> Arrays | None:
        if self._folder is None:
            return None
        path = self._path(name)
        try:
            arrays: Arrays = load_file(path)
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError):  # damaged by a full disk or by hand: compute anew
            with suppress(OSError):  # it may not be ours to delete
                path.unlink(missing_ok=True)
            return None
        with suppress(OSError):
            os.utime(path)
        return arrays

    def _save(self, name: str, arrays: Arrays) -> None:
        if self._folder is None or not self._make_room(_nbytes(arrays)):
            return
        temporary = self._folder / f"{name}.{os.getpid()}.{threading.get_ident()}.tmp"
        try:
            save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, temporary)
            temporary.replace(self._path(name))
        except (OSError, SafetensorError):  # disk full or read-only: the answer is right, only not kept
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _make_room(self, n_bytes: int) -> bool:
        """Forget files until so many bytes more are allowed; False where they never are."""
        assert self._folder is not None
        files = self._files()
        total = sum(size for _, size, _ in files)
        try:
            free = shutil.disk_usage(self._folder).free
        except OSError:
            return False
        budget = min(self._disk_limit, total + free - RESERVE_BYTES) - n_bytes
        for _, size, path in sorted(files):
            if total <= budget:
                break
            with suppress(OSError):
                path.unlink()
                total -= size
        return total <= budget

    def _files(self) -> list[tuple[float, int, Path]]:
        """Return time of last use, bytes and path of each file."""
        files = []
        for path in self._folder.glob("*.safetensors") if self._folder is not None else ():
            with suppress(FileNotFoundError):  # another process may be shrinking the cache
                status = path.stat()
                files.append((status.st_mtime, status.st_size, path))
        return files

    @contextmanager
    def _process_lock(self, name: str) -> Iterator[None]:
        if self._folder is None:
            yield
            return
        lock = self._folder / f"{name}.lock"
        try:
            while not _try_create(lock):
                with suppress(FileNotFoundError):
                    if _is_stale(lock):
                        lock.unlink(missing_ok=True)
                        continue
                time.sleep(_POLL_S)
        except OSError:  # read-only folder: go without the lock
            yield
            return
        try:
            yield
        finally:
            with suppress(OSError):  # the folder may be read-only by now; the lock grows stale
                lock.unlink(missing_ok=True)


def _delete_leftovers(folder: Path) -> None:
    """Delete half-written files and locks of processes that died, which nobody would ask for again."""
    for pattern in ("*.tmp", "*.lock"):
        for path in folder.glob(pattern):
            with suppress(FileNotFoundError):  # another process deletes them, too
                if _age_s(path) > _STALE_LOCK_S:
                    path.unlink()


def _age_s(path: Path) -> float:
    # One from the future was made before the clock was set back; nobody waits until then.
    return abs(time.time() - path.stat().st_mtime)


def _try_create(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as stream:
        stream.write(str(os.getpid()))
    return True


def _is_stale(lock: Path) -> bool:
    """Whether the process that made a lock died; where that cannot be told, whether it is very old.

    Taken for dead by mistake, as in another container, it costs a second computation and nothing else.
    """
    holder = lock.read_text()
    if holder.isdecimal() and not psutil.pid_exists(int(holder)):
        return True
    return _age_s(lock) > _STALE_LOCK_S


def _nbytes(arrays: Arrays) -> int:
    return sum(value.nbytes for value in arrays.values())
