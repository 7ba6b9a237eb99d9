"""Searches that begin by themselves, that take long, and that look closer."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

import cv2
import pytest
from browsing import Server, on_screen, open_image, open_page, server, upload, wait_until_open
from discs import DISCS, disc_pixels, disc_png
from playwright.sync_api import expect

from sam_droplet.imaging.images import encode_png

__all__ = ["open_page", "server"]

# Above this many pixels a search is a job.
BIG = (3000, 2100)


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("data"), "slow")
    yield running
    running.stop()


def test_droplets_are_found_as_soon_as_an_image_is_dropped(server, open_page):
    page = open_page(finds_on_open=True)
    upload(page, server, ("dropped.png", disc_png()))
    page.wait_for_url("**/annotate/*")
    expect(page.locator("#status")).to_have_text(re.compile(r"^5 droplets found"))
    assert "#" not in page.url
    page.locator("#undo").click()
    expect(page.locator("#count-included")).to_have_text("0")
    # Once searched, an image is only restored.
    page.reload()
    wait_until_open(page)
    expect(page.locator("#count-included")).to_have_text("0")
    page.locator("[popovertarget=find-popover]").click()
    page.get_by_role("checkbox", name="Find when an image is opened").uncheck()
    upload(page, server, ("another.png", disc_png(DISCS[:2])))
    page.wait_for_url("**/annotate/*")
    wait_until_open(page)
    expect(page.locator("#welcome")).to_be_visible()


def test_of_several_images_dropped_each_is_searched_when_it_is_opened(server, open_page):
    page = open_page(finds_on_open=True)
    upload(page, server, ("one.png", disc_png(DISCS[:3])), ("two.png", disc_png(DISCS[:4])))
    page.get_by_role("link", name="two.png").first.click()
    page.wait_for_url("**/annotate/*")
    expect(page.locator("#status")).to_have_text(re.compile("^4 droplets found"))


def test_a_long_search_shows_its_progress_and_can_be_undone(slow_server, open_page):
    page = open_page()
    open_image(page, slow_server, disc_png(DISCS, BIG))
    page.locator("#find").click()
    expect(page.locator("#work-text")).to_have_text(re.compile(r"^Looking for droplets \d+ of 20"))
    expect(page.locator("#work-text")).to_have_text(re.compile(r"^Measuring droplet \d of 5"))
    expect(page.locator("#status")).to_have_text(re.compile("^5 droplets found"))
    expect(page.locator("#work-bar")).to_be_hidden()
    page.locator("#undo").click()
    expect(page.locator("#count-included")).to_have_text("0")
    page.locator("#redo").click()
    expect(page.locator("#count-included")).to_have_text("5")


def test_a_long_search_can_be_stopped_and_survives_a_reload(slow_server, open_page):
    page = open_page()
    image_id = open_image(page, slow_server, disc_png(DISCS[:4], BIG))
    page.locator("#find").click()
    page.locator("#work-cancel").click()
    expect(page.locator("#status")).to_have_text("Search stopped; nothing was changed")
    expect(page.locator("#find")).to_be_enabled()
    assert slow_server.annotation(image_id)["droplets"] == []
    page.locator("#find").click()
    # The text of the search that was stopped is still in the bar until the next one has begun.
    expect(page.locator("#work-bar")).to_be_visible()
    expect(page.locator("#work-text")).to_have_text(re.compile("Looking for droplets"))
    page.reload()
    expect(page.locator("#count-included")).to_have_text("4")
    expect(page.locator("#work-bar")).to_be_hidden()


def test_a_search_that_the_server_has_forgotten_is_told_and_ends(open_page, tmp_path):
    server = Server(tmp_path / "data", "slow")
    try:
        page = open_page()
        page.allowed += ["ERR_", "404"]
        open_image(page, server, disc_png(DISCS[:3], BIG))
        page.locator("#find").click()
        expect(page.locator("#work-text")).to_have_text(re.compile("Looking for droplets"))
        server.process.kill()
        server.stop()
        with closing(sqlite3.connect(server.data_dir / "sam_droplet.sqlite3")) as database:
            forgotten = database.execute("DELETE FROM jobs").rowcount
            database.execute("DELETE FROM job_items")
            database.commit()
        assert forgotten == 1
        server.start()
        expect(page.locator("#notice-text")).to_contain_text("no longer knows this search", timeout=30_000)
        expect(page.locator("#work-bar")).to_be_hidden()
        expect(page.locator("#find")).to_be_enabled()
    finally:
        server.stop()


def test_the_pointer_leaves_a_search_its_progress_and_says_what_a_click_waits_for(slow_server, open_page):
    page = open_page()
    # So that a look at the whole image is expected to take a minute.
    page.add_init_script("localStorage.setItem('sam-droplet-preference-pxPerS', '100000')")
    open_image(page, slow_server, disc_png(DISCS[1:], BIG))
    asked, held = [], []
    page.on("request", lambda request: asked.append(request.url.rsplit("/", 1)[1]))
    page.route("**/predict", lambda route: held.append(route))
    x, y, _ = DISCS[1]
    page.mouse.move(*on_screen(page, x, y))
    page.mouse.click(*on_screen(page, x, y))
    expect(page.locator("#draft-text")).to_contain_text("looks at the whole image: about 63 s")
    held.pop().continue_()
    expect(page.locator("#draft-text")).to_contain_text("px")
    page.keyboard.press("Escape")
    page.locator("#find").click()
    expect(page.locator("#work-text")).to_have_text(re.compile(r"^Looking for droplets \d+ of 20"))
    page.mouse.move(*on_screen(page, 300, 300))
    page.mouse.click(*on_screen(page, x, y))
    expect(page.locator("#draft-text")).to_contain_text("once the search is through")
    held.pop().continue_()
    page.keyboard.press("Escape")
    expect(page.locator("#status")).to_have_text(re.compile("^4 droplets found"))
    assert "proposals" not in asked
    with page.expect_request("**/proposals"):
        page.mouse.move(*on_screen(page, 310, 300))


def test_a_closer_look_asks_for_what_is_on_screen(server, open_page):
    page = open_page()
    open_image(page, server, encode_png(cv2.resize(disc_pixels(), None, fx=20, fy=20)[:2400, :2400]))
    page.keyboard.press("z")
    expect(page.locator("#notice-text")).to_contain_text("Zoom in first")
    page.keyboard.press("1")
    with page.expect_request(re.compile("/find$|/jobs")) as asked:
        page.keyboard.press("z")
    options = asked.value.post_data_json["options"]
    x0, y0, x1, y1 = options["roi_xyxy"]
    stage = page.locator("#stage").bounding_box()
    assert (x1 - x0, y1 - y0) == pytest.approx((stage["width"], stage["height"]), abs=1)
    assert 1.5 <= options["magnification"] <= 4
    assert (x1 - x0) * (y1 - y0) * options["magnification"] ** 2 < 20e6
