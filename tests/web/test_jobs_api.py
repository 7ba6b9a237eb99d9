"""Jobs over HTTP: started once, followed, cancelled, done again and downloaded; and nobody sees another's."""

from __future__ import annotations

import csv
import io
import json
import re
import threading
import time

import numpy as np
import openpyxl
import pytest
from discs import DISCS, ThresholdSegmenter, disc_pixels, disc_png
from PIL import Image as PillowImage

from sam_droplet.imaging.images import encode_png
from sam_droplet.web import services_of
from sam_droplet.web.job_desk import MAX_STREAMS
from sam_droplet.web.job_events import job_events

PAGE = {"X-SAM-Droplet": "1"}
NOWHERE = "0" * 32


@pytest.fixture
def working(make_app):
    """Make an application whose jobs are done; its engine is stopped at the end."""
    apps = []

    def make(segmenter=None, **settings):
        app = make_app(segmenter, **settings)
        services_of(app).jobs.engine.start()
        apps.append(app)
        return app

    yield make
    for app in apps:
        services_of(app).jobs.engine.stop()


@pytest.fixture
def busy(client, image_ids):
    """Return a client and images of an application that starts no job."""
    return client, image_ids


@pytest.fixture
def image_ids(client):
    return opened(client)


def opened(client, counts=(2, 3, 5), prefix="discs", headers=PAGE) -> list[str]:
    return [
        client.post(
            "/api/images",
            data={"file": (io.BytesIO(disc_png(DISCS[:n])), f"{prefix}-{n}.png")},
            headers=headers,
        ).json["images"][0]["id"]
        for n in counts
    ]


def start(client, image_ids, options=None, headers=PAGE, **more):
    body = {"image_ids": image_ids, "options": options or {}} | more
    return client.post("/api/jobs", json=body, headers=headers)


def finished(client, url, headers=PAGE) -> dict:
    deadline = time.monotonic() + 30
    while True:
        body = client.get(url, headers=headers).json
        if body["job"]["finished_at"]:
            return body
        assert time.monotonic() < deadline, body["job"]
        time.sleep(0.03)


def measured(app, options=None) -> tuple:
    client = app.test_client()
    ids = opened(client)
    response = start(client, ids, options)
    assert response.status_code == 202, response.text
    return client, ids, finished(client, response.headers["Location"])


def events_of(text: str) -> list[dict]:
    return [json.loads(data) for data in re.findall(r"^data: (.*)$", text, re.MULTILINE)]


def test_a_batch_measures_every_image_with_the_same_settings(working):
    options = {
        "sensitivity": 0.7,
        "filters": {"exclude_edge": True, "ranges": {"circularity": [0.5, None]}},
        "calibration": {"um_per_px": 0.5},
    }
    client, ids, body = measured(working(), options)
    assert body["job"]["state"] == "done"
    assert body["job"]["progress"] == {
        "done": 3, "total": 3, "succeeded": 3, "failed": 0, "cancelled": 0, "running": 0, "waiting": 0,
    }  # fmt: skip
    assert [item["image_id"] for item in body["items"]] == ids
    assert [item["result"]["n_included"] for item in body["items"]] == [2, 3, 4]
    for image_id, item in zip(ids, body["items"], strict=True):
        annotation = client.get(f"/api/images/{image_id}/annotation").json
        assert annotation["calibration"] == {"um_per_px": 0.5, "source": "typed"}
        assert annotation["filters"]["exclude_edge"] is True
        assert annotation["parameters"]["sensitivity"] == 0.7
        summary = annotation["summary"]
        assert item["result"]["mean_diameter_um"] == summary["diameter_um"]["mean"]
        assert item["result"]["cv_percent"] == summary["diameter_px"]["cv_percent"]
        assert client.get(item["thumbnail_url"]).mimetype == "image/jpeg"
        assert item["image_page_url"] == f"/annotate/{image_id}"


def test_a_filter_by_a_channel_that_an_image_lacks_is_no_silent_one(working):
    options = {"filters": {"ranges": {"mean_intensity_c7": [5, None]}}}
    _, _, body = measured(working(), options)
    assert body["job"]["progress"]["failed"] == 3
    assert "there is no channel 7" in body["items"][0]["message"]


