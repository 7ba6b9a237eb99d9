"""The real servers, most with the real network: same answers, fast health, restarts, reloads and kills."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests
from discs import disc_png
from servers import START_S, serving, start

from sam_droplet.imaging.images import encode_png
from sam_droplet.imaging.synthetic import render_sample

pytestmark = pytest.mark.skipif(os.name == "nt", reason="gunicorn does not run on Windows")


@pytest.fixture(scope="module")
def sample_png() -> bytes:
    return encode_png(render_sample("emulsion"))


@pytest.fixture(scope="module")
def gunicorn(tmp_path_factory):
    with serving("gunicorn", tmp_path_factory.mktemp("gunicorn") / "data") as server:
        yield server


def segment_file(server, png) -> requests.Response:
    return server.post("/segment_file", files={"file": ("sample.png", png)})


def masks_text(response) -> str:
    assert response.status_code == 200, response.text[:500]
    text = response.text
    return text[text.index('"masks":') : text.index('"filters_applied":')]


def maps_of(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def test_waitress_and_gunicorn_give_byte_identical_masks(gunicorn, sample_png, tmp_path):
    with serving("waitress", tmp_path / "data") as waitress:
        one = masks_text(segment_file(waitress, sample_png))
    others = {masks_text(segment_file(gunicorn, sample_png)) for _ in range(4)}
    assert others == {one}
    assert one.count('"rle"') > 20


class Lateness:
    """How late the machine itself wakes a thread that sleeps: what no server on it can be blamed for."""

    def __init__(self) -> None:
        self.worst_s, self._over = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)

    def _measure(self) -> None:
        while not self._over.is_set():
            started = time.perf_counter()
            time.sleep(0.005)
            self.worst_s = max(self.worst_s, time.perf_counter() - started - 0.005)

    def __enter__(self) -> Lateness:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()


def test_health_is_fast_while_every_predictor_is_busy(gunicorn):
    # Every upload is a new image, so that no cache answers instead of the network; the tiled one has an
    # answer of megabytes, because encoding that once held up everything else in its process.
    pixels = render_sample("emulsion")
    pictures = [encode_png(pixels ^ (i + 1)) for i in range(5)]
    pictures.append(encode_png(np.tile(pixels ^ 9, (3, 3, 1))))
    done = threading.Event()
    times = []
    with ThreadPoolExecutor(6) as pool, Lateness() as lateness:
        answers = [pool.submit(segment_file, gunicorn, png) for png in pictures]
        threading.Thread(target=lambda: ([a.result() for a in answers], done.set()), daemon=True).start()
        while not done.wait(0.02):
            started = time.perf_counter()
            health = gunicorn.get("/health")
            times.append(time.perf_counter() - started)
            assert health.status_code == 200
            assert set(health.json()) >= {
                "status", "timestamp", "model_loaded", "runs_on", "gpu_available", "memory_usage",
                "cpu_percent",
            }  # fmt: skip
        assert {a.result().status_code for a in answers} == {200}
    assert len(times) >= 20
    assert max(times) < 0.1 + lateness.worst_s, sorted(times)[-5:]


def test_the_master_never_holds_torch_and_the_workers_do(gunicorn):
    assert "libtorch" not in maps_of(gunicorn.process.pid)
    workers = gunicorn.workers()
    assert len(workers) == 2
    assert all("libtorch" in maps_of(pid) for pid in workers)


def test_images_and_annotations_survive_a_restart(tmp_path):
    data_dir = tmp_path / "data"
    with serving("gunicorn of discs", data_dir) as server:
        opened = server.post("/api/images", files={"file": ("discs.png", disc_png())}).json()
        image_id = opened["images"][0]["id"]
        server.post(f"/api/images/{image_id}/find", json={}).raise_for_status()
        patch = {"exclude": [2], "calibration": {"um_per_px": 0.5, "source": "typed"}}
        url = f"{server.url}/api/images/{image_id}/annotation"
        requests.patch(url, json=patch, headers={"X-SAM-Droplet": "1"}, timeout=30).raise_for_status()
        before = server.get(f"/api/images/{image_id}/annotation").json()
    with serving("waitress of discs", data_dir) as server:
        assert server.get(f"/api/images/{image_id}/annotation").json() == before
        assert len(before["droplets"]) == 5


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(tmp_path):
    settings = {"queue_size": 1, "discs_seconds": 2}
    with serving("waitress of discs", tmp_path / "data", **settings) as server, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda png: segment_file(server, png), [disc_png()] * 8))
    codes = [a.status_code for a in answers]
    assert set(codes) == {200, 503}
    refused = [a for a in answers if a.status_code == 503]
    assert all(int(a.headers["Retry-After"]) >= 1 for a in refused)
    assert all(a.json()["code"] == "unavailable" for a in refused)


def test_a_reload_under_load_fails_no_short_request(gunicorn):
    before = set(gunicorn.workers())
    stop = threading.Event()
    failures, answered = [], []

    def ask() -> None:
        while not stop.is_set():
            try:
                answered.append(gunicorn.get("/livez").status_code)
            except requests.RequestException as error:
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    gunicorn.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + START_S
    while set(gunicorn.workers()) & before and time.monotonic() < deadline:
        time.sleep(0.1)
    stop.set()
    for thread in threads:
        thread.join()
    assert not set(gunicorn.workers()) & before
    assert failures == []
    assert set(answered) == {200}
    gunicorn.wait_until_ready()
    assert "libtorch" not in maps_of(gunicorn.process.pid)


def test_a_killed_worker_is_replaced_and_nothing_is_lost(gunicorn, sample_png):
    opened = gunicorn.post("/api/images", files={"file": ("kill.png", sample_png)}).json()
    image_id = opened["images"][0]["id"]
    gunicorn.post(f"/api/images/{image_id}/find", json={}).raise_for_status()
    before = gunicorn.get(f"/api/images/{image_id}/annotation").json()
    for pid in gunicorn.workers():
        os.kill(pid, signal.SIGKILL)
    gunicorn.wait_until_ready()
    assert gunicorn.get(f"/api/images/{image_id}/annotation").json() == before


def test_metrics_add_up_over_the_workers(gunicorn):
    def count() -> float:
        text = gunicorn.get("/metrics").text
        found = re.search(r'samdroplet_requests_total\{code="200",route="/livez"\} (\S+)', text)
        return float(found[1]) if found else 0.0

    before = count()
    for _ in range(20):
        gunicorn.get("/livez").raise_for_status()
    assert count() == before + 20


@pytest.mark.parametrize("kind", ["gunicorn", "waitress", "app.py"])
def test_a_public_address_without_a_key_is_refused_in_one_line(kind, tmp_path):
    server = start(kind, tmp_path / "data", host="0.0.0.0", flask_host="0.0.0.0")
    assert server.process.wait(START_S) != 0
    log = server.log.read_text()
    assert "sam-droplet key create" in log
    assert "Traceback" not in log


@pytest.mark.parametrize("kind", ["gunicorn", "waitress"])
def test_a_wrong_setting_is_one_line(kind, tmp_path):
    server = start(kind, tmp_path / "data", max_upload_mb="lots")
    assert server.process.wait(START_S) != 0
    log = server.log.read_text()
    assert "MAX_UPLOAD_MB" in log
    assert "Traceback" not in log


def test_python_app_py_serves(tmp_path):
    server = start("app.py", tmp_path / "data")
    try:
        server.wait_until_ready("/livez")  # the network of the very same application is tested above
        assert "SAM Droplet" in server.get("/").text
        assert f"open http://localhost:{server.url.rsplit(':', 1)[1]}" in server.log.read_text()
    finally:
        server.stop()


def test_importing_the_web_application_imports_no_torch(tmp_path):
    code = (
        "import sys; from sam_droplet.config import load_config; from sam_droplet.web import create_app;"
        f"create_app(load_config({{}}, {{'data_dir': {str(tmp_path)!r}}})); print('torch' in sys.modules)"
    )
    import sys

    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"False\n"), done.stderr
