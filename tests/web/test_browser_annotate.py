"""The annotate page in a real browser: from an upload to a file, and nothing lost on the way."""

from __future__ import annotations

import base64
import csv
import io
import re
import statistics
import uuid

import pytest
from browsing import (
    SIZES,
    Server,
    axe_violations,
    find_droplets,
    give,
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

FIRST, SECOND = DISCS[0], DISCS[1]


def open_panel(page, size):
    if size == "phone":
        page.locator("#sheet-handle").click()


def download_csv(page):
    page.locator("#tab-export").click()
    with page.expect_download() as download:
        page.locator('[data-format="csv"]').click()
    text = download.value.path().read_text(encoding="utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


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


def test_undo_covers_finding_filters_and_scale_one_by_one(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    page.locator("#tab-filters").click()
    page.get_by_role("spinbutton", name="Diameter, minimum").fill("22")
    page.keyboard.press("Tab")
    expect(page.locator("#count-included")).to_have_text("4")
    page.locator("#scale-chip").click()
    page.keyboard.type("0.5")
    page.keyboard.press("Enter")
    expect(page.locator("#scale-chip")).to_have_text("0.5 µm/px (typed)")
    expect(page.locator("#mean-unit")).to_have_text("µm")
    wait_until_saved(page)
    assert server.annotation(image_id)["calibration"] == {"um_per_px": 0.5, "source": "typed"}

    page.locator("#undo").click()
    expect(page.locator("#scale-chip")).to_have_text("pixels only")
    page.locator("#undo").click()
    expect(page.locator("#count-included")).to_have_text("5")
    page.locator("#undo").click()
    expect(page.locator("#count-included")).to_have_text("0")
    expect(page.locator("#undo")).to_be_disabled()
    for _ in range(3):
        page.locator("#redo").click()
    expect(page.locator("#count-included")).to_have_text("4")
    wait_until_saved(page)
    saved = server.annotation(image_id)
    assert saved["filters"]["ranges"] == {"diameter_px": [22, None]}
    assert saved["calibration"]["um_per_px"] == 0.5
    assert saved["summary"]["n_included"] == 4


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


def test_a_low_chamber_flattens_droplets_and_can_be_undone(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    volume = page.locator("#figures div", has_text="Volume").locator("dd")

    def set_scale(um_per_px: str, height_um: str) -> None:
        page.locator("#scale-chip").click()
        page.locator("#calibrate-value").fill(um_per_px)
        page.locator("#calibrate-height").fill(height_um)
        page.keyboard.press("Enter")

    set_scale("", "6")
    expect(page.locator("#calibrate-error")).to_contain_text("The height needs a scale.")
    page.keyboard.press("Escape")
    set_scale("0.5", "")
    expect(volume).to_be_visible()
    spheres = volume.inner_text()
    set_scale("0.5", "6")
    expect(page.locator("#scale-chip")).to_have_text("0.5 µm/px (typed), chamber 6 µm")
    set_scale("0.5", "6")  # the same again is no step for undo
    expect(volume).not_to_have_text(spheres)
    wait_until_saved(page)
    saved = server.annotation(image_id)
    assert saved["calibration"] == {"um_per_px": 0.5, "source": "typed", "chamber_height_um": 6}
    assert float(volume.inner_text().split()[0]) == pytest.approx(
        saved["summary"]["volume_pl"]["mean"], rel=1e-3
    )
    page.locator("#tab-analysis").click()
    counts = page.locator('#analysis-statistics [data-field="counts"]')
    expect(counts).to_contain_text("volumes: flattened between plates 6 µm apart")
    notes = page.locator('#analysis-statistics [data-field="notes"]')
    expect(notes).to_contain_text("5 of 5 included droplets are wider than the chamber is high (6 µm)")
    set_scale("0.5", "500")
    expect(notes).to_contain_text("No included droplet is wider than the chamber is high (500 µm)")
    expect(counts).to_contain_text("volumes: spheres")
    page.keyboard.press("Control+z")
    expect(counts).to_contain_text("volumes: flattened between plates 6 µm apart")
    page.locator("#scale-chip").click()
    page.locator("#calibrate-height").fill("-1")
    page.keyboard.press("Enter")
    expect(page.locator("#calibrate-error")).to_contain_text("Type the height of the chamber")
    page.locator("#calibrate-value").fill("0.6")
    page.locator("#calibrate-height").fill("")
    page.locator("#calibrate-height").press_sequentially("25e")  # no number, which reads as empty
    page.keyboard.press("Enter")
    expect(page.locator("#calibrate-error")).to_contain_text("Type the height of the chamber")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+z")
    expect(volume).to_have_text(spheres)
    expect(counts).to_contain_text("volumes: spheres")
    wait_until_saved(page)
    assert server.annotation(image_id)["calibration"] == {"um_per_px": 0.5, "source": "typed"}


def test_a_hundred_steps_can_be_undone(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    page.mouse.move(*on_screen(page, FIRST[0], FIRST[1]))
    for _ in range(101):
        page.keyboard.press("x")
    expect(page.locator("#count-included")).to_have_text("4")
    for _ in range(101):
        page.keyboard.press("Control+z")
    expect(page.locator("#count-included")).to_have_text("5")
    expect(page.locator("#undo")).to_be_enabled()
    wait_until_saved(page)
    assert server.annotation(image_id)["summary"]["n_included"] == 5


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


def test_changes_wait_for_a_server_that_went_away(server, open_page):
    page = open_page()
    page.allowed.append("ERR_CONNECTION_REFUSED")
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    server.stop()
    page.mouse.move(*on_screen(page, FIRST[0], FIRST[1]))
    page.keyboard.press("x")
    expect(page.locator("#save-state")).to_have_text("Not saved: trying again")
    expect(page.locator("#count-included")).to_have_text("4")
    server.start()
    wait_until_saved(page)
    assert server.annotation(image_id)["summary"]["n_included"] == 4


def test_leaving_with_unsaved_changes_asks_first(server, open_page):
    page = open_page()
    page.allowed.append("ERR_CONNECTION_REFUSED")
    open_image(page, server, disc_png())
    find_droplets(page, 5)
    server.stop()
    page.mouse.move(*on_screen(page, FIRST[0], FIRST[1]))
    page.mouse.click(*on_screen(page, FIRST[0], FIRST[1]))
    page.keyboard.press("Escape")
    page.keyboard.press("x")
    expect(page.locator("#save-state")).to_have_text("Not saved: trying again")
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    with page.expect_event("dialog"):
        page.evaluate("() => { location.href = '/'; }")
    assert asked == ["beforeunload"]
    expect(page.locator("#count-included")).to_have_text("4")
    server.start()
    wait_until_saved(page)


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


def test_the_key_sheet_opens_and_typing_triggers_no_key(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    page.keyboard.press("?")
    expect(page.locator("#shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    page.locator("[popovertarget=find-popover]").click()
    page.locator("#find-min").press("g")
    expect(page.locator("#status")).to_have_text("Ready")


def test_names_from_files_are_shown_as_text(server, open_page):
    page = open_page()
    name = "<img src=x onerror=alert(1)>.png"
    open_image(page, server, disc_png(), name)
    expect(page.locator("h1")).to_contain_text("<img")
    page.goto(f"{server.url}/")
    expect(page.locator("#images .card-title").first).to_have_text(name)


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


def test_keys_lead_to_the_neighbouring_images(server, open_page):
    page = open_page()
    first = open_image(page, server, disc_png(), "neighbour-1.png")
    second = open_image(page, server, disc_png(DISCS[:3]), "neighbour-2.png")
    expect(page.locator("#previous-image")).to_be_visible()
    find_droplets(page, 3)
    page.keyboard.press("a")
    page.wait_for_url(f"**/annotate/{first}")
    expect(page.locator("#next-image")).to_be_visible()
    page.keyboard.press("d")
    page.wait_for_url(f"**/annotate/{second}")
    wait_until_open(page)
    expect(page.locator("#count-included")).to_have_text("3")


def test_undo_goes_on_after_a_reload(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    tap(page, FIRST[0], FIRST[1])
    page.keyboard.press("x")
    expect(page.locator("#count-included")).to_have_text("4")
    wait_until_saved(page)
    page.reload()
    wait_until_open(page)
    expect(page.locator("#count-included")).to_have_text("4")
    page.locator("#undo").click()
    expect(page.locator("#count-included")).to_have_text("5")
    page.locator("#undo").click()
    expect(page.locator("#count-included")).to_have_text("0")
    wait_until_saved(page)
    page.reload()
    wait_until_open(page)
    # What the page has never seen comes from the server.
    page.locator("#redo").click()
    expect(page.locator("#count-included")).to_have_text("5")
    wait_until_saved(page)
    assert len(server.annotation(image_id)["droplets"]) == 5


def test_a_click_on_an_outlined_droplet_offers_to_exclude_it(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    find_droplets(page, 5)
    tap(page, FIRST[0], FIRST[1])
    expect(page.locator("#draft-text")).to_contain_text("replaces droplet 1")
    page.locator("#draft-exclude").click()
    expect(page.locator("#count-included")).to_have_text("4")
    expect(page.locator("#draft-bar")).to_be_hidden()


def test_a_file_dropped_on_the_page_opens_and_loses_nothing(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    tap(page, FIRST[0], FIRST[1])
    page.keyboard.press("x")
    give(page, "drop", "notes.png", b"no image")
    page.allowed.append("415")
    expect(page.locator("#notice-text")).to_contain_text("notes.png: ")
    give(page, "drop", "second.png", disc_png(DISCS[:2]))
    expect(page.locator("h1")).to_have_text("second.png")
    assert server.annotation(image_id)["summary"]["excluded_by_reason"] == {"user": 1}


def test_what_could_not_be_saved_outlives_the_page(tmp_path, open_page):
    server = Server(tmp_path / "data")
    page = open_page()
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    wait_until_saved(page)
    server.stop()
    page.allowed.append("ERR_CONNECTION_REFUSED")
    tap(page, FIRST[0], FIRST[1])
    page.keyboard.press("Escape")
    page.keyboard.press("x")
    expect(page.locator("#count-included")).to_have_text("4")
    expect(page.locator("#save-state")).to_have_attribute("data-state", "retrying")
    page.goto("about:blank")
    server.start()
    page.goto(f"{server.url}/annotate/{image_id}")
    expect(page.locator("#count-included")).to_have_text("4")
    wait_until_saved(page)
    assert server.annotation(image_id)["summary"]["n_included"] == 4
    page.reload()
    wait_until_open(page)
    assert page.evaluate("() => Object.keys(localStorage).filter((key) => key.includes('unsaved'))") == []
    server.stop()


def test_the_list_of_images_opens_another_one(server, open_page):
    page = open_page()
    open_image(page, server, disc_png(DISCS[:3]), "list-one.png")
    find_droplets(page, 3)
    open_image(page, server, disc_png(DISCS[:2]), "list-two.png")
    expect(page.locator("#images-button")).to_be_visible()
    page.keyboard.press("i")
    links = page.locator(".image-link")
    expect(links.filter(has_text="list-two.png")).to_have_attribute("aria-current", "page")
    expect(links.filter(has_text="list-one.png")).to_contain_text("3 of 3 droplets")
    page.keyboard.press("Escape")
    find_droplets(page, 2)
    page.keyboard.press("i")
    expect(links.filter(has_text="list-two.png")).to_contain_text("2 of 2 droplets")
    assert axe_violations(page) == []
    links.filter(has_text="list-one.png").click()
    expect(page.locator("h1")).to_have_text("list-one.png")


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


def test_redo_brings_back_the_step_that_was_undone_last(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    find_droplets(page, 5)
    tap(page, FIRST[0], FIRST[1])
    expect(page.locator("#draft-text")).to_contain_text("px")
    page.keyboard.press("Control+z")
    expect(page.locator("#draft-bar")).to_be_hidden()
    page.mouse.move(*on_screen(page, SECOND[0], SECOND[1]))
    page.keyboard.press("x")
    page.keyboard.press("Control+z")
    expect(page.locator("#count-included")).to_have_text("5")
    page.keyboard.press("Control+Shift+z")
    expect(page.locator("#count-included")).to_have_text("4")
    expect(page.locator("#draft-bar")).to_be_hidden()


def test_a_box_that_was_taken_back_can_be_redone(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    page.mouse.move(*on_screen(page, 70, 20))
    page.mouse.down()
    page.mouse.move(*on_screen(page, 110, 60), steps=4)
    page.mouse.up()
    expect(page.locator("#draft-text")).to_contain_text("px")
    page.keyboard.press("Control+z")
    expect(page.locator("#draft-bar")).to_be_hidden()
    page.keyboard.press("Control+Shift+z")
    expect(page.locator("#draft-text")).to_contain_text("px")


def tab_behind_one_that_set_the_scale(server, open_page):
    """Return a tab of an image whose scale was then set to 0.65 in another tab, which it does not know."""
    page = open_page()
    open_image(page, server, disc_png())
    find_droplets(page, 5)
    wait_until_saved(page)
    other = open_page()
    other.goto(page.url)
    wait_until_open(other)
    page.locator("#scale-chip").click()
    page.locator("#calibrate-value").fill("0.65")
    page.keyboard.press("Enter")
    wait_until_saved(page)
    return other


def test_a_tab_shows_what_another_one_changed_once_it_edits(server, open_page):
    other = tab_behind_one_that_set_the_scale(server, open_page)
    other.mouse.move(*on_screen(other, SECOND[0], SECOND[1]))
    other.keyboard.press("x")
    expect(other.locator("#scale-chip")).to_contain_text("0.65")
    expect(other.locator("#count-included")).to_have_text("4")


def test_an_edit_of_an_image_that_is_gone_is_refused_in_words_alone(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    wait_until_saved(page)
    page.allowed.append("404")
    page.evaluate(
        "(id) => fetch(`/api/images/${id}`, { method: 'DELETE', headers: { 'X-SAM-Droplet': '1' } })",
        image_id,
    )
    page.mouse.move(*on_screen(page, SECOND[0], SECOND[1]))
    with page.expect_response(lambda answer: answer.request.method == "GET" and answer.status == 404):
        page.keyboard.press("x")
    expect(page.locator("#notice-text")).to_contain_text("This change was not accepted. There is no image")


DROP_SEVERAL = """(names) => {
  const data = new DataTransfer();
  for (const [name, text] of names)
    data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


def test_a_bad_one_of_several_files_dropped_on_an_image_holds_up_no_other(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    page.allowed.append("415")
    stem = uuid.uuid4().hex[:6]
    files = [
        ("notes.txt", b"hello"),
        (f"{stem}-1.png", disc_png(DISCS[:1])),
        (f"{stem}-2.png", disc_png(DISCS[:2])),
    ]
    page.evaluate(DROP_SEVERAL, [[name, base64.b64encode(data).decode()] for name, data in files])
    expect(page.locator("#notice-text")).to_contain_text("notes.txt: ")
    expect(page.locator("#notice-text")).to_contain_text("The other 2 images are on the home page.")
    names = [image["name"] for image in server.get("/api/images")["images"]]
    assert {f"{stem}-1.png", f"{stem}-2.png"} <= set(names)


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


def test_a_choice_in_one_tab_is_not_undone_by_another_one(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    batch = page.context.new_page()
    batch.goto(f"{server.url}/batch")
    batch.locator("#sensitivity").fill("0.7")
    page.keyboard.press("o")
    page.keyboard.press("k")
    page.locator("[popovertarget=find-popover]").click()
    expect(page.locator("#sensitivity")).to_have_value("0.7")
    with page.expect_request("**/find") as asked:
        page.locator("#find-again").click()
    assert asked.value.post_data_json["options"]["sensitivity"] == 0.7
    batch.reload()
    expect(batch.locator("#sensitivity")).to_have_value("0.7")


def test_a_tab_that_has_not_heard_of_a_choice_yet_does_not_undo_it(server, open_page):
    page = open_page()
    page.add_init_script("addEventListener('storage', (event) => event.stopImmediatePropagation())")
    open_image(page, server, disc_png())
    batch = page.context.new_page()
    batch.goto(f"{server.url}/batch")
    batch.locator("#sensitivity").fill("0.7")
    page.keyboard.press("o")
    page.reload()
    page.locator("[popovertarget=find-popover]").click()
    expect(page.locator("#sensitivity")).to_have_value("0.7")
    batch.reload()
    expect(batch.locator("#sensitivity")).to_have_value("0.7")


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


def test_a_file_holds_what_the_page_shows_though_another_tab_changed_it(server, open_page):
    other = tab_behind_one_that_set_the_scale(server, open_page)
    expect(other.locator("#scale-chip")).to_have_text("pixels only")
    rows = download_csv(other)
    assert float(rows[0]["diameter_um"]) > 0
    expect(other.locator("#scale-chip")).to_contain_text("0.65")


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
