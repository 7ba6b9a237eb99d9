"""The API of the annotate page, as its contract says it."""

from __future__ import annotations

import io

import numpy as np
import pytest
import sqlalchemy as sa
from discs import DISCS, ThresholdSegmenter, disc_png
from PIL import Image as PillowImage

from sam_droplet.service.database import annotation_table, image_table
from sam_droplet.service.store import Store
from sam_droplet.web import services_of

PAGE = {"X-SAM-Droplet": "1"}
INFO_FIELDS = {
    "id", "name", "width", "height", "n_channels", "channel_names", "bit_depth", "n_pages", "page", "format",
    "notes", "digest", "calibration", "created_at", "n_found", "n_included", "view_url", "thumbnail_url",
    "page_url",
}  # fmt: skip
ANNOTATION_FIELDS = {
    "image", "revision", "droplets", "filters", "calibration", "summary", "model", "parameters", "timings_s",
    "message", "channel", "regions", "search",
}  # fmt: skip


def find(client, image_id, **options):
    response = client.post(f"/api/images/{image_id}/find", json={"options": options}, headers=PAGE)
    assert response.status_code == 200
    return response.json


def predict(client, image_id, **body):
    return client.post(f"/api/images/{image_id}/predict", json=body, headers=PAGE)


def patch(client, image_id, **body):
    return client.patch(f"/api/images/{image_id}/annotation", json=body, headers=PAGE)


def assert_error(response, status, code, fragment=""):
    assert response.status_code == status, response.text
    assert set(response.json) == {"success", "error", "code", "status"}
    assert (response.json["success"], response.json["code"]) == (False, code)
    assert response.json["status"] == status
    assert fragment in response.json["error"]


def test_an_upload_answers_with_all_about_the_image(upload):
    response = upload((disc_png(), "discs.png"))
    assert response.status_code == 201
    (info,) = response.json["images"]
    assert set(info) == INFO_FIELDS
    assert (info["name"], info["width"], info["height"]) == ("discs.png", 200, 150)
    assert (info["bit_depth"], info["format"], info["n_found"]) == (8, "png", 0)
    assert info["page_url"] == f"/annotate/{info['id']}"
    assert response.json["errors"] == []


