"""Print what gunicorn needs to know as JSON, after checking that the server may start at all.

Run as a program by deploy/gunicorn.conf.py, so that gunicorn's master imports nothing of ours.
"""

from __future__ import annotations

import json
import os
import sys

from sam_droplet.config import load_config
from sam_droplet.errors import SamDropletError
from sam_droplet.service.access import open_key_ring
from sam_droplet.service.store import Store
from sam_droplet.web.guard import check_bind_address
from sam_droplet.web.serving import request_threads


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
                "metrics_dir": str((config.data_dir / "metrics").absolute()),
            }
        )
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    main()
