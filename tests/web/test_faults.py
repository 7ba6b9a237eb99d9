"""What breaks is told in a sentence, loses nothing, and heals without a restart."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import socket
import sqlite3
import struct
import subprocess
import threading
import time
import zlib
from contextlib import closing
from pathlib import Path

import pytest
from discs import ThresholdSegmenter, disc_png
from servers import start

from sam_droplet.errors import ConfigError, ModelUnavailable
from sam_droplet.web import services_of

PAGE = {"X-SAM-Droplet": "1"}


def send(client, data, name="x.png"):
    # By hand, because the test client leaves the temporary files of large forms open.
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    body = head.encode() + data + b"\r\n--b--\r\n"
    return client.post("/segment_file", data=body, content_type="multipart/form-data; boundary=b")


def upload(client, data=None, name="d.png"):
    fields = {"file": (io.BytesIO(disc_png() if data is None else data), name)}
    return client.post("/api/images", data=fields, headers=PAGE)


def test_a_full_disk_refuses_uploads_and_recovers(app, client, image_id):
    files = services_of(app).store.files
    files.min_free_bytes, usual = 1 << 60, files.min_free_bytes
    refused = upload(client, disc_png([(50.0, 50.0, 20.0)]), "new.png")
    assert (refused.status_code, refused.json["code"]) == (503, "unavailable")
    assert "disk is full" in refused.json["error"]
    assert int(refused.headers["Retry-After"]) >= 1
    # What needs no new file works on: the image that is there, and results that are not kept.
    assert client.get(f"/api/images/{image_id}/annotation").status_code == 200
    assert send(client, disc_png()).status_code == 200
    files.min_free_bytes = usual
    assert upload(client, disc_png([(50.0, 50.0, 20.0)]), "new.png").status_code == 201


def test_a_data_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "data").write_text("a file where the folder should be")
    server = start("waitress", tmp_path / "data")
    assert server.process.wait(60) != 0
    assert "set DATA_DIR" in server.log.read_text()
    assert "Traceback" not in server.log.read_text()


class MissingModel(ThresholdSegmenter):
    """Have no weights until somebody puts them there."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded = False

    def warm_up(self) -> None:
        if not self.loaded:
            raise ModelUnavailable("The weights are not there; fetch them.")

    def find(self, image, options, on_progress=None):
        self.warm_up()
        return super().find(image, options, on_progress)


def test_a_missing_model_is_not_ready_and_heals(make_app):
    segmenter = MissingModel()
    app = make_app(segmenter)
    client, engine = app.test_client(), services_of(app).engine
    engine.warm_up()
    ready = client.get("/readyz")
    assert (ready.status_code, "fetch them" in ready.json["error"]) == (503, True)
    assert client.get("/livez").status_code == 200
    health = client.get("/health").json
    assert (health["status"], health["model_loaded"]) == ("unhealthy", False)
    refused = send(client, disc_png())
    assert (refused.status_code, refused.json["code"]) == (503, "model_unavailable")
    segmenter.loaded = True
    engine.warm_up()
    assert client.get("/readyz").status_code == 200
    assert send(client, disc_png()).status_code == 200


def test_a_network_that_finds_nothing_on_droplets_is_not_ready(make_app):
    class Blind(ThresholdSegmenter):
        def find(self, image, options, on_progress=None):
            result = super().find(image, options, on_progress)
            result.droplets.clear()
            return result

    app = make_app(Blind())
    services_of(app).engine.warm_up()
    ready = app.test_client().get("/readyz")
    assert (ready.status_code, "found nothing" in ready.json["error"]) == (503, True)


def test_a_network_that_crashes_once_is_logged_and_the_queue_goes_on(make_app, caplog):
    class Crashing(ThresholdSegmenter):
        crashes = 1

        def find(self, image, options, on_progress=None):
            if self.crashes:
                self.crashes -= 1
                raise RuntimeError("illegal memory access")
            return super().find(image, options, on_progress)

    app = make_app(Crashing())
    client = app.test_client()
    assert send(client, disc_png()).status_code == 500
    assert "illegal memory access" in caplog.text
    assert send(client, disc_png()).status_code == 200
    state = services_of(app).engine.gate.state()
    assert (state.running, state.waiting) == (0, 0)


def failing_with(error: BaseException) -> ThresholdSegmenter:
    """Make a segmenter that fails once."""

    class Failing(ThresholdSegmenter):
        errors = [error]  # noqa: RUF012 - emptied once

        def find(self, image, options, on_progress=None):
            if self.errors:
                raise self.errors.pop()
            return super().find(image, options, on_progress)

    return Failing()


