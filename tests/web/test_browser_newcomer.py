"""Small things that make somebody hesitate who opens the page for the first time."""

from __future__ import annotations

import re

import pytest
from browsing import axe_violations, find_droplets, on_screen, open_image, open_page, server, tap, until
from discs import DISCS, disc_png
from playwright.sync_api import expect

__all__ = ["open_page", "server"]

MANY = [(14.0 + 25 * (i % 10), 14.0 + 25 * (i // 10), 9.0) for i in range(100)]
IN_VIEW = """() => {
  const row = document.querySelector(".tabulator-row.is-selected");
  if (!row) return false;
  const [at, box] = [row, row.closest(".tabulator-tableholder")].map((node) => node.getBoundingClientRect());
  return at.top >= box.top - 1 && at.bottom <= box.bottom + 1;
}"""


def test_the_list_of_excluded_droplets_says_why_each_is_out(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    find_droplets(page, 5)
    page.locator("#edge-exclude").click()
    page.mouse.move(*on_screen(page, *DISCS[1][:2]))
    page.keyboard.press("x")
    expect(page.locator("#count-included")).to_have_text("3")
    page.locator("#tab-droplets").click()
    page.locator("[data-rows=excluded]").click()
    reasons = page.locator("#table .tabulator-row [tabulator-field=exclusion_reason]")
    until(lambda: sorted(reasons.all_inner_texts()), ["excluded by you", "touches the edge"])
    assert axe_violations(page, "#pane-droplets") == []
    page.locator("[data-rows=all]").click()
    expect(page.locator("#table .tabulator-row [tabulator-field=circularity]").first).to_be_visible()


def test_the_table_shows_the_row_of_what_was_just_made(server, open_page):
    page = open_page()
    open_image(page, server, disc_png(MANY, (264, 264)))
    find_droplets(page, 100)
    page.keyboard.press("v")
    for x, y, _ in MANY[90:92]:
        page.keyboard.down("Shift")
        page.mouse.click(*on_screen(page, x, y))
        page.keyboard.up("Shift")
        page.wait_for_timeout(400)  # or the next one would be a double click
    expect(page.locator("#selection-text")).to_have_text("2 droplets selected")
    page.keyboard.press("j")
    expect(page.locator("#selection-text")).to_have_text(re.compile("^Droplet 101"))
    page.wait_for_function(IN_VIEW)
    # Rows that were drawn before they were selected are marked as well.
    page.mouse.click(*on_screen(page, *MANY[50][:2]))
    page.wait_for_function(IN_VIEW)


def test_what_a_tool_waits_for_and_what_changed_is_said(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    find_droplets(page, 5)
    page.keyboard.press("l")
    expect(page.locator("#tool-text")).to_contain_text("whose length you know")
    page.keyboard.press("Escape")
    expect(page.locator("#tool-bar")).to_be_hidden()
    tap(page, 120, 75)
    expect(page.locator("#draft-text")).to_contain_text("Drag a box around it, or draw it (W).")
    page.keyboard.press("Escape")
    page.locator("#tab-filters").click()
    page.locator("#exclude-edge").check()
    expect(page.locator("#status")).to_have_text("Filter by the edge: 4 of 5 droplets included")
    page.locator("#scale-chip").click()
    page.locator("#calibrate-value").fill("0.5")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_text("Set the scale: 0.5 µm/px (typed)")


def test_what_can_be_done_with_a_selected_droplet_is_beside_it(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    find_droplets(page, 5)
    page.keyboard.press("n")
    page.keyboard.press("Tab")
    expect(page.locator("#selection-text")).to_have_text(re.compile("^Droplet"))
    bar = page.locator("#selection-bar").bounding_box()
    page.locator("#selection-bar").get_by_role("button", name="Outline…").click()
    popover = page.locator("#shape-popover")
    expect(popover).to_contain_text("Changes the 1 droplet selected")
    assert popover.bounding_box()["y"] == pytest.approx(bar["y"] + bar["height"], abs=20)


def test_the_picture_of_both_pictures_is_offered_once_there_are_two(server, open_page):
    page = open_page()
    second = f"{id(page)}.png"
    open_image(page, server, disc_png(DISCS[:3]), second)
    open_image(page, server, disc_png())
    find_droplets(page, 5)
    page.locator("#tab-export").click()
    expect(page.locator("[data-format=overlay]")).to_be_visible()
    expect(page.locator("[data-format=pair]")).to_be_hidden()
    page.locator("#tab-analysis").click()
    page.locator("[data-part=ddpcr]").click()
    page.locator("#analysis-ddpcr [data-field=second_image_id]").select_option(label=second)
    page.locator("#analysis-ddpcr [data-field=measure]").click()
    expect(page.locator("#analysis-ddpcr [data-field=result]")).to_be_visible()
    page.locator("#tab-export").click()
    with page.expect_download() as download:
        page.locator("[data-format=pair]").click()
    assert download.value.suggested_filename.endswith(".png")


def test_on_a_phone_a_tab_opens_in_sight(server, open_page):
    page = open_page("phone")
    open_image(page, server, disc_png())
    find_droplets(page, 5)
    page.locator("#sheet-handle").click()
    expect(page.locator("#panel")).to_have_attribute("data-sheet", "half")
    page.locator("#tab-filters").click()
    expect(page.get_by_label("Diameter, minimum").first).to_be_in_viewport()


def test_no_figure_is_cut_off_in_a_narrow_window(server, open_page):
    page = open_page()
    page.set_viewport_size({"width": 1024, "height": 768})
    open_image(page, server, disc_png())
    find_droplets(page, 5)
    page.locator("#scale-chip").click()
    page.locator("#calibrate-value").fill("0.654321")
    page.keyboard.press("Enter")
    expect(page.locator("#figures")).to_contain_text("Volume")
    figures = "document.querySelector('#figures')"
    assert page.evaluate(f"{figures}.scrollWidth <= {figures}.clientWidth")


def test_what_a_tool_waits_for_is_not_said_of_the_next_one(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    find_droplets(page, 5)
    page.keyboard.press("u")
    expect(page.locator("#status")).to_have_text("Paint on a droplet")
    page.keyboard.press("v")
    expect(page.locator("#status")).to_contain_text("Click droplets to select them")
