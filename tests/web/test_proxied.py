"""Behind real nginx, with real Redis: the same masks, the client's own address, limits for all workers."""

from __future__ import annotations

import shutil
import subprocess
import time

import pytest
import requests
from servers import behind_nginx, free_port, serving

from sam_droplet.imaging.images import encode_png
from sam_droplet.imaging.synthetic import render_sample

pytestmark = [
    pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed"),
    pytest.mark.skipif(not shutil.which("redis-server"), reason="redis-server is not installed"),
]


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    port = free_port()
    folder = tmp_path_factory.mktemp("redis")
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder],
        stdout=subprocess.DEVNULL,
    )
    yield process, f"redis://127.0.0.1:{port}/0"
    process.terminate()
    process.wait(60)


@pytest.fixture(scope="module")
def gunicorn(tmp_path_factory, redis):
    settings = {"redis_url": redis[1], "trusted_proxies": 1, "rate_limit_segment": "8 per hour"}
    with serving("gunicorn", tmp_path_factory.mktemp("proxied") / "data", **settings) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(tmp_path_factory, gunicorn):
    with behind_nginx(gunicorn, tmp_path_factory.mktemp("nginx")) as url:
        yield url


@pytest.fixture(scope="module")
def sample_png() -> bytes:
    return encode_png(render_sample("emulsion"))


def segment_file(url, png, **headers) -> requests.Response:
    return requests.post(f"{url}/segment_file", files={"file": ("s.png", png)}, headers=headers, timeout=120)


def masks_text(response) -> str:
    assert response.status_code == 200, response.text[:500]
    return response.text[response.text.index('"masks":') : response.text.index('"filters_applied":')]


def test_masks_through_nginx_are_byte_identical(gunicorn, proxy, sample_png):
    assert masks_text(segment_file(proxy, sample_png)) == masks_text(segment_file(gunicorn.url, sample_png))


def test_a_request_id_of_nginx_reaches_the_answer_and_the_log(gunicorn, proxy):
    answer = requests.get(proxy + "/api/images", timeout=30)
    assert answer.headers["X-Request-ID"] in gunicorn.log.read_text()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_links_are_as_safe_as_what_stands_in_front_of_nginx(proxy, scheme):
    headers = {"X-SAM-Droplet": "1"}
    opened = requests.post(f"{proxy}/api/samples/emulsion", headers=headers, timeout=120)
    image_id = opened.json()["images"][0]["id"]
    if scheme == "https":
        headers["X-Forwarded-Proto"] = scheme
    made = requests.post(f"{proxy}/api/images/{image_id}/share", headers=headers, timeout=60)
    assert made.json()["url"].startswith(f"{scheme}://")


def test_the_events_of_a_job_are_not_held_back_by_nginx(proxy):
    page, pixels, ids = {"X-SAM-Droplet": "1"}, render_sample("emulsion"), []
    for i in range(4):
        png = encode_png(pixels[i : i + 384, :384].copy())
        files = {"file": (f"{i}.png", png)}
        opened = requests.post(f"{proxy}/api/images", files=files, headers=page, timeout=60)
        ids.append(opened.json()["images"][0]["id"])
    started = requests.post(f"{proxy}/api/jobs", json={"image_ids": ids}, headers=page, timeout=60)
    with requests.get(proxy + started.json()["job"]["events_url"], stream=True, timeout=60) as stream:
        times = [time.monotonic() for line in stream.iter_lines(chunk_size=1) if line.startswith(b"data:")]
    assert len(times) >= 3
    assert times[-1] - times[0] > 0.3


def test_a_body_over_the_limit_is_refused_by_nginx(proxy):
    huge = requests.post(
        proxy + "/segment_file", headers={"Content-Length": str(200 << 20)}, data=iter([b"x"]), timeout=30
    )
    assert huge.status_code in (411, 413, 400)


def test_limits_hold_for_all_workers_and_cannot_be_dodged(proxy, sample_png):
    codes = []
    for number in range(12):
        answer = segment_file(proxy, sample_png, **{"X-Forwarded-For": f"203.0.113.{number}"})
        codes.append(answer.status_code)
    assert codes.count(429) >= 4
    assert codes[-1] == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 3601  # the end of the hour, in whole seconds
    assert answer.json()["code"] == "too_many_requests"


def test_without_redis_the_workers_count_alone_and_serve_on(redis, gunicorn, proxy, sample_png):
    redis[0].terminate()
    redis[0].wait(60)
    answers = [segment_file(proxy, sample_png) for _ in range(3)]
    assert {answer.status_code for answer in answers} <= {200, 429}
    assert 200 in {answer.status_code for answer in answers}
    assert requests.get(proxy + "/health", timeout=30).status_code == 200
