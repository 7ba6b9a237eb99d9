"""Regions on the annotate page: where Find looks, and what it leaves out."""

from __future__ import annotations

import re

import pytest
from browsing import (
    axe_violations,
    find_droplets,
    on_screen,
    open_image,
    open_page,
    server,
    tap,
    wait_until_open,
    wait_until_saved,
)
from discs import DISCS, disc_png
from playwright.sync_api import expect

__all__ = ["open_page", "server"]


def drag(page, x0, y0, x1, y1):
    page.mouse.move(*on_screen(page, x0, y0))
    page.mouse.down()
    page.mouse.move(*on_screen(page, x1, y1), steps=6)
    page.mouse.up()


def centres(server, image_id):
    return sorted((d["center_x_px"], d["center_y_px"]) for d in server.annotation(image_id)["droplets"])


def expected(*indices):
    return [pytest.approx(DISCS[i][:2], abs=0.6) for i in sorted(indices, key=lambda i: DISCS[i])]


def test_find_looks_only_inside_a_rectangle_until_it_is_cleared(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    page.keyboard.press("r")
    drag(page, 110, 70, 10, 20)  # around the first two discs, from any corner
    expect(page.locator("#tool-bar")).to_be_visible()
    page.keyboard.press("g")
    expect(page.locator("#status")).to_have_text(re.compile("^2 droplets found where you asked"))
    assert centres(server, image_id) == expected(0, 1)
    assert axe_violations(page) == []

    page.reload()
    wait_until_open(page)
    page.locator("[popovertarget=find-popover]").click()
    page.locator("#find-region button").click()
    page.locator("#find-again").click()
    expect(page.locator("#status")).to_have_text(re.compile("^5 droplets found in|^5 droplets found$"))


def test_regions_outlive_the_browser_and_the_server(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    page.keyboard.press("r")
    drag(page, 110, 70, 10, 20)
    page.locator('[data-region="leave-out"]').click()
    drag(page, 60, 20, 115, 70)
    wait_until_saved(page)
    server.stop()
    server.start()
    other = open_page()
    other.goto(f"{server.url}/annotate/{image_id}")
    wait_until_open(other)
    other.keyboard.press("g")
    expect(other.locator("#status")).to_have_text(re.compile("^1 droplet found where you asked"))
    wait_until_saved(other)
    assert centres(server, image_id) == expected(0)
    assert [region["kind"] for region in server.annotation(image_id)["regions"]] == ["search", "leave-out"]


def test_outside_a_polygon_earlier_droplets_stay(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    page.keyboard.press("r")
    # An outline whose box holds all discs but one, and which itself holds only the first two.
    for x, y in [(2, 22), (115, 22), (115, 60), (30, 60), (25, 140), (20, 140)]:
        tap(page, x, y)
        page.wait_for_timeout(400)
    page.keyboard.press("Enter")
    page.keyboard.press("g")
    expect(page.locator("#status")).to_have_text(re.compile("^2 droplets found where you asked"))
    wait_until_saved(page)
    saved = server.annotation(image_id)["droplets"]
    assert sorted(d["id"] for d in saved) == [1, 2, 3, 4, 5]
    page.keyboard.press("Control+z")
    wait_until_saved(page)
    assert sorted(d["id"] for d in server.annotation(image_id)["droplets"]) == [1, 2, 3, 4, 5]


def test_a_left_out_zone_loses_its_droplets_and_undo_takes_the_zone_away(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    page.locator('[data-tool="region"]').click()
    page.locator('[data-region="leave-out"]').click()
    drag(page, 0, 90, 100, 149)
    find_droplets_text = re.compile("^3 droplets found where you asked")
    page.keyboard.press("g")
    expect(page.locator("#status")).to_have_text(find_droplets_text)
    wait_until_saved(page)
    assert centres(server, image_id) == expected(0, 1, 2)
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    expect(page.locator("#tool-bar [data-clear-regions]")).to_be_disabled()
    find_droplets(page, 5)
    page.keyboard.press("Escape")
    expect(page.locator("#tool-bar")).to_be_hidden()
    assert page.locator("#stage").get_attribute("data-tool") == "point"
