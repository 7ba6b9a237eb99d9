"""The examples of the API page: they hold an image's settings, and they run."""

from __future__ import annotations

import csv
import html
import json
import shlex
import shutil
import subprocess
import threading

import pytest
from discs import disc_png
from werkzeug.serving import make_server

from sam_droplet.web import services_of
from sam_droplet.web.snippets import Settings, settings_of, snippets

PAGE = {"X-SAM-Droplet": "1"}


def find(client, image_id):
    assert client.post(f"/api/images/{image_id}/find", json={}, headers=PAGE).status_code == 200


def test_examples_hold_the_settings_of_the_image(client, image_id):
    find(client, image_id)
    options = {"sensitivity": 0.7, "diameter_min_px": 5, "rim_offset_px": 1.5}
    client.post(f"/api/images/{image_id}/find", json={"options": options}, headers=PAGE)
    scale = {"um_per_px": 0.65, "chamber_height_um": 8}
    edit = {"calibration": scale, "filters": {"exclude_edge": True, "ranges": {}}}
    client.patch(f"/api/images/{image_id}/annotation", json=edit, headers=PAGE)
    page = html.unescape(client.get(f"/api-docs?image={image_id}").text)
    assert "curl -F file=@discs.png -F sensitivity=0.7 -F diameter_min_px=5 -F rim_offset_px=1.5 " in page
    assert "-F um_per_px=0.65 -F chamber_height_um=8 http" in page
    assert '"diameter_min_px": 5.0, "rim_offset_px": 1.5}' in page
    assert f"curl -OJ http://localhost/api/images/{image_id}/export/csv" in page
    assert "sam-droplet segment discs.png --um-per-px 0.65 --chamber-height-um 8 --sensitivity 0.7" in page
    assert "--diameter-min-px 5 --rim-offset-px 1.5 --format csv" in page
    assert page == html.unescape(client.get("/api-docs").text)  # the last used one
    assert client.get(f"/api-docs?image={'0' * 32}").status_code == 404


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.parametrize("name", ["plate 3, well 5; day 1.png", 'the "good" one.png'])
def test_the_curl_example_runs_whatever_the_file_is_called(client, name, tmp_path):
    (tmp_path / name).write_bytes(disc_png())
    server = make_server("127.0.0.1", 0, client.application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        settings = Settings(name=name, um_per_px=0.10833333)
        root = f"http://127.0.0.1:{server.server_port}/"
        (code,) = (s.code for s in snippets(root, settings, needs_key=False) if "One file" in s.title)
        done = subprocess.run(shlex.split(code), cwd=tmp_path, capture_output=True, text=True, check=True)
    finally:
        server.shutdown()
    answer = json.loads(done.stdout)
    assert (answer["success"], answer["um_per_px"]) == (True, 0.10833333)


def test_the_python_example_runs(client, image_id, tmp_path, monkeypatch):
    """Run it against a real server: what it writes is what the page would download."""
    find(client, image_id)
    scale = {"um_per_px": 0.65, "chamber_height_um": 8}
    edit = {"calibration": scale, "filters": {"exclude_edge": True, "ranges": {}}}
    client.patch(f"/api/images/{image_id}/annotation", json=edit, headers=PAGE)
    settings = settings_of(services_of(client.application).store.annotation("local", image_id))
    server = make_server("127.0.0.1", 0, client.application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        root = f"http://127.0.0.1:{server.server_port}/"
        (code,) = (s.code for s in snippets(root, settings, needs_key=False) if "Python" in s.title)
        (tmp_path / "other.tif").write_bytes(disc_png())
        monkeypatch.chdir(tmp_path)
        exec(compile(code, "example", "exec"), {})
    finally:
        server.shutdown()
    rows = list(csv.DictReader((tmp_path / "other.csv").read_text("utf-8-sig").splitlines()))
    assert [row["included"] for row in rows] == ["true"] * 4 + ["false"]
    assert float(rows[0]["diameter_um"]) == pytest.approx(0.65 * float(rows[0]["diameter_px"]))
    assert {row["chamber_height_um"] for row in rows} == {"8.0"}
