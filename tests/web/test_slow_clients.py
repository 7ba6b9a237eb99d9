"""Clients that send or read a byte now and then hold nobody else up, and are sent away in the end."""

from __future__ import annotations

import contextlib
import io
import shutil
import socket
import threading
import time
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
from servers import Server, behind_nginx, serving

from sam_droplet.imaging.images import encode_png

pytestmark = pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")
PAGE = {"X-SAM-Droplet": "1"}
# More than the worker has threads (3 for requests and 8 for streams), fewer than nginx allows one address.
N_SLOW = 30
GIVEN_UP_S = 4  # instead of 30 s for a body and 15 s for a header


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    settings = {"workers": 1, "threads": 1, "queue_size": 1, "trusted_proxies": 1}
    with serving("gunicorn of discs", tmp_path_factory.mktemp("slow") / "data", **settings) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(server: Server, tmp_path_factory):
    patience = {
        "client_body_timeout 30s": f"client_body_timeout {GIVEN_UP_S}s",
        "client_header_timeout 15s": f"client_header_timeout {GIVEN_UP_S}s",
    }
    with behind_nginx(server, tmp_path_factory.mktemp("nginx"), patience) as url:
        yield url


def noise_png(size_px: int) -> bytes:
    """Return a picture that no format makes smaller."""
    return encode_png(np.random.default_rng(size_px).integers(0, 256, (size_px, size_px), np.uint8))


def connected(url: str, receive_bytes: int | None = None) -> socket.socket:
    client = socket.socket()
    if receive_bytes:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    address = urlsplit(url)
    client.settimeout(60)
    client.connect((address.hostname, address.port))
    return client


def everything(client: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while more := client.recv(65536):
            received += more
    return received


def others_are_served(url: str) -> None:
    for _ in range(3):
        assert requests.get(url + "/livez", timeout=60).status_code == 200
        sent = {"file": ("n.png", io.BytesIO(noise_png(64)))}
        assert requests.post(url + "/segment_file", files=sent, timeout=60).status_code == 200


@pytest.mark.parametrize("sent_so_far", ["half a header", "half a body"])
def test_slow_senders_hold_nobody_up_and_are_given_up(proxy, sent_so_far):
    head = b"POST /segment_file HTTP/1.1\r\nHost: localhost\r\n"
    if sent_so_far == "half a body":
        head += b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\r\n--b\r\n"
    slow = [connected(proxy) for _ in range(N_SLOW)]
    over = threading.Event()

    def drip() -> None:
        while not over.wait(0.5):
            for client in slow:
                with contextlib.suppress(OSError):
                    client.sendall(b"x")

    for client in slow:
        client.sendall(head)
    dripping = threading.Thread(target=drip)
    dripping.start()
    others_are_served(proxy)
    over.set()
    dripping.join()
    started = time.monotonic()
    answers = [everything(client) for client in slow]
    assert time.monotonic() - started < 60
    # nginx says 408 or closes without a word; it never passes such a request on.
    assert {answer.split(b"\r\n")[0] for answer in answers} <= {b"HTTP/1.1 408 Request Time-out", b""}
    for client in slow:
        client.close()
    others_are_served(proxy)


def test_slow_readers_hold_nobody_up_and_get_everything(proxy):
    sent = {"file": ("big.png", io.BytesIO(noise_png(2000)))}
    opened = requests.post(f"{proxy}/api/images", files=sent, headers=PAGE, timeout=60)
    address = f"/api/images/{opened.json()['images'][0]['id']}/view"
    whole = requests.get(proxy + address, timeout=60).content
    assert len(whole) > 2_000_000
    request = f"GET {address} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    slow = [connected(proxy, 4096) for _ in range(N_SLOW)]
    for client in slow:
        client.sendall(request)
        client.recv(100)
    others_are_served(proxy)
    for client in slow[1:]:
        client.close()
    assert everything(slow[0]).endswith(whole[-100_000:])
    slow[0].close()
    others_are_served(proxy)
