"""Print what gunicorn needs to know as JSON, after checking that the server may start at all.

Run as a program by deploy/gunicorn.conf.py, so that gunicorn's master imports nothing of ours.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from pathlib import Path

from sam_droplet.config import load_config
from sam_droplet.errors import SamDropletError
from sam_droplet.service.access import open_key_ring
from sam_droplet.service.store import Store
from sam_droplet.web.guard import check_bind_address
from sam_droplet.web.serving import request_threads

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder in it is checked to be ours


def main() -> None:
    """Print the settings, or one line on standard error that says why the server cannot start."""
    try:
        config = load_config()
        store = Store(config.data_dir)
        check_bind_address(config.host, config, open_key_ring(config, store))
        store.close()
    except SamDropletError as error:
        sys.exit(f"SAM Droplet cannot start: {error.message}")
    host = f"[{config.host}]" if ":" in config.host else config.host
    print(
        json.dumps(
            {
                "bind": f"{host}:{config.port}",
                "workers": config.workers,
                "threads": request_threads(config),
                "omp_num_threads": config.omp_num_threads or max(1, _cores() // config.workers),
                "log_level": config.log_level.lower(),
                "metrics_dir": str(metrics_folder(config.data_dir.absolute())),
            }
        )
    )


def metrics_folder(data_dir: Path, memory: Path = SHARED_MEMORY) -> Path:
    """Return where the workers count, made and readable for this user only: in memory where there is some.

    The files are mapped into the processes, and where the disk under such a file is full, the kernel ends
    whoever counts. The name is the same for every start on a data folder, so that a reload counts on.
    """
    on_disk = data_dir / "metrics"
    if os.name == "nt" or not os.access(memory, os.W_OK):
        return on_disk
    name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    folder = memory / f"sam-droplet-{os.getuid()}-{name}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return on_disk
    # Everybody may write to shared memory; what somebody else put there under our name is not used.
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return folder if ours else on_disk


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    main()
