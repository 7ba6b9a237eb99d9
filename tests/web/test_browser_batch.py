"""The batch pages in a real browser: choose, follow, cancel, go on, download; a restart loses nothing."""

from __future__ import annotations

import csv
import io
import re
import uuid

import openpyxl
import pytest
from browsing import SIZES, Server, axe_violations, open_page, server, until
from discs import DISCS, disc_png
from playwright.sync_api import Page, expect

__all__ = ["open_page", "server"]


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory: pytest.TempPathFactory):
    """Give a server that takes a second for each image."""
    running = Server(tmp_path_factory.mktemp("slow"), "slow")
    yield running
    running.stop()


def add(page: Page, server: Server, counts=(2, 3, 5), prefix: str = "") -> list[str]:
    """Add images of so many discs on the batch page, and return their names."""
    prefix = prefix or uuid.uuid4().hex[:6]
    names = [f"{prefix}-{n}.png" for n in counts]
    files = [
        {"name": name, "mimeType": "image/png", "buffer": disc_png(DISCS[:n])}
        for name, n in zip(names, counts, strict=True)
    ]
    page.goto(f"{server.url}/batch")
    page.locator("#pick-none").click() if page.locator("#pick-none").is_enabled() else None
    page.set_input_files("#file-input", files)
    expect(page.locator("#start")).to_have_text(f"Measure {len(counts)} images")
    return names


def start(page: Page) -> str:
    """Start the batch and return the job's id."""
    page.locator("#start").click()
    page.wait_for_url("**/batch/*")
    return page.url.rsplit("/", 1)[1]


def wait_until_done(page: Page) -> None:
    expect(page.locator("#job-progress")).to_have_attribute("data-state", "done", timeout=60_000)


def cells(page: Page, name: str) -> dict[str, str]:
    row = page.locator("#rows tr", has_text=name)
    return {
        field: row.locator(f'[data-field="{field}"]').inner_text()
        for field in ("state", "count", "mean", "cv")
    }


@pytest.mark.parametrize("size", SIZES)
def test_images_are_dropped_measured_and_downloaded_in_one_table(server, open_page, size):
    page = open_page(size)
    names = add(page, server)
    page.locator("#exclude-edge").check()
    page.locator("#um-per-px").fill("0.5")
    page.locator("#rim-offset").fill("2")
    expect(page.locator("input[name=scale][value=typed]")).to_be_checked()
    job_id = start(page)
    wait_until_done(page)
    expect(page.locator("#progress-text")).to_have_text("All done: 3 of 3 images measured")
    lock_text = "outlines 2 px outside the rim’s line · not those at the edge · 0.5 µm/px for all"
    expect(page.locator("#lock-text")).to_contain_text(lock_text)
    body = server.get(f"/api/jobs/{job_id}")
    assert body["job"]["options"]["rim_offset_px"] == 2
    shown = {name: cells(page, name) for name in names}
    for item in body["items"]:
        result, row = item["result"], shown[item["name"]]
        n, found = result["n_included"], result["n_found"]
        assert row["count"] == (f"{n}" if n == found else f"{n} of {found}")
        assert row["mean"] == f"{result['mean_diameter_um']:.2f} ± {result['sd_diameter_um']:.2f} µm"
        assert row["cv"] == f"{result['cv_percent']:.1f} %"
    with page.expect_download() as download:
        page.locator("#download-csv").click()
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text("utf-8-sig"))))
    assert [r["included"] for r in rows].count("true") == 9
    assert {r["image"] for r in rows} == set(names)
    expect(page.locator("#pooled")).to_contain_text("9 droplets")
    diameters = [float(r["diameter_um"]) for r in rows if r["included"] == "true"]
    mean = sum(diameters) / len(diameters)
    sd = (sum((d - mean) ** 2 for d in diameters) / (len(diameters) - 1)) ** 0.5
    expect(page.locator("#pooled")).to_contain_text(f"mean {mean:.2f} µm, CV {100 * sd / mean:.1f} %")
    with page.expect_download() as download:
        page.locator("#download-xlsx").click()
    book = openpyxl.load_workbook(io.BytesIO(download.value.path().read_bytes()))
    assert (book["Images"].max_row, book["Droplets"].max_row) == (4, 11)