def test_starting_answers_at_once_and_says_where_to_look(busy):
    client, ids = busy
    response = start(client, ids)
    assert response.status_code == 202
    job = response.json["job"]
    assert response.headers["Location"] == job["url"] == f"/api/jobs/{job['id']}"
    assert (job["state"], job["queue_position"], job["remaining_s"]) == ("queued", 0, None)
    assert [item["state"] for item in response.json["items"]] == ["waiting"] * 3
    assert start(client, ids).json["job"]["queue_position"] == 1
    assert [j["id"] for j in client.get("/api/jobs").json["jobs"]][1] == job["id"]


def test_the_same_key_starts_one_job(busy):
    client, ids = busy
    first = start(client, ids, idempotency_key="k")
    again = start(client, ids, idempotency_key="k")
    assert (again.status_code, again.json["job"]["id"]) == (202, first.json["job"]["id"])
    other = start(client, ids[:1], idempotency_key="k")
    assert (other.status_code, other.json["code"]) == (409, "conflict")


@pytest.mark.parametrize(
    ("body", "status", "fragment"),
    [
        ({}, 400, "image_ids"),
        ({"image_ids": []}, 400, "image_ids"),
        ({"image_ids": ["../x"]}, 400, "32 characters"),
        ({"image_ids": [NOWHERE]}, 404, "no image"),
        ({"image_ids": "all"}, 400, "list"),
        ({"kind": "dance"}, 400, "kind must be one of"),
        ({"options": {"sensitivity": 2}}, 400, "sensitivity"),
        ({"options": {"diameter_min_px": 5, "diameter_max_px": 2}}, 400, "must not exceed"),
        ({"options": {"diameter_min_px": 5, "diameter_max_um": 9}}, 400, "either in px or in µm"),
        ({"options": {"filters": {"ranges": {"colour": [1, 2]}}}}, 400, "no column 'colour'"),
        ({"options": {"calibration": {"um_per_px": 0}}}, 400, "um_per_px"),
        ({"options": {"mode": "magic"}}, 400, "mode must be one of"),
        ({"options": {"speed": 1}}, 400, "Unknown name"),
        ({"idempotency_key": "x" * 101}, 400, "100 characters"),
    ],
)
def test_wrong_requests_are_told_in_a_sentence(busy, body, status, fragment):
    client, ids = busy
    known = {"image_ids": ids} if "options" in body or "kind" in body or "idempotency_key" in body else {}
    response = client.post("/api/jobs", json=known | body, headers=PAGE)
    assert (response.status_code, response.json["success"]) == (status, False)
    assert fragment in response.json["error"]
    assert client.get("/api/jobs").json["jobs"] == []


def test_a_find_job_takes_one_image(working):
    app = working()
    client = app.test_client()
    ids = opened(client)
    assert "at most 1" in start(client, ids, kind="find").json["error"]
    response = start(client, ids[:1], kind="find")
    assert finished(client, response.headers["Location"])["items"][0]["result"]["n_found"] == 2


def test_sizes_in_um_follow_each_images_own_scale(working):
    app = working()
    client = app.test_client()
    ids = opened(client, (5, 5), prefix="same") + opened(client, (3,), prefix="without")
    ids[0], ids[1] = opened(client, (5,), prefix="fine")[0], opened(client, (5,), prefix="coarse")[0]
    for image_id, um in ((ids[0], 1.0), (ids[1], 2.0)):
        patch = {"calibration": {"um_per_px": um, "source": "typed"}}
        client.patch(f"/api/images/{image_id}/annotation", json=patch, headers=PAGE)
    response = start(client, ids, {"diameter_min_um": 35})
    fine, coarse, without = finished(client, response.headers["Location"])["items"]
    assert (fine["result"]["n_found"], coarse["result"]["n_found"]) == (1, 5)
    assert without["state"] == "failed"
    assert "without-3.png' has no scale" in without["message"]


