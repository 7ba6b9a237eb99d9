"""Images above the size that a browser can hold at once: a small copy, and tiles of what is in view."""

from __future__ import annotations

from browsing import open_image, open_page, server
from discs import disc_png
from playwright.sync_api import expect

__all__ = ["open_page", "server"]

WIDTH, HEIGHT = 6000, 400
BRIGHT = (4000.0, 200.0, 30.0)
# The brightness of the picture where the image point (x, y) is shown.
BRIGHTNESS = """async ([x, y]) => {
  const canvas = document.querySelector("#image-layer");
  const { width } = document.querySelector("#stage").getBoundingClientRect();
  const ratio = canvas.width / width;
  return canvas.getContext("2d").getImageData(Math.round(x * ratio), Math.round(y * ratio), 1, 1).data[0];
}"""


def test_tiles_in_view_are_the_same_as_the_tiles_that_meet_it(server, open_page):
    page = open_page()
    page.goto(f"{server.url}/")
    tiles = page.evaluate(
        """async () => {
          const { tilesIn, levelFor } = await import("/static/tiles.js");
          const at = (rect, level) => tilesIn(rect, level, 1300, 700).map(({ column, row }) => [column, row]);
          return {
            all: tilesIn([-50, -50, 9999, 9999], 0, 1300, 700).map(({ rect }) => rect),
            one: at([600, 100, 700, 200], 0),
            coarse: at([600, 100, 700, 200], 1),
            beside: at([-500, 0, -10, 200], 0),
            levels: [levelFor(1, 1, 3), levelFor(0.5, 1, 3), levelFor(0.5, 2, 3), levelFor(0.01, 1, 3)],
          };
        }"""
    )
    assert sorted(tiles["all"]) == [
        [0, 0, 512, 512], [0, 512, 512, 700], [512, 0, 1024, 512],
        [512, 512, 1024, 700], [1024, 0, 1300, 512], [1024, 512, 1300, 700],
    ]  # fmt: skip
    assert (tiles["one"], tiles["coarse"], tiles["beside"]) == ([[1, 0]], [[0, 0]], [])
    assert tiles["levels"] == [0, 1, 0, 3]


def test_a_big_image_is_shown_by_a_small_copy_and_tiles(server, open_page):
    page = open_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    open_image(page, server, disc_png([BRIGHT], (WIDTH, HEIGHT)))
    assert any("view?max_side=2048" in url for url in asked)
    assert not any("/tile?" in url for url in asked)
    box = page.locator("#stage").bounding_box()
    scale = (box["width"] - 32) / WIDTH
    x, y = 16 + BRIGHT[0] * scale, box["height"] / 2
    page.mouse.move(box["x"] + x, box["y"] + y)
    with page.expect_response(lambda response: "/tile?level=0" in response.url and response.ok):
        for _ in range(6):
            page.mouse.wheel(0, -300)
    expect(page.locator("#zoom-level")).not_to_have_text("100 %")
    # The disc stayed under the pointer, and is drawn from tiles of full size.
    page.wait_for_function(f"(at) => ({BRIGHTNESS})(at).then((value) => value > 170)", arg=[x, y])
    assert page.evaluate(BRIGHTNESS, [x, 10]) < 60