def test_a_picture_leads_to_its_image_and_a_correction_there_counts_here(server, open_page):
    page = open_page()
    names = add(page, server)
    start(page)
    wait_until_done(page)
    row = page.locator("#rows tr", has_text=names[2])
    expect(row.locator("img")).to_have_attribute("src", re.compile("outlined"))
    before = row.locator("img").get_attribute("src")
    row.get_by_role("link", name=names[2]).click()
    page.wait_for_url("**/annotate/*")
    expect(page.locator("#count-included")).to_have_text("5")
    page.locator("#stage").focus()
    page.keyboard.press("n")
    page.keyboard.press("x")
    expect(page.locator("#count-included")).to_have_text("4")
    expect(page.locator("#save-state")).to_have_attribute("data-state", "saved")
    page.go_back()
    wait_until_done(page)
    expect(row.locator('[data-field="count"]')).to_have_text("4 of 5")
    expect(row.locator("img")).not_to_have_attribute("src", before)


@pytest.mark.parametrize("size", SIZES)
def test_the_sizes_of_all_images_stand_beside_each_other(server, open_page, size):
    page = open_page(size)
    names = add(page, server, (2, 3, 4))
    job_id = start(page)
    wait_until_done(page)
    plots = [page.locator("#rows tr", has_text=name).get_by_role("img", name="Median") for name in names]
    results = {item["name"]: item["result"] for item in server.get(f"/api/jobs/{job_id}")["items"]}
    for name, plot in zip(names, plots, strict=True):
        q1, median, q3 = (results[name][f"{part}_diameter_px"] for part in ("q1", "median", "q3"))
        expect(plot).to_have_attribute(
            "aria-label", re.compile(f"^Median {median:.1f} px; .* {q1:.1f} to {q3:.1f}")
        )
    # All on one axis: the same diameter is at the same place in every row.
    ends = [
        plot.locator("line").first.evaluate("(it) => [it.x1.baseVal.value, it.x2.baseVal.value]")
        for plot in plots
    ]
    diameters = [(results[name]["min_diameter_px"], results[name]["max_diameter_px"]) for name in names]
    (x_low, x_high), (low, high) = ends[2], diameters[2]
    for (x0, x1), (least, most) in zip(ends, diameters, strict=True):
        for x, diameter in ((x0, least), (x1, most)):
            assert x == pytest.approx(x_low + (diameter - low) * (x_high - x_low) / (high - low), abs=0.01)
    if size == "desktop":
        expect(page.locator("#sizes-head")).to_have_text("Diameters (px)")
        ticks = [float(text) for text in page.locator("#size-ticks span").all_inner_texts()]
        assert ticks[0] <= low < high <= ticks[-1]
    assert axe_violations(page) == []


def test_a_batch_keeps_the_filters_of_its_images_unless_it_is_given_some(server, open_page):
    page = open_page()
    names = add(page, server, (4, 5))
    start(page)
    wait_until_done(page)
    page.locator("#rows tr", has_text=names[1]).get_by_role("link", name=names[1]).click()
    page.wait_for_url("**/annotate/*")
    page.locator("#tab-filters").click()
    page.get_by_role("spinbutton", name="Diameter, minimum").fill("22")
    page.keyboard.press("Tab")
    expect(page.locator("#count-included")).to_have_text("4")
    expect(page.locator("#save-state")).to_have_attribute("data-state", "saved")

    def again() -> Page:
        page.goto(f"{server.url}/batch")
        for name in names:
            page.locator(".pick-card", has_text=name).locator("input").check()
        return page

    again()
    expect(page.locator("#filters-note")).to_be_hidden()
    start(page)
    wait_until_done(page)
    expect(page.locator("#lock-text")).to_contain_text("each image’s own filters")
    assert cells(page, names[1])["count"] == "4 of 5"
    notes = page.locator("#rows tr", has_text=names[1]).locator("[data-field=notes]")
    expect(notes).not_to_contain_text("gave way")

    again()
    page.locator("#exclude-edge").check()
    expect(page.locator("input[name=filters][value=alike]")).to_be_checked()
    expect(page.locator("#filters-note")).to_be_visible()
    assert axe_violations(page) == []
    job_id = start(page)
    wait_until_done(page)
    expect(notes).to_contain_text("Filters of its own gave way: diameter_px at least 22.")
    expect(page.locator("#rows tr", has_text=names[0])).not_to_contain_text("gave way")
    assert server.get(f"/api/jobs/{job_id}")["job"]["options"]["filters"]["exclude_edge"] is True
    page.goto(f"{server.url}/batch")
    expect(page.locator("input[name=filters][value=alike]")).to_be_checked()  # as it was left
    expect(page.locator("#mode-field")).to_be_hidden()  # MobileSAM has no weights here


