"""gunicorn for SAM Droplet: ``gunicorn --config deploy/gunicorn.conf.py app:app``."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]

# The settings are read in a process of their own. Whatever the master imports, every worker inherits:
# torch would break after the fork, and old code would survive a reload by HUP.
_answer = subprocess.run(
    [sys.executable, "-m", "sam_droplet.web.server_settings"],
    env=os.environ | {"PYTHONPATH": str(_ROOT)},
    stdout=subprocess.PIPE,
    check=False,
)
if _answer.returncode:
    sys.exit(_answer.returncode)  # it has said why, in one line
_settings = json.loads(_answer.stdout)

# app.py is found here; relative paths in the settings keep meaning the folder that gunicorn started in.
pythonpath = str(_ROOT)
bind = _settings["bind"]
preload_app = False
worker_class = "gthread"
workers = _settings["workers"]
threads = _settings["threads"]

# The main thread of a gthread worker beats, so a long segmentation is no silence; a hung worker is.
timeout = 60
graceful_timeout = 60
keepalive = 5
# A short queue in the kernel: what does not fit is refused by the application, with Retry-After.
backlog = 256
# Workers are renewed now and then, never all at once: each renewal loads the network again.
max_requests = 20_000
max_requests_jitter = 5_000
# The heartbeat file must not wait for a disk.
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - gunicorn makes its own unguessable names in it
worker_tmp_dir = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None

loglevel = _settings["log_level"]
control_socket_disable = True  # systemd and signals control it; nothing more should be able to
accesslog = None  # the application writes one line per request, with ids and timings

_METRICS = Path(_settings["metrics_dir"])
raw_env = [
    f"PROMETHEUS_MULTIPROC_DIR={_METRICS}",
    # The workers share the cores instead of each taking them all.
    f"OMP_NUM_THREADS={_settings['omp_num_threads']}",
]


def on_starting(server: object) -> None:
    """Forget the numbers of earlier runs."""
    _METRICS.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in _METRICS.glob("*.db"):
        path.unlink(missing_ok=True)


def pre_fork(server: Any, worker: Any) -> None:
    """Give a worker the lowest number that no living one has.

    Its counters lie in files of that number, and its successor counts on in them: by process id, every
    worker that ends would leave files for ever, and each look at /metrics would take longer.
    """
    taken = {other.metrics_slot for other in server.WORKERS.values()}
    worker.metrics_slot = next(number for number in itertools.count() if number not in taken)


def post_fork(server: object, worker: Any) -> None:
    """Count under the worker's number."""
    from prometheus_client import values

    values.ValueClass = values.MultiProcessValue(lambda: worker.metrics_slot)  # type: ignore[no-untyped-call]


def child_exit(server: object, worker: Any) -> None:
    """Stop counting a worker that ended as alive."""
    for path in _METRICS.glob(f"gauge_live*_{worker.metrics_slot}.db"):
        path.unlink(missing_ok=True)


def on_exit(server: object) -> None:
    """Leave nothing behind in the machine's memory."""
    shutil.rmtree(_METRICS, ignore_errors=True)
