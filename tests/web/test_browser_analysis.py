"""The analysis tab in a real browser: statistics, populations, ddPCR with a dragged threshold, loading."""

from __future__ import annotations

import re
import uuid

import numpy as np
import pytest
from browsing import (
    SIZES,
    axe_violations,
    find_droplets,
    open_image,
    open_page,
    server,
    until,
    wait_until_open,
    wait_until_saved,
)
from discs import GRID, GRID_WH, bead_png, disc_png, glow_png
from playwright.sync_api import expect

__all__ = ["open_page", "server"]

BRIGHT = (0, 3, 8, 11, 17, 20)
# Where the threshold is, where the plot ends, and a place on the line; at once, since new numbers draw anew.
LINE_AND_PLOT = """(panel) => {
  const box = (selector) => panel.querySelector(selector).getBoundingClientRect();
  const line = box(".chart-line");
  return [line.y + line.height / 2, box(".u-over").bottom - 1, line.x + 40];
}"""


def open_field(page, server, second: bytes, *, um_per_px: float | None = None) -> str:
    """Open a second picture and then the discs, find them, and open the analysis tab."""
    stem = uuid.uuid4().hex
    open_image(page, server, second, f"{stem}_1.png")
    image_id = open_image(page, server, disc_png(GRID, GRID_WH), f"{stem}_0.png")
    if um_per_px:
        page.locator("#scale-chip").click()
        page.locator("#calibrate-value").fill(str(um_per_px))
        page.keyboard.press("Enter")
    find_droplets(page, 24)
    page.locator("#tab-analysis").click()
    return image_id


def assays(server, image_id):
    return server.get(f"/api/images/{image_id}/assays")["assays"]


def part(page, name):
    page.locator(f"[data-part={name}]").click()
    return page.locator(f"#analysis-{name}")


@pytest.mark.parametrize("size", SIZES)
def test_ddpcr_from_two_pictures_to_a_concentration(server, open_page, size):
    page = open_page(size)
    image_id = open_field(page, server, glow_png(BRIGHT), um_per_px=2)
    panel = part(page, "ddpcr")
    field = lambda name: panel.locator(f"[data-field={name}]")  # noqa: E731
    # The picture whose name is most alike is offered first.
    expect(field("second_image_id").locator("option").first).to_contain_text("_1.png")
    field("measure").click()
    expect(field("counts")).to_have_text("6 of 24 positive")
    saved = assays(server, image_id)["ddpcr"]
    assert field("headline").inner_text() == f"{saved['estimate']['copies_per_ul']:.0f}"
    assert axe_violations(page) == []

    # The line is moved by the keyboard, down to the end of the axis; a drag does the same by the pointer.
    line = panel.get_by_role("slider", name="Threshold")
    line.focus()
    for _ in range(20):
        page.keyboard.press("Shift+ArrowDown")
    expect(field("counts")).to_have_text("24 of 24 positive")
    expect(field("headline")).to_have_text(re.compile("^> "))
    assert assays(server, image_id)["ddpcr"]["settings"]["threshold"] < saved["threshold"]
    field("propose").click()
    expect(field("counts")).to_have_text("6 of 24 positive")


def test_a_dragged_threshold_tells_at_once_and_is_kept(server, open_page):
    page = open_page()
    image_id = open_field(page, server, glow_png(BRIGHT))
    panel = part(page, "ddpcr")
    panel.locator("[data-field=measure]").click()
    expect(panel.locator("[data-field=unit]")).to_have_text("copies per droplet")
    line_y, plot_end_y, x = panel.evaluate(LINE_AND_PLOT)
    page.mouse.move(x, line_y)
    page.mouse.down()
    page.mouse.move(x, (line_y + plot_end_y) / 2, steps=6)
    # Numbers that come while the line is held do not bring it back.
    with page.expect_response(re.compile("/assays$")):
        page.keyboard.press("n")
        page.keyboard.press("x")
    expect(panel.locator("[data-field=counts]")).to_have_text(re.compile("of 23 positive"))
    page.mouse.move(x, plot_end_y, steps=6)
    expect(panel.locator("[data-field=headline]")).to_have_text("saturated")
    page.mouse.up()
    expect(panel.locator("[data-field=headline]")).to_have_text(re.compile("^> "))
    assert assays(server, image_id)["ddpcr"]["estimate"]["state"] == "saturated"


