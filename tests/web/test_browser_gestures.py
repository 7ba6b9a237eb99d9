"""Wheel, fingers, sliders and drags on the annotate page in a real browser."""

from __future__ import annotations

import re

import pytest
from browsing import asked_of_api, find_droplets, on_screen, open_image, open_page, server, wait_until_saved
from discs import DISCS, disc_png
from playwright.sync_api import expect

__all__ = ["open_page", "server"]

SECOND = DISCS[1]


def test_a_drag_across_the_histogram_keeps_that_range(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    plot = page.locator("#histogram .u-over").bounding_box()
    middle = plot["y"] + plot["height"] / 2
    page.mouse.move(plot["x"] + plot["width"] * 0.5, middle)
    page.mouse.down()
    page.mouse.move(plot["x"] + plot["width"] - 1, middle, steps=6)
    page.mouse.up()
    expect(page.locator("#filter-badge")).to_have_text("1")
    wait_until_saved(page)
    saved = server.annotation(image_id)
    low, high = saved["filters"]["ranges"]["diameter_px"]
    diameters = [d["diameter_px"] for d in saved["droplets"]]
    span = max(diameters) - min(diameters)
    assert low == pytest.approx(min(diameters) + span / 2, abs=0.03 * span)
    assert saved["summary"]["n_included"] == sum(low <= d <= high for d in diameters)
    page.locator("#undo").click()
    expect(page.locator("#filter-badge")).to_be_hidden()


def test_a_slider_counts_while_it_moves_and_is_one_step_of_undo(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    page.locator("#tab-filters").click()
    thumb = page.get_by_role("slider", name="Diameter, minimum")
    box = thumb.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 9, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, y, steps=8)
    expect(page.locator("#pane-filters .filter-count").first).to_contain_text("out")
    assert server.annotation(image_id)["filters"]["ranges"] == {}
    page.mouse.up()
    wait_until_saved(page)
    assert "diameter_px" in server.annotation(image_id)["filters"]["ranges"]
    page.locator("#undo").click()
    wait_until_saved(page)
    assert server.annotation(image_id)["filters"]["ranges"] == {}
    expect(page.locator("#count-included")).to_have_text("5")


def test_the_wheel_zooms_at_the_pointer_and_space_pans(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    at = on_screen(page, SECOND[0], SECOND[1])
    page.mouse.move(*at)
    expect(page.locator("#cursor-text")).to_contain_text("90.0, 40.0 px")
    before = page.locator("#zoom-level").inner_text()
    page.mouse.wheel(0, -600)
    expect(page.locator("#zoom-level")).not_to_have_text(before)
    page.mouse.move(at[0] + 1, at[1])
    page.mouse.move(*at)
    expect(page.locator("#cursor-text")).to_contain_text("90.0, 40.0 px")
    page.locator("#stage").focus()
    page.keyboard.down("Space")
    page.mouse.down()
    page.mouse.move(at[0] + 50, at[1] + 30, steps=3)
    page.mouse.up()
    page.keyboard.up("Space")
    expect(page.locator("#cursor-text")).to_contain_text("90.0, 40.0 px")
    expect(page.locator("#draft-bar")).to_be_hidden()
    page.keyboard.press("f")
    expect(page.locator("#zoom-level")).to_have_text(before)


def test_two_fingers_zoom_and_leave_no_prompt(server, open_page):
    page = open_page("phone")
    open_image(page, server, disc_png())
    before = page.locator("#zoom-level").inner_text()
    x, y = on_screen(page, 100, 75)
    fingers = page.context.new_cdp_session(page)

    def touch(kind, apart):
        points = [{"x": x - apart, "y": y, "id": 1}, {"x": x + apart, "y": y, "id": 2}] if apart else []
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 30)
    for apart in (40, 60, 80):
        touch("touchMove", apart)
    touch("touchEnd", 0)
    expect(page.locator("#zoom-level")).not_to_have_text(before)
    expect(page.locator("#draft-bar")).to_be_hidden()


def test_a_finger_taps_and_holds_for_points(server, open_page):
    page = open_page("phone")
    open_image(page, server, disc_png())
    fingers = page.context.new_cdp_session(page)

    def touch(kind, *at):
        points = [{"x": at[0], "y": at[1], "id": 1}] if at else []
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    page.touchscreen.tap(*on_screen(page, SECOND[0], SECOND[1]))
    expect(page.locator("#draft-text")).to_contain_text("px")
    # A long press says what does not belong: with it in the same disc nothing is left.
    touch("touchStart", *on_screen(page, SECOND[0] + 6, SECOND[1]))
    expect(page.locator("#draft-text")).to_contain_text("background")
    touch("touchEnd")
    page.locator("#draft-cancel").click()
    expect(page.locator("#draft-bar")).to_be_hidden()


def test_a_pen_drags_a_box(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    pen = page.context.new_cdp_session(page)
    x, y, radius = SECOND

    def move(kind, at, held=1):
        where = dict(zip(("x", "y"), on_screen(page, *at), strict=True))
        options = {"pointerType": "pen", "button": "left", "buttons": held, "clickCount": 1, "force": 0.5}
        pen.send("Input.dispatchMouseEvent", {"type": kind, **where, **options})

    move("mousePressed", (x - radius - 3, y - radius - 3))
    for share in (-0.5, 0.3, 1):
        move("mouseMoved", (x + share * (radius + 3), y + share * (radius + 3)))
    move("mouseReleased", (x + radius + 3, y + radius + 3), 0)
    expect(page.locator("#draft-text")).to_contain_text(re.compile(r"^(29|30)\.\d+ px"))


def test_a_press_on_space_after_a_button_does_not_press_it_again(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    find_droplets(page, 5)
    asked = asked_of_api(page)
    page.keyboard.press("Space")
    page.wait_for_timeout(200)
    assert asked == []


def test_a_typed_limit_leaves_the_other_one_exact(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    page.locator("#tab-filters").click()
    page.get_by_role("slider", name="Diameter, maximum").focus()
    for _ in range(33):
        page.keyboard.press("ArrowLeft")
    wait_until_saved(page)
    _, high = server.annotation(image_id)["filters"]["ranges"]["diameter_px"]
    assert high != round(high, 2)
    page.get_by_role("spinbutton", name="Diameter, minimum").fill("3")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("Filter by diameter")
    wait_until_saved(page)
    assert server.annotation(image_id)["filters"]["ranges"]["diameter_px"] == [3, high]


@pytest.mark.parametrize(("typed", "why"), [("60", "must not be above"), ("1e", "type a number")])
def test_a_limit_that_cannot_be_does_not_stay_in_its_box(server, open_page, typed, why):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    page.locator("#tab-filters").click()
    low, high = (page.get_by_role("spinbutton", name=f"Diameter, {end}") for end in ("minimum", "maximum"))
    low.fill("21")
    high.fill("29")
    low.focus()
    page.keyboard.press("Control+a")
    page.keyboard.type(typed)
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text(why)
    expect(low).to_have_value("21")
    wait_until_saved(page)
    assert server.annotation(image_id)["filters"]["ranges"]["diameter_px"] == [21, 29]


def test_a_sheet_that_a_finger_dragged_answers_the_next_tap(server, open_page):
    page = open_page("phone")
    open_image(page, server, disc_png())
    fingers = page.context.new_cdp_session(page)
    box = page.locator("#sheet-handle").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for kind, up in (
        ("touchStart", 0),
        *(("touchMove", 12 * step) for step in range(1, 9)),
        ("touchEnd", None),
    ):
        points = [] if up is None else [{"x": x, "y": y - up, "id": 1}]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    page.wait_for_timeout(1000)  # sooner, Chromium takes the tap for one that stops the throw
    panel = page.locator("#panel")
    expect(panel).to_have_attribute("data-sheet", "half")
    page.locator("#sheet-handle").tap()
    expect(panel).to_have_attribute("data-sheet", "full")


@pytest.mark.parametrize(("size", "is_offered"), [("desktop", True), ("phone", False)])
def test_dragging_across_the_histogram_is_offered_where_it_works(server, open_page, size, is_offered):
    page = open_page(size)
    open_image(page, server, disc_png())
    find_droplets(page, 5)
    expect(page.locator("#histogram-heading small")).to_be_visible(visible=is_offered)


def test_the_bar_of_the_selection_stays_on_the_image_of_a_phone(server, open_page):
    page = open_page("phone")
    open_image(page, server, disc_png())
    find_droplets(page, 5)
    page.keyboard.press("n")
    for _ in range(2):
        page.locator("#sheet-handle").tap()
    expect(page.locator("#panel")).to_have_attribute("data-sheet", "full")
    stage, bar = (page.locator(part).bounding_box() for part in ("#stage", "#selection-bar"))
    assert stage["y"] <= bar["y"]
    assert bar["y"] + bar["height"] <= stage["y"] + stage["height"]
