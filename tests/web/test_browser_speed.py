"""How fast the page is with 5,000 droplets, in processor time of its own thread: other work does not count.

``-s`` prints what was measured.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from browsing import browser, open_page, server, wait_until_open

from sam_droplet.imaging.images import encode_png, load_image
from sam_droplet.imaging.masks import Mask
from sam_droplet.measurement.droplets import measure
from sam_droplet.service.store import Store

__all__ = ["browser", "open_page", "server"]

COLUMNS, ROWS, PITCH = 100, 50, 26
# Runs in the page: drags the picture about for n frames.
PAN = """async (n) => {
  const root = document.querySelector("#stage");
  const { left, top, width, height } = root.getBoundingClientRect();
  const send = (type, x, y) => root.dispatchEvent(new PointerEvent(type, {
    pointerId: 1, button: 1, buttons: 4, clientX: left + x, clientY: top + y, bubbles: true }));
  root.setPointerCapture = () => {};
  const frame = () => new Promise(requestAnimationFrame);
  send("pointerdown", width / 2, height / 2);
  for (let i = 1; i <= n; i++) {
    send("pointermove", width / 2 + 150 * Math.sin(i / 9), height / 2 + 60 * Math.sin(i / 5));
    await frame();
  }
  send("pointerup", width / 2, height / 2);
}"""
# Runs in the page: moves a slider n times, each time until the frame after it is drawn.
SLIDE = """async (n) => {
  const slider = document.querySelector("#filters input[type=range]");
  const frame = () => new Promise(requestAnimationFrame);
  for (let i = 0; i < n; i++) {
    slider.value = 20 + (i % 2) * 150;
    slider.dispatchEvent(new Event("input"));
    await frame();
    await frame();
  }
}"""


@pytest.fixture(scope="module")
def crowded(server):
    """Give the server an image of 5,000 discs of many sizes, measured, and return its id."""
    y, x = np.mgrid[:PITCH, :PITCH] + 0.5
    sizes = np.random.default_rng(0).uniform(6, 12, (ROWS, COLUMNS))
    bits = [[np.hypot(x - PITCH / 2, y - PITCH / 2) <= r for r in row] for row in sizes]
    pixels = np.block([[np.where(cell, 180, 40).astype(np.uint8) for cell in row] for row in bits])
    image = load_image(encode_png(pixels), "crowded.png")
    masks = []
    for row, column in np.ndindex(ROWS, COLUMNS):
        (contour,), _ = cv2.findContours(
            bits[row][column].astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        left, top = column * PITCH, row * PITCH
        outline = np.add(contour[:, 0], (left + 0.5, top + 0.5), dtype=np.float32)
        masks.append(Mask((left, top, left + PITCH, top + PITCH), bits[row][column], 0.9, outline))
    store = Store(server.data_dir)
    record, _ = store.add_image("local", image, encode_png(pixels))
    with store.editing("local", record.id) as edit:
        edit.add(measure(image, masks, model="threshold"))
        edit.save()
    store.close()
    return record.id


@pytest.fixture
def timed(server, open_page, crowded):
    """Open the page, and time what it does: processor seconds of its main thread per step."""
    page = open_page()
    page.goto(f"{server.url}/annotate/{crowded}")
    wait_until_open(page)
    page.locator("#tab-filters").click()
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return next(m["value"] for m in metrics if m["name"] == "TaskDuration")

    def measure_ms(code: str, n: int) -> float:
        page.evaluate(code, 10)
        before = spent()
        page.evaluate(code, n)
        return 1000 * (spent() - before) / n

    return measure_ms


def test_panning_5000_droplets_leaves_time_for_60_frames_per_second(timed):
    ms = timed(PAN, 120)
    print(f"\npanning 5,000 droplets: {ms:.2f} ms of processor time per frame")
    assert ms < 1000 / 60


def test_filters_and_statistics_of_5000_droplets_follow_a_slider(timed):
    ms = timed(SLIDE, 20)
    print(f"\nfilters, statistics and drawing of 5,000 droplets: {ms:.1f} ms of processor time per step")
    assert ms < 100


def test_the_outline_under_the_pointer_is_found_at_once(server, open_page):
    page = open_page()
    page.goto(f"{server.url}/")
    ms = page.evaluate(
        """async () => {
          const { Proposals } = await import("/static/proposals.js");
          const n = 20000, table = new Float32Array(n * 35).fill(10);
          for (let i = 0; i < n; i++) {
            table[i * 35] = (i % 200) * 15;
            table[i * 35 + 1] = Math.floor(i / 200) * 15;
            table[i * 35 + 34] = 0.5;
          }
          const proposals = new Proposals(table);
          const times = [];
          for (let i = 0; i < 200; i++) {
            const from = performance.now();
            proposals.contour(proposals.at(7 + 14 * i, 700).index);
            times.push(performance.now() - from);
          }
          return times.sort((a, b) => a - b)[100];
        }"""
    )
    print(f"\nhover preview among 20,000 outlines: median {ms:.3f} ms")
    assert ms < 5
