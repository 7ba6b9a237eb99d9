"""The annotate page in a real browser: from an upload to a file, and nothing lost on the way."""

from __future__ import annotations

import re
import statistics

import pytest
from browsing import (
    SIZES,
    download_csv,
    find_droplets,
    on_screen,
    open_image,
    open_page,
    server,
    tap,
    wait_until_open,
    wait_until_saved,
)
from discs import DISCS, FIRST, SECOND, disc_png
from playwright.sync_api import expect

__all__ = ["open_page", "server"]


def open_panel(page, size):
    if size == "phone":
        page.locator("#sheet-handle").click()


@pytest.mark.parametrize("size", SIZES)
def test_from_upload_to_a_file_that_equals_page_and_api(server, open_page, size):
    page = open_page(size)
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)

    page.locator('[data-tool="select"]').click()
    tap(page, FIRST[0], FIRST[1])
    page.locator("#exclude").click()
    expect(page.locator("#count-included")).to_have_text("4")
    page.locator("#undo").click()
    expect(page.locator("#count-included")).to_have_text("5")
    page.locator("#redo").click()
    expect(page.locator("#count-included")).to_have_text("4")

    open_panel(page, size)
    page.locator("#tab-filters").click()
    page.get_by_role("checkbox", name="Exclude droplets cut by the edge").check()
    page.get_by_role("spinbutton", name="Diameter, maximum").fill("38")
    page.keyboard.press("Tab")
    expect(page.locator("#count-included")).to_have_text("2")
    wait_until_saved(page)

    rows = download_csv(page)
    saved = server.annotation(image_id)
    assert len(rows) == 5
    assert saved["summary"]["excluded_by_reason"] == {
        "user": 1, "touches_edge": 1, "diameter_px_above": 1,
    }  # fmt: skip
    by_id = {str(droplet["id"]): droplet for droplet in saved["droplets"]}
    for row in rows:
        droplet = by_id[row["id"]]
        assert row["included"] == str(droplet["included"]).lower()
        assert row["exclusion_reason"] == (droplet["exclusion_reason"] or "")
        assert float(row["diameter_px"]) == droplet["diameter_px"]
    diameters = [float(row["diameter_px"]) for row in rows if row["included"] == "true"]
    mean, sd = statistics.mean(diameters), statistics.stdev(diameters)
    assert saved["summary"]["diameter_px"]["mean"] == pytest.approx(mean, rel=1e-6)
    expect(page.locator("#mean")).to_have_text(f"{mean:.2f} ± {sd:.2f}")
    expect(page.locator("#cv")).to_have_text(f"CV {100 * sd / mean:.1f} %")

    page.reload()
    wait_until_open(page)
    expect(page.locator("#count-included")).to_have_text("2")
    expect(page.locator("#mean")).to_have_text(f"{mean:.2f} ± {sd:.2f}")


