"""Far too many requests at once: the served stay served, the others are told when to come back."""

from __future__ import annotations

import io
import statistics
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


class MeteredSegmenter(ThresholdSegmenter):
    """Note how long the predictor was at work: one at a time, so a plain sum is right."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.busy_s = 0.0

    def find(self, image, options, on_progress=None):
        started = time.monotonic()
        result = super().find(image, options, on_progress)
        self.busy_s += time.monotonic() - started
        return result


@pytest.fixture
def segmenter():
    return MeteredSegmenter(SERVICE_S)


@pytest.fixture
def url(make_app, segmenter):
    app = make_app(
        segmenter, queue_size=4, rate_limit_default="1000000 per hour", rate_limit_segment="100000 per minute"
    )
    services: Services = app.extensions["sam_droplet"]
    server = waitress.server.create_server(app, host="127.0.0.1", port=0, **waitress_options(services.config))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    server.close()
    server.task_dispatcher.shutdown()


def ask_for(seconds: float, url: str, pause_s: float) -> list[tuple[int, float, str | None]]:
    """Ask one after the other; return each answer's status, its seconds and its Retry-After."""
    answers, ends = [], time.monotonic() + seconds
    with requests.Session() as session:
        while time.monotonic() < ends:
            started = time.monotonic()
            file = {"file": ("d.png", io.BytesIO(disc_png()))}
            answer = session.post(
                url + "/segment_file", files=file, data={"mask_images": "false"}, timeout=30
            )
            seconds_taken = time.monotonic() - started
            answers.append((answer.status_code, seconds_taken, answer.headers.get("Retry-After")))
            time.sleep(pause_s)
    return answers


def test_ten_times_the_load_keeps_the_predictor_busy_and_refuses_the_rest_fast(url, segmenter):
    n_clients, duration_s = 20, 6
    pause_s = n_clients * SERVICE_S / 10
    started = time.monotonic()
    with ThreadPoolExecutor(n_clients) as pool:
        found = list(pool.map(lambda _: ask_for(duration_s, url, pause_s), range(n_clients)))
    took_s = time.monotonic() - started
    answers = [answer for some in found for answer in some]
    codes = [code for code, _, _ in answers]
    assert set(codes) == {200, 503}
    assert codes.count(503) > 2 * codes.count(200)
    # The predictor is the bottleneck: as long as it never idles, the capacity is used up. The last
    # queue drains while no new requests come, which is why it is no full 1.
    assert segmenter.busy_s / took_s >= 0.85
    # Under 50 ms each on a quiet machine; compared with what is served, so that a busy one passes too.
    refused = statistics.median(seconds for code, seconds, _ in answers if code == 503)
    served = statistics.median(seconds for code, seconds, _ in answers if code == 200)
    assert refused < 0.5 * served
    assert all(int(retry_after or 0) >= 1 for code, _, retry_after in answers if code == 503)


def test_a_server_without_a_queue_is_ready_whenever_nothing_runs(make_app):
    app = make_app(queue_size=0)
    services: Services = app.extensions["sam_droplet"]
    services.engine.warm_up()
    assert app.test_client().get("/readyz").status_code == 200
    with services.engine.gate.enter():
        busy = app.test_client().get("/readyz")
    assert (busy.status_code, "queue is full" in busy.json["error"]) == (503, True)


def test_clicks_pass_whole_images_in_the_queue():
    gate, order = Gate(max_waiting=10), []
    started, may_end = threading.Event(), threading.Event()

    def work(name: str, urgent: bool) -> None:
        with gate.enter(urgent=urgent):
            started.set()
            order.append(name)
            may_end.wait(30)

    threads = [threading.Thread(target=work, args=("first", False))]
    threads[0].start()
    assert started.wait(30)
    for name, urgent in (("image", False), ("image", False), ("click", True)):
        threads.append(threading.Thread(target=work, args=(name, urgent)))
        threads[-1].start()
        while gate.state().waiting < len(threads) - 1:
            time.sleep(0.001)
    may_end.set()
    for thread in threads:
        thread.join(30)
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
