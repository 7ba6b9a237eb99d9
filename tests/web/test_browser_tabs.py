"""Several tabs, several images and servers that go away: nothing is lost and nothing is undone unseen."""

from __future__ import annotations

import base64
import uuid

from browsing import (
    Server,
    axe_violations,
    download_csv,
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
from discs import DISCS, FIRST, SECOND, disc_png
from playwright.sync_api import expect

__all__ = ["open_page", "server"]


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


def test_a_file_holds_what_the_page_shows_though_another_tab_changed_it(server, open_page):
    other = tab_behind_one_that_set_the_scale(server, open_page)
    expect(other.locator("#scale-chip")).to_have_text("pixels only")
    rows = download_csv(other)
    assert float(rows[0]["diameter_um"]) > 0
    expect(other.locator("#scale-chip")).to_contain_text("0.65")