def test_droplets_at_the_border_are_pointed_out_and_left_out_at_one_press(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    expect(page.locator("#edge-text")).to_have_text("1 is cut by the image border and comes out too small.")
    page.locator("#edge-exclude").click()
    expect(page.locator("#count-included")).to_have_text("4")
    expect(page.locator("#edge-note")).to_be_hidden()
    wait_until_saved(page)
    assert server.annotation(image_id)["filters"]["exclude_edge"] is True
    at_border = DISCS[4]
    page.mouse.move(*on_screen(page, at_border[0], at_border[1]))
    page.keyboard.press("x")
    expect(page.locator("#count-included")).to_have_text("5")
    expect(page.locator("#edge-note")).to_be_hidden()  # who brought it back knows
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    expect(page.locator("#edge-note")).to_be_visible()


def test_a_line_of_known_length_sets_the_scale(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    page.keyboard.press("l")
    page.mouse.move(*on_screen(page, 50, 75))
    page.mouse.down()
    page.mouse.move(*on_screen(page, 150, 75), steps=4)
    page.mouse.up()
    page.locator("#calibrate-line-um").fill("65")
    page.keyboard.press("Enter")
    expect(page.locator("#scale-chip")).to_have_class("chip ok")
    wait_until_saved(page)
    calibration = server.annotation(image_id)["calibration"]
    assert calibration["source"] == "line"
    assert calibration["um_per_px"] == pytest.approx(0.65, rel=0.01)


def test_table_and_canvas_are_linked_both_ways(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    find_droplets(page, 5)
    page.locator(".tabulator-row", has_text=re.compile(r"^\s*3")).first.click()
    expect(page.locator("#selection-text")).to_contain_text("Droplet 3")
    page.keyboard.press("v")
    tap(page, FIRST[0], FIRST[1])
    expect(page.locator(".tabulator-row.is-selected")).to_have_count(1)
    expect(page.locator(".tabulator-row.is-selected [tabulator-field='id']")).to_have_text("1")
    page.keyboard.press("Delete")
    expect(page.locator(".tabulator-row")).to_have_count(4)


def test_an_empty_result_says_why(server, open_page):
    page = open_page()
    open_image(page, server, disc_png(discs=()), "empty.png")
    page.locator("#find").click()
    expect(page.locator("#notice-text")).to_contain_text("0 droplets")
    page.locator("#notice-close").click()
    expect(page.locator("#notice")).to_be_hidden()


def test_filters_that_leave_nothing_say_so(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    find_droplets(page, 5)
    page.locator("#tab-filters").click()
    page.get_by_role("spinbutton", name="Diameter, minimum").fill("500")
    page.keyboard.press("Tab")
    expect(page.locator("#empty-note")).to_have_text("0 droplets because: 5 with diameter below the minimum.")


def test_names_from_files_are_shown_as_text(server, open_page):
    page = open_page()
    name = "<img src=x onerror=alert(1)>.png"
    open_image(page, server, disc_png(), name)
    expect(page.locator("h1")).to_contain_text("<img")
    page.goto(f"{server.url}/")
    expect(page.locator("#images .card-title").first).to_have_text(name)


def test_the_table_goes_on_telling_after_the_same_droplets_were_found_again(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    find_droplets(page, 5)
    expect(page.locator(".tabulator-row")).to_have_count(5)
    with page.expect_response("**/find"):
        page.locator("#find").click()
    expect(page.locator("#find")).to_be_enabled()
    page.mouse.move(*on_screen(page, SECOND[0], SECOND[1]))
    page.keyboard.press("x")
    expect(page.locator("#count-included")).to_have_text("4")
    expect(page.locator(".tabulator-row.is-excluded")).to_have_count(1)


def test_why_a_file_could_not_be_had_is_said_where_it_was_asked_for(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    page.allowed.append("ERR_FAILED")
    page.route("**/export/*", lambda route: route.abort())
    page.locator("#tab-export").click()
    for name in ("xlsx", "bundle"):
        page.locator(f"[data-format={name}]").click()
        expect(page.locator("#download-error")).to_contain_text("cannot be reached")
        expect(page.locator("#download-error")).to_be_in_viewport(ratio=1)


def test_a_search_that_is_faster_than_the_first_answer_is_not_wiped_out_by_it(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    late = []

    def hold_first(route):
        if late:
            route.continue_()
        else:
            late.append((route, route.fetch()))

    page.route("**/annotation", hold_first)
    page.goto("about:blank")
    page.goto(f"{server.url}/annotate/{image_id}", wait_until="domcontentloaded")
    find_droplets(page, 5)
    route, answer = late[0]
    with page.expect_response("**/annotation"):
        route.fulfill(response=answer)
    wait_until_open(page)
    expect(page.locator("#count-included")).to_have_text("5")


def test_the_scale_bar_stays_short_however_near_one_looks(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    page.locator("#scale-chip").click()
    page.locator("#calibrate-value").fill("0.05")
    page.keyboard.press("Enter")
    page.mouse.move(*on_screen(page, FIRST[0], FIRST[1]))
    for _ in range(12):
        page.mouse.wheel(0, -500)
    expect(page.locator("#zoom-level")).to_have_text("6400 %")
    expect(page.locator("#scale-bar span")).to_have_text("0.1 µm")
    assert page.locator("#scale-bar i").bounding_box()["width"] <= 160


def test_a_height_that_was_typed_before_a_line_was_drawn_is_kept(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    page.locator("#scale-chip").click()
    page.locator("#calibrate-height").fill("40")
    page.locator("#calibrate-line").click()
    page.mouse.move(*on_screen(page, 20, 75))
    page.mouse.down()
    page.mouse.move(*on_screen(page, 120, 75), steps=4)
    page.mouse.up()
    page.locator("#calibrate-line-um").fill("50")
    page.keyboard.press("Enter")
    expect(page.locator("#scale-chip")).to_contain_text("chamber 40 µm")
    wait_until_saved(page)
    assert server.annotation(image_id)["calibration"]["chamber_height_um"] == 40