@pytest.mark.parametrize(("name", "figure"), [("ddpcr", "6 of 24 positive"), ("loading", "1 in 24 droplets")])
def test_nothing_is_measured_before_the_second_picture_is_known(server, open_page, name, figure):
    page = open_page()
    second = glow_png(BRIGHT) if name == "ddpcr" else bead_png([GRID[5][:2]])
    open_field(page, server, second)
    held = []
    page.route("**/api/images", lambda route: held.append(route))
    with page.expect_request("**/api/images"):
        panel = part(page, name)
    expect(panel.locator("[data-field=measure]")).to_be_disabled()
    held[0].continue_()
    panel.locator("[data-field=measure]").click()
    expect(panel.locator("[data-field=counts]")).to_have_text(figure)


def test_curation_changes_the_concentration(server, open_page):
    page = open_page()
    image_id = open_field(page, server, glow_png(BRIGHT))
    panel = part(page, "ddpcr")
    panel.locator("[data-field=measure]").click()
    expect(panel.locator("[data-field=counts]")).to_have_text("6 of 24 positive")
    amplitude = assays(server, image_id)["ddpcr"]["droplets"]
    brightest = amplitude["ids"][int(np.argmax(amplitude["amplitude"]))]
    page.locator("#tab-droplets").click()
    page.locator(f'.tabulator-row:has-text("{brightest}")').first.click()
    page.locator("#exclude").click()
    wait_until_saved(page)
    page.locator("#tab-analysis").click()
    excluded = [d["id"] for d in server.annotation(image_id)["droplets"] if d["excluded_by_user"]]
    assert len(excluded) == 1
    expect(panel.locator("[data-field=counts]")).to_have_text(
        "5 of 23 positive" if brightest in excluded else "6 of 23 positive"
    )


def test_settings_of_assays_are_steps_of_undo_that_a_reload_keeps(server, open_page):
    page = open_page()
    image_id = open_field(page, server, glow_png(BRIGHT))
    panel = part(page, "ddpcr")
    field = lambda name: panel.locator(f"[data-field={name}]")  # noqa: E731
    settings = lambda: (assays(server, image_id)["ddpcr"] or {}).get("settings")  # noqa: E731
    field("measure").click()
    expect(field("counts")).to_have_text("6 of 24 positive")
    measured = settings()
    field("dilution").fill("10")
    page.keyboard.press("Tab")
    expect(page.locator("#undo")).to_have_attribute("title", re.compile("change ddPCR: dilution"))
    field("threshold").fill("-50")
    page.keyboard.press("Tab")
    expect(field("counts")).to_have_text("24 of 24 positive")

    page.locator("#undo").click()
    expect(field("counts")).to_have_text("6 of 24 positive")
    until(settings, measured | {"dilution": 10})
    page.reload()
    page.locator("#tab-analysis").click()
    part(page, "ddpcr")
    expect(field("dilution")).to_have_value("10")
    page.locator("#undo").click()
    expect(field("dilution")).to_have_value("1")
    until(settings, measured)
    page.locator("#undo").click()
    expect(field("result")).to_be_hidden()
    until(settings, None)
    page.locator("#redo").click()
    expect(field("counts")).to_have_text("6 of 24 positive")
    page.locator("#redo").click()
    page.locator("#redo").click()
    expect(field("counts")).to_have_text("24 of 24 positive")
    until(settings, measured | {"dilution": 10, "threshold": -50})
    field("remove").click()
    expect(field("result")).to_be_hidden()
    page.locator("#undo").click()
    expect(field("counts")).to_have_text("24 of 24 positive")


def test_what_is_typed_while_an_answer_comes_is_kept(server, open_page):
    page = open_page()
    image_id = open_field(page, server, glow_png(BRIGHT), um_per_px=2)
    panel = part(page, "ddpcr")
    dilution = panel.locator("[data-field=dilution]")
    panel.locator("[data-field=measure]").click()
    expect(dilution).to_have_value("1")
    held = []
    page.route("**/assays/ddpcr", lambda route: held.append(route))
    panel.locator("[data-field=threshold]").fill("100")
    with page.expect_request("**/assays/ddpcr"):
        page.keyboard.press("Tab")
    dilution.fill("10")
    held.pop().continue_()
    page.unroute("**/assays/ddpcr")
    expect(page.locator("#undo")).to_have_attribute("title", re.compile("change ddPCR: threshold"))
    expect(panel).to_have_attribute("aria-busy", "false")
    expect(dilution).to_have_value("10")
    page.keyboard.press("Tab")
    expect(page.locator("#undo")).to_have_attribute("title", re.compile("change ddPCR: dilution"))
    assert assays(server, image_id)["ddpcr"]["settings"]["dilution"] == 10
    # What is no number reads as empty, and an empty threshold would be proposed anew.
    threshold = panel.locator("[data-field=threshold]")
    threshold.fill("")
    threshold.press_sequentially("2e")
    page.keyboard.press("Enter")
    assert threshold.evaluate("(input) => input.validity.badInput")
    assert assays(server, image_id)["ddpcr"]["settings"]["threshold"] == 100
    threshold.fill("100")
    dilution.fill("-1")
    page.keyboard.press("Enter")
    expect(dilution).to_have_value("10")


