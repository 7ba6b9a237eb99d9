"""Faults of the machine under real servers: a disk that is really full or read-only, damaged weights."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from discs import disc_png
from servers import ROOT, Server, serving, start

from sam_droplet.web.serving import START_AGAIN_S

pytestmark = pytest.mark.skipif(os.name == "nt", reason="gunicorn does not run on Windows")
DISK_MB = 400
PAGE = {"X-SAM-Droplet": "1"}


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """Return the folder of a small disk of its own."""
    folder = tmp_path / "data"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    while subprocess.run(["umount", folder], capture_output=True).returncode == 0:
        pass
    subprocess.run(["umount", "--lazy", folder], capture_output=True)


def cover_read_only(disk: Path) -> None:
    """Show a folder read-only from now on, whatever writes to it.

    Made read-only aside first: a mount on which a worker is writing would be busy.
    """
    aside = disk.with_name("aside")
    aside.mkdir()
    subprocess.run(["mount", "--bind", disk, aside], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", aside], check=True)
    subprocess.run(["mount", "--bind", aside, disk], check=True)
    subprocess.run(["umount", aside], check=True)


def picture(number: int) -> bytes:
    return disc_png(
        [(30.0 + x, 30.0 + y, 10.0 + number) for x in range(0, 300, 50) for y in range(0, 300, 50)],
        (400, 400),
    )


def upload(server: Server, number: int) -> requests.Response:
    return server.post("/api/images", files={"file": (f"{number}.png", picture(number))})


def annotation(server: Server, image_id: str) -> dict:
    answer = server.get(f"/api/images/{image_id}/annotation")
    assert answer.status_code == 200, answer.text
    return answer.json()


def exclude(server: Server, image_id: str, droplet_id: int) -> requests.Response:
    url = f"{server.url}/api/images/{image_id}/annotation"
    return requests.patch(url, json={"exclude": [droplet_id]}, headers=PAGE, timeout=60)


def opened_and_found(server: Server) -> str:
    image_id = upload(server, 1).json()["images"][0]["id"]
    server.post(f"/api/images/{image_id}/find", json={}).raise_for_status()
    return image_id


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    # No closing flush: it would raise as the writes before it did.
    descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while os.write(descriptor, b"\0" * 65536):
            pass
    with contextlib.suppress(OSError):
        while os.write(descriptor, b"\0" * 512):
            pass
    os.close(descriptor)
    return ballast


def eventually(check: Callable[[], bool], seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(requests.RequestException):
            if check():
                return
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


def answers(server: Server, path: str) -> Callable[[], bool]:
    return lambda: requests.get(server.url + path, timeout=30).status_code == 200


def why_not_ready(server: Server) -> str:
    """Wait until a worker is not ready; one that sees somebody write does not ask whether it could."""
    said: list[str] = []

    def is_refused() -> bool:
        answer = server.get("/readyz")
        if answer.status_code == 503:
            said.append(answer.json()["error"])
        return bool(said)

    eventually(is_refused)
    return said[0]


def test_a_full_disk_loses_nothing_ends_nobody_and_heals(disk):
    with serving("gunicorn of discs", disk) as server:
        image_id = opened_and_found(server)
        before, workers = annotation(server, image_id), server.workers()
        ballast = fill(disk)
        assert "disk" in why_not_ready(server)
        refused = upload(server, 2)
        assert (refused.status_code, "disk is full" in refused.json()["error"]) == (503, True)
        assert int(refused.headers["Retry-After"]) >= 1
        # Results that are not kept need no disk, and reading goes on; an edit is kept whole or not at all.
        sent = {"file": ("x.png", picture(3))}
        assert server.post("/segment_file", files=sent).status_code == 200
        edited = [exclude(server, image_id, d["id"]).status_code for d in before["droplets"][:20]]
        assert set(edited) <= {200, 503}
        kept = annotation(server, image_id)
        assert kept["revision"] == before["revision"] + edited.count(200)
        assert sum(d["excluded_by_user"] for d in kept["droplets"]) == edited.count(200)
        for _ in range(20):
            assert server.get("/health").status_code == 200
            assert server.get("/metrics").status_code == 200
        assert server.workers() == workers, "a worker died of the full disk"
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        eventually(answers(server, f"/api/images/{image_id}/annotation"))
        assert annotation(server, image_id) == kept
        ballast.unlink()
        eventually(answers(server, "/readyz"))
        assert upload(server, 2).status_code == 201
        assert exclude(server, image_id, before["droplets"][0]["id"]).status_code == 200


def test_a_read_only_data_folder_is_told_and_heals_without_a_restart(disk):
    with serving("gunicorn of discs", disk) as server:
        image_id = opened_and_found(server)
        before = annotation(server, image_id)
        cover_read_only(disk)
        assert "cannot be written" in why_not_ready(server)
        refused = upload(server, 2)
        assert (refused.status_code, "cannot be written" in refused.json()["error"]) == (503, True)
        assert server.get("/health").status_code == 200
        # Workers that cannot start are tried again, at a pace that leaves the machine alone.
        for pid in server.workers():
            os.kill(pid, signal.SIGKILL)
        seen, started = set(server.workers()), time.monotonic()
        while (seconds := time.monotonic() - started) < 6:
            seen |= set(server.workers())
            time.sleep(0.1)
        assert len(seen) <= 2 * (2 + seconds / START_AGAIN_S)
        # Not unmounted: workers that hold it open would keep it busy, and would stay on it.
        subprocess.run(["mount", "-o", "remount,bind,rw", disk], check=True)
        eventually(answers(server, "/readyz"))
        assert annotation(server, image_id) == before
        # The other worker may look again a little later.
        eventually(lambda: upload(server, 2).status_code == 201)


def test_damaged_weights_are_named_and_heal_when_they_are_put_right(tmp_path):
    good, weights = ROOT / "model" / "droplet_net.safetensors", tmp_path / "weights.safetensors"
    weights.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    settings = {"droplet_model_path": weights, "workers": 1}
    with contextlib.ExitStack() as stack:
        server = start("gunicorn", tmp_path / "data", **settings)
        stack.callback(server.stop)
        eventually(lambda: "weights.safetensors" in server.get("/readyz").json().get("error", ""))
        assert server.get("/readyz").status_code == 503
        assert server.get("/livez").status_code == 200
        assert server.get("/health").json()["status"] == "unhealthy"
        refused = server.post("/segment_file", files={"file": ("x.png", picture(1))})
        assert (refused.status_code, refused.json()["code"]) == (503, "model_unavailable")
        shutil.copy(good, weights)
        eventually(answers(server, "/readyz"))
        assert server.post("/segment_file", files={"file": ("x.png", picture(1))}).status_code == 200