# By name, as the service knows them without importing torch.
OutOfMemoryError = type("OutOfMemoryError", (RuntimeError,), {})
AcceleratorError = type("AcceleratorError", (RuntimeError,), {})


@pytest.mark.parametrize("error", [MemoryError(), OutOfMemoryError("CUDA out of memory. Tried to allocate")])
def test_too_little_memory_is_told_and_the_next_one_is_served(make_app, error):
    client = make_app(failing_with(error)).test_client()
    refused = send(client, disc_png())
    assert (refused.status_code, refused.json["code"]) == (503, "out_of_memory")
    assert "smaller image" in refused.json["error"]
    assert int(refused.headers["Retry-After"]) >= 1
    assert send(client, disc_png()).status_code == 200


def test_an_image_too_large_for_the_memory_fails_its_job_in_the_end(make_app):
    class Small(ThresholdSegmenter):
        def find(self, image, options, on_progress=None):
            raise MemoryError

    app = make_app(Small())
    client, engine = app.test_client(), services_of(app).jobs.engine
    engine._backoff_s = 0.01
    image_id = upload(client).json["images"][0]["id"]
    job = client.post("/api/jobs", json={"image_ids": [image_id]}, headers=PAGE).json["job"]
    engine.start()
    deadline = time.monotonic() + 60
    while not (body := client.get(job["url"]).json)["job"]["finished_at"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (body["job"]["state"], body["items"][0]["attempts"]) == ("failed", 3)
    assert "memory" in body["items"][0]["message"]


@pytest.mark.parametrize(
    "error", [AcceleratorError("an illegal memory access"), RuntimeError("CUDA error: launch failure")]
)
def test_a_broken_gpu_makes_the_process_not_ready_and_asks_for_another(make_app, error):
    app = make_app(failing_with(error))
    client, engine, asked = app.test_client(), services_of(app).engine, []
    engine.warm_up()
    engine._segmenter.errors.append(error)
    engine.on_broken = lambda: asked.append(True)
    refused = send(client, disc_png())
    assert (refused.status_code, refused.json["code"]) == (503, "unavailable")
    assert asked == [True]
    ready = client.get("/readyz")
    assert (ready.status_code, "graphics card" in ready.json["error"]) == (503, True)


def test_a_damaged_database_is_told_and_works_again_from_its_backup(
    app, make_app, client, image_id, tmp_path
):
    path, backup = tmp_path / "data" / "sam_droplet.sqlite3", tmp_path / "backup.sqlite3"
    with closing(sqlite3.connect(path)) as live, closing(sqlite3.connect(backup)) as copy:
        live.backup(copy)  # what ".backup" of the sqlite3 program does
    services_of(app).store.close()
    path.write_bytes(path.read_bytes()[:4096] + os.urandom(path.stat().st_size - 4096))
    for address in ("/api/images", f"/api/images/{image_id}/annotation"):
        refused = client.get(address)
        assert (refused.status_code, "damaged" in refused.json["error"]) == (503, True)
    assert client.get("/readyz").status_code == 503
    assert client.get("/health").status_code == 200
    services_of(app).store.close()
    for rest in path.parent.glob("sam_droplet.sqlite3*"):
        rest.unlink()
    path.write_bytes(backup.read_bytes())
    again = make_app().test_client()
    assert again.get(f"/api/images/{image_id}/annotation").json["image"]["id"] == image_id


def test_a_redis_that_never_answers_holds_nobody_up(make_app):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = make_app(redis_url=f"redis://127.0.0.1:{silent.getsockname()[1]}/0").test_client()
        assert [send(client, disc_png()).status_code for _ in range(10)] == [200] * 10
        assert send(client, disc_png()).status_code == 429
        # It is asked now and then whether it is back, not by every request, each of which would wait for it.
        silent.setblocking(False)
        n_asked = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
                n_asked += 1
    assert 1 <= n_asked <= 5


def test_a_server_starts_though_requests_cannot_be_counted_together(make_app, tmp_path):
    """Such as on a data folder that is read-only: people can still look at their images."""
    (tmp_path / "data" / "request_counts.sqlite3").mkdir(parents=True)
    client = make_app().test_client()
    assert [send(client, disc_png()).status_code for _ in range(11)] == [200] * 10 + [429]


@pytest.mark.skipif(not shutil.which("redis-server"), reason="redis-server is not installed")
def test_a_redis_behind_a_socket_file_counts(make_app, tmp_path):
    path = tmp_path / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", tmp_path]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 60
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            clients = [make_app(redis_url=f"unix://{path}").test_client() for _ in range(2)]
            codes = [send(clients[number % 2], disc_png()).status_code for number in range(11)]
        finally:
            process.terminate()
    assert codes == [200] * 10 + [429]


def test_an_address_that_is_no_redis_is_one_sentence(make_app):
    with pytest.raises(ConfigError, match="REDIS_URL") as told:
        make_app(redis_url="redis://:open-sesame@[::1")
    assert "sesame" not in told.value.message


def test_two_people_who_edit_one_image_lose_nothing(app, client, image_id):
    client.post(f"/api/images/{image_id}/find", json={}, headers=PAGE)
    failures = []

    def edit(droplet_id: int) -> None:
        own = app.test_client()
        for body in ({"exclude": [droplet_id]}, {"include": [droplet_id]}, {"exclude": [droplet_id]}):
            answer = own.patch(f"/api/images/{image_id}/annotation", json=body, headers=PAGE)
            if answer.status_code != 200:
                failures.append(answer.text)

    threads = [threading.Thread(target=edit, args=(droplet_id,)) for droplet_id in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    annotation = client.get(f"/api/images/{image_id}/annotation").json
    assert failures == []
    assert annotation["revision"] == 1 + 5 * 3
    assert all(droplet["excluded_by_user"] for droplet in annotation["droplets"])


def _png(width: int, height: int, bits: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bits)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _tiff_of_many_pages(n_pages: int) -> bytes:
    parts, offset = [b"II*\0", struct.pack("<I", 8)], 8
    for page in range(n_pages):
        size = 2 + 12 * 2 + 4
        following = offset + size if page + 1 < n_pages else 0
        entries = struct.pack("<HHII", 256, 4, 1, 10) + struct.pack("<HHII", 257, 4, 1, 10)
        parts.append(struct.pack("<H", 2) + entries + struct.pack("<I", following))
        offset += size
    return b"".join(parts)


HOSTILE = {
    "a bomb of 30,000 by 30,000 pixels": _png(30_000, 30_000, b"\0" * 100_000),
    "a width of two thousand million": _png(2**31 - 1, 2**31 - 1, b"\0"),
    "100,000 TIFF directories": _tiff_of_many_pages(100_000),
    "a TIFF whose directories run in a circle": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "a script in a picture's clothes": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "a page": b"<!doctype html><script>alert(1)</script>",
    "an archive": b"PK\x03\x04" + b"\0" * 1000,
    "a program": b"\x7fELF" + b"\0" * 1000,
    "half a picture": disc_png()[:150],
    "a JPEG that ends": b"\xff\xd8\xff\xe0\0\x10JFIF\0" + b"\0" * 20,
    "an animation": b"GIF89a\x01\0\x01\0\0\0\0;",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n" + b"a" * 1000,
    "a gzipped FITS": b"SIMPLE  =                    T" + b" " * 3000,
    "zeros": b"\0" * 100_000,
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_upload_is_refused_fast(client, data):
    seconds = []
    for _ in range(3):
        started = time.thread_time()  # the work, not what other programs do meanwhile
        answer = send(client, data)
        seconds.append(time.thread_time() - started)
        assert answer.status_code in (400, 413, 415, 422), answer.text
        assert answer.json["success"] is False
    assert min(seconds) < 0.2


@pytest.mark.parametrize(
    "name", ["CON", "NUL.png", "x/NUL", "..\\..\\x.png", "a" * 5000 + ".png", "'; DROP--", "é\u202e.png"]
)
def test_a_strange_name_is_just_a_name(app, client, name):
    answer = upload(client, name=name)
    assert answer.status_code == 201
    shown = answer.json["images"][0]["name"]
    assert len(shown) <= 200
    assert not any(c in shown for c in "/\\\u202e")
    folder = services_of(app).store.files.folder
    assert {len(path.name) for path in folder.glob("??/*")} == {64}
    exported = client.get(f"/api/images/{answer.json['images'][0]['id']}/export/csv")
    assert "\n" not in exported.headers["Content-Disposition"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_bomb_takes_no_memory(client):
    def resident_kb() -> int:
        status = Path(f"/proc/{os.getpid()}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])

    before = resident_kb()
    assert send(client, HOSTILE["a bomb of 30,000 by 30,000 pixels"]).status_code == 413
    assert resident_kb() - before < 20_000