def test_the_outlines_behind_clicks_come_as_plain_numbers(client, image_id):
    url = f"/api/images/{image_id}/proposals"
    response = client.get(url)
    assert (response.status_code, response.mimetype) == (200, "application/octet-stream")
    table = np.frombuffer(response.data, "<f4").reshape(-1, 35)
    assert len(table) == 2 * len(DISCS)
    x, y, radius = DISCS[0]
    (best,) = [row for row in table if row[34] > 0.5 and np.hypot(row[0] - x, row[1] - y) < 1]
    assert best[2:34] == pytest.approx(radius, abs=0.2)
    again = client.get(url, headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert_error(client.get(f"/api/images/{'0' * 32}/proposals"), 404, "not_found")


def test_the_same_upload_again_is_the_same_image(upload, image_id, client):
    find(client, image_id)
    again = upload((disc_png(), "discs.png")).json["images"][0]
    assert (again["id"], again["n_found"]) == (image_id, 5)
    assert len(client.get("/api/images").json["images"]) == 1


def test_a_bad_file_does_not_hold_up_the_good_ones(upload):
    response = upload((b"<svg onload=alert(1)>", "x.png"), (disc_png(), "good.png"))
    assert response.status_code == 201
    assert [image["name"] for image in response.json["images"]] == ["good.png"]
    (error,) = response.json["errors"]
    assert (error["name"], error["code"]) == ("x.png", "unsupported_type")


def test_only_bad_files_give_the_first_error(upload, client):
    assert_error(upload((b"<svg>", "x.png"), (b"", "y.png")), 415, "unsupported_type")
    assert_error(upload((disc_png()[:200], "cut.png")), 422, "unreadable_image")
    assert_error(client.post("/api/images", headers=PAGE), 400, "bad_input", "'file'")


def test_a_file_name_is_never_a_path(upload):
    info = upload((disc_png(), "../../etc/pass\x07wd.png")).json["images"][0]
    assert info["name"] == "passwd.png"


@pytest.mark.parametrize("page", ["-1", "one", "1e3", "99999999999"])
def test_a_page_that_is_no_number_is_refused(upload, page):
    assert_error(upload((disc_png(), "d.png"), form={"page": page}), 400, "bad_input", "page")


def test_a_page_that_is_not_there_is_404(upload):
    assert_error(upload((disc_png(), "d.png"), form={"page": "1"}), 404, "not_found")


def test_find_returns_the_annotation_and_what_changed(client, image_id):
    answer = find(client, image_id)
    assert set(answer) == ANNOTATION_FIELDS | {"found", "added", "removed"}
    assert answer["added"] == [1, 2, 3, 4, 5]
    droplet = answer["droplets"][0]
    assert droplet["diameter_px"] == pytest.approx(2 * DISCS[0][2], rel=0.02)
    contour = np.array(droplet["contour"]).reshape(-1, 2)
    assert contour.min(axis=0) == pytest.approx([18, 28], abs=1.5)
    assert contour.max(axis=0) == pytest.approx([43, 53], abs=1.5)
    assert answer["summary"]["n_found"] == answer["image"]["n_found"] == 5
    assert answer == client.get(f"/api/images/{image_id}/annotation").json | {
        "found": answer["added"],
        "added": answer["added"],
        "removed": [],
    }


def test_find_again_replaces_and_its_inverse_restores(client, image_id):
    find(client, image_id)
    again = find(client, image_id, diameter_min_px=25)
    # The two that are found again as they were keep their numbers.
    assert (again["found"], again["added"], again["removed"]) == ([2, 4], [], [1, 3, 5])
    response = patch(client, image_id, delete=again["added"], restore=again["removed"])
    assert response.json["n_found"] == 5


def test_undoing_a_search_with_another_offset_says_so(client, image_id):
    before = find(client, image_id)
    after = find(client, image_id, rim_offset_px=2)
    assert after["parameters"]["rim_offset_px"] == 2
    undo = {"delete": after["added"], "restore": after["removed"], "rim_offset_px": 0}
    revision = patch(client, image_id, **undo).json["revision"]
    assert patch(client, image_id, **undo).json["revision"] == revision
    undone = client.get(f"/api/images/{image_id}/annotation").json
    assert undone["parameters"] == before["parameters"] | {"rim_offset_px": 0}
    assert [d["diameter_px"] for d in undone["droplets"]] == [d["diameter_px"] for d in before["droplets"]]


def test_find_in_a_region(client, image_id):
    body = {"roi_xyxy": [0, 0, 60.5, 70]}
    answer = client.post(f"/api/images/{image_id}/find", json=body, headers=PAGE).json
    assert len(answer["droplets"]) == 1


@pytest.mark.parametrize(
    ("body", "fragment"),
    [
        ({"options": {"sensitivity": 2}}, "sensitivity must be from 0 to 1"),
        ({"options": {"sensitivity": "high"}}, "numbers, not text"),
        ({"options": {"sensitivty": 0.5}}, "Unknown name 'sensitivty'"),
        ({"options": {"model": "sam9"}}, "model must be one of"),
        ({"options": {"diameter_min_px": 9, "diameter_max_px": 3}}, "must not exceed"),
        ({"options": []}, ""),
        ({"roi_xyxy": [1, 2, 3]}, "[x0, y0, x1, y1]"),
        ({"roi_xyxy": [500, 500, 600, 600]}, "outside the image"),
        ([], "JSON object"),
    ],
)
def test_wrong_find_options_are_told_in_a_sentence(client, image_id, body, fragment):
    response = client.post(f"/api/images/{image_id}/find", json=body, headers=PAGE)
    if body == {"options": []}:
        assert response.status_code == 200  # empty is empty
    else:
        assert_error(response, 400, "bad_input", fragment)


def test_a_click_previews_and_a_commit_keeps(client, image_id):
    preview = predict(client, image_id, points=[[30, 40]], labels=[1]).json
    assert [c["id"] for c in preview["candidates"]] == [None]
    assert (preview["revision"], "droplet" in preview) == (0, False)
    kept = predict(client, image_id, points=[[30, 40]], labels=[1], commit=True).json
    assert (kept["droplet"]["id"], kept["droplet"]["source"], kept["revision"]) == (1, "point", 1)
    boxed = predict(client, image_id, box=[120, 70, 170, 20], commit=True).json
    assert (boxed["droplet"]["id"], boxed["droplet"]["source"]) == (2, "box")
    assert len(client.get(f"/api/images/{image_id}/annotation").json["droplets"]) == 2


def test_drawn_outlines_take_the_place_of_droplets_in_one_step(client, image_id):
    find(client, image_id)
    url = f"/api/images/{image_id}/redraw"
    square, tiny = [[20, 30], [40, 30], [40, 50], [20, 50]], [[1.1, 1.1], [1.2, 1.1], [1.2, 1.2]]
    response = client.post(url, json={"contours": [square, tiny], "replaces": [1, 2]}, headers=PAGE)
    assert response.status_code == 201
    (droplet,) = response.json["droplets"]
    assert (droplet["id"], droplet["source"], droplet["area_px"]) == (6, "manual", 400)
    saved = client.get(f"/api/images/{image_id}/annotation").json
    assert ([d["id"] for d in saved["droplets"]], saved["revision"]) == ([3, 4, 5, 6], 2)
    assert_error(client.post(url, json={"contours": [tiny], "replaces": [3]}, headers=PAGE), 400, "bad_input")
    assert_error(
        client.post(url, json={"contours": [square], "replaces": [9]}, headers=PAGE), 404, "not_found"
    )
    for wrong in ([], "x", [[[1, 2]]], [[[1, 2], [3, "y"], [4, 5]]]):
        assert_error(client.post(url, json={"contours": wrong}, headers=PAGE), 400, "bad_input")
    assert client.get(f"/api/images/{image_id}/annotation").json["revision"] == 2


def test_a_click_on_background_says_so(client, image_id):
    answer = predict(client, image_id, points=[[1, 1]], labels=[1], commit=True)
    assert answer.status_code == 200
    assert answer.json["candidates"] == []
    assert "background" in answer.json["message"]
    assert "droplet" not in answer.json


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"points": [[1]]},
        {"points": [[1, 2]], "labels": [1, 0]},
        {"points": [[1, 2]], "labels": [2]},
        {"points": [[1, 2]], "labels": [True]},
        {"points": [[1, "x"]], "labels": [1]},
        {"points": [[1e999, 2]], "labels": [1]},
        {"points": [[-5, 2]], "labels": [1]},
        {"points": [[1, 2]] * 2000},
        {"box": [1, 1, 1, 5]},
        {"box": [900, 900, 950, 950]},
        {"box": [1, 2, 3, 4], "model": "other"},
        {"points": [[30, 40]], "commit": "yes"},
        {"points": [[30, 40]], "commit": True, "candidate": 1},
        {"points": [[30, 40]], "candidate": 0.5},
        {"points": [[30, 40]], "colour": "red"},
    ],
)
def test_wrong_prompts_are_told_in_a_sentence(client, image_id, body):
    assert_error(predict(client, image_id, **body), 400, "bad_input")