def test_the_height_of_the_chamber_goes_to_every_image_that_has_a_scale(working):
    app = working()
    client = app.test_client()
    ids = opened(client, (5, 3))
    patch = {"calibration": {"um_per_px": 2.0, "source": "line"}}
    client.patch(f"/api/images/{ids[0]}/annotation", json=patch, headers=PAGE)
    free = client.get(f"/api/images/{ids[0]}/annotation").json
    response = start(client, ids, {"chamber_height_um": 11})
    with_scale, without = finished(client, response.headers["Location"])["items"]
    assert without["state"] == "failed"
    assert "The chamber height is in µm, but" in without["message"]
    annotation = client.get(f"/api/images/{ids[0]}/annotation").json
    assert annotation["calibration"] == free["calibration"] | {"chamber_height_um": 11}
    assert annotation["summary"]["chamber_height_um"] == 11
    assert with_scale["result"]["n_found"] == 5
    both = {"calibration": {"um_per_px": 1.0}, "chamber_height_um": 11}
    done = finished(client, start(client, ids, both).headers["Location"])["items"]
    assert [item["state"] for item in done] == ["done", "done"]
    for image_id in ids:
        scale = client.get(f"/api/images/{image_id}/annotation").json["calibration"]
        assert scale == {"um_per_px": 1.0, "source": "typed", "chamber_height_um": 11}


def test_an_image_that_is_gone_fails_alone_and_says_why(make_app):
    app = make_app()
    client = app.test_client()
    ids = opened(client)
    job = start(client, ids).json["job"]
    client.delete(f"/api/images/{ids[1]}", headers=PAGE)
    engine = services_of(app).jobs.engine
    engine.start()
    body = finished(client, job["url"])
    engine.stop()
    assert [item["state"] for item in body["items"]] == ["done", "failed", "done"]
    assert "no image with this id" in body["items"][1]["message"]
    assert body["items"][1]["image_page_url"] is None
    assert (body["job"]["state"], body["job"]["progress"]["failed"]) == ("done", 1)


def test_what_the_user_made_survives_and_corrections_count_afterwards(working):
    client, ids, body = measured(working())
    url = body["job"]["url"]
    patch = client.patch(f"/api/images/{ids[2]}/annotation", json={"exclude": [1]}, headers=PAGE)
    assert patch.status_code == 200
    item = client.get(url).json["items"][2]
    assert (item["result"]["n_found"], item["result"]["n_included"]) == (5, 4)
    assert item["thumbnail_url"] != body["items"][2]["thumbnail_url"]
    again = start(client, ids)
    item = finished(client, again.headers["Location"])["items"][2]
    assert (item["result"]["n_found"], item["result"]["n_included"]) == (5, 4)


def test_a_droplet_included_by_hand_counts_in_the_batch_and_in_its_next_run(working):
    client, ids, body = measured(working())
    url, address = body["job"]["url"], f"/api/images/{ids[2]}/annotation"
    small = {"ranges": {"diameter_px": [22, None]}}
    client.patch(address, json={"filters": small, "include_anyway": [3]}, headers=PAGE)
    item = client.get(url).json["items"][2]
    assert (item["result"]["n_found"], item["result"]["n_included"]) == (5, 5)
    assert client.get(address).json["droplets"][2]["included_although"] == "diameter_px_below"
    text = client.get(f"{url}/export/csv").data.decode("utf-8-sig")
    rows = [row for row in csv.DictReader(io.StringIO(text)) if row["included_although"]]
    assert [(row["id"], row["included"], row["included_although"]) for row in rows] == [
        ("3", "true", "diameter_px_below")
    ]
    again = start(client, ids)
    item = finished(client, again.headers["Location"])["items"][2]
    assert (item["result"]["n_found"], item["result"]["n_included"]) == (5, 5)


def test_an_unchanged_job_is_not_sent_again(busy):
    client, ids = busy
    url = start(client, ids).headers["Location"]
    first = client.get(url)
    same = client.get(url, headers={"If-None-Match": first.headers["ETag"]})
    assert (same.status_code, same.data) == (304, b"")
    client.post(f"{url}/cancel", headers=PAGE)
    changed = client.get(url, headers={"If-None-Match": first.headers["ETag"]})
    assert (changed.status_code, changed.json["job"]["state"]) == (200, "cancelled")


