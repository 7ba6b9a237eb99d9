"""The annotate page with the real networks: a sample, and a real micrograph where there is one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from browsing import Server, axe_violations, open_image, open_page, tap, wait_until_open, wait_until_saved
from discs import DISCS, disc_png
from playwright.sync_api import expect

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / "model" / "droplet_net.safetensors"
SHARED = ROOT.parent / "shared" / "data"
# The first search also loads the networks, on a machine that may be busy.
FIND_MS = 120_000

__all__ = ["open_page"]
pytestmark = pytest.mark.skipif(not WEIGHTS.is_file(), reason="the weights of DropletNet are not in model/")


@pytest.fixture(scope="module")
def network_server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("data"), engine="networks")
    yield running
    running.stop()


def find(page):
    page.locator("#find").click()
    expect(page.locator("#status")).to_have_text(re.compile("droplets found"), timeout=FIND_MS)


def test_a_sample_from_one_click_to_its_droplets(network_server, open_page):
    page = open_page()
    page.goto(f"{network_server.url}/")
    page.locator("[data-sample]").first.click()
    page.wait_for_url("**/annotate/*")
    wait_until_open(page)
    find(page)
    expect(page.locator("#provenance")).to_contain_text("DropletNet")
    saved = network_server.annotation(page.url.rsplit("/", 1)[1])
    assert saved["summary"]["n_found"] > 20
    assert page.locator("#count-included").inner_text() == str(saved["summary"]["n_included"])


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real micrographs are not beside the repository")
def test_a_real_micrograph_is_found_clicked_and_saved(network_server, open_page):
    truth = json.loads((SHARED / "ddPCR_0_0.circles.json").read_text())
    page = open_page()
    data = (SHARED / "ddPCR_0_0.png").read_bytes()
    image_id = open_image(page, network_server, data, "ddPCR_0_0.png")
    find(page)
    found = network_server.annotation(image_id)["droplets"]
    # The truth also lists circles at the border and doubtful ones, which may be found or not.
    assert 0.95 * len(truth["circles"]) <= len(found) <= 1.05 * len(truth["circles"] + truth["ignore"])

    middle = min(found, key=lambda d: abs(d["center_x_px"] - 512) + abs(d["center_y_px"] - 512))
    page.locator('[data-tool="select"]').click()
    tap(page, middle["center_x_px"], middle["center_y_px"])
    page.keyboard.press("Delete")
    wait_until_saved(page)
    page.keyboard.press("p")
    page.wait_for_timeout(500)  # two clicks on one place at once would be a double click
    tap(page, middle["center_x_px"], middle["center_y_px"])
    expect(page.locator("#draft-text")).to_have_text(re.compile(r"\d px"), timeout=FIND_MS)
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_text(re.compile("^Kept droplet"), timeout=FIND_MS)
    (clicked,) = [d for d in network_server.annotation(image_id)["droplets"] if d["source"] == "point"]
    assert clicked["diameter_px"] == pytest.approx(middle["diameter_px"], rel=0.1)


@pytest.fixture(scope="module")
def sam_server(tmp_path_factory):
    """A server on which MobileSAM has weights, if only ones that draw discs."""
    running = Server(tmp_path_factory.mktemp("data"), engine="stand-in")
    yield running
    running.stop()


def test_mobile_sam_gives_several_outlines_to_choose_from_and_its_modes(sam_server, open_page):
    page = open_page()
    image_id = open_image(page, sam_server, disc_png())
    x, y, _ = DISCS[0]
    tap(page, x, y)
    expect(page.locator("#draft-text")).to_have_text(re.compile("^1 of [23] .*MobileSAM"), timeout=FIND_MS)
    first = page.locator("#draft-text").inner_text()
    page.keyboard.press("t")
    expect(page.locator("#draft-text")).to_have_text(re.compile("^2 of [23] "))
    assert page.locator("#draft-text").inner_text().split("·")[1] != first.split("·")[1]
    page.keyboard.press("Escape")
    page.locator("[popovertarget=find-popover]").click()
    page.get_by_label("Look for").select_option("refined")
    expect(page.locator("#find-model")).to_have_text("Searching: MobileSAM. Clicks and boxes: MobileSAM.")
    page.locator("#find-again").click()
    expect(page.locator("#status")).to_have_text(re.compile("droplets? found"), timeout=FIND_MS)
    saved = sam_server.annotation(image_id)
    assert saved["parameters"]["mode"] == "refined"
    assert saved["model"]["name"] == "mobile-sam"
    expect(page.locator("#provenance")).to_contain_text("Found by MobileSAM")
    # The batch page offers the same choice, and keeps it with the other wishes.
    page.goto(f"{sam_server.url}/batch")
    expect(page.get_by_label("Look for")).to_have_value("refined")
    assert axe_violations(page) == []
    page.locator(".pick-card input").first.check()
    page.locator("#start").click()
    page.wait_for_url("**/batch/*")
    expect(page.locator("#job-progress")).to_have_attribute("data-state", "done", timeout=FIND_MS)
    expect(page.locator("#lock-text")).to_contain_text("drawn by MobileSAM")
    assert sam_server.annotation(image_id)["parameters"]["mode"] == "refined"
    page.goto(f"{sam_server.url}/annotate/{image_id}")
    wait_until_open(page)
    page.locator("[popovertarget=find-popover]").click()
    expect(page.get_by_label("Look for")).to_have_value("refined")
    page.locator("#find-reset").click()
    expect(page.get_by_label("Look for")).to_have_value("droplets")
