"""Requests that waitress refuses itself: a script gets the same error shape as from the application."""

from __future__ import annotations

import socket
import threading

import pytest
import requests

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
        assert "at most 1 M" in answer.json()["error"]


def test_a_request_that_is_no_http_is_told_like_any_other(port):
    with socket.create_connection(("127.0.0.1", port), 60) as client:
        client.sendall(b"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: abc\r\n\r\n")
        head, _, body = client.recv(1 << 16).decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 400 ")
    assert "Content-Type: application/json" in head
    assert '"error": "The request could not be read: Content-Length is invalid."' in body
