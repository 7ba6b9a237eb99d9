"""A real server in its own process and a real browser on it, for the test_browser files.

A page that writes an error to the console, throws, or has something blocked by its policy fails its test.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
LAB_HOST = "lab.example"
SERVE = Path(__file__).with_name("serve_discs.py")
AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"
NOTE_VIOLATIONS = """
window.policyViolations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.policyViolations.push(`${event.violatedDirective}: ${event.blockedURI}`);
});
"""
DROP = """
([kind, name, text]) => {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, { type: "image/png" }));
  const event = kind === "paste"
    ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true })
    : new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
  document.body.dispatchEvent(event);
}
"""
# Most tests begin with an image on which nothing was looked for yet.
FIND_ONLY_WHEN_ASKED = """
(() => {
  const key = "sam-droplet-preference-findOnOpen";
  try {
    localStorage.getItem(key) ?? localStorage.setItem(key, "false");
  } catch {} // a page without storage, such as about:blank
})();
"""
# On a busy machine a page takes longer; a test that passes waits for nothing.
expect.set_options(timeout=30_000)


class Server:
    """Run the application on a port of its own; it can go away and come back."""

    def __init__(self, data_dir: Path, engine: str = "threshold") -> None:
        self.data_dir = data_dir
        self.engine = engine
        self.port = 0
        self.process: subprocess.Popen[str] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, str(SERVE), str(self.data_dir), str(self.port), self.engine]
        root = SERVE.parents[1]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(SERVE.parent)])}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=root, env=environment
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.strip().isdecimal(), f"the server did not start; run {command} to see why"
        self.port = int(line)

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        self.process.wait(timeout=20)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path) as response:
            return json.load(response)

    def annotation(self, image_id: str) -> Any:
        return self.get(f"/api/images/{image_id}/annotation")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("data"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Run one browser for all tests (tests/web/conftest.py knows it); each page has a context of its own."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        assert not os.environ.get("CI"), "the browser tests need Chromium, which CI has to install"
        pytest.skip("there is no Chromium on this machine")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-background-networking"]
        # A computer of the lab by its name: reached without HTTPS, and not as this computer itself.
        arguments += [f"--host-resolver-rules=MAP {LAB_HOST} 127.0.0.1"]
        running = playwright.chromium.launch(executable_path=path, args=arguments)
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Make pages of a size; ``page.allowed`` holds patterns of console errors that a test expects."""
    opened: list[tuple[Page, list[str], list[str]]] = []

    def make(size: str = "desktop", *, finds_on_open: bool = False, **options: Any) -> Page:
        width, height = SIZES[size]
        touch = {"has_touch": True, "is_mobile": True} if size == "phone" else {}
        context = browser.new_context(viewport={"width": width, "height": height}, **touch, **options)
        context.set_default_timeout(90_000)
        context.add_init_script(NOTE_VIOLATIONS)
        if not finds_on_open:
            context.add_init_script(FIND_ONLY_WHEN_ASKED)
        page = context.new_page()
        problems: list[str] = []
        allowed: list[str] = []
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.allowed = allowed  # type: ignore[attr-defined]
        opened.append((page, problems, allowed))
        return page

    yield make
    for page, problems, allowed in opened:
        violations = page.evaluate("() => window.policyViolations")
        page.context.close()
        assert violations == []
        unexpected = [problem for problem in problems if not any(re.search(a, problem) for a in allowed)]
        assert not unexpected, f"The page wrote to the console: {unexpected}"


def upload(page: Page, server: Server, *files: tuple[str, bytes]) -> None:
    """Choose files on the home page."""
    page.goto(f"{server.url}/")
    page.set_input_files(
        "#file-input", [{"name": name, "mimeType": "image/png", "buffer": data} for name, data in files]
    )


def open_image(page: Page, server: Server, data: bytes, name: str = "") -> str:
    """Upload one image, wait until its page is ready, and return the image's id.

    Without a name it gets one of its own: the same pixels under the same name are the same image.
    """
    upload(page, server, (name or f"{uuid.uuid4().hex}.png", data))
    page.wait_for_url("**/annotate/*")
    wait_until_open(page)
    return page.url.rsplit("/", 1)[1]


def wait_until_open(page: Page) -> None:
    expect(page.locator("#status")).to_have_text(re.compile("Ready|restored"))


def asked_of_api(page: Page) -> list[str]:
    """Return a list that fills with what the page asks the API for; the icon of the page is not of it."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/api/" in request.url else None)
    return asked


def find_droplets(page: Page, n: int) -> None:
    page.locator("#find").click()
    expect(page.locator("#status")).to_have_text(re.compile(rf"^{n} droplets? found"))


def wait_until_saved(page: Page) -> None:
    expect(page.locator("#save-state")).to_have_attribute("data-state", "saved")


def until(read: Callable[[], Any], expected: Any, timeout_s: float = 30) -> None:
    """Wait until what is read equals what is expected: for what the page does not show."""
    end = time.monotonic() + timeout_s
    while (found := read()) != expected and time.monotonic() < end:
        time.sleep(0.05)
    assert found == expected


def download_csv(page: Page) -> list[dict[str, str]]:
    """Download the table of the open image, and return its rows."""
    page.locator("#tab-export").click()
    with page.expect_download() as download:
        page.locator('[data-format="csv"]').click()
    return list(csv.DictReader(io.StringIO(download.value.path().read_text("utf-8-sig"))))


def give(page: Page, kind: str, name: str, data: bytes) -> None:
    """Drop or paste a file on the page, or drag it over."""
    page.evaluate(DROP, [kind, name, base64.b64encode(data).decode()])


def on_screen(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where an image point is on the screen while the whole image is fitted, as view.js does it."""
    stage = page.locator("#stage")
    box = stage.bounding_box()
    assert box is not None
    width, height = (float(stage.get_attribute(f"data-{name}") or 0) for name in ("width", "height"))
    scale = min((box["width"] - 32) / width, (box["height"] - 32) / height, 64)
    left = box["x"] + (box["width"] - width * scale) / 2
    top = box["y"] + (box["height"] - height * scale) / 2
    return left + x * scale, top + y * scale


def tap(page: Page, x: float, y: float) -> None:
    """Click, or touch on a phone, an image point while the whole image is fitted."""
    at = on_screen(page, x, y)
    if page.evaluate("() => navigator.maxTouchPoints > 0"):
        page.touchscreen.tap(*at)
    else:
        page.mouse.click(*at)


def axe_violations(page: Page, within: str = "html") -> list[str]:
    """Return what the accessibility checker finds on the page, or within one element of it, one line each."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    # Without its preload, which reads style sheets in a way that the page's policy forbids.
    options = "{resultTypes: ['violations'], preload: false}"
    result = page.evaluate(f"async () => (await axe.run({json.dumps(within)}, {options})).violations")
    return [
        f"{violation['id']}: {violation['help']} at {node['target']}"
        for violation in result
        for node in violation["nodes"]
    ]
