"""Access for all: the accessibility checker on every page and state, and the keyboard alone."""

from __future__ import annotations

import re

import pytest
from browsing import (
    SIZES,
    axe_violations,
    find_droplets,
    open_image,
    open_page,
    server,
    wait_until_open,
    wait_until_saved,
)
from discs import GRID, GRID_WH, disc_png, glow_png
from playwright.sync_api import expect

__all__ = ["open_page", "server"]

# Runs in the page: sets an assay up as its panel does.
SET_ASSAY = """async ([path, settings]) => {
  const headers = { "X-SAM-Droplet": "1", "Content-Type": "application/json" };
  const answer = await fetch(path, { method: "PUT", headers, body: JSON.stringify(settings) });
  if (!answer.ok) throw new Error(await answer.text());
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_no_page_or_state_has_violations(server, open_page, size, scheme):
    page = open_page(size, color_scheme=scheme, reduced_motion="reduce")
    page.allowed.append("404")
    for path in ("/", "/login", "/annotate/none"):
        page.goto(server.url + path)
        assert axe_violations(page) == [], path
    open_image(page, server, disc_png())
    assert axe_violations(page) == [], "before finding"
    find_droplets(page, 5)
    page.locator("#stage").focus()
    page.keyboard.press("n")
    page.keyboard.press("x")
    expect(page.locator("#count-included")).to_have_text("4")
    if size == "phone":
        page.locator("#sheet-handle").click()
    for tab in ("filters", "export", "droplets"):
        page.locator(f"#tab-{tab}").click()
        assert axe_violations(page) == [], tab
    for popover in ("find", "shape", "display", "calibrate"):
        page.locator(f"[popovertarget={popover}-popover]").first.click()
        assert axe_violations(page) == [], popover
        page.keyboard.press("Escape")
    page.locator("#stage").focus()
    page.keyboard.press("?")
    assert axe_violations(page) == [], "keys"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_no_analysis_and_no_page_about_the_api_has_violations(server, open_page, size, scheme):
    page = open_page(size, color_scheme=scheme, reduced_motion="reduce")
    second_id = open_image(page, server, glow_png((0, 3, 8)))
    image_id = open_image(page, server, disc_png(GRID, GRID_WH))
    find_droplets(page, len(GRID))
    for assay in ("ddpcr", "loading"):
        page.evaluate(SET_ASSAY, [f"/api/images/{image_id}/assays/{assay}", {"second_image_id": second_id}])
    page.reload()
    wait_until_open(page)
    page.locator("#tab-analysis").click()
    expect(page.locator("#analysis-statistics table.numbers tbody tr").first).to_be_visible()
    for part, button in (("statistics", ""), ("populations", "split"), ("ddpcr", ""), ("loading", "")):
        page.locator(f"[data-part={part}]").click()
        if button:
            page.locator(f"#analysis-{part} [data-field={button}]").click()
        if part != "statistics":
            expect(page.locator(f"#analysis-{part} .u-over").first).to_be_visible()
        expect(page.locator(".analysis [aria-busy=true]")).to_have_count(0)  # pale for so long
        assert axe_violations(page, "#pane-analysis") == [], part
    page.goto(f"{server.url}/api-docs?image={image_id}")
    assert axe_violations(page) == []


def test_droplets_are_walked_and_excluded_with_the_keyboard_alone(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    page.keyboard.press("g")
    expect(page.locator("#count-included")).to_have_text("5")
    page.locator("#stage").focus()
    page.keyboard.press("n")
    expect(page.locator("#selection-text")).to_contain_text("Droplet 1")
    page.keyboard.press("Tab")
    expect(page.locator("#selection-text")).to_contain_text("Droplet 2")
    page.keyboard.press("x")
    wait_until_saved(page)
    assert [d["id"] for d in server.annotation(image_id)["droplets"] if not d["included"]] == [2]


def test_the_keyboard_stays_on_a_button_that_works(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    page.locator("#welcome-find").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("5 droplets found")
    expect(page.locator("#stage")).to_be_focused()  # the button is gone
    page.locator("#tab-export").click()
    page.keyboard.press("o")
    buttons = {"#find": "5 droplets found", "[data-format=csv]": "Downloaded", "#undo": "Undid"}
    for button, said in buttons.items():
        page.locator(button).focus()
        page.keyboard.press("Enter")
        expect(page.locator("#status")).to_contain_text(said)
        # Undo has nothing more to do, and redo stands for it.
        expect(page.locator(button if button != "#undo" else "#redo")).to_be_focused()
    page.locator("#tab-analysis").click()
    page.locator("#redo").click()
    page.locator("[data-part=ddpcr]").click()
    measure = page.locator("#analysis-ddpcr [data-field=measure]")
    expect(measure).to_be_enabled()  # once the second picture can be chosen
    measure.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#analysis-ddpcr [data-field=result]")).to_be_visible()
    expect(measure).to_be_focused()


def test_the_keyboard_goes_on_beside_a_button_that_has_done_its_work(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    find_droplets(page, 5)
    page.locator("#edge-exclude").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#edge-note")).to_be_hidden()
    expect(page.locator("#stage")).to_be_focused()
    page.locator("#tab-filters").click()
    page.get_by_role("button", name="Remove all filters").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Remove all filters")).to_be_disabled()
    expect(page.locator("#filters > :nth-last-child(3) input").last).to_be_focused()
    page.locator("#tab-analysis").click()
    steps = {
        "split": "n_groups",
        "size-remove": "split",
        "intensity-split": "column",
        "intensity-remove": "intensity-split",
    }
    page.locator("[data-part=populations]").click()
    for button, then in steps.items():
        page.locator(f"[data-field={button}]").focus()
        page.keyboard.press("Enter")
        expect(page.locator(f"[data-field={button}]")).to_be_hidden()
        expect(page.locator(f"#analysis-populations [data-field={then}]")).to_be_focused()


def test_tab_leaves_the_canvas_when_nothing_is_selected(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    find_droplets(page, 5)
    page.locator("#stage").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.id") != "stage"
    page.locator("#stage").focus()
    page.keyboard.press("n")
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.id") != "stage"


def test_what_happens_is_announced(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    page.keyboard.press("g")
    expect(page.locator("#announcer")).to_have_text(re.compile("5 droplets found"))
    histogram = page.locator("#histogram")
    expect(histogram).to_have_attribute("aria-label", re.compile("most lie near [0-9.]+ px$"))
    page.locator("#stage").focus()
    for key in ("Control+a", "x"):
        page.keyboard.press(key)
    expect(histogram).to_have_attribute("aria-label", re.compile("none is included$"))


@pytest.mark.parametrize("width", [390, 620, 861, 1024, 1440, 2560])
def test_no_width_scrolls_sideways(server, open_page, width):
    page = open_page()
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(f"{server.url}/")
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    open_image(page, server, disc_png())
    find_droplets(page, 5)
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    stage = page.locator("#stage").bounding_box()
    assert stage["width"] >= 300
    assert stage["height"] >= 200


def test_no_page_is_wider_than_a_phone(server, open_page):
    page = open_page("phone")
    image_id = open_image(page, server, disc_png())
    page.goto(f"{server.url}/batch")
    page.locator("#pick-all").click()
    page.locator("#start").click()
    page.wait_for_url("**/batch/*")
    expect(page.locator("#job-progress")).to_have_attribute("data-state", "done")
    for address in (page.url, f"{server.url}/batch", f"{server.url}/api-docs?image={image_id}"):
        page.goto(address)
        page.wait_for_timeout(300)
        assert page.evaluate("() => document.documentElement.scrollWidth") == SIZES["phone"][0], address