@pytest.mark.parametrize("size", SIZES)
def test_guests_read_the_assays_and_their_settings_and_change_none(server, open_page, size):
    page = open_page()
    image_id = open_field(page, server, glow_png(BRIGHT), um_per_px=2)
    panel = part(page, "ddpcr")
    panel.locator("[data-field=measure]").click()
    panel.locator("[data-field=dilution]").fill("10")
    page.keyboard.press("Tab")
    expect(page.locator("#undo")).to_have_attribute("title", re.compile("change ddPCR: dilution"))
    saved = assays(server, image_id)["ddpcr"]
    page.get_by_role("button", name="Share this image").click()
    page.locator("#share-make").click()
    guest = open_page(size)
    guest.goto(page.locator("#share-url").input_value())
    wait_until_open(guest)
    guest.locator("#tab-analysis").click()
    expect(guest.locator("#analysis-statistics .methods")).to_contain_text("24 were included")
    assert axe_violations(guest) == []
    # Loading and populations were not set up.
    expect(guest.locator("[data-part]:visible")).to_have_text(["Statistics", "ddPCR"])
    panel = part(guest, "ddpcr")
    field = lambda name: panel.locator(f"[data-field={name}]")  # noqa: E731
    expect(field("counts")).to_have_text("6 of 24 positive")
    expect(field("headline")).to_have_text(f"{saved['estimate']['copies_per_ul']:.0f}")
    expect(field("dilution")).to_have_value("10")
    expect(field("figures")).to_contain_text("_1.png")
    for name in ("dilution", "threshold", "amplitude"):
        expect(field(name)).to_be_disabled()
    for name in ("measure", "propose", "remove"):
        expect(field(name)).to_be_hidden()
    expect(panel.get_by_role("slider")).to_have_count(0)
    x, y = panel.evaluate(
        """(it) => {
          const box = it.querySelector(".chart-line").getBoundingClientRect();
          return [box.x + 40, box.y + box.height / 2];
        }"""
    )
    guest.mouse.move(x, y)
    guest.mouse.down()
    guest.mouse.move(x, y + 40)
    guest.mouse.up()
    expect(field("counts")).to_have_text("6 of 24 positive")
    field("look").click()
    expect(guest.locator("#pair-image")).to_be_visible()
    assert axe_violations(guest) == []
    assert assays(server, image_id)["ddpcr"]["settings"] == saved["settings"]


def test_both_pictures_are_shown_over_each_other(server, open_page):
    page = open_page()
    open_field(page, server, glow_png(BRIGHT))
    panel = part(page, "ddpcr")
    panel.locator("[data-field=measure]").click()
    panel.locator("[data-field=look]").click()
    expect(page.locator("#pair-image")).to_be_visible()
    assert page.evaluate("() => document.getElementById('pair-image').naturalWidth") == 1200
    assert axe_violations(page) == []
    page.keyboard.press("Escape")
    expect(page.locator("#pair-dialog")).to_be_hidden()
    # What comes after the dialog was closed is neither shown nor kept.
    held = []
    page.route("**/export/pair", lambda route: held.append(route))
    panel.locator("[data-field=look]").click()
    page.keyboard.press("Escape")
    expect(page.locator("#pair-dialog")).to_be_hidden()
    with page.expect_response("**/export/pair"):
        held[0].continue_()
    page.wait_for_timeout(300)
    assert page.locator("#pair-image").get_attribute("src") is None


def test_a_second_picture_that_was_deleted_is_not_this_same_image(server, open_page):
    page = open_page()
    image_id = open_field(page, server, glow_png(BRIGHT))
    second_id = server.get("/api/images")["images"][1]["id"]
    part(page, "ddpcr").locator("[data-field=measure]").click()
    expect(page.locator("#analysis-ddpcr [data-field=counts]")).to_have_text("6 of 24 positive")
    headers = {"X-SAM-Droplet": "1"}
    assert page.request.delete(f"{server.url}/api/images/{second_id}", headers=headers).ok
    page.reload()
    wait_until_open(page)
    page.locator("#tab-analysis").click()
    panel = part(page, "ddpcr")
    expect(panel.locator("[data-field=second_image_id]")).to_have_value(second_id)
    page.allowed.append("404")
    panel.locator("[data-field=measure]").click()
    expect(page.locator("#analysis-error")).to_contain_text("may have been deleted")
    assert assays(server, image_id)["ddpcr"]["settings"]["second_image_id"] == second_id


