"""Including and excluding single droplets in a real browser, against filters and back."""

from __future__ import annotations

import re

import pytest
from browsing import (
    SIZES,
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

SMALL = DISCS[2]  # droplet 3, 20 px wide; the next larger ones are 24 px


def filter_small(page, size="desktop"):
    if size == "phone":
        page.locator("#sheet-handle").click()
    page.locator("#tab-filters").click()
    page.get_by_role("spinbutton", name="Diameter, minimum").fill("22")
    page.keyboard.press("Tab")
    expect(page.locator("#count-included")).to_have_text("4")
    page.locator("#stage").focus()  # a field that is typed in keeps the keys to itself


def states(server, image_id):
    """Return by id (counts, what speaks against it) of the droplets on the server."""
    return {
        d["id"]: (d["included"], d["exclusion_reason"] or d["included_although"])
        for d in server.annotation(image_id)["droplets"]
    }


@pytest.mark.parametrize("size", SIZES)
def test_a_droplet_that_a_filter_leaves_out_is_brought_back_singly(server, open_page, size):
    page = open_page(size)
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    page.locator('[data-tool="select"]').click()
    tap(page, SMALL[0], SMALL[1])
    filter_small(page, size)
    expect(page.locator("#selection-text")).to_contain_text("diameter below the minimum")
    expect(page.locator("#exclude-text")).to_have_text("Include")
    page.locator("#exclude").click()
    expect(page.locator("#count-included")).to_have_text("5")
    expect(page.locator("#selection-text")).to_contain_text("included by you although: diameter below")
    expect(page.locator("#exclude-text")).to_have_text("Exclude")
    expect(page.locator("#filters")).to_contain_text("1 kept by you")
    wait_until_saved(page)
    assert states(server, image_id)[3] == (True, "diameter_px_below")
    assert server.annotation(image_id)["summary"]["included_although_by_reason"] == {"diameter_px_below": 1}

    page.locator("#tab-droplets").click()
    page.locator("[data-rows=by-hand]").click()
    rows = page.locator(".tabulator-row")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("included by you although: diameter below the minimum")
    assert axe_violations(page) == []

    page.reload()
    wait_until_open(page)
    expect(page.locator("#count-included")).to_have_text("5")
    page.locator("#undo").click()
    expect(page.locator("#count-included")).to_have_text("4")
    page.locator("#redo").click()
    expect(page.locator("#count-included")).to_have_text("5")


def test_x_goes_back_and_forth_between_the_user_and_the_filter(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    filter_small(page)
    page.mouse.move(*on_screen(page, SMALL[0], SMALL[1]))
    seen = []
    for expected in ("5", "4", "5"):
        page.keyboard.press("x")
        expect(page.locator("#count-included")).to_have_text(expected)
        wait_until_saved(page)
        seen.append(states(server, image_id)[3])
    assert seen == [(True, "diameter_px_below"), (False, "diameter_px_below"), (True, "diameter_px_below")]
    # Once no filter speaks against it, X excludes it by hand, and X brings it back.
    page.locator("#tab-filters").click()
    page.get_by_role("spinbutton", name="Diameter, minimum").fill("")
    page.keyboard.press("Tab")
    page.locator("#stage").focus()
    page.mouse.move(*on_screen(page, SMALL[0], SMALL[1]))
    for expected, state in (("4", (False, "user")), ("5", (True, None))):
        page.keyboard.press("x")
        expect(page.locator("#count-included")).to_have_text(expected)
        wait_until_saved(page)
        assert states(server, image_id)[3] == state
    for _ in range(6):
        page.keyboard.press("Control+z")
    wait_until_saved(page)
    assert states(server, image_id)[3] == (False, "diameter_px_below")


def test_a_click_on_a_droplet_that_is_out_offers_to_include_it(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    filter_small(page)
    tap(page, SMALL[0], SMALL[1])
    expect(page.locator("#draft-text")).to_contain_text("replaces droplet 3")
    expect(page.locator("#draft-exclude-text")).to_have_text("Include")
    page.locator("#draft-exclude").click()
    expect(page.locator("#count-included")).to_have_text("5")
    wait_until_saved(page)
    assert states(server, image_id)[3] == (True, "diameter_px_below")


def test_what_was_excluded_by_hand_comes_back_whatever_the_filters_say(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    page.mouse.move(*on_screen(page, SMALL[0], SMALL[1]))
    page.keyboard.press("x")
    filter_small(page)
    page.keyboard.press("Control+a")
    expect(page.locator("#exclude-text")).to_have_text("Exclude")
    page.keyboard.press("Escape")
    page.locator("#tab-droplets").click()
    page.locator("[data-rows=excluded]").click()
    expect(page.locator(".tabulator-row")).to_contain_text("excluded by you")
    page.locator(".tabulator-row").click()
    page.keyboard.press("x")
    expect(page.locator("#count-included")).to_have_text("5")
    wait_until_saved(page)
    assert states(server, image_id)[3] == (True, "diameter_px_below")


def test_settings_json_tells_nothing_of_a_search_that_was_undone(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png(), "of-that-name.png")
    settings = lambda: server.get(f"/api/images/{image_id}/export/settings")  # noqa: E731
    find_droplets(page, 5)
    first = settings()
    assert first["image"]["name"] == "of-that-name.png"
    assert first["provenance"]["parameters"]["sensitivity"] == 0.5
    page.locator("[popovertarget=find-popover]").click()
    page.locator("#find-min").fill("25")
    page.locator("#find-again").click()
    expect(page.locator("#count-included")).to_have_text("2")
    assert settings()["provenance"]["parameters"]["diameter_min_px"] == 25
    page.locator("#undo").click()
    wait_until_saved(page)
    again = settings()
    assert again["provenance"] == first["provenance"] | {"revision": again["provenance"]["revision"]}
    assert again["droplets"] == first["droplets"]
    page.reload()
    wait_until_open(page)
    expect(page.locator("#provenance")).to_contain_text("Found by threshold on CPU")
    page.locator("#undo").click()
    wait_until_saved(page)
    none = settings()
    assert (none["droplets"], none["provenance"]["model"], none["provenance"]["parameters"]) == ([], None, {})
    expect(page.locator("#provenance")).to_be_hidden()
    # This page never saw the second search itself; the server knows what to tell of it.
    page.locator("#redo").click()
    page.locator("#redo").click()
    expect(page.locator("#count-included")).to_have_text("2")
    expect(page.locator("#provenance")).to_contain_text("Found by threshold on CPU")
    wait_until_saved(page)
    assert settings()["provenance"]["parameters"]["diameter_min_px"] == 25


def test_a_grown_droplet_and_files_and_guests_know_who_included_it(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    filter_small(page)
    page.mouse.move(*on_screen(page, SMALL[0], SMALL[1]))
    page.keyboard.press("x")
    page.keyboard.press("v")
    tap(page, SMALL[0], SMALL[1])
    page.keyboard.press("<")
    expect(page.locator("#status")).to_have_text(re.compile("^Shrink by 1 px: done"))
    wait_until_saved(page)
    assert states(server, image_id)[6] == (True, "diameter_px_below")

    settings = server.get(f"/api/images/{image_id}/export/settings")
    assert settings["edits"]["included_by_user"] == 1
    assert [r["id"] for r in settings["droplets"] if r["included_by_user"]] == [6]
    page.get_by_role("button", name="Share this image").click()
    page.locator("#share-make").click()
    guest = open_page()
    guest.goto(page.locator("#share-url").input_value())
    wait_until_open(guest)
    expect(guest.locator("#count-included")).to_have_text("5")
    guest.locator("[data-rows=by-hand]").click()
    expect(guest.locator(".tabulator-row")).to_contain_text("included by you although")


@pytest.mark.parametrize("size", SIZES)
def test_the_bar_about_a_droplet_never_lies_on_it(server, open_page, size):
    discs = [(x, y, 9.0) for y in (14.0, 100.0, 186.0) for x in (60.0, 90.0)]
    page = open_page(size)
    open_image(page, server, disc_png(discs, (120, 200)))  # as high as the stage
    find_droplets(page, 6)

    def covered(bar: str, x: float, y: float) -> bool:
        """Whether any of a ring of points on the droplet's outline lies under the bar."""
        expect(page.locator(bar)).to_be_visible()
        ring = [on_screen(page, x + dx, y + dy) for dx, dy in ((0, 0), (9, 0), (-9, 0), (0, 9), (0, -9))]
        hits = "([bar, ring]) => ring.some(([x, y]) => document.elementFromPoint(x, y)?.closest(bar))"
        return page.evaluate(hits, [bar, ring])

    places = []
    for x, y, _ in discs[::2]:
        page.keyboard.press("Escape")
        page.locator('[data-tool="select"]').click()
        tap(page, x, y)
        assert not covered("#selection-bar", x, y)
        places.append(page.locator("#selection-bar").get_attribute("data-place"))
        page.keyboard.press("Escape")
        page.locator('[data-tool="point"]').click()
        page.wait_for_timeout(500)  # two clicks on one place at once would be a double click
        tap(page, x, y)
        expect(page.locator("#draft-text")).to_contain_text("replaces")
        assert not covered("#draft-bar", x, y)
        page.keyboard.press("Escape")
    assert (places[0], places[-1]) == ("foot", "top")