def test_progress_is_real_and_a_reload_goes_on_with_it(slow_server, open_page):
    page = open_page()
    names = add(page, slow_server, (1, 2, 3, 4))
    job_id = start(page)
    running = page.locator('#rows tr[data-state="running"] [data-field="state"]')
    expect(running).to_have_text(re.compile(r"Finding droplets… \d+ %"))
    expect(page.locator("#progress-text")).to_have_text(re.compile(r"[1-3] of 4 images"))
    expect(page.locator("#left-text")).to_have_text(re.compile(r"about \d+ s left"))
    assert float(page.locator("#bar").get_attribute("max") or 0) == 4
    page.reload()
    assert page.url.endswith(job_id)
    expect(page.locator("#progress-text")).to_have_text(re.compile(r"[1-4] of 4 images"))
    wait_until_done(page)
    assert [cells(page, name)["count"] for name in names] == ["1", "2", "3", "4"]


def test_cancel_stops_and_go_on_finishes(slow_server, open_page):
    page = open_page("phone")
    names = add(page, slow_server, (1, 2, 3, 4))
    start(page)
    expect(page.locator('#rows tr[data-state="done"]').first).to_be_visible(timeout=20_000)
    page.locator("#cancel").click()
    expect(page.locator("#job-progress")).to_have_attribute("data-state", "cancelled")
    expect(page.locator("#progress-text")).to_have_text(re.compile(r"Cancelled: [1-3] of 4 images measured"))
    expect(page.locator('#rows tr[data-state="cancelled"]').first).to_be_visible()
    expect(page.locator("#retry")).to_be_focused()
    page.locator("#retry").click()
    wait_until_done(page)
    assert [cells(page, name)["count"] for name in names] == ["1", "2", "3", "4"]


def test_a_restarted_server_goes_on_and_so_does_the_page(open_page, tmp_path):
    server = Server(tmp_path / "data", "slow")
    try:
        page = open_page()
        page.allowed.append(
            "ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET"
        )
        names = add(page, server, (1, 2, 3))
        start(page)
        expect(page.locator('#rows tr[data-state="done"]').first).to_be_visible(timeout=20_000)
        server.process.kill()
        server.stop()
        server.start()
        wait_until_done(page)
        assert [cells(page, name)["count"] for name in names] == ["1", "2", "3"]
    finally:
        server.stop()


def test_without_a_stream_the_page_asks_again_and_again(slow_server, open_page):
    page = open_page()
    page.allowed.append("503")
    page.route(
        "**/events",
        lambda route: route.fulfill(status=503, content_type="application/json", body='{"error": "Busy."}'),
    )
    asked = []
    page.on(
        "request", lambda r: asked.append(r.headers.get("if-none-match")) if "/api/jobs/" in r.url else None
    )
    add(page, slow_server, (2, 3))
    start(page)
    wait_until_done(page)
    assert any(asked), "no request said what the page knows already"


