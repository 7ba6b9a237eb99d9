"""Jobs on the real servers: streams that flow, kills with the real network, reloads, files."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest
import requests
from servers import START_S, Server, serving

from sam_droplet.imaging.images import encode_png
from sam_droplet.imaging.synthetic import render_sample

pytestmark = pytest.mark.skipif(os.name == "nt", reason="gunicorn does not run on Windows")

N_IMAGES = 24
KILLS = 4


@pytest.fixture(scope="module", params=["gunicorn", "waitress"])
def server(request, tmp_path_factory):
    """Run each server once, with a threshold in place of the networks."""
    data_dir = tmp_path_factory.mktemp(request.param) / "data"
    with serving(f"{request.param} of discs", data_dir, discs_seconds=0.3) as running:
        yield running


def opened(server: Server, n: int) -> list[str]:
    """Upload crops of a sample, each with pixels of its own."""
    pixels = render_sample("emulsion")
    ids = []
    for i in range(n):
        crop = pixels[8 * i : 8 * i + 256, 4 * i : 4 * i + 256].copy()
        response = server.post("/api/images", files={"file": (f"crop-{i}.png", encode_png(crop))})
        ids.append(response.json()["images"][0]["id"])
    return ids


def start(server: Server, ids: list[str]) -> str:
    response = server.post("/api/jobs", json={"image_ids": ids, "options": {"sensitivity": 0.5}})
    assert response.status_code == 202, response.text
    return response.json()["job"]["url"]


def look(server: Server, url: str) -> dict:
    """Ask how the job is, also while the worker that would answer has just been killed."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            response = server.get(url)
            if response.status_code == 200:
                return response.json()
        except requests.RequestException:
            pass
        assert time.monotonic() < deadline, "no worker answered"
        time.sleep(0.1)


def finished(server: Server, url: str, seconds: float = 300.0) -> dict:
    deadline = time.monotonic() + seconds
    while not (body := look(server, url))["job"]["finished_at"]:
        assert time.monotonic() < deadline, body["job"]
        time.sleep(0.2)
    return body


def test_events_flow_while_the_job_runs(server):
    url = start(server, opened(server, 6))
    states, times = [], []
    with requests.get(f"{server.url}{url}/events", stream=True, timeout=60) as response:
        assert response.headers["X-Accel-Buffering"] == "no"
        for line in response.iter_lines(chunk_size=1, decode_unicode=True):
            if line.startswith("data: "):
                states.append(json.loads(line[6:])["job"]["state"])
                times.append(time.monotonic())
    assert states[-1] == "done"
    assert "running" in states
    assert times[-1] - times[0] > 0.3, "the events came all at once, at the end"
    assert finished(server, url)["job"]["progress"]["succeeded"] == 6


def test_every_image_is_measured_exactly_once_though_workers_are_killed(tmp_path):
    with serving("gunicorn", tmp_path / "data") as server:
        ids = opened(server, N_IMAGES)
        url = start(server, ids)
        for _ in range(KILLS):
            kill_a_busy_worker(tmp_path / "data")
            time.sleep(0.5)
        body = finished(server, url)
        assert body["job"]["progress"]["succeeded"] == N_IMAGES, _failures(body)
        assert max(item["attempts"] for item in body["items"]) > 1
        for image_id in ids:
            annotation = look(server, f"/api/images/{image_id}/annotation")
            numbers = [d["id"] for d in annotation["droplets"]]
            assert annotation["revision"] == 1
            assert numbers == list(range(1, len(numbers) + 1))
        undisturbed = finished(server, start(server, ids))
        assert [numbers_of(i) for i in body["items"]] == [numbers_of(i) for i in undisturbed["items"]]


def kill_a_busy_worker(data_dir: Path) -> None:
    """Kill the process that works on an image which no process was killed on before."""
    database = sqlite3.connect(data_dir / "sam_droplet.sqlite3", timeout=10)
    query = "SELECT holder FROM job_items WHERE state = 'running' AND attempts = 1"
    deadline = time.monotonic() + START_S
    while not (found := database.execute(query).fetchone()):
        assert time.monotonic() < deadline, "nobody works"
        time.sleep(0.01)
    database.close()
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(found[0].split("/")[1]), signal.SIGKILL)


def numbers_of(item: dict) -> dict:
    return item["result"] | {"flags": item["flags"]}


def _failures(body: dict) -> Counter:
    return Counter(item["message"] for item in body["items"] if item["state"] != "done")


def jobs_done(server: Server) -> set[float]:
    """Return how many jobs are done by each of several looks, which different workers may answer."""
    texts = [server.get("/metrics").text for _ in range(4)]
    return {float(re.search(r'samdroplet_jobs{state="done"} (\S+)', text)[1]) for text in texts}


def test_jobs_are_counted_for_prometheus(server):
    finished(server, start(server, opened(server, 1)))
    (before,) = jobs_done(server)
    finished(server, start(server, opened(server, 2)))
    assert jobs_done(server) == {before + 1}


def test_the_combined_file_streams_out_of_a_real_server(server):
    body = finished(server, start(server, opened(server, 3)))
    response = server.get(body["job"]["exports"]["xlsx"])
    assert response.headers["Content-Disposition"].startswith("attachment; filename=batch_")
    assert response.content[:2] == b"PK"
    assert len(response.content) > 5000


def test_a_reload_in_the_middle_loses_nothing(server):
    if "gunicorn" not in str(server.process.args):
        pytest.skip("waitress has no reload")
    url = start(server, opened(server, 12))
    while look(server, url)["job"]["progress"]["succeeded"] < 2:
        time.sleep(0.05)
    server.process.send_signal(signal.SIGHUP)
    body = finished(server, url)
    assert body["job"]["progress"]["succeeded"] == 12
    assert {item["attempts"] for item in body["items"]} == {1}