def test_cancel_stops_the_work_and_keeps_what_is_done(working):
    client = working(ThresholdSegmenter(0.6)).test_client()
    ids = opened(client, (1, 2, 3, 4, 5))
    url = start(client, ids).headers["Location"]
    while client.get(url).json["job"]["progress"]["succeeded"] < 1:
        time.sleep(0.02)
    body = client.post(f"{url}/cancel", headers=PAGE).json
    assert body["job"]["state"] == "cancelled"
    n_done = body["job"]["progress"]["succeeded"]
    assert 1 <= n_done < 5
    time.sleep(1.0)  # longer than the image that was being worked on would have taken
    after = client.get(url).json
    assert after["job"]["progress"]["succeeded"] == n_done
    found = [client.get(f"/api/images/{i}/annotation").json["image"]["n_found"] for i in ids]
    assert sum(n > 0 for n in found) == n_done
    again = client.post(f"{url}/retry", headers=PAGE)
    assert (again.status_code, again.json["job"]["finished_at"]) == (202, None)
    assert finished(client, url)["job"]["progress"]["succeeded"] == 5


def test_progress_inside_an_image_is_told(working):
    client = working(ThresholdSegmenter(2.0)).test_client()
    url = start(client, opened(client, (3,))).headers["Location"]
    seen = set()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        item = client.get(url).json["items"][0]
        if item["state"] == "done":
            break
        if item["progress"] and item["progress"]["stage"] == "finding" and item["progress"]["done"]:
            assert item["progress"]["total"] == 20
            seen.add(item["progress"]["done"])
        time.sleep(0.05)
    assert len(seen) >= 2
    assert all(0 < done <= 20 for done in seen)


# The stream


def test_the_stream_tells_every_change_and_ends_with_the_job(working):
    client = working(ThresholdSegmenter(0.3)).test_client()
    ids = opened(client)
    url = start(client, ids).headers["Location"]
    response = client.get(f"{url}/events")
    assert response.headers["Content-Type"].startswith("text/event-stream")
    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.headers["Cache-Control"] == "no-cache"
    text = response.get_data(as_text=True)
    assert text.startswith("retry: 2000\n\n")
    bodies = events_of(text)
    assert len(bodies) >= 3
    assert bodies[-1]["job"]["state"] == "done"
    versions = [int(v) for v in re.findall(r"^id: (\d+)$", text, re.MULTILINE)]
    assert versions == sorted(set(versions))
    assert versions[-1] == bodies[-1]["job"]["version"]
    last = {item["position"]: item for body in bodies for item in body["items"]}
    assert [last[i]["result"]["n_found"] for i in range(3)] == [2, 3, 5]
    assert any(len(body["items"]) < 3 for body in bodies), "every event carries every item"


def test_a_stream_goes_on_after_the_last_event_and_stays_away_when_all_is_told(working):
    client, _, body = measured(working())
    url, version = body["job"]["url"], body["job"]["version"]
    late = client.get(f"{url}/events", headers={"Last-Event-ID": str(version)})
    assert (late.status_code, late.data) == (204, b"")
    missed = client.get(f"{url}/events", headers={"Last-Event-ID": str(version - 2)})
    (event,) = events_of(missed.get_data(as_text=True))
    assert [item["position"] for item in event["items"]] == [2]


def test_a_quiet_stream_pings_and_ends_after_a_while(make_app):
    app = make_app()
    client = app.test_client()
    services = services_of(app)
    job_id = start(client, opened(client)).json["job"]["id"]
    version = services.jobs.queue.version("local", job_id)
    lines = list(
        job_events(services.jobs.queue, "local", job_id, dict, threading.Event(), since=version, lasts_s=0.2)
    )
    assert lines == ["retry: 2000\n\n"]


