"""Outlines changed by hand: the geometry in the browser, and each tool on the page."""

from __future__ import annotations

import math
import re

import pytest
from browsing import (
    axe_violations,
    find_droplets,
    on_screen,
    open_image,
    open_page,
    server,
    tap,
    wait_until_saved,
)
from discs import DISCS, disc_png
from playwright.sync_api import expect

__all__ = ["open_page", "server"]

CIRCLE = """(x, y, a, b = a, n = 200) => Array.from({length: n}, (_, i) => 2 * Math.PI * i / n)
  .flatMap((angle) => [x + a * Math.cos(angle), y + b * Math.sin(angle)])"""


@pytest.fixture
def geometry(server, open_page):
    """Run an expression over shapes (s) and reshape (r), with circle(x, y, a, b) and a 200 x 200 image."""
    page = open_page()
    page.goto(f"{server.url}/")

    def run(expression):
        return page.evaluate(
            f"""async () => {{
              const s = await import("/static/shapes.js"), r = await import("/static/reshape.js");
              const circle = {CIRCLE}, size = {{width: 200, height: 200}};
              const area = (contour) => s.signedArea(contour);
              return {expression};
            }}"""
        )

    return run


@pytest.mark.parametrize(("radius", "px"), [(5, 1), (12.3, 2.5), (40, 1), (12.3, -2.5), (40, -0.5), (9, -3)])
def test_growing_moves_the_outline_by_just_as_much(geometry, radius, px):
    (area,) = geometry(f"r.grown(circle(100.3, 99.8, {radius}), {px}, size).map(area)")
    assert math.sqrt(area / math.pi) == pytest.approx(radius + px, abs=0.03)


def test_nothing_is_left_of_what_shrinks_away_and_growth_ends_at_the_edge(geometry):
    assert geometry("r.grown(circle(50, 50, 3), -4, size)") == []
    (contour,) = geometry("r.grown(circle(5, 100, 10), 3, size)")
    assert min(contour[::2]) == pytest.approx(0, abs=0.02)


def test_strokes_add_and_rub_out(geometry):
    # A half disc of the stroke's end stands out over the flat side of nothing: union of disc and capsule.
    areas = geometry(
        """[r.brushed(circle(100, 100, 20), [100, 100, 130, 100], 10, true, size),
            r.brushed(circle(100, 100, 20), [80, 100, 120, 100], 4, false, size),
            r.brushed(null, [50, 50], 12, true, size)].map((all) => all.map(area))"""
    )
    # The capsule past the disc: a rectangle and a half disc, less the disc's cap of width 10.
    past = 10 * (30 - math.sqrt(400 - 25)) + math.pi * 25 / 2
    cap = 400 * math.asin(5 / 20) - 5 * math.sqrt(400 - 25)
    assert areas[0] == [pytest.approx(math.pi * 400 + past - cap, rel=0.003)]
    assert len(areas[1]) == 2
    assert areas[1][0] == pytest.approx(areas[1][1], rel=0.02)
    assert areas[2] == [pytest.approx(math.pi * 36, rel=0.01)]


def test_merging_joins_what_touches_and_bridges_what_does_not(geometry):
    touching, apart = geometry(
        """[r.merged([circle(50, 50, 20), circle(70, 50, 20)], size),
            r.merged([circle(50, 50, 10), circle(90, 50, 10)], size)].map((all) => all.map(area))"""
    )
    lens = 2 * 400 * math.acos(10 / 20) - 10 * math.sqrt(4 * 400 - 400)
    assert touching == [pytest.approx(2 * math.pi * 400 - lens, rel=0.003)]
    assert apart == [pytest.approx(math.pi * 100 + 20 * 40, rel=0.003)]


def test_a_line_splits_into_pieces_that_add_up(geometry):
    found = geometry(
        """{pieces: r.split(circle(100, 100, 30), {x: 60, y: 85}, {x: 140, y: 85}, size).map(area),
            crosses: s.isCut(circle(100, 100, 30), {x: 60, y: 85}, {x: 140, y: 85}),
            ends: s.isCut(circle(100, 100, 30), {x: 60, y: 85}, {x: 100, y: 85}),
            misses: s.isCut(circle(100, 100, 30), {x: 60, y: 20}, {x: 140, y: 20})}"""
    )
    segment = 900 * math.acos(15 / 30) - 15 * math.sqrt(900 - 225)
    assert sorted(found["pieces"]) == [
        pytest.approx(segment, rel=0.005), pytest.approx(math.pi * 900 - segment, rel=0.005),
    ]  # fmt: skip
    assert (found["crosses"], found["ends"], found["misses"]) == (True, False, False)


def test_fits_recover_circles_and_ellipses(geometry):
    found = geometry(
        """{circle: s.signedArea(r.circled(circle(80.4, 71.2, 25.5))[0]),
            bitten: r.circled(r.brushed(circle(100, 100, 30), [128, 100], 8, false, size)[0])[0],
            ellipse: r.ellipsed(circle(90, 80, 30, 18))[0]}"""
    )
    # 96 corners hold 0.07 % less than the circle.
    assert found["circle"] == pytest.approx(math.pi * 25.5**2, rel=0.002)
    xs = found["bitten"][::2]
    assert (max(xs) - min(xs)) / 2 == pytest.approx(30, abs=0.8)
    xs, ys = found["ellipse"][::2], found["ellipse"][1::2]
    assert max(xs) - min(xs) == pytest.approx(60, rel=0.005)
    assert max(ys) - min(ys) == pytest.approx(36, rel=0.005)


def drag(page, *points):
    page.mouse.move(*on_screen(page, *points[0]))
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*on_screen(page, *point), steps=6)
    page.mouse.up()


