"""The commands for whoever runs a server: keys, and serving."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from discs import disc_png
from servers import STOP_S, Server, free_port

from sam_droplet.imaging.images import load_image
from sam_droplet.service.objectives import Objectives
from sam_droplet.service.store import Store

ROOT = Path(__file__).parents[1]


@pytest.fixture
def environ(tmp_path):
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    return kept | {"PYTHONPATH": str(ROOT), "DATA_DIR": str(tmp_path / "data"), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def run(tmp_path, environ):
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sam_droplet", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)

    return call


def test_keys_are_created_listed_and_revoked(run):
    created = run("key", "create", "Ada", "--limit", "7 per minute")
    assert created.returncode == 0, created.stderr
    key = created.stdout.strip()
    assert re.fullmatch(r"sd_[0-9a-f]{12}_\S{43}", key)
    (record,) = (json.loads(line) for line in run("key", "list").stdout.splitlines())
    assert (record["name"], record["scope"], record["rate_limit"]) == ("Ada", "user", "7 per minute")
    assert key.split("_", 2)[2] not in json.dumps(record)
    revoked = run("key", "revoke", record["id"])
    assert (revoked.returncode, "is revoked" in revoked.stdout) == (0, True)
    assert json.loads(run("key", "list").stdout)["revoked_at"] is not None


def test_images_from_before_there_were_keys_can_be_taken_along(run, environ):
    store = Store(Path(environ["DATA_DIR"]))
    image = load_image(disc_png(), "discs.png")
    record, _ = store.add_image("local", image, disc_png())
    Objectives(store.database).save("local", "20x", 0.325)
    created = run("key", "create", "Ada", "--take-local")
    assert (created.returncode, "1 images" in created.stderr) == (0, True)
    key_id = created.stdout.split("_")[1]
    assert [r.id for r in store.images(f"key_{key_id}")] == [record.id]
    assert store.images("local") == []
    assert [o.name for o in Objectives(store.database).list(f"key_{key_id}")] == ["20x"]
    renewed = run("key", "renew", key_id)
    assert renewed.stdout.startswith(f"sd_{key_id}_")
    assert renewed.stdout != created.stdout
    store.close()


@pytest.mark.parametrize(
    "arguments", [("key", "revoke", "nobody"), ("key", "create", "Ada", "--limit", "often")]
)
def test_a_wrong_call_is_one_sentence(run, arguments):
    done = run(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("sam-droplet: ")
    assert len(done.stderr.splitlines()) == 1


def test_app_py_starts_no_server_when_asked_for_help(environ):
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "app.py", "--help"],
        cwd=root,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert "FLASK_PORT" in done.stdout


def test_serve_serves_until_it_is_told_to_stop(tmp_path, environ):
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sam_droplet", "serve"],
            cwd=tmp_path, env=environ | {"PORT": str(port), "WORKERS": "1"}, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        server = Server(process, f"http://127.0.0.1:{port}", tmp_path / "log")
        server.wait_until_ready("/livez")
        assert server.get("/livez").json() == {"status": "alive"}
    finally:
        process.send_signal(signal.SIGTERM)
    assert process.wait(STOP_S) == 0
