"""Start the real servers, and nginx, as processes of their own, on free ports; wait until they answer."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).parents[1]
START_S = 300.0
STOP_S = 75.0  # TimeoutStopSec of deploy/sam-droplet.service
GUNICORN = [sys.executable, "-m", "gunicorn", "--config", "deploy/gunicorn.conf.py"]
COMMANDS = {
    "waitress": [sys.executable, "deploy/waitress_config.py"],
    "gunicorn": [*GUNICORN, "app:app"],
    # With a threshold in place of the networks, for what has nothing to do with them.
    "gunicorn of discs": [*GUNICORN, "tests.discs_app:app"],
    "waitress of discs": [sys.executable, "tests/discs_app.py"],
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

    def wait_until_ready(self, path: str = "/readyz") -> None:
        """Return once the network is warm, or the path answers; raise with the log where the server ended."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(
                    f"the server ended with {self.process.returncode}:\n{self.log.read_text()}"
                )
            try:
                if self.get(path).status_code == 200:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.25)
        raise RuntimeError(f"the server was not ready in {START_S:g} s:\n{self.log.read_text()}")

    def stop(self) -> int:
        """Ask the server to end as systemd does, wait for it as long as systemd would, and end it then."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


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


@contextmanager
def behind_nginx(server: Server, folder: Path, changes: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run nginx with the file of compose.yml before a server; gives its address.

    changes: what else is replaced in its files, such as a time-out that no test can wait for.
    """
    port = free_port()
    replaced = {"app:5000": server.url.removeprefix("http://"), "listen 8080": f"listen 127.0.0.1:{port}"}
    write_nginx_site("nginx.compose.conf", folder, replaced | dict(changes or {}))
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # Where the tests run as root, nginx's workers must be root too to write into the test's folder.
    user = "user root; " if os.name != "nt" and os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user}daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}} "
        f"http {{ access_log off; {temporary} include {folder}/site.conf; }}"
    )
    process = subprocess.Popen(["nginx", "-p", folder, "-c", folder / "nginx.conf"])
    try:
        yield _answering(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(30)


def write_nginx_site(name: str, folder: Path, changes: Mapping[str, str]) -> None:
    """Write a site of deploy/ with what it includes, as site.conf; each of the changes is made somewhere."""
    files = {"site.conf": name, "snippets/sam-droplet.conf": "nginx.shared.conf"}
    texts = {place: (ROOT / "deploy" / source).read_text() for place, source in files.items()}
    for old, new in changes.items():
        if not any(old in text for text in texts.values()):
            raise ValueError(f"{old!r} is not in {name} or nginx.shared.conf")
        texts = {place: text.replace(old, new) for place, text in texts.items()}
    (folder / "snippets").mkdir(exist_ok=True)
    for place, text in texts.items():
        (folder / place).write_text(text)


def _answering(url: str) -> str:
    """Return the address as soon as somebody listens there."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            requests.get(url + "/livez", timeout=30)
        except requests.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return url


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
