"""Sharing in a real browser: a link made on one page shows everything on another, and changes nothing."""

from __future__ import annotations

from browsing import (
    axe_violations,
    find_droplets,
    on_screen,
    open_image,
    open_page,
    server,
    wait_until_open,
)
from discs import DISCS, disc_png
from playwright.sync_api import expect

__all__ = ["open_page", "server"]


def test_a_link_shows_the_droplets_and_lets_nobody_change_them(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    page.get_by_role("button", name="Share this image").click()
    page.locator("#share-make").click()
    expect(page.locator("#share-count")).to_have_text("One link to this image works.")
    expect(page.locator("#share-local")).to_be_visible()
    assert axe_violations(page) == []
    url = page.locator("#share-url").input_value()

    guest = open_page()
    guest.goto(url)
    wait_until_open(guest)
    expect(guest.locator("#count-included")).to_have_text("5")
    assert axe_violations(guest) == []
    for hidden in ("#find", ".toolbar", "#tab-filters", "#save-state", "#histogram-heading small"):
        expect(guest.locator(hidden)).to_be_hidden()
    expect(guest.locator("#scale-chip")).to_be_disabled()
    guest.keyboard.press("?")
    expect(guest.locator("#shortcuts")).to_contain_text("Zoom at the pointer")
    expect(guest.locator("#shortcuts")).not_to_contain_text("Undo")
    guest.keyboard.press("Escape")
    guest.mouse.click(*on_screen(guest, DISCS[0][0], DISCS[0][1]))
    guest.keyboard.press("Delete")
    expect(guest.locator("#status")).to_contain_text("it cannot be changed here")
    for key in ("x", "Delete", "g", "z", "Shift+C", ">", "p", "k", "d", "Control+z", "Control+s"):
        guest.keyboard.press("n")
        guest.keyboard.press("o")  # says something else
        expect(guest.locator("#status")).not_to_contain_text("changed")
        guest.keyboard.press(key)
        expect(guest.locator("#status")).to_contain_text("it cannot be changed here")
    expect(guest.locator("#count-included")).to_have_text("5")
    guest.locator("#tab-export").click()
    with guest.expect_download() as download:
        guest.locator("[data-format=csv]").click()
    assert download.value.path().read_text("utf-8-sig").count("\n") >= 6
    assert server.annotation(image_id)["summary"]["n_included"] == 5

    page.locator("#share-withdraw").click()
    expect(page.locator("#share-count")).to_be_hidden()
    guest.allowed.append("404")
    guest.reload()
    expect(guest.locator("main")).to_contain_text("no longer valid")


def test_a_new_link_is_not_wiped_out_by_a_late_answer(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    held = []
    page.route(
        "**/share", lambda route: held.append(route) if route.request.method == "GET" else route.continue_()
    )
    page.get_by_role("button", name="Share this image").click()
    page.locator("#share-make").click()
    expect(page.locator("#share-url")).to_be_visible()
    with page.expect_response("**/share"):
        held[0].fulfill(json={"links": 0, "is_local": True})
    page.wait_for_timeout(200)
    expect(page.locator("#share-url")).to_be_visible()
    expect(page.locator("#share-count")).to_have_text("One link to this image works.")
