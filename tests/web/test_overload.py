"""Far too many requests at once: the served stay served, the others are told when to come back."""

from __future__ import annotations

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
import waitress.server
from discs import ThresholdSegmenter, disc_png

from sam_droplet.errors import Unavailable
from sam_droplet.service.admission import Gate
from sam_droplet.web.services import Services
from sam_droplet.web.serving import waitress_options

SERVICE_S = 0.1


@pytest.fixture
def url(make_app):
    app = make_app(
        ThresholdSegmenter(SERVICE_S),
        queue_size=4,
        rate_limit_default="1000000 per hour",
        rate_limit_segment="100000 per minute",
    )
    services: Services = app.extensions["sam_droplet"]
    options = waitress_options(services.config)
    server = waitress.server.create_server(app, host="127.0.0.1", port=0, **options)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    server.close()
    server.task_dispatcher.shutdown()


def test_ten_times_the_load_leaves_nine_tenths_of_the_capacity(url):
    ends = time.monotonic() + 5
    answers = []

    def client(_: int) -> None:
        with requests.Session() as session:
            while time.monotonic() < ends:
                started = time.monotonic()
                answer = session.post(
                    url + "/segment_file",
                    files={"file": ("d.png", io.BytesIO(disc_png()))},
                    data={"mask_images": "false"},
                    timeout=30,
                )
                answers.append((answer.status_code, time.monotonic() - started, answer.headers))
                time.sleep(0.05)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(client, range(20)))
    codes = [code for code, _, _ in answers]
    assert set(codes) == {200, 503}
    refused = sorted(seconds for code, seconds, _ in answers if code == 503)
    assert len(refused) > codes.count(200)
    # The threshold itself takes a while on top of SERVICE_S, so the capacity is below 10 a second.
    assert codes.count(200) >= 0.9 * 5 / (SERVICE_S + 0.06)
    assert refused[len(refused) // 2] < 0.1
    assert all(int(headers["Retry-After"]) >= 1 for code, _, headers in answers if code == 503)


def test_clicks_pass_whole_images_in_the_queue():
    gate, order, started = Gate(max_waiting=10), [], threading.Event()

    def work(name: str, urgent: bool) -> None:
        with gate.enter(urgent=urgent):
            started.set()
            order.append(name)
            time.sleep(0.05)

    first = threading.Thread(target=work, args=("first", False))
    first.start()
    started.wait(5)
    threads = []
    for name, urgent in (("image", False), ("image", False), ("click", True)):
        threads.append(threading.Thread(target=work, args=(name, urgent)))
        threads[-1].start()
        while gate.state().waiting < len(threads):
            time.sleep(0.001)
    for thread in (first, *threads):
        thread.join(5)
    assert order == ["first", "click", "image", "image"]


def test_a_full_gate_tells_how_long_and_empties_after_an_error():
    gate = Gate(max_waiting=0)
    with gate.enter(), pytest.raises(Unavailable) as refused, gate.enter():
        pytest.fail("a second one must not get in")
    assert refused.value.retry_after_s is not None
    assert refused.value.retry_after_s >= 1
    assert gate.state().rejected == 1
    with pytest.raises(ZeroDivisionError), gate.enter():
        _ = 1 / 0
    assert (gate.state().running, gate.state().waiting) == (0, 0)
