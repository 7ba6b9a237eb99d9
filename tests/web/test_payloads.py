"""Bodies and forms that a script gets wrong: a sentence about what came, and never an error of ours."""

from __future__ import annotations

import io
import json
import os

import pytest
from discs import disc_png

if os.name != "nt":
    from gunicorn.http.errors import InvalidChunkSize

PAGE = {"X-SAM-Droplet": "1"}
JSON = {"Content-Type": "application/json"}
HALF = "\ud800"


def refused(response, fragment):
    assert (response.status_code, response.json["code"]) == (400, "bad_input")
    assert fragment in response.json["error"]


@pytest.mark.parametrize(
    ("body", "fragment"),
    [
        (b'{"image": "x",}', "in line 1, column 15"),
        (b'{"image": \n "x"', "in line 2, column 5"),
        (b"", "not JSON"),
        ('{"imagé": 1}'.encode("latin-1"), "UTF-8"),
        (b'{"image": "\xed\xa0\x80"}', "UTF-8"),
        (b'{"image": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"sensitivity": 1' + b"0" * 5000 + b"}", "too large"),
        (b'{"um_per_px": 0.5, "image": "", "um_per_px": 5}', "'um_per_px' came 2 times"),
        (json.dumps({"image": "x", "filename": HALF}).encode(), "half of a character"),
        (json.dumps({HALF: "x"}).encode(), "half of a character"),
    ],
)
def test_a_body_that_is_no_json_object_is_told_what_is_wrong_with_it(client, body, fragment):
    refused(client.post("/segment", data=body, headers=JSON), fragment)


def test_a_body_of_another_type_is_told_which_header_to_send(client):
    refused(client.post("/segment", data=b"{}", headers={"Content-Type": "text/plain"}), "'text/plain'")
    refused(client.post("/segment", data=b"{}"), "without that header")


def test_whole_characters_beyond_ascii_are_taken_in_every_spelling(client):
    for body in ('{"name": "é😀", "um_per_px": 1}', r'{"name": "\u00e9\ud83d\ude00", "um_per_px": 1}'):
        answer = client.post("/api/objectives", data=body.encode(), headers=JSON | PAGE)
        assert answer.json["objectives"] == [{"name": "é😀", "um_per_px": 1.0}]


def test_half_a_character_is_refused_wherever_text_is_kept_or_answered(client, image_id):
    places = [
        ("POST", "/api/jobs", {"image_ids": [image_id], "idempotency_key": HALF}),
        ("PATCH", f"/api/images/{image_id}/annotation", {"filters": {"ranges": {HALF: 5}}}),
        ("PUT", f"/api/images/{image_id}/assays/ddpcr", {"second_image_id": HALF}),
        ("POST", "/download_analysis", {"csv_data": [{"a": HALF}], "analysis_results": {}}),
        ("POST", "/download_analysis", {"csv_data": [], "analysis_results": {"a": HALF}}),
    ]
    for method, path, body in places:
        answer = client.open(path, method=method, data=json.dumps(body).encode(), headers=JSON | PAGE)
        refused(answer, "half of a character")


def test_numbers_that_no_json_file_may_hold_are_not_written_into_one(client):
    for number in ("NaN", "1e999"):
        body = '{"csv_data": [], "analysis_results": {"a": ' + number + "}}"
        refused(client.post("/download_analysis", data=body.encode(), headers=JSON), "finite")


def picture():
    return io.BytesIO(disc_png()), "d.png"


@pytest.mark.parametrize("path", ["/segment_file", "/analyze_image"])
@pytest.mark.parametrize(
    ("form", "fragment"),
    [
        ({"um_per_pixel": "0.5"}, "Unknown name 'um_per_pixel' in the form"),
        ({"area_min": "5"}, "Unknown name 'area_min' in the form"),
        ({"um_per_px": ["0.5", "5"]}, "'um_per_px' came 2 times"),
        ({"filters": (io.BytesIO(b"{}"), "filters.json")}, "'filters' came as a file"),
        ({"image": picture()}, "in the field 'image'; send the image in 'file'"),
        ({"file": [picture(), picture()]}, "2 came"),
    ],
)
def test_a_form_field_that_nobody_would_read_is_refused(client, path, form, fragment):
    fields = {name: _again(value) for name, value in form.items()}
    refused(client.post(path, data={"file": picture()} | fields), fragment)


def _again(value):
    """Return a form's value anew: what is sent is closed, and each parameter is sent twice."""
    if isinstance(value, tuple):
        value[0].seek(0)
        return io.BytesIO(value[0].read()), value[1]
    return [_again(part) for part in value] if isinstance(value, list) else value


def test_what_stands_in_the_address_of_a_segmentation_is_refused(client):
    refused(client.post("/segment_file?um_per_px=0.5", data={"file": picture()}), "'um_per_px'")
    refused(client.post("/segment?um_per_px=0.5", json={"image": ""}), "in the address")
    refused(client.post("/advanced_analysis?mode=refined", json={"image": ""}), "in the address")


def test_uploads_of_the_page_take_many_files_and_no_unknown_field(client):
    both = client.post("/api/images", data={"file": [picture(), (picture()[0], "e.png")]}, headers=PAGE)
    assert [image["name"] for image in both.json["images"]] == ["d.png", "e.png"]
    refused(client.post("/api/images", data={"file": picture(), "pages": "2"}, headers=PAGE), "'pages'")


class BadChunks(io.RawIOBase):
    """Fail as gunicorn's input does where a chunk of the body has no size."""

    def readable(self):
        return True

    def readinto(self, _buffer):
        raise InvalidChunkSize(b"zz")


@pytest.mark.skipif(os.name == "nt", reason="gunicorn does not run on Windows")
@pytest.mark.parametrize(
    ("path", "content_type"),
    [("/segment", "application/json"), ("/segment_file", "multipart/form-data; boundary=x")],
)
def test_a_body_in_bad_chunks_is_the_callers_fault(client, path, content_type):
    environ = {"wsgi.input": BadChunks(), "wsgi.input_terminated": True}
    answer = client.post(path, content_type=content_type, environ_overrides=environ)
    assert (answer.status_code, answer.json["code"]) == (400, "bad_input")