def test_loading_shows_what_poisson_expects(server, open_page):
    page = open_page()
    image_id = open_field(page, server, bead_png([(30, 30), (25, 34), (70, 30), (150, 70), (5, 170)]))
    panel = part(page, "loading")
    panel.locator("[data-field=measure]").click()
    expect(panel.locator("[data-field=counts]")).to_have_text("4 in 24 droplets")
    saved = assays(server, image_id)["loading"]
    assert panel.locator("[data-field=headline]").inner_text() == f"{saved['lam']:.3f}"
    figures = panel.locator("[data-field=figures]")
    expect(figures).to_contain_text("Empty87.5 %")  # 21 of 24
    expect(figures).to_contain_text("Two or more4.2 %")
    assert axe_violations(page) == []
    panel.locator("[data-field=remove]").click()
    expect(panel.locator("[data-field=result]")).to_be_hidden()
    assert assays(server, image_id)["loading"] is None


@pytest.mark.parametrize("size", SIZES)
def test_statistics_and_populations(server, open_page, size):
    page = open_page(size)
    small = tuple((x, y, 12.0 if i % 4 else 5.0) for i, (x, y, _) in enumerate(GRID))
    image_id = open_image(page, server, disc_png(small, GRID_WH))
    find_droplets(page, 24)
    page.locator("#tab-analysis").click()
    summary = server.annotation(image_id)["summary"]["diameter_px"]
    row = page.locator("#analysis-statistics tr", has_text=re.compile("^Mean"))
    expect(row.locator("td").first).to_have_text(f"{summary['mean']:.2f}")
    expect(page.locator("#analysis-statistics .methods")).to_contain_text("24 were included")
    expect(page.locator(".analysis [aria-busy=true]")).to_have_count(
        0
    )  # pale while they are being worked out
    assert axe_violations(page) == []

    panel = part(page, "populations")
    panel.locator("[data-field=split]").click()
    satellites = panel.locator("[data-field=size-table] tr", has_text="satellite")
    expect(satellites.locator("td").nth(1)).to_have_text("6 (25 %)")
    expect(satellites.locator("td").nth(2)).to_have_text(re.compile(r"^2\.\d %$"))  # 6·5³ of 18·12³ + 6·5³
    panel.locator("[data-field=intensity-split]").click()
    expect(panel.locator("[data-field=intensity-counts]")).to_contain_text("low")
    panel.locator("[data-field=intensity-threshold]").fill("100")
    page.keyboard.press("Tab")
    expect(panel.locator("[data-field=intensity-counts]")).to_have_text("24 high (100.0 %), 0 low (0.0 %)")
    assert axe_violations(page) == []
    page.reload()
    page.locator("#tab-analysis").click()
    part(page, "populations")
    expect(satellites.locator("td").nth(1)).to_have_text("6 (25 %)")


