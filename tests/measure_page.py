"""Measure the page in a real browser by the clock, and print a table for docs/speed.md.

``python tests/measure_page.py`` on a quiet machine. No test: what it prints depends on the machine and its
load. The browser has no GPU in most places where this runs, so it draws with the processor.
"""

from __future__ import annotations

import argparse
import base64
import os
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
from browsing import DROP, FIND_ONLY_WHEN_ASKED, on_screen, open_image, wait_until_open
from crowd import PAN, SLIDE, add_crowd
from discs import disc_png
from playwright.sync_api import Browser, Page, sync_playwright
from servers import Server, serving

from sam_droplet.imaging.images import encode_png
from sam_droplet.training.emulsion_picture import emulsion_picture

CHROMIUM = "/usr/bin/chromium"
# Runs in each page: notes when droplets are counted and the frame with their outlines is drawn, on the clock
# that all pages share.
NOTE_OUTLINES = """
(() => {
  const look = () => {
    const count = document.querySelector("#count-included")?.textContent;
    if (!count || count === "0") return requestAnimationFrame(look);
    requestAnimationFrame(() => setTimeout(() => {
      window.outlinesAtMs = performance.timeOrigin + performance.now();
      window.outlinesCount = count;
    }));
  };
  if (location.pathname.startsWith("/annotate/")) addEventListener("DOMContentLoaded", look);
})();
"""
# Runs in the page: moves the pointer along points; for each, the ms until the frame after the move is drawn.
HOVER = """async (points) => {
  const frame = () => new Promise(requestAnimationFrame);
  const frames = [], times = [], texts = new Set();
  for (const [clientX, clientY] of points) {
    const from = performance.now();
    const at = { clientX, clientY, bubbles: true, pointerId: 1, pointerType: "mouse", isPrimary: true };
    document.elementFromPoint(clientX, clientY).dispatchEvent(new PointerEvent("pointermove", at));
    frames.push(await frame());
    times.push(await new Promise((done) => setTimeout(() => done(performance.now() - from))));
    texts.add(document.querySelector("#hover-text").textContent);
  }
  return { gaps: frames.slice(1).map((time, i) => time - frames[i]), times, texts: texts.size };
}"""


def main() -> None:
    """Serve as a laptop would, with two cores, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drops", type=int, default=5, help="how many pictures are dropped")
    n_drops = parser.parse_args().drops
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        data_dir = Path(folder) / "data"
        with serving("app.py", data_dir, omp_num_threads=len(os.sched_getaffinity(0))) as server:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
            )
            print(f"cores {len(os.sched_getaffinity(0))}, load before {os.getloadavg()[0]:.1f}")
            print("| in the browser | median | worst | |\n|---|---|---|---|")
            measure_drops(browser, server, n_drops)
            measure_crowd(browser, server, add_crowd(data_dir))
            measure_hover(browser, server)
            browser.close()


def row(what: str, values: list[float] | np.ndarray, unit: str, note: str = "") -> None:
    """Print one row of the table."""
    print(f"| {what} | {np.median(values):.3g} {unit} | {np.max(values):.3g} {unit} | {note} |", flush=True)


def new_page(browser: Browser) -> Page:
    """Open a page of a desktop's size in a context of its own."""
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.set_default_timeout(120_000)
    return page


def measure_drops(browser: Browser, server: Server, n_drops: int) -> None:
    """Drop pictures that the server never saw on the home page, until the outlines are drawn."""
    picture = emulsion_picture(900, 1024)
    took_s, counts = [], []
    for shift in range(n_drops + 1):
        page = new_page(browser)
        page.context.add_init_script(NOTE_OUTLINES)
        page.goto(server.url)
        page.wait_for_load_state("networkidle")
        data = encode_png(np.roll(picture, 37 * shift, axis=(0, 1)))
        dropped_ms = page.evaluate(
            f"(given) => {{ const drop = {DROP.strip()}; drop(given); "
            "return performance.timeOrigin + performance.now(); }",
            ["drop", f"{shift}.png", base64.b64encode(data).decode()],
        )
        page.wait_for_url("**/annotate/*")
        page.wait_for_function("() => window.outlinesAtMs")
        took_s.append((page.evaluate("() => window.outlinesAtMs") - dropped_ms) / 1000)
        counts.append(int(page.evaluate("() => window.outlinesCount").replace(",", "")))
        page.context.close()
    row("first drop after the start, 1024 × 1024 px", took_s[:1], "s", f"{counts[0]} outlines on screen")
    row(
        "drop until outlines, 1024 × 1024 px",
        took_s[1:],
        "s",
        f"{n_drops} pictures, {counts[-1]} outlines; goal 2.5 s",
    )


def measure_crowd(browser: Browser, server: Server, image_id: str) -> None:
    """Pan 5,000 droplets, and move a filter's slider."""
    page = new_page(browser)
    page.goto(f"{server.url}/annotate/{image_id}")
    wait_until_open(page)
    page.locator("#tab-filters").click()
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.evaluate(PAN, 20)
    before = main_thread_s(session)
    gaps = page.evaluate(PAN, 240)
    busy_ms = 1000 * (main_thread_s(session) - before) / 240
    note = f"{1000 / np.mean(gaps):.0f} frames a second; {busy_ms:.1f} ms of the main thread a frame"
    row("between frames, panning 5,000 droplets", gaps, "ms", note)
    page.evaluate(SLIDE, 4)
    row("filters, statistics, histogram and drawing of 5,000", page.evaluate(SLIDE, 40), "ms", "goal 100 ms")
    page.context.close()


def main_thread_s(session) -> float:  # type: ignore[no-untyped-def]
    """Return the processor time of the page's main thread so far."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(m["value"] for m in metrics if m["name"] == "TaskDuration"))


def measure_hover(browser: Browser, server: Server) -> None:
    """Move over 1,000 droplets that are not outlined yet."""
    discs = [(14.0 + 25 * (i % 40), 14.0 + 25 * (i // 40), 8.0 + 0.004 * i) for i in range(1000)]
    page = new_page(browser)
    page.context.add_init_script(FIND_ONLY_WHEN_ASKED)
    open_image(page, server, disc_png(discs, (1010, 640)))  # type: ignore[arg-type]
    page.mouse.move(*on_screen(page, *discs[0][:2]))
    page.wait_for_function("() => document.querySelector('#hover-text').textContent")
    path = np.random.default_rng(0).uniform((5, 5), (1000, 630), (20, 2))
    steps = np.concatenate([np.linspace(a, b, 12) for a, b in pairwise(path)])
    found = page.evaluate(HOVER, [list(on_screen(page, x, y)) for x, y in steps])
    if found["texts"] < 20:
        sys.exit("the preview did not follow the pointer")
    row("from a move to the preview drawn, 1,000 droplets", found["times"], "ms", "goal 100 ms")
    rate = 1000 / np.mean(found["gaps"])
    row("between frames of the preview, 1,000 droplets", found["gaps"], "ms", f"{rate:.0f} frames a second")
    page.context.close()


if __name__ == "__main__":
    main()
