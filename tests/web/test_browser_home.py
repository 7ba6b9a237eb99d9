"""The home page in a real browser: ways in, the list of images, errors in place."""

from __future__ import annotations

import re

import pytest
from browsing import give, open_image, open_page, server, until, upload, wait_until_open
from discs import DISCS, disc_png
from playwright.sync_api import expect

from sam_droplet.config import load_config
from sam_droplet.errors import PayloadTooLarge
from sam_droplet.imaging.formats import Limits, check_bytes

__all__ = ["open_page", "server"]


def test_a_dropped_file_opens(server, open_page):
    page = open_page()
    page.goto(f"{server.url}/")
    give(page, "dragenter", "dropped.png", disc_png())
    expect(page.locator("#drop-veil")).to_be_visible()
    give(page, "drop", "dropped.png", disc_png())
    page.wait_for_url("**/annotate/*")
    expect(page.locator("h1")).to_have_text("dropped.png")
    wait_until_open(page)


def test_a_pasted_image_opens(server, open_page):
    page = open_page("phone")
    page.goto(f"{server.url}/")
    give(page, "paste", "pasted.png", disc_png())
    page.wait_for_url("**/annotate/*")
    wait_until_open(page)


DROP_LARGE = """
(n_bytes) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(n_bytes)], "large.png", { type: "image/png" }));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}
"""


def test_a_file_over_the_limit_is_refused_before_it_is_sent_in_the_server_s_words(server, open_page):
    page = open_page()
    sent = []
    page.on("request", lambda request: sent.append(request) if request.method == "POST" else None)
    page.goto(f"{server.url}/")
    most = int(page.locator("body").get_attribute("data-most-bytes") or 0)
    assert most == load_config({}, {"data_dir": server.data_dir}).max_upload_bytes
    with pytest.raises(PayloadTooLarge) as refused:
        check_bytes(most + 2**20, Limits(max_bytes=most))
    for path, place in (("/", ".upload.failed"), ("/batch", ".upload.failed")):
        page.goto(server.url + path)
        page.evaluate(DROP_LARGE, most + 2**20)
        expect(page.locator(place)).to_contain_text(refused.value.message)
    assert sent == []
    open_image(page, server, disc_png())
    sent.clear()
    page.evaluate(DROP_LARGE, most + 2**20)
    expect(page.locator("#notice-text")).to_have_text(f"large.png: {refused.value.message}")
    assert sent == []


def test_several_files_stay_as_cards_and_a_bad_one_says_why(server, open_page):
    page = open_page()
    page.allowed.append("415")
    upload(page, server, ("one.png", disc_png()), ("notes.png", b"hello"), ("two.png", disc_png(DISCS[:2])))
    titles = page.locator("#images .card-title")
    expect(titles.filter(has_text="one.png")).to_have_count(1)
    expect(titles.filter(has_text="two.png")).to_have_count(1)
    expect(page.locator(".upload.failed")).to_contain_text("notes.png")
    expect(page.locator(".upload.failed")).to_contain_text("image was expected")
    page.get_by_role("button", name="Dismiss").click()
    expect(page.locator(".upload")).to_have_count(0)


def test_the_same_file_again_keeps_one_card(server, open_page):
    page = open_page()
    upload(page, server, ("same.png", disc_png()), ("other.png", disc_png(DISCS[:3])))
    titles = page.locator("#images .card-title")
    expect(titles.filter(has_text="other.png")).to_have_count(1)
    upload(page, server, ("same.png", disc_png()), ("other.png", disc_png(DISCS[:3])))
    expect(titles.first).to_have_text("other.png")
    expect(titles.filter(has_text="same.png")).to_have_count(1)


def test_a_sample_opens_with_one_click(server, open_page):
    page = open_page()
    page.goto(f"{server.url}/")
    page.locator("[data-sample]").first.click()
    page.wait_for_url("**/annotate/*")
    wait_until_open(page)
    expect(page.locator("#welcome")).to_be_visible()


def test_an_image_is_deleted_only_after_a_yes(server, open_page):
    page = open_page()
    upload(page, server, ("keep.png", disc_png()), ("drop.png", disc_png(DISCS[:2])))
    card = page.locator("#images .card", has_text="drop.png")
    expect(card).to_have_count(1)
    card.get_by_role("button", name="Delete drop.png").click()
    page.get_by_role("button", name="Keep", exact=True).click()
    expect(card).to_have_count(1)
    card.get_by_role("button", name="Delete drop.png").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(card).to_have_count(0)
    assert "drop.png" not in [image["name"] for image in server.get("/api/images")["images"]]


def test_a_page_that_is_not_there_says_so_and_leads_back(server, open_page):
    page = open_page()
    page.allowed.append("404")
    page.goto(f"{server.url}/annotate/{'0' * 32}")
    expect(page.locator("h1")).to_have_text("Nothing here")
    page.get_by_role("link", name=re.compile("Back")).click()
    expect(page.locator("#drop-zone")).to_be_visible()


def test_the_theme_is_kept(server, open_page):
    page = open_page(color_scheme="light")
    page.goto(f"{server.url}/")
    toggle = page.get_by_role("button", name=re.compile("Colour theme"))
    toggle.click()
    toggle.click()
    assert page.evaluate("() => document.documentElement.dataset.theme") == "dark"
    page.reload()
    assert page.evaluate("() => getComputedStyle(document.documentElement).colorScheme") == "dark"


def test_leaving_while_files_are_on_their_way_asks_first(server, open_page):
    page = open_page()
    page.goto(f"{server.url}/")
    held = []
    page.route("**/api/images", lambda route: held.append(route))
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    page.locator("h1").click()
    files = [{"name": f"{n}.png", "mimeType": "image/png", "buffer": disc_png()} for n in ("one", "two")]
    page.set_input_files("#file-input", files)
    expect(page.locator(".upload")).to_have_count(1)
    page.get_by_role("link", name="Batch", exact=True).click(no_wait_after=True)
    until(lambda: page.wait_for_timeout(50) or asked, ["beforeunload"])
    assert page.url == f"{server.url}/"
    page.allowed.append("ERR_FAILED")
    held[0].abort()


def test_the_keyboard_goes_on_from_an_image_that_was_deleted(server, open_page):
    page = open_page()
    upload(page, server, ("stays.png", disc_png()), ("goes.png", disc_png(DISCS[:2])))
    goes = page.locator("#images .card", has_text="goes.png")
    goes.get_by_role("button", name="Delete goes.png").press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Delete").press("Enter")
    expect(goes).to_have_count(0)
    expect(page.locator("#images .card", has_text="stays.png").locator("a")).to_be_focused()


def test_a_dropped_folder_is_told_from_a_server_that_is_away(server, open_page, tmp_path):
    page = open_page()
    page.goto(f"{server.url}/")
    page.allowed.append("ERR_")
    folder = tmp_path / "Field 3"
    folder.mkdir()
    drag = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        drag.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": data})
    expect(page.locator(".upload.failed")).to_contain_text("Field 3")
    expect(page.locator(".upload.failed")).to_contain_text(
        "If it is a folder, drop or choose the images in it"
    )