def test_a_failed_image_says_why_and_is_tried_again_alone(server, open_page):
    page = open_page()
    names = add(page, server)
    page.locator("#size-unit").select_option("um")
    page.locator("#size-min").fill("5")
    image_id = page.locator("#picks li", has_text=names[0]).get_attribute("data-image-id")
    for n in (1, 2):
        other = page.locator("#picks li", has_text=names[n]).get_attribute("data-image-id")
        _set_scale(page, other)
    start(page)
    wait_until_done(page)
    row = page.locator("#rows tr", has_text=names[0])
    expect(row).to_have_attribute("data-state", "failed")
    expect(row.locator('[data-field="notes"]')).to_contain_text("has no scale")
    expect(page.locator("#progress-text")).to_contain_text("2 of 3 images measured, 1 failed")
    _set_scale(page, image_id)
    page.get_by_role("button", name="Try 1 again").click()
    expect(row).to_have_attribute("data-state", "done")
    expect(page.locator("#retry")).to_be_hidden()


def _set_scale(page: Page, image_id: str) -> None:
    page.evaluate(
        """(id) => fetch(`/api/images/${id}/annotation`, {
          method: "PATCH",
          headers: { "X-SAM-Droplet": "1", "Content-Type": "application/json" },
          body: JSON.stringify({ calibration: { um_per_px: 1, source: "typed" } }),
        }).then((answer) => answer.json())""",
        image_id,
    )


def test_wrong_settings_are_told_in_place_and_start_nothing(server, open_page):
    page = open_page()
    add(page, server)
    n_jobs = len(server.get("/api/jobs")["jobs"])
    error = page.locator("#batch-error")
    page.locator("#size-min").fill("50")
    page.locator("#size-max").fill("20")
    page.locator("#start").click()
    expect(error).to_have_text("The smallest diameter must be below the largest.")
    page.locator("#size-max").fill("")
    # What is no number reads as empty, but must not start a batch without it.
    page.locator("#chamber-height").press_sequentially("25e")
    page.locator("#start").click()
    expect(error).to_contain_text("Chamber height")
    page.locator("#chamber-height").fill("")
    page.locator("input[name=scale][value=typed]").check()
    page.locator("#start").click()
    expect(error).to_contain_text("Type the scale")
    assert len(server.get("/api/jobs")["jobs"]) == n_jobs


def test_choices_and_settings_are_still_there_after_a_reload(server, open_page):
    page = open_page()
    names = add(page, server)
    page.locator("#picks li", has_text=names[1]).locator("input").uncheck()
    page.locator("#sensitivity").fill("0.7")
    page.locator("#circularity-min").fill("0.8")
    page.locator("#rim-offset").fill("-1.5")
    page.locator("#exclude-edge").check()
    page.reload()
    checked = page.locator("#picks li:has(:checked) [data-field=name]")
    until(lambda: sorted(checked.all_inner_texts()), sorted([names[0], names[2]]))
    expect(page.locator("#sensitivity-value")).to_have_text("0.70")
    expect(page.locator("#circularity-min")).to_have_value("0.8")
    expect(page.locator("#rim-offset")).to_have_value("-1.5")
    expect(page.locator("#exclude-edge")).to_be_checked()
    expect(page.locator("#start")).to_have_text("Measure 2 images")


def test_a_bad_file_says_why_and_the_others_are_taken(server, open_page):
    page = open_page()
    page.allowed.append("415")
    page.goto(f"{server.url}/batch")
    files = [
        {"name": "notes.png", "mimeType": "image/png", "buffer": b"hello"},
        {"name": "fine.png", "mimeType": "image/png", "buffer": disc_png()},
    ]
    page.set_input_files("#file-input", files)
    expect(page.locator(".upload.failed")).to_contain_text("image was expected")
    expect(page.locator("#start")).to_have_text("Measure 1 image")


