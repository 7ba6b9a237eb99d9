"""A minute that no server should have: kills under jobs, or ten times the load it can carry.

Run as a program: ``python tests/soak.py kills|overload [--seconds 60] [--networks]``; it prints what it saw
and ends with 1 where a promise was broken. The suite runs both for a few seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import re
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import requests
from discs import disc_png
from servers import Server, serving

PAGE = {"X-SAM-Droplet": "1"}
KILL_EVERY_S = 3.0
# Of the threshold that stands in for the networks; long beside what a refusal costs a small machine.
SERVICE_S = {"kills": 0.2, "overload": 0.5}
N_WORKERS, QUEUE_SIZE = 2, 4
KINDS = {False: "gunicorn of discs", True: "gunicorn"}


@dataclass
class Report:
    """What a run saw, and which promises it broke."""

    seen: dict[str, Any] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def expect(self, promise: str, kept: bool) -> None:
        """Note a promise that was not kept."""
        if not kept:
            self.broken.append(promise)


def picture(number: int) -> bytes:
    """Return discs whose number and places say which picture it is."""
    rng = random.Random(number)
    places = [(x + rng.random() * 8, y + rng.random() * 8) for x in range(30, 280, 50) for y in (30, 80, 130)]
    return disc_png([(x, y, 12.0) for x, y in places[: 3 + number % 12]], (300, 180))


def asked(call: Callable[[], requests.Response], seconds: float = 120.0) -> requests.Response:
    """Ask until a worker answers: the one that was asked may have been killed."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(requests.RequestException):
            answer = call()
            if answer.status_code not in (502, 503):
                return answer
        if time.monotonic() > deadline:
            raise RuntimeError(f"no worker answered for {seconds:g} s")
        time.sleep(0.1)


def kills(seconds: float, folder: Path, *, networks: bool = False, pause_s: float = KILL_EVERY_S) -> Report:
    """Kill a worker every few seconds under jobs and short requests; every image must be measured once."""
    report = Report()
    settings = {"discs_seconds": SERVICE_S["kills"], "workers": N_WORKERS}
    with serving(KINDS[networks], folder / "data", **settings) as server:
        n_images = (
            max(8, round(1.5 * seconds / SERVICE_S["kills"] / 4)) if not networks else max(8, round(seconds))
        )
        ids = [_opened(server, number) for number in range(n_images)]
        jobs = [_started(server, ids[i::4]) for i in range(4)]
        stop, statuses = threading.Event(), Counter[Any]()
        asking = threading.Thread(target=_keep_asking, args=(server, ids, stop, statuses))
        asking.start()
        n_killed, ends = 0, time.monotonic() + seconds
        while time.monotonic() < ends:
            time.sleep(pause_s)
            n_killed += _kill_one(server)
        stop.set()
        asking.join()
        bodies = [_finished(server, url) for url in jobs]
        _check_jobs(report, server, bodies, ids, folder / "data")
        report.seen |= {"killed": n_killed, "images": n_images, "short_requests": dict(statuses)}
        report.expect("a worker was killed at least twice", n_killed >= 2)
        unexpected = set(statuses) - {200, 503, "cut off"}
        report.expect(f"short requests are answered or cut off, never {unexpected}", not unexpected)
    return report


