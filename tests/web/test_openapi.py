"""The description is complete, and random requests made from it never break the server or leave it."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from discs import ThresholdSegmenter, disc_png
from hypothesis import HealthCheck, settings

from sam_droplet.config import load_config
from sam_droplet.imaging.images import encode_png
from sam_droplet.web import create_app, legacy, services_of

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

CHECKS = [
    getattr(schemathesis.checks, name)
    for name in ("status_code_conformance", "response_schema_conformance", "content_type_conformance")
]
UNDOCUMENTED = {
    *(f"/shared/{{token}}{part}" for part in ("", "/annotation", "/assays", "/report", "/view", "/tile")),
    "/shared/{token}/export/{format_name}",
    "/",
    "/api-docs",
    "/annotate/{image_id}",
    "/batch",
    "/batch/{job_id}",
    "/login",
    "/logout",
    "/static/{filename}",
}  # pages for people


def test_every_address_is_described(app, client):
    described = {
        (path, method.upper())
        for path, item in client.get("/openapi.json").json["paths"].items()
        for method in item
        if method != "parameters"
    }
    served = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method)
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert {(p, m) for p, m in served if p not in UNDOCUMENTED} == described


def test_every_option_of_the_script_addresses_is_described(client):
    paths = client.get("/openapi.json").json["paths"]
    for path in ("/segment", "/segment_file", "/advanced_analysis"):
        (body,) = paths[path]["post"]["requestBody"]["content"].values()
        assert set(legacy.OPTIONS) <= set(body["schema"]["properties"]), path


def test_a_channel_is_described_as_a_column_to_filter_by(client):
    colours = np.zeros((40, 40, 3), np.uint8)
    colours[10:30, 10:30] = 200
    data = {"file": (io.BytesIO(encode_png(colours)), "colours.png")}
    headers = {"X-SAM-Droplet": "1"}
    image_id = client.post("/api/images", data=data, headers=headers).json["images"][0]["id"]
    client.post(f"/api/images/{image_id}/find", json={}, headers=headers)
    edit = {"filters": {"ranges": {"mean_intensity_c2": [1, None]}}}
    answer = client.patch(f"/api/images/{image_id}/annotation", json=edit, headers=headers)
    assert (answer.status_code, answer.json["n_included"]) == (200, 1)
    filters = client.get("/openapi.json").json["components"]["schemas"]["Filters"]
    _, channels = filters["properties"]["ranges"]["propertyNames"]["anyOf"]
    assert re.search(channels["pattern"], "mean_intensity_c2")


def test_the_page_of_the_api_lists_every_address(client):
    page = client.get("/api-docs")
    assert page.status_code == 200
    shown = {
        " ".join(re.sub("<.*?>", "", line).split()) for line in re.findall("<h3><code>.*?</h3>", page.text)
    }
    for path, item in client.get("/openapi.json").json["paths"].items():
        for method in item.keys() - {"parameters"}:
            assert f"{method.upper()} {path}" in shown
    assert "curl -F file=@image.tif http://localhost/segment_file" in page.text
    assert "<code>inclusion_diameter_px</code>" in page.text
    assert not re.search(r"with\s*</p>", page.text)


OPERATIONS = [
    "GET /api/images", "POST /api/images", "DELETE /api/images/{image_id}", "GET /api/images/{image_id}/view",
    "GET /api/images/{image_id}/tile", "GET /api/images/{image_id}/share",
    "POST /api/images/{image_id}/share", "DELETE /api/images/{image_id}/share",
    "GET /api/images/{image_id}/export/{format_name}", "GET /api/images/{image_id}/annotation",
    "PATCH /api/images/{image_id}/annotation", "POST /api/images/{image_id}/find",
    "POST /api/images/{image_id}/predict", "GET /api/images/{image_id}/proposals",
    "POST /api/images/{image_id}/droplets", "POST /api/images/{image_id}/redraw",
    "GET /api/images/{image_id}/assays",
    "PUT /api/images/{image_id}/assays/{name}", "DELETE /api/images/{image_id}/assays/{name}",
    "GET /api/images/{image_id}/report", "GET /api/images/{image_id}/presets",
    "POST /api/images/{image_id}/pages/{page}", "GET /api/objectives",
    "POST /api/objectives", "DELETE /api/objectives",
    "GET /api/samples",
    "POST /api/samples/{name}", "GET /api/samples/{name}/thumbnail", "GET /api/models", "POST /segment_file",
    "POST /segment", "POST /analyze_image",
    "POST /advanced_analysis", "POST /download_analysis",
    "GET /defaults", "GET /health", "GET /livez", "GET /readyz",
    "GET /api/jobs", "POST /api/jobs", "GET /api/jobs/{job_id}", "POST /api/jobs/{job_id}/cancel",
    "POST /api/jobs/{job_id}/retry", "GET /api/jobs/{job_id}/events",
    "GET /api/jobs/{job_id}/export/{format_name}", "GET /api/images/{image_id}/outlined",
    "GET /admin/stats", "GET /admin/health", "GET /metrics", "GET /openapi.json",
]  # fmt: skip


@pytest.fixture(scope="module")
def open_app(tmp_path_factory):
    """Make one application for all operations; its description is read once."""
    # schemathesis sends no client address, which a server without keys would refuse.
    changes = {"rate_limit_default": "100000 per hour", "rate_limit_segment": "100000 per hour"}
    changes |= {"allow_public_without_keys": True, "data_dir": tmp_path_factory.mktemp("openapi") / "data"}
    app = create_app(load_config({}, changes), ThresholdSegmenter())
    app.testing = True
    app.config["PROPAGATE_EXCEPTIONS"] = False
    yield app, schemathesis.openapi.from_wsgi("/openapi.json", app)
    services_of(app).store.close()


@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_random_requests_get_documented_answers(open_app, operation, mode):
    app, schema = open_app
    image_id = _opened_and_found(app.test_client())
    job_id = _cancelled_job(app.test_client(), image_id)
    method, path = operation.split(" ")
    if mode == "negative" and method == "GET" and "{" not in path:
        pytest.skip("nothing can be sent wrongly")
    cases = schema[path][method].as_strategy(generation_mode=schemathesis.GenerationMode(mode))

    @given(case=cases, use_real_id=st.integers(0, 3))
    @settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def check(case, use_real_id):
        if "image_id" in case.path_parameters and use_real_id and method != "DELETE":
            case.path_parameters["image_id"] = image_id
        if "job_id" in case.path_parameters and use_real_id and not path.endswith("/retry"):
            case.path_parameters["job_id"] = job_id  # finished, so that its stream ends
        response = case.call()
        assert response.status_code < 500 or path == "/readyz", response.text
        case.validate_response(response, checks=CHECKS)

    check()


def _opened_and_found(client) -> str:
    headers = {"X-SAM-Droplet": "1"}
    data = {"file": (io.BytesIO(disc_png()), "discs.png")}
    image_id = client.post("/api/images", data=data, headers=headers).json["images"][0]["id"]
    assert client.post(f"/api/images/{image_id}/find", json={}, headers=headers).status_code == 200
    return str(image_id)


def _cancelled_job(client, image_id) -> str:
    headers = {"X-SAM-Droplet": "1"}
    job = client.post("/api/jobs", json={"image_ids": [image_id]}, headers=headers).json["job"]
    assert client.post(f"/api/jobs/{job['id']}/cancel", headers=headers).status_code == 200
    return str(job["id"])