def test_everything_works_with_the_keyboard_alone(server, open_page):
    page = open_page()
    names = add(page, server)
    page.locator("#pick-none").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#start")).to_be_disabled()
    page.locator("#picks li", has_text=names[2]).locator("input").focus()
    page.keyboard.press("Space")
    expect(page.locator("#start")).to_have_text("Measure 1 image")
    page.locator("#size-max").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/batch/*")
    wait_until_done(page)


def test_shift_and_a_click_choose_everything_between(server, open_page):
    page = open_page()
    add(page, server, (1, 2, 3, 4))
    page.locator("#pick-none").click()
    boxes = page.locator("#picks input[name=image]")
    boxes.nth(0).click()
    boxes.nth(3).click(modifiers=["Shift"])
    expect(page.locator("#picked-note")).to_have_text(re.compile("^4 of"))


def test_earlier_batches_are_listed_and_the_home_page_leads_here(server, open_page):
    page = open_page()
    add(page, server)
    job_id = start(page)
    wait_until_done(page)
    page.goto(f"{server.url}/")
    page.get_by_role("link", name="Batch", exact=True).click()
    page.locator(f'.job-lines a[href$="{job_id}"]').click()
    expect(page.locator("#progress-text")).to_have_text("All done: 3 of 3 images measured")


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "dark"), ("phone", "light")])
def test_no_state_of_the_pages_has_violations(slow_server, open_page, size, scheme):
    page = open_page(size, color_scheme=scheme, reduced_motion="reduce")
    add(page, slow_server, (2, 5))
    assert axe_violations(page) == [], "choosing"
    start(page)
    expect(page.locator('#rows tr[data-state="done"]').first).to_be_visible(timeout=20_000)
    assert axe_violations(page) == [], "running"
    wait_until_done(page)
    assert axe_violations(page) == [], "done"


def test_a_hidden_page_holds_no_stream_and_comes_back_to_the_truth(slow_server, open_page):
    page = open_page()
    add(page, slow_server, (1, 2, 3))
    start(page)
    expect(page.locator('#rows tr[data-state="running"]')).to_be_visible(timeout=20_000)
    hide = """(hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url))
    page.wait_for_timeout(1500)
    assert [url for url in asked if url.endswith("/events")] == []
    page.evaluate(hide, False)
    wait_until_done(page)
    assert any(url.endswith("/events") for url in asked)


def test_images_with_and_without_scale_have_no_common_mean(server, open_page):
    page = open_page()
    page.goto(f"{server.url}/batch")
    scaled = {"n_included": 2, "mean_diameter_px": 10, "mean_diameter_um": 5, "sd_diameter_um": 1}
    plain = {"n_included": 3, "mean_diameter_px": 20, "mean_diameter_um": None, "sd_diameter_px": 2}
    empty = {"n_included": 0, "mean_diameter_px": None, "mean_diameter_um": None}
    pooled = "async (given) => (await import('/static/pooled.js')).pooled(given)"
    assert page.evaluate(pooled, [scaled, plain, empty]) == {
        "n": 5, "mean": None, "cvPercent": None, "unit": None,
    }  # fmt: skip
    assert page.evaluate(pooled, [scaled, empty])["unit"] == "µm"
    assert page.evaluate(pooled, [empty]) == {"n": 0, "mean": None, "cvPercent": None, "unit": None}


def test_another_choice_of_images_is_another_batch(server, open_page):
    page = open_page()
    page.allowed.append("ERR_FAILED")
    add(page, server, (1, 2))
    asked = []
    page.route("**/api/jobs", lambda route: (asked.append(route.request.post_data_json), route.abort()))
    page.locator("#pick-none").click()
    page.locator("#picks input").first.check()
    for button in (None, None, "#pick-all"):
        if button:
            page.locator(button).click()
        page.locator("#start").click()
        expect(page.locator("#batch-error")).to_be_visible()
        expect(page.locator("#start")).to_be_enabled()
    keys = [each["idempotency_key"] for each in asked]
    # The same once more, where the answer was lost, is the same batch.
    assert keys[0] == keys[1]
    assert keys[2] != keys[0]
    assert len(asked[2]["image_ids"]) > len(asked[0]["image_ids"])


def test_a_page_whose_server_went_away_says_so(open_page, tmp_path):
    server = Server(tmp_path / "data", "slow")
    try:
        page = open_page()
        page.allowed.append("ERR_")
        add(page, server, (1, 2, 3))
        start(page)
        expect(page.locator('#rows tr[data-state="done"]').first).to_be_visible(timeout=20_000)
        server.process.kill()
        server.stop()
        expect(page.locator("#connection")).to_have_text(re.compile("cannot be reached.*asks again"))
        server.start()
        wait_until_done(page)
        expect(page.locator("#connection")).to_be_hidden()
    finally:
        server.stop()
