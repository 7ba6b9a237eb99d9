"""Undo and redo, step by step, in a real browser."""

from __future__ import annotations

import pytest
from browsing import (
    find_droplets,
    on_screen,
    open_image,
    open_page,
    server,
    tap,
    wait_until_open,
    wait_until_saved,
)
from discs import FIRST, SECOND, disc_png
from playwright.sync_api import expect

__all__ = ["open_page", "server"]


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
