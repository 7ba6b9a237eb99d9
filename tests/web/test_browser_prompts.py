"""Clicks, boxes and keys that outline droplets, in a real browser."""

from __future__ import annotations

import re

import pytest
from browsing import (
    find_droplets,
    on_screen,
    open_image,
    open_page,
    server,
    tap,
    wait_until_saved,
)
from discs import DISCS, FIRST, SECOND, disc_png
from playwright.sync_api import expect

__all__ = ["open_page", "server"]


def test_a_click_outlines_one_droplet_and_enter_keeps_it(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    tap(page, FIRST[0], FIRST[1])
    expect(page.locator("#draft-text")).to_contain_text("px")
    assert server.annotation(image_id)["droplets"] == []
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_text(re.compile("^Kept droplet 1"))
    (droplet,) = server.annotation(image_id)["droplets"]
    assert droplet["source"] == "point"
    assert droplet["diameter_px"] == pytest.approx(2 * FIRST[2], rel=0.03)
    assert (droplet["center_x_px"], droplet["center_y_px"]) == pytest.approx(FIRST[:2], abs=0.3)


def test_a_drag_outlines_what_is_in_the_box(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    x, y, radius = SECOND
    # From bottom right to top left: the corners may come in any order.
    page.mouse.move(*on_screen(page, x + radius + 3, y + radius + 3))
    page.mouse.down()
    page.mouse.move(*on_screen(page, x - radius - 3, y - radius - 3), steps=5)
    page.mouse.up()
    expect(page.locator("#draft-text")).to_contain_text("px")
    page.keyboard.press("c")
    expect(page.locator("#status")).to_have_text(re.compile("^Kept droplet"))
    (droplet,) = server.annotation(image_id)["droplets"]
    assert droplet["source"] == "box"
    assert droplet["diameter_px"] == pytest.approx(2 * radius, rel=0.03)


def test_escape_and_backspace_leave_nothing_behind(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    tap(page, FIRST[0], FIRST[1])
    expect(page.locator("#draft-bar")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#draft-bar")).to_be_hidden()
    tap(page, SECOND[0], SECOND[1])
    expect(page.locator("#draft-bar")).to_be_visible()
    page.keyboard.press("Backspace")
    expect(page.locator("#draft-bar")).to_be_hidden()
    assert server.annotation(image_id)["droplets"] == []


def test_a_click_on_the_ground_says_that_there_is_nothing(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    tap(page, 120, 80)
    expect(page.locator("#draft-text")).to_contain_text("background")


def test_a_kept_outline_takes_the_place_of_the_one_it_repeats(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    tap(page, FIRST[0], FIRST[1])
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_text(re.compile("in place of droplet"))
    wait_until_saved(page)
    assert sorted(d["source"] for d in server.annotation(image_id)["droplets"]) == ["auto"] * 4 + ["point"]
    page.keyboard.press("Control+z")
    wait_until_saved(page)
    assert [d["source"] for d in server.annotation(image_id)["droplets"]] == ["auto"] * 5
    page.keyboard.press("Control+Shift+z")
    wait_until_saved(page)
    assert sorted(d["source"] for d in server.annotation(image_id)["droplets"]) == ["auto"] * 4 + ["point"]


def test_x_excludes_the_droplet_under_the_pointer(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    page.mouse.move(*on_screen(page, SECOND[0], SECOND[1]))
    expect(page.locator("#hover-text")).to_contain_text("Droplet 2")
    page.keyboard.press("x")
    expect(page.locator("#count-included")).to_have_text("4")
    # The corner of its box is not in the droplet: the outline decides, not the box.
    page.mouse.move(*on_screen(page, FIRST[0] + FIRST[2] - 1, FIRST[1] + FIRST[2] - 1))
    expect(page.locator("#hover-text")).not_to_contain_text("Droplet")
    wait_until_saved(page)
    excluded = [d["id"] for d in server.annotation(image_id)["droplets"] if d["excluded_by_user"]]
    assert excluded == [2]


def test_the_key_sheet_opens_and_typing_triggers_no_key(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    page.keyboard.press("?")
    expect(page.locator("#shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    page.locator("[popovertarget=find-popover]").click()
    page.locator("#find-min").press("g")
    expect(page.locator("#status")).to_have_text("Ready")


def test_one_click_keeps_at_once_where_that_is_switched_on(server, open_page):
    page = open_page("phone")
    image_id = open_image(page, server, disc_png())
    page.locator("#turbo").click()
    # A click that meets nothing is over with the next one.
    tap(page, 120, 75)
    expect(page.locator("#draft-text")).to_contain_text("No droplet was found here")
    page.wait_for_timeout(400)
    for x, y, _ in (FIRST, SECOND):
        tap(page, x, y)
        expect(page.locator("#status")).to_have_text(re.compile("^Kept droplet"))
        page.wait_for_timeout(400)  # two taps within the time of a double tap would be one
    expect(page.locator("#count-included")).to_have_text("2")
    page.locator("#undo").click()
    wait_until_saved(page)
    assert [d["id"] for d in server.annotation(image_id)["droplets"]] == [1]


def test_a_click_on_an_outlined_droplet_offers_to_exclude_it(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    find_droplets(page, 5)
    tap(page, FIRST[0], FIRST[1])
    expect(page.locator("#draft-text")).to_contain_text("replaces droplet 1")
    page.locator("#draft-exclude").click()
    expect(page.locator("#count-included")).to_have_text("4")
    expect(page.locator("#draft-bar")).to_be_hidden()


PRESS_ENTER_TWICE = """() => {
  const press = () => new KeyboardEvent("keydown", { key: "Enter", code: "Enter", bubbles: true });
  for (let i = 0; i < 2; i++) document.getElementById("stage").dispatchEvent(press());
}"""


def test_enter_pressed_twice_keeps_one_droplet(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    tap(page, FIRST[0], FIRST[1])
    expect(page.locator("#draft-text")).to_contain_text("px")
    page.evaluate(PRESS_ENTER_TWICE)
    expect(page.locator("#status")).to_have_text(re.compile("^Kept droplet 1: "))
    tap(page, SECOND[0], SECOND[1])
    expect(page.locator("#draft-text")).to_contain_text("px")
    page.keyboard.press("Enter")
    expect(page.locator("#count-included")).to_have_text("2")
    assert [d["id"] for d in server.annotation(image_id)["droplets"]] == [1, 2]


def test_clicks_faster_than_the_answers_each_keep_their_droplet(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    page.locator("#turbo").click()
    held = []
    page.route("**/predict", lambda route: route.continue_() if held else held.append(route))
    for x, y, _ in DISCS[:3]:
        tap(page, x, y)
        page.wait_for_timeout(400)  # two taps within the time of a double tap would be one
    held[0].continue_()
    expect(page.locator("#count-included")).to_have_text("3")
    assert [d["id"] for d in server.annotation(image_id)["droplets"]] == [1, 2, 3]