def test_a_drawn_contour_is_kept(client, image_id):
    url = f"/api/images/{image_id}/droplets"
    square = [[10, 10], [20, 10], [20, 20], [10, 20]]
    response = client.post(url, json={"contour": square}, headers=PAGE)
    assert response.status_code == 201
    assert (response.json["droplet"]["area_px"], response.json["droplet"]["source"]) == (100, "manual")
    assert response.json["droplet"]["contour"] == [10, 10, 20, 10, 20, 20, 10, 20]
    assert_error(client.post(url, json={"contour": square[:2]}, headers=PAGE), 400, "bad_input", "3 points")


def test_patches_are_idempotent_and_counted(client, image_id):
    find(client, image_id)
    body = {
        "exclude": [1],
        "delete": [2],
        "filters": {"ranges": {"diameter_px": [23, None]}, "exclude_edge": True},
        "calibration": {"um_per_px": 0.5, "source": "line"},
    }
    first, second = patch(client, image_id, **body).json, patch(client, image_id, **body).json
    assert first == second
    assert (first["n_found"], first["n_included"]) == (4, 1)
    assert first["summary"]["excluded_by_reason"] == {"diameter_px_below": 1, "touches_edge": 1, "user": 1}
    assert first["calibration"] == {"um_per_px": 0.5, "source": "line"}
    droplets = client.get(f"/api/images/{image_id}/annotation").json["droplets"]
    assert droplets[-2]["diameter_um"] == pytest.approx(20, rel=0.02)
    assert patch(client, image_id, calibration=None).json["calibration"] is None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"delete": "all"}, 400),
        ({"delete": [1.5]}, 400),
        ({"delete": [True]}, 400),
        ({"delete": [-1]}, 400),
        ({"delete": [77]}, 404),
        ({"restore": [0]}, 400),
        ({"filters": {"ranges": {"colour": [1, 2]}}}, 400),
        ({"filters": {"ranges": {"area_px": [5, 1]}}}, 400),
        ({"filters": {"ranges": {"area_px": 5}}}, 400),
        ({"filters": []}, 400),
        ({"calibration": {"um_per_px": 0}}, 400),
        ({"calibration": {"source": "line"}}, 400),
        ({"calibration": {"um_per_px": 1, "chamber_height_um": 0}}, 400),
        ({"calibration": {"um_per_px": 1, "source": "guess"}}, 400),
        ({"rim_offset_px": 1e6}, 400),
        ({"rim_offset_px": "far"}, 400),
        ({"remove": [1]}, 400),
    ],
)
def test_wrong_patches_change_nothing(client, image_id, body, status):
    find(client, image_id)
    response = patch(client, image_id, exclude=[1], **body)
    assert response.status_code == status, response.text
    annotation = client.get(f"/api/images/{image_id}/annotation").json
    assert (annotation["revision"], annotation["image"]["n_included"]) == (1, 5)