def test_too_many_streams_are_refused_and_a_closed_one_makes_room(app, client):
    url = start(client, opened(client)).headers["Location"]
    open_streams = [client.get(f"{url}/events", buffered=False) for _ in range(MAX_STREAMS)]
    refused = client.get(f"{url}/events")
    assert (refused.status_code, refused.json["code"]) == (503, "unavailable")
    assert int(refused.headers["Retry-After"]) >= 1
    open_streams.pop().close()
    again = client.get(f"{url}/events", buffered=False)
    assert again.status_code == 200
    for stream in [*open_streams, again]:
        stream.close()


# Files


def test_the_combined_table_holds_what_each_images_own_file_holds(working):
    client, ids, body = measured(working(), {"calibration": {"um_per_px": 0.5}})
    client.patch(f"/api/images/{ids[0]}/annotation", json={"exclude": [2]}, headers=PAGE)
    response = client.get(body["job"]["exports"]["csv"])
    assert response.headers["Content-Disposition"].startswith("attachment")
    rows = list(csv.DictReader(io.StringIO(response.data.decode("utf-8-sig"))))
    own = []
    for image_id in ids:
        text = client.get(f"/api/images/{image_id}/export/csv").data.decode("utf-8-sig")
        own += list(csv.DictReader(io.StringIO(text)))
    assert rows == own
    assert [r["included"] for r in rows].count("false") == 1
    assert {r["image"] for r in rows} == {"discs-2.png", "discs-3.png", "discs-5.png"}


def test_the_workbook_has_a_line_per_image_and_a_row_per_droplet(working):
    client, ids, body = measured(working())
    client.delete(f"/api/images/{ids[0]}", headers=PAGE)
    data = client.get(body["job"]["exports"]["xlsx"]).data
    book = openpyxl.load_workbook(io.BytesIO(data))
    images = list(book["Images"].iter_rows(values_only=True))
    columns = images[0]
    lines = [dict(zip(columns, row, strict=True)) for row in images[1:]]
    assert [line["state"] for line in lines] == ["deleted", "done", "done"]
    assert [line["n_found"] for line in lines] == [None, 3, 5]
    assert lines[1]["model"] == "threshold"
    assert lines[1]["mean_diameter_px"] == body["items"][1]["result"]["mean_diameter_px"]
    assert book["Droplets"].max_row == 1 + 8
    settings = dict(book["Settings"].iter_rows(min_row=2, values_only=True))
    assert settings["options.sensitivity"] == 0.5


def test_images_of_one_name_are_told_apart(working):
    app = working()
    client = app.test_client()
    ids = []
    for n in (2, 3):
        data = {"file": (io.BytesIO(disc_png(DISCS[:n])), "same.png")}
        ids.append(client.post("/api/images", data=data, headers=PAGE).json["images"][0]["id"])
    url = start(client, ids).headers["Location"]
    finished(client, url)
    text = client.get(f"{url}/export/csv").data.decode("utf-8-sig")
    names = [row["image"] for row in csv.DictReader(io.StringIO(text))]
    assert names == ["same.png"] * 2 + ["same.png (2)"] * 3


def test_doubts_about_an_image_are_flagged(working):
    client = working().test_client()
    pixels = np.full((200, 260), 40, np.uint8)
    y, x = np.mgrid[:200, :260]
    for cx in range(0, 261, 26):
        pixels[np.hypot(x - cx, y - 100) <= 10] = 255
    data = {"file": (io.BytesIO(encode_png(pixels)), "bright.png")}
    image_id = client.post("/api/images", data=data, headers=PAGE).json["images"][0]["id"]
    empty = {"file": (io.BytesIO(encode_png(np.full((60, 60), 9, np.uint8))), "empty.png")}
    empty_id = client.post("/api/images", data=empty, headers=PAGE).json["images"][0]["id"]
    url = start(client, [image_id, empty_id]).headers["Location"]
    bright, nothing = finished(client, url)["items"]
    flags = " ".join(bright["flags"])
    assert "saturated" in flags
    assert "Only 11 droplets" in flags
    assert nothing["state"] == "done"
    assert nothing["flags"] == ["No droplet counts."]
    assert "nothing here is brighter" in nothing["message"]


