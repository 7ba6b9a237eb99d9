"""How fast the page is with 5,000 droplets, in processor time of its own thread: other work does not count.

``-s`` prints what was measured.
"""

from __future__ import annotations

import pytest
from browsing import open_page, server, wait_until_open
from crowd import PAN, SLIDE, add_crowd

__all__ = ["open_page", "server"]


@pytest.fixture(scope="module")
def crowded(server):
    """Give the server an image of 5,000 droplets, and return its id."""
    return add_crowd(server.data_dir)


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