@pytest.mark.parametrize("channel", ["foo", "7", "-1", "9" * 5000])
def test_a_channel_that_is_not_there_is_refused_before_there_are_droplets(client, image_id, channel):
    refused = patch(client, image_id, filters={"ranges": {f"mean_intensity_c{channel}": [1, 2]}})
    assert_error(refused, 400, "bad_input", "here is no c")
    find(client, image_id)


def test_the_csv_equals_the_page(client, image_id):
    find(client, image_id)
    patch(client, image_id, exclude=[1], calibration={"um_per_px": 0.5, "source": "typed"})
    response = client.get(f"/api/images/{image_id}/export/csv")
    assert response.status_code == 200
    assert response.headers["Content-Disposition"].startswith("attachment;")
    assert response.mimetype == "text/csv"
    droplets = client.get(f"/api/images/{image_id}/annotation").json["droplets"]
    for droplet in droplets:
        assert f"{droplet['diameter_um']}" in response.text
    assert_error(client.get(f"/api/images/{image_id}/export/floppy"), 404, "not_found", "csv")


def test_a_view_is_drawn_and_cached_by_the_browser(client, image_id):
    response = client.get(f"/api/images/{image_id}/view")
    assert response.mimetype == "image/png"
    assert PillowImage.open(io.BytesIO(response.data)).size == (200, 150)
    again = client.get(f"/api/images/{image_id}/view", headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    small = client.get(f"/api/images/{image_id}/view?max_side=50&stretch=1&channel=0")
    assert PillowImage.open(io.BytesIO(small.data)).size == (50, 38)
    assert small.headers["ETag"] != response.headers["ETag"]


@pytest.mark.parametrize(
    "query", ["max_side=0", "max_side=x", "channel=9", "stretch=2", "zoom=1", "max_side=-1"]
)
def test_a_wrong_view_query_is_told(client, image_id, query):
    assert_error(client.get(f"/api/images/{image_id}/view?{query}"), 400, "bad_input")


def test_a_thumbnail_is_kept_until_the_image_is_deleted(app, client, upload):
    info = upload((disc_png(size_wh=(640, 400)), "wide.png")).json["images"][0]
    first = client.get(info["thumbnail_url"])
    kept = services_of(app).store.pictures.folder / f"{info['id']}.jpg"
    assert kept.read_bytes() == first.data
    assert client.get(info["thumbnail_url"]).data == first.data
    client.delete(f"/api/images/{info['id']}", headers=PAGE)
    assert not kept.exists()


def test_a_tile_is_drawn_and_cached_by_the_browser(client, image_id):
    response = client.get(f"/api/images/{image_id}/tile?level=1&stretch=1")
    assert PillowImage.open(io.BytesIO(response.data)).size == (100, 75)
    etag = {"If-None-Match": response.headers["ETag"]}
    assert client.get(f"/api/images/{image_id}/tile?level=1&stretch=1", headers=etag).status_code == 304
    assert_error(client.get(f"/api/images/{image_id}/tile?column=1"), 404, "not_found")
    assert_error(client.get(f"/api/images/{image_id}/tile?channel=9"), 400, "bad_input")


def test_a_deleted_image_is_gone(client, image_id):
    assert client.delete(f"/api/images/{image_id}", headers=PAGE).status_code == 204
    for url in ("annotation", "view", "export/csv"):
        assert_error(client.get(f"/api/images/{image_id}/{url}"), 404, "not_found")
    assert_error(client.delete(f"/api/images/{image_id}", headers=PAGE), 404, "not_found")


def test_samples_are_listed_shown_and_opened(client):
    samples = client.get("/api/samples").json["samples"]
    assert len(samples) >= 2
    thumbnail = client.get(samples[0]["thumbnail_url"])
    assert (thumbnail.status_code, thumbnail.mimetype) == (200, "image/jpeg")
    opened = client.post(f"/api/samples/{samples[0]['name']}", headers=PAGE)
    assert opened.status_code == 201
    assert opened.json["images"][0]["name"].startswith("sample-")
    assert_error(client.post("/api/samples/nothing", headers=PAGE), 404, "not_found")


def test_models_say_who_answers(client):
    answer = client.get("/api/models").json
    assert (answer["prompt_model"], answer["find_model"]) == ("droplet-net", "droplet-net")
    assert answer["models"][0]["available"] is True


def test_where_the_weights_lie_is_told_to_administrators_only(make_app):
    class OnDisk(ThresholdSegmenter):
        def models(self):
            return [{"name": "droplet-net", "available": True, "path": "/srv/secret/place"}]

    client = make_app(OnDisk()).test_client()
    assert "secret" not in client.get("/api/models").text
    assert "/srv/secret/place" in client.get("/admin/health").text


def test_a_download_names_its_charset_once(client, image_id):
    table = client.get(f"/api/images/{image_id}/export/csv")
    assert table.headers["Content-Type"] == "text/csv; charset=utf-8"


def test_not_json_is_told(client, image_id):
    url = f"/api/images/{image_id}/predict"
    assert_error(client.post(url, data="{", headers=PAGE), 400, "bad_input", "application/json")
    response = client.post(url, data="{", headers=PAGE | {"Content-Type": "application/json"})
    assert_error(response, 400, "bad_input", "JSON object")


def test_errors_of_http_have_the_same_shape(client):
    assert_error(client.get("/api/nothing"), 404, "not_found")
    assert_error(client.put("/api/images", headers=PAGE), 405, "method_not_allowed", "PUT")


def test_a_too_large_request_is_413(make_app):
    small = make_app(max_upload_mb=1).test_client()
    response = small.post(
        "/api/images",
        data=b"\0" * (3 << 20),
        headers=PAGE | {"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert_error(response, 413, "too_large", "1 MiB")


def test_an_unexpected_error_hides_its_details(make_app, caplog):
    class Broken(ThresholdSegmenter):
        def models(self):
            raise RuntimeError("secret path /etc/x")

    response = make_app(Broken()).test_client().get("/api/models")
    assert_error(response, 500, "internal_error", response.headers["X-Request-ID"])
    assert "secret" not in response.text
    assert "secret path" in caplog.text


def test_pages_are_rendered(client, image_id):
    home = client.get("/")
    assert home.status_code == 200
    assert "discs.png" in home.text
    page = client.get(f"/annotate/{image_id}")
    assert page.status_code == 200
    assert image_id in page.text
    missing = client.get("/annotate/nothing")
    assert (missing.status_code, missing.mimetype) == (404, "text/html")


def test_all_images_are_listed_or_told_to_be_more(app, client, image_id):
    """With 200 listed, the older ones of 201 images were nowhere to be seen, opened or deleted."""
    with services_of(app).store.database.writing() as connection:
        (row,) = connection.execute(sa.select(image_table)).mappings()
        settings = connection.execute(sa.select(annotation_table)).mappings().one()
        for number in range(200):
            other = {"id": f"{number:032x}", "name": f"{number}.png"}
            connection.execute(image_table.insert().values(**(dict(row) | other)))
            values = dict(settings) | {"image_id": other["id"]}
            connection.execute(annotation_table.insert().values(**values))
    answer = client.get("/api/images").json
    assert (len(answer["images"]), answer["n_images"]) == (201, 201)
    assert "last used are listed" not in client.get("/").text


def test_who_has_more_images_than_can_be_listed_is_told(app, client, image_id, upload, monkeypatch):
    upload((disc_png(), "second.png"))
    monkeypatch.setattr(Store.images, "__kwdefaults__", {"limit": 1})
    assert client.get("/api/images").json["n_images"] == 2
    assert "Of your 2 images, the 1 last used are listed" in client.get("/").text