def test_quality_is_that_of_the_droplets_of_an_images_page(working):
    client = working().test_client()
    pixels = disc_pixels([(40 * i + 30, 30, 12) for i in range(4)], (200, 60))
    pixels |= np.where(disc_pixels([(190, 50, 5)], (200, 60)) > 100, 255, 0).astype(np.uint8)
    data = {"file": (io.BytesIO(encode_png(pixels)), "one-bright.png")}
    image_id = client.post("/api/images", data=data, headers=PAGE).json["images"][0]["id"]
    filters = {"ranges": {"diameter_px": [15, None]}, "exclude_edge": False}
    client.patch(f"/api/images/{image_id}/annotation", json={"filters": filters}, headers=PAGE)
    drawn = {"contour": [[44, 2], [56, 2], [56, 14], [44, 14]]}
    assert client.post(f"/api/images/{image_id}/droplets", json=drawn, headers=PAGE).status_code == 201
    url = start(client, [image_id]).headers["Location"]
    (item,) = finished(client, url)["items"]
    assert (item["result"]["n_found"], item["result"]["n_included"]) == (6, 4)
    quality = client.get(f"/api/images/{image_id}/report").json["quality"]
    assert quality["saturated_percent"] == 0
    book = openpyxl.load_workbook(io.BytesIO(client.get(f"{url}/export/xlsx").data))
    header, line = book["Images"].iter_rows(values_only=True)
    told = dict(zip(header, line, strict=True))
    assert {name: told[name] for name in quality if name in told and name != "flags"} == {
        name: value for name, value in quality.items() if name in told and name != "flags"
    }
    assert "saturated" not in (told["flags"] or "")


def test_a_thumbnail_shows_the_outlines(working):
    client, _, body = measured(working())
    url = body["items"][2]["thumbnail_url"]
    response = client.get(url)
    picture = np.asarray(PillowImage.open(io.BytesIO(response.data)).convert("RGB")).astype(int)
    blue = (picture[..., 2] - picture[..., 0] > 60).sum()
    assert blue > 100
    assert client.get(url, headers={"If-None-Match": response.headers["ETag"]}).status_code == 304


# Whose it is


def test_another_keys_job_is_not_there(working):
    app = working()
    ring = services_of(app).key_ring
    ada, bob = ({"X-API-Key": ring.create(name, scope="user")[1]} for name in ("ada", "bob"))
    client = app.test_client()
    ids = opened(client, headers=ada)
    assert start(client, ids, headers=bob).status_code == 404
    url = start(client, ids, headers=ada).headers["Location"]
    finished(client, url, headers=ada)
    for method, path in (
        ("GET", url),
        ("GET", f"{url}/events"),
        ("GET", f"{url}/export/csv"),
        ("POST", f"{url}/cancel"),
        ("POST", f"{url}/retry"),
        ("GET", f"/api/images/{ids[0]}/outlined"),
        ("GET", f"/batch/{url.rsplit('/', 1)[1]}"),
    ):
        assert client.open(path, method=method, headers=bob).status_code == 404, path
    assert client.get("/api/jobs", headers=bob).json["jobs"] == []
    assert len(client.get("/api/jobs", headers=ada).json["jobs"]) == 1


def test_a_restart_goes_on_with_the_job(make_app):
    first = make_app()
    client = first.test_client()
    url = start(client, opened(client)).headers["Location"]
    second = make_app()
    services_of(second).jobs.engine.start()
    body = finished(second.test_client(), url)
    services_of(second).jobs.engine.stop()
    assert body["job"]["progress"]["succeeded"] == 3


def test_the_pages_show_images_and_jobs_without_a_script(working):
    client, _, body = measured(working())
    page = client.get("/batch").text
    assert page.count('class="card pick-card"') == 4  # three images and the template
    assert body["job"]["page_url"] in page
    page = client.get(body["job"]["page_url"]).text
    assert "discs-5.png" in page
    assert body["job"]["exports"]["xlsx"] in page