def saved_droplets(page, server, image_id):
    wait_until_saved(page)
    return {d["id"]: d for d in server.annotation(image_id)["droplets"]}


def expect_done(page, label):
    expect(page.locator("#status")).to_have_text(re.compile(f"^{label}.*done", re.IGNORECASE))


def select(page, *indices):
    page.keyboard.press("v")
    for at, index in enumerate(indices):
        if at:
            page.keyboard.down("Control")
        tap(page, *DISCS[index][:2])
        page.keyboard.up("Control")
        page.wait_for_timeout(400)


def test_a_drawn_polygon_becomes_a_droplet_and_undo_takes_it_away(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    page.keyboard.press("w")
    for x, y in [(100, 60), (130, 60), (130, 90), (100, 90)]:
        tap(page, x, y)
        page.wait_for_timeout(400)
    page.locator("#tool-finish").click()
    expect(page.locator("#tool-finish")).to_be_hidden()
    expect_done(page, "draw a droplet")
    (droplet,) = saved_droplets(page, server, image_id).values()
    assert (droplet["source"], droplet["area_px"]) == ("manual", pytest.approx(900, abs=40))
    page.keyboard.press("Control+z")
    assert saved_droplets(page, server, image_id) == {}
    page.keyboard.press("Control+Shift+z")
    assert list(saved_droplets(page, server, image_id)) == [1]


def test_brush_and_eraser_change_the_droplet_under_them(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    before = saved_droplets(page, server, image_id)
    x, y, radius = DISCS[1]
    page.keyboard.press("u")
    drag(page, (x, y), (x + radius + 10, y))
    expect_done(page, "paint on droplet 2")
    painted = saved_droplets(page, server, image_id)
    assert set(painted) == {1, 3, 4, 5, 6}
    assert painted[6]["area_px"] > before[2]["area_px"] + 80
    page.locator('#tool-bar [data-sign="0"]').click()
    drag(page, (x, y), (x + radius + 20, y))
    expect_done(page, "rub out droplet 6")
    assert saved_droplets(page, server, image_id)[7]["area_px"] < before[2]["area_px"]
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    assert saved_droplets(page, server, image_id) == before


def test_the_keys_take_the_brush_from_its_least_to_its_largest_width_and_back(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    page.keyboard.press("u")
    width = page.locator("#brush-width-value")
    for key, shown in ((",", "1 px"), (".", "400 px"), (",", "1 px")):
        for _ in range(30):
            page.keyboard.press(key)
        expect(width).to_have_text(shown)


def test_grow_fit_merge_and_split_are_one_step_each(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    before = saved_droplets(page, server, image_id)
    select(page, 0)
    page.keyboard.press(">")
    expect_done(page, "grow by 1 px")
    grown = saved_droplets(page, server, image_id)[6]
    assert grown["diameter_px"] == pytest.approx(before[1]["diameter_px"] + 2, abs=0.25)
    page.locator(".tool[popovertarget=shape-popover]").click()
    assert axe_violations(page) == []
    page.locator('[data-shape="fitCircle"]').click()
    expect_done(page, "fit a circle")
    page.keyboard.press("Escape")
    fitted = saved_droplets(page, server, image_id)[7]
    assert fitted["diameter_px"] == pytest.approx(grown["diameter_px"], abs=0.3)
    page.locator("#stage").focus()
    page.keyboard.press("Escape")
    select(page, 1, 2)
    page.keyboard.press("j")
    expect_done(page, "merge 2 droplets")
    assert set(saved_droplets(page, server, image_id)) == {4, 5, 7, 8}
    page.keyboard.press("s")
    drag(page, (60, 80), (60, 140))
    expect_done(page, "split droplet 4")
    assert set(saved_droplets(page, server, image_id)) == {5, 7, 8, 9, 10}
    for _ in range(4):
        page.keyboard.press("Control+z")
    assert saved_droplets(page, server, image_id) == before


def test_all_droplets_grow_at_once_and_exclusions_stay(server, open_page):
    page = open_page()
    image_id = open_image(page, server, disc_png())
    find_droplets(page, 5)
    select(page, 0)
    page.keyboard.press("x")
    page.keyboard.press("Escape")
    page.keyboard.press("<")
    expect_done(page, "shrink by 1 px: 5 droplets")
    after = saved_droplets(page, server, image_id)
    assert set(after) == {6, 7, 8, 9, 10}
    assert [d["id"] for d in after.values() if d["excluded_by_user"]] == [6]
    page.keyboard.press("Control+z")
    assert set(saved_droplets(page, server, image_id)) == {1, 2, 3, 4, 5}


PAINTED = """() => {
  const { width, height } = document.getElementById("draft-layer");
  const { data } = document.getElementById("draft-layer").getContext("2d").getImageData(0, 0, width, height);
  return data.some((value) => value > 0);
}"""


def test_the_brush_goes_with_its_tool_though_the_stroke_is_still_being_saved(server, open_page):
    page = open_page()
    open_image(page, server, disc_png())
    find_droplets(page, 5)
    held = []
    page.route("**/redraw", lambda route: held.append(route))
    page.keyboard.press("u")
    page.mouse.move(*on_screen(page, DISCS[1][0], DISCS[1][1]))
    page.mouse.down()
    page.mouse.move(*on_screen(page, DISCS[1][0] + 12, DISCS[1][1] + 12), steps=4)
    page.mouse.up()
    page.keyboard.press("p")
    held[0].continue_()
    expect(page.locator("#status")).to_contain_text("Paint on droplet 2: done")
    page.keyboard.press("Escape")
    page.mouse.move(5, 5)
    page.wait_for_timeout(200)
    assert not page.evaluate(PAINTED)
