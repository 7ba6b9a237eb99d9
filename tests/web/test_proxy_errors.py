"""What nginx refuses itself, and in which shape, and what it lets through as it is."""

from __future__ import annotations

import http.client
import http.server
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from servers import Server, behind_nginx, free_port, serving, write_nginx_site

pytestmark = pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nginx")
    nobody = Server(None, f"http://127.0.0.1:{free_port()}", folder / "log")
    strict = {"rate=30r/s": "rate=1r/m", "burst=400 delay=120": "burst=3 nodelay"}
    with behind_nginx(nobody, folder, strict) as url:
        yield url


def checked(answer: requests.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/json")
    body = answer.json()
    assert (body["success"], body["code"], body["status"]) == (False, code, status)
    assert body["error"].endswith(".")


def test_errors_of_the_proxy_are_those_of_the_application(proxy):
    away = requests.get(f"{proxy}/health", timeout=30)
    checked(away, 503, "unavailable")
    assert int(away.headers["Retry-After"]) > 0
    assert "Strict-Transport-Security" not in away.headers  # this site speaks no HTTPS
    checked(too_large(proxy), 413, "too_large")
    answers = [requests.get(f"{proxy}/health", timeout=30) for _ in range(5)]
    checked(answers[-1], 429, "too_many_requests")
    assert int(answers[-1].headers["Retry-After"]) > 0


def too_large(proxy: str) -> requests.Response:
    """Announce 200 MB and send none of them."""
    client = http.client.HTTPConnection(urlsplit(proxy).netloc, timeout=30)
    client.putrequest("POST", "/segment_file")
    client.putheader("Content-Length", "200000000")
    client.endheaders()
    received = client.getresponse()
    answer = requests.Response()
    answer.status_code = received.status
    answer.headers.update(received.getheaders())
    answer._content = received.read()
    client.close()
    return answer


class SlowPictures(http.server.BaseHTTPRequestHandler):
    """Stand for an application that draws pictures: each takes a moment."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        time.sleep(0.3)
        self.send_response(200)
        self.send_header("Content-Length", "1")
        self.end_headers()
        self.wfile.write(b"x")

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


class ManyAtOnce(http.server.ThreadingHTTPServer):
    request_queue_size = 128


@pytest.fixture
def pictures():
    server = ManyAtOnce(("127.0.0.1", 0), SlowPictures)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_a_page_of_many_pictures_is_served_whole_over_http2(pictures, tmp_path):
    """There, each picture counts as a connection, and a browser asks for all that it shows at once."""
    with site_with_tls(tmp_path, pictures) as site:
        codes = fetched([f"{site}/api/images/{number}/view" for number in range(80)])
    assert codes == ["2 200"] * 80


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_browsers_get_modules_as_scripts(tmp_path):
    """Debian's list of types has no .mjs, and a browser runs no module of another type."""
    module = "static/v0123456789ab/vendor/tabulator/tabulator_esm.min.mjs"
    with serving("waitress", tmp_path / "data") as server:
        upstream = urlsplit(server.url).port
        assert upstream is not None
        with site_with_tls(tmp_path, upstream) as site:
            (told,) = fetched([f"{site}/{module}"], "%{http_code} %{content_type}")
    assert told == "200 text/javascript; charset=utf-8"


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_what_nginx_refuses_over_https_keeps_browsers_to_it(tmp_path):
    with site_with_tls(tmp_path, free_port()) as site:
        (told,) = fetched([f"{site}/"], "%{http_code} %header{strict-transport-security}")
    assert told == "503 max-age=31536000"


@contextmanager
def site_with_tls(folder: Path, upstream: int) -> Iterator[str]:
    """Run nginx with deploy/nginx.conf before a port; gives the site's address, which curl has to be told."""
    port = free_port()
    process = subprocess.Popen(["nginx", "-p", folder, "-c", with_tls(folder, port, upstream)])
    try:
        wait_until_listening(port)
        yield f"https://droplets.example.org:{port}"
    finally:
        process.terminate()
        process.wait(30)


def with_tls(folder: Path, port: int, upstream: int) -> Path:
    """Write deploy/nginx.conf with a certificate of its own and other ports; return nginx's main file."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=droplets.example.org",
         "-keyout", folder / "k.pem", "-out", folder / "c.pem", "-days", "2"],
        check=True, capture_output=True,
    )  # fmt: skip
    replaced = {
        "listen 80": f"listen 127.0.0.1:{free_port()}",
        "listen 443": f"listen 127.0.0.1:{port}",
        "127.0.0.1:5000": f"127.0.0.1:{upstream}",
        "/etc/ssl/certs/sam-droplet.pem": f"{folder}/c.pem",
        "/etc/ssl/private/sam-droplet.key": f"{folder}/k.pem",
    }
    write_nginx_site("nginx.conf", folder, replaced)
    site = folder / "site.conf"
    site.write_text(re.sub(r" +listen \[::\]:.*", "", site.read_text()))
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = folder / "nginx.conf"
    main.write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}} "
        f"http {{ include /etc/nginx/mime.types; default_type application/octet-stream; access_log off; "
        f"{temporary} include {folder}/site.conf; }}"
    )
    return main


def wait_until_listening(port: int) -> None:
    """Wait for a server; the retries of curl hung for ever in one run of 80 transfers at once."""
    for _ in range(300):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens on port {port}")


def fetched(addresses: list[str], told: str = "%{http_version} %{http_code}") -> list[str]:
    """Fetch all at once over HTTP/2; return what curl tells of each: version and status."""
    host = urlsplit(addresses[0])
    command = ["curl", "-sk", "--http2", "--parallel", "--parallel-max", "100"]
    command += ["--resolve", f"{host.hostname}:{host.port}:127.0.0.1"]
    command += ["-w", told + "\\n"]
    for address in addresses:
        command += ["-o", "/dev/null", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.stdout.splitlines()