def test_a_preset_sets_filters_and_an_objective_the_scale(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    page.locator("#tab-filters").click()
    page.locator("#preset").select_option("monodisperse")
    expect(page.locator("#count-included")).to_have_text("3")  # not the cut and the large one
    page.locator("#undo").click()
    expect(page.locator("#count-included")).to_have_text("5")
    page.get_by_text("More filters").click()
    page.get_by_role("spinbutton", name="Distance from the edge (px), minimum").fill("20")
    page.keyboard.press("Tab")
    expect(page.locator("#count-included")).to_have_text("3")

    name = f"20x {uuid.uuid4().hex[:6]}"
    page.locator("#scale-chip").click()
    page.locator("#calibrate-value").fill("0.5")
    page.keyboard.press("Enter")
    page.locator("#scale-chip").click()
    page.locator("#objective-name").fill(name)
    page.keyboard.press("Enter")
    expect(page.locator("#objective")).to_contain_text(name)
    assert axe_violations(page) == []
    page.keyboard.press("Escape")
    wait_until_saved(page)
    open_image(page, server, disc_png())
    page.locator("#scale-chip").click()
    expect(page.locator("#objective")).to_contain_text(name)
    page.locator("#objective").select_option(name)
    expect(page.locator("#scale-chip")).to_have_text("0.5 µm/px (saved objective)")
    wait_until_saved(page)
    page.goto(f"{server.url}/batch")
    expect(page.locator("#objective")).to_contain_text(name)
    assert server.annotation(image_id)["calibration"] == {"um_per_px": 0.5, "source": "typed"}


def test_an_objective_that_was_picked_is_not_undone_by_the_button_below(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    name = f"/10x {uuid.uuid4().hex[:6]}"
    page.locator("#scale-chip").click()
    page.locator("#calibrate-value").fill("1.3")
    page.keyboard.press("Enter")
    page.locator("#scale-chip").click()
    page.locator("#objective-name").fill(name)
    page.route("**/api/objectives", lambda route: route.abort())
    page.allowed.append("ERR_FAILED")
    page.keyboard.press("Enter")
    expect(page.locator("#calibrate-error")).to_contain_text("cannot be reached")
    expect(page.locator("#objective-name")).to_have_value(name)
    page.unroute("**/api/objectives")
    page.keyboard.press("Enter")
    expect(page.locator("#objective")).to_contain_text(name)
    expect(page.locator("#calibrate-error")).to_be_hidden()
    page.locator("#calibrate-value").fill("0.5")
    page.keyboard.press("Enter")
    expect(page.locator("#scale-chip")).to_have_text("0.5 µm/px (typed)")

    page.locator("#scale-chip").click()
    expect(page.locator("#objective")).to_contain_text(name)
    page.locator("#objective").select_option(name)
    expect(page.locator("#calibrate-now")).to_have_text("Now 1.3 µm/px (saved objective).")
    page.get_by_role("button", name="Set scale", exact=True).click()
    expect(page.locator("#calibrate-popover")).to_be_hidden()
    wait_until_saved(page)
    assert server.annotation(image_id)["calibration"]["um_per_px"] == 1.3

    page.locator("#scale-chip").click()
    page.locator("#objective").select_option(name)
    page.get_by_role("button", name="Forget").click()
    expect(page.locator("#objective")).not_to_contain_text(name)


def test_an_answer_that_comes_late_does_not_replace_newer_statistics(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    find_droplets(page, 5)
    wait_until_saved(page)
    held = []

    def hold_first(route):
        held.append((route, route.fetch()))
        if len(held) > 1:
            route.fulfill(response=held[-1][1])

    page.route("**/report", hold_first)
    with page.expect_request("**/report"):
        page.locator("#tab-analysis").click()
    counts = page.locator('#analysis-statistics [data-field="counts"]')
    page.keyboard.press("n")
    page.locator("#exclude").click()
    expect(counts).to_contain_text("4 of 5 droplets")
    route, first = held[0]
    with page.expect_response("**/report"):
        route.fulfill(response=first)
    page.wait_for_timeout(300)
    expect(counts).to_contain_text("4 of 5 droplets")


def test_the_arrow_keys_reach_every_preset(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    find_droplets(page, 5)
    page.locator("#tab-filters").click()
    page.locator("#preset").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#preset:open")).to_be_visible()
    for key in ("ArrowDown", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    expect(page.locator("#status")).to_contain_text("Preset Polydisperse")


def test_presets_of_a_server_that_is_away_say_so_when_chosen(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    find_droplets(page, 5)
    page.allowed.append("ERR_FAILED")
    page.route("**/presets", lambda route: route.abort())
    page.locator("#tab-filters").click()
    with page.expect_event("requestfailed"):
        page.locator("#preset").focus()
    page.locator("#preset").select_option("monodisperse")
    expect(page.locator("#status")).to_contain_text("cannot be reached")
    expect(page.locator("#preset")).to_have_value("")


def test_droplets_of_another_size_look_alike_on_the_canvas_in_the_table_and_in_the_legend(server, open_page):
    page = open_page()
    sizes = [(x, y, 12.0 + index % 3 / 2) for index, (x, y, _) in enumerate(GRID)]
    small = [(x + 20, y + 20, 5.0 + index % 3 / 4) for index, (x, y, _) in enumerate(GRID[:11]) if index != 5]
    open_image(page, server, disc_png([*sizes, *small], GRID_WH))
    find_droplets(page, 34)
    page.locator("#tab-analysis").click()
    page.locator("[data-part=populations]").click()
    page.locator("[data-field=split]").click()
    expect(page.locator("[data-field=size-about]")).to_contain_text(re.compile(r"support [2-4] groups"))
    page.locator("#tab-droplets").click()
    purple = "rgb(196, 165, 255)"
    expect(page.locator("#table .swatch.other").first).to_have_css("border-top-color", purple)
    page.locator("[popovertarget=display-popover]").click()
    legend = page.locator(".legend li", has_text="Of another size than most")
    expect(legend.locator(".swatch")).to_have_css("border-top-color", purple)
