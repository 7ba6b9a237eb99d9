"""The examples of the API page: they hold an image's settings, and they run."""

from __future__ import annotations

import csv
import html
import threading

import pytest
from discs import disc_png
from werkzeug.serving import make_server

from sam_droplet.web import services_of
from sam_droplet.web.snippets import settings_of, snippets

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
