"""Start the real servers as processes of their own, on free ports, and wait until they answer."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).parents[1]
START_S = 180.0
GUNICORN = [sys.executable, "-m", "gunicorn", "--config", "deploy/gunicorn.conf.py"]
COMMANDS = {
    "waitress": [sys.executable, "deploy/waitress_config.py"],
    "gunicorn": [*GUNICORN, "app:app"],
    # With a threshold in place of the networks, for what has nothing to do with them.
    "gunicorn of discs": [*GUNICORN, "tests.discs_app:app"],
    "app.py": [sys.executable, "app.py"],
}


@dataclass
class Server:
    """A running server: its process (gunicorn's master), where it answers and where it logs."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def get(self, path: str, **options: Any) -> requests.Response:
        """Get a path; without a shared connection, so that any worker may answer."""
        return requests.get(self.url + path, timeout=60, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        """Post to a path as the page does."""
        return requests.post(self.url + path, timeout=120, headers={"X-SAM-Droplet": "1"}, **options)

    def workers(self) -> list[int]:
        """Return the process ids of gunicorn's workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def wait_until_ready(self) -> None:
        """Return once the network is warm; raise with the log where the server ended instead."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(
                    f"the server ended with {self.process.returncode}:\n{self.log.read_text()}"
                )
            try:
                if self.get("/readyz").status_code == 200:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"the server was not ready in {START_S:g} s:\n{self.log.read_text()}")

    def stop(self) -> int:
        """Ask the server to end as systemd does, and wait for it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def serving(kind: str, data_dir: Path, **settings: Any) -> Iterator[Server]:
    """Start a server and stop it at the end; settings by name."""
    server = start(kind, data_dir, **settings)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


def start(kind: str, data_dir: Path, **settings: Any) -> Server:
    """Start a server without waiting for it."""
    port = free_port()
    environ = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    environ |= {
        "DATA_DIR": str(data_dir),
        "PORT": str(port),
        "FLASK_PORT": str(port),
        "WORKERS": "2",
        "OMP_NUM_THREADS": "1",
        "RATE_LIMIT_DEFAULT": "100000 per hour",
        "RATE_LIMIT_SEGMENT": "10000 per minute",
    }
    environ |= {name.upper(): str(value) for name, value in settings.items()}
    log = data_dir.with_suffix(f".{kind.replace(' ', '-')}.log")
    with log.open("ab") as stream:
        process = subprocess.Popen(COMMANDS[kind], cwd=ROOT, env=environ, stdout=stream, stderr=stream)
    return Server(process, f"http://127.0.0.1:{port}", log)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