def overload(
    seconds: float, folder: Path, *, networks: bool = False, times: int = 10, n_clients: int = 40
) -> Report:
    """Send ten times what the predictors can do: the rest is refused fast, and capacity is used."""
    report = Report()
    settings = {"discs_seconds": SERVICE_S["overload"], "workers": N_WORKERS, "queue_size": QUEUE_SIZE}
    with serving(KINDS[networks], folder / "data", **settings) as server:
        alone = _alone_s(server, max(3.0, seconds / 10))
        capacity_s = N_WORKERS / alone
        # Whoever is served or waits in a queue asks nothing; the others must ask all the more often.
        n_free = n_clients - N_WORKERS * (1 + QUEUE_SIZE)
        pause_s = n_free / (times * capacity_s)
        with ThreadPoolExecutor(n_clients) as pool:
            started, busy_s = time.monotonic(), _busy_s(server)
            many = list(pool.map(lambda n: _send(server, seconds, pause_s, n), range(n_clients)))
            took_s = time.monotonic() - started
            busy_s = _busy_s(server) - busy_s
    answers = [answer for some in many for answer in some]
    served = [s for status, s, _ in answers if status == 200]
    refused = sorted(s for status, s, _ in answers if status == 503)
    statuses = Counter(status for status, _, _ in answers)
    # A predictor that never idles serves all it can, however fast the machine is at the time.
    used = busy_s / (N_WORKERS * took_s)
    report.seen |= {
        "capacity_per_s": round(capacity_s, 2),
        "offered": round(len(answers) / took_s / capacity_s, 1),
        "served_per_s": round(len(served) / took_s, 2),
        "capacity_used": round(used, 3),
        "statuses": dict(statuses),
        "refused_p50_ms": round(1000 * refused[len(refused) // 2]) if refused else None,
        "refused_p95_ms": round(1000 * refused[int(0.95 * len(refused))]) if refused else None,
        "alone_ms": round(1000 * alone),
    }
    report.expect("only served or refused", set(statuses) <= {200, 503})
    report.expect("something was refused", bool(refused))
    # In a short run it tells that in the end one queue is empty before the other.
    report.expect("at least 90 % of capacity is served", used >= 1 - max(0.1, 1.5 / seconds))
    report.expect("each refusal says when to come back", all(r >= 1 for s, _, r in answers if s == 503))
    fast = bool(refused) and refused[len(refused) // 2] < alone
    report.expect("a refusal is faster than an answer", fast)
    return report


def _opened(server: Server, number: int) -> str:
    def call() -> requests.Response:
        return server.post("/api/images", files={"file": (f"{number}.png", io.BytesIO(picture(number)))})

    return str(asked(call).json()["images"][0]["id"])


def _started(server: Server, ids: list[str]) -> str:
    body = {"image_ids": ids, "idempotency_key": ids[0]}
    return str(asked(lambda: server.post("/api/jobs", json=body)).json()["job"]["url"])


def _finished(server: Server, url: str) -> dict[str, Any]:
    deadline = time.monotonic() + 300
    while True:
        body: dict[str, Any] = asked(lambda: server.get(url)).json()
        if body["job"]["finished_at"]:
            return body
        if time.monotonic() > deadline:
            raise RuntimeError(f"not finished after five minutes: {body['job']}")
        time.sleep(0.2)


def _keep_asking(server: Server, ids: list[str], stop: threading.Event, statuses: Counter[Any]) -> None:
    rng = random.Random(0)
    while not stop.wait(0.02):
        try:
            statuses[server.get(f"/api/images/{rng.choice(ids)}/annotation").status_code] += 1
        except requests.RequestException:
            statuses["cut off"] += 1


def _kill_one(server: Server) -> int:
    workers = server.workers()
    if not workers:
        return 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(random.choice(workers), signal.SIGKILL)
        return 1
    return 0


def _check_jobs(
    report: Report, server: Server, bodies: list[dict[str, Any]], ids: list[str], data_dir: Path
) -> None:
    items = [item for body in bodies for item in body["items"]]
    states = Counter(item["state"] for item in items)
    report.seen |= {"items": dict(states), "attempts": dict(Counter(item["attempts"] for item in items))}
    report.expect("every image ends, each in one state", sum(states.values()) == len(ids))
    # Three kills on one image count as its own fault, so a few may fail; retrying must then do them.
    report.expect("no image fails for another reason", set(states) <= {"done", "failed"})
    for body in bodies:
        if any(item["state"] == "failed" for item in body["items"]):
            asked(lambda url=body["job"]["url"]: server.post(url + "/retry"))  # type: ignore[misc]
            _finished(server, body["job"]["url"])
    revisions = Counter(_annotation(server, image_id)["revision"] for image_id in ids)
    report.seen["revisions"] = dict(revisions)
    report.expect("every image was measured exactly once", set(revisions) == {1})
    with contextlib.closing(sqlite3.connect(data_dir / "sam_droplet.sqlite3")) as database:
        held = database.execute("SELECT count(*) FROM job_items WHERE token IS NOT NULL").fetchone()[0]
        sound = database.execute("PRAGMA integrity_check").fetchone()[0]
    report.expect("no lease is left over", held == 0)
    report.expect("the database is sound", sound == "ok")


def _annotation(server: Server, image_id: str) -> dict[str, Any]:
    body: dict[str, Any] = asked(lambda: server.get(f"/api/images/{image_id}/annotation")).json()
    return body


def _alone_s(server: Server, seconds: float) -> float:
    """Return the seconds of an answer when nobody else asks."""
    answers = sorted(took_s for _, took_s, _ in _send(server, seconds, 0.0, 1000))
    return answers[len(answers) // 2]


def _busy_s(server: Server) -> float:
    """Return how long the predictors have been at work so far, those of all workers together."""
    sums = re.findall(
        r'samdroplet_stage_duration_seconds_sum{stage="(\w+)"} (\S+)', server.get("/metrics").text
    )
    return sum(float(stage_s) for stage, stage_s in sums if stage != "queue")


def _send(server: Server, seconds: float, pause_s: float, client: int) -> list[tuple[int, float, int]]:
    """Ask one after the other; return each answer's status, its seconds and its Retry-After."""
    answers, ends, rng = [], time.monotonic() + seconds, random.Random(client)
    png = picture(client)
    time.sleep(rng.random() * pause_s)
    while time.monotonic() < ends:
        started = time.monotonic()
        answer = server.post("/segment_file", files={"file": ("d.png", png)}, data={"mask_images": "false"})
        took_s = time.monotonic() - started
        answers.append((answer.status_code, took_s, int(answer.headers.get("Retry-After", 0))))
        time.sleep(max(0.0, pause_s - took_s) * (0.5 + rng.random()))
    return answers


def main() -> int:
    """Run one of the two; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["kills", "overload"])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--networks", action="store_true", help="the real networks, not a threshold")
    arguments = parser.parse_args()
    run = {"kills": kills, "overload": overload}[arguments.what]
    with tempfile.TemporaryDirectory() as folder:
        report = run(arguments.seconds, Path(folder), networks=arguments.networks)
    for name, value in report.seen.items():
        print(f"{name}: {value}")
    for promise in report.broken:
        print(f"BROKEN: {promise}")
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
