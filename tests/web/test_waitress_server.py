"""Requests that waitress refuses itself: a script gets the same error shape as from the application."""

from __future__ import annotations

import socket
import threading

import pytest
import requests

from sam_droplet.errors import ConfigError
from sam_droplet.web import services_of
from sam_droplet.web.serving import waitress_options
from sam_droplet.web.waitress_server import make_waitress_server


@pytest.fixture
def port(make_app):
    app = make_app(max_upload_mb=1)
    config = services_of(app).config
    server = make_waitress_server(app, "127.0.0.1", 0, config, waitress_options(config))
    threading.Thread(target=server.run, daemon=True).start()
    yield server.effective_port
    server.close()
    server.task_dispatcher.shutdown()


def test_a_body_over_every_limit_is_told_like_any_other(port):
    for megabytes in (1.1, 8):  # refused by the application, and by waitress before it
        sent = {"file": ("big.png", bytes(int(megabytes * (1 << 20))))}
        answer = requests.post(f"http://127.0.0.1:{port}/segment_file", files=sent, timeout=60)
        assert (answer.status_code, answer.headers["Content-Type"]) == (413, "application/json")
        assert (answer.json()["success"], answer.json()["code"]) == (False, "too_large")
        assert "at most 1 MiB" in answer.json()["error"]


def test_files_that_are_too_large_only_together_are_told_so(port):
    sent = [("file", (f"{number}.png", bytes(900_000))) for number in range(4)]
    headers = {"X-SAM-Droplet": "1"}
    answer = requests.post(f"http://127.0.0.1:{port}/api/images", files=sent, headers=headers, timeout=60)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert "2 MiB per request" in answer.json()["error"]


def test_a_request_that_is_no_http_is_told_like_any_other(port):
    with socket.create_connection(("127.0.0.1", port), 60) as client, client.makefile("rb") as answer:
        client.sendall(b"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: abc\r\n\r\n")
        head, _, body = answer.read().decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 400 ")
    assert "Content-Type: application/json" in head
    assert '"error": "The request could not be read: Content-Length is invalid."' in body


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_a_port_that_is_taken_is_told_in_a_sentence(make_app, host):
    app = make_app()
    config = services_of(app).config
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} of {host} cannot be listened on .*FLASK_PORT"):
            make_waitress_server(app, host, port, config, waitress_options(config))
