"""The page's pure modules, run in a real browser and held against the server's own code."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browsing import open_page, server
from discs import disc_pixels

from sam_droplet.imaging.images import Calibration, encode_png, load_image
from sam_droplet.imaging.masks import mask_from_bits
from sam_droplet.measurement.droplets import COLUMNS, Filters, apply_filters, droplet_record, measure

ROOT = Path(__file__).parents[2]

__all__ = ["open_page", "server"]


@pytest.fixture
def run(server, open_page):
    """Run an async function body with a static module bound to ``m``."""
    page = open_page()
    page.goto(f"{server.url}/")

    def evaluate(module, body, argument=None):
        return page.evaluate(
            f"async (given) => {{ const m = await import('/static/{module}.js'); {body} }}", argument
        )

    return evaluate


def random_droplets(seed, n=120):
    """Droplets of random discs, some of them cut by the edge, in random states of curation."""
    draw = random.Random(seed)
    pixels = disc_pixels()
    noisy = np.clip(pixels + np.random.default_rng(seed).normal(0, 20, pixels.shape), 0, 255).astype(np.uint8)
    image = load_image(encode_png(noisy), "noise.png")
    y, x = np.mgrid[: image.height, : image.width] + 0.5
    masks = []
    while len(masks) < n:
        a, b, r = draw.uniform(0, image.width), draw.uniform(0, image.height), draw.uniform(2, 25)
        mask = mask_from_bits(np.hypot(x - a, (y - b) * draw.uniform(1, 1.5)) <= r, draw.random())
        if mask is not None:
            masks.append(mask)
    return measure(image, masks)


def test_filters_agree_with_the_server(run):
    for seed in range(8):
        draw = random.Random(100 + seed)
        droplets = [
            replace(d, excluded_by_user=draw.random() < 0.1, included_by_user=draw.random() < 0.1)
            for d in random_droplets(seed)
        ]
        records = [droplet_record(d, None) for d in droplets]
        names = [
            "diameter_px",
            "circularity",
            "mean_intensity",
            "score",
            "background_intensity",
            "aspect_ratio",
        ]
        ranges = {}
        for name in draw.sample(names, draw.randint(0, 4)):
            values = sorted(r[name] for r in records if r[name] is not None)
            low, high = draw.choice(values), draw.choice(values)
            # Between two values, so that the seven digits of a record decide nothing.
            limits = [min(low, high) * 0.999, max(low, high) * 1.001]
            ranges[name] = draw.choice([limits, [limits[0], None], [None, limits[1]]])
        exclude_edge = draw.random() < 0.5
        expected = apply_filters(droplets, Filters({k: tuple(v) for k, v in ranges.items()}, exclude_edge))
        judged = run(
            "filters",
            "m.evaluate(given.droplets, given.filters);"
            "return given.droplets.map((d) => [d.included, d.exclusion_reason, d.included_although]);",
            {"droplets": records, "filters": {"ranges": ranges, "exclude_edge": exclude_edge}},
        )
        assert judged == [[d.included, d.exclusion_reason, d.included_although] for d in expected]


def test_the_page_knows_every_column_in_the_server_s_order(run):
    assert run("filters", "return m.COLUMNS;") == [*COLUMNS, "score"]


def test_a_long_search_says_its_stage_with_what_is_done_and_left(run):
    def said(progress, state="running", position=0, seconds=None):
        job = {"state": state, "queue_position": position, "remaining_s": seconds}
        return run(
            "longsearch", "return m.workText(given.job, given.progress);", {"job": job, "progress": progress}
        )

    at = lambda stage, done, total: {"stage": stage, "done": done, "total": total}  # noqa: E731
    assert said(None) == "Looking for droplets"
    assert said(None, "queued", 2, 30) == "Waiting: 2 before this one, about 30 s left"
    assert said(at("finding", 3, 20), seconds=12) == "Looking for droplets 3 of 20, about 12 s left"
    assert said(at("measuring", 5000, 100_000)) == "Measuring droplet 5,000 of 100,000"
    assert said(at("saving", None, 100_000)) == "Saving 100,000 droplets"


def test_statistics_agree_with_the_golden_numbers(run):
    diameters = [48, 49, 50, 50, 51, 52, 55, 60, 20, 22]
    found = run("statistics", "return m.describe(given);", diameters)
    assert found["mean"] == pytest.approx(45.7)
    assert found["sd"] == pytest.approx(13.474668, abs=1e-6)
    assert found["cv"] == pytest.approx(29.485049, abs=1e-6)
    assert (found["median"], found["min"], found["max"]) == (50, 20, 60)
    assert run("statistics", "return m.volumePl(50);") == pytest.approx(65.449847, abs=1e-6)


def test_a_record_in_micrometres_equals_what_the_page_derives(run):
    (droplet, *_) = random_droplets(1, 1)
    record = droplet_record(droplet, Calibration(0.65, "typed"))
    derived = run("statistics", "return [given * 0.65, m.volumePl(given * 0.65)];", record["diameter_px"])
    assert derived == pytest.approx([record["diameter_um"], record["volume_pl"]], rel=1e-6)
    height = record["diameter_um"] / 3
    flattened = droplet_record(droplet, Calibration(0.65, "typed", height))
    derived = run("statistics", "return m.volumePl(...given);", [record["diameter_um"], height])
    assert derived == pytest.approx(flattened["volume_pl"], rel=1e-6)


def test_merged_patches_say_the_same_as_one_after_the_other(run):
    draw = random.Random(5)

    def random_patch():
        patch = {}
        for one, other in (("delete", "restore"), ("exclude", "include")):
            ids = draw.sample(range(8), draw.randint(0, 5))
            cut = draw.randint(0, len(ids))
            patch |= {one: ids[:cut], other: ids[cut:]}
        if draw.random() < 0.4:
            patch["calibration"] = draw.choice([None, {"um_per_px": draw.random(), "source": "typed"}])
        return patch

    def applied(state, patch):
        deleted, excluded, calibration = state
        deleted = (deleted | set(patch.get("delete", []))) - set(patch.get("restore", []))
        excluded = (excluded | set(patch.get("exclude", []))) - set(patch.get("include", []))
        return deleted, excluded, patch.get("calibration", calibration)

    for _ in range(30):
        patches = [random_patch() for _ in range(3)]
        start = ({1, 2}, {2, 3}, {"um_per_px": 9, "source": "ome"})
        expected = start
        for patch in patches:
            expected = applied(expected, patch)
        merged = run("patch", "return given.reduce(m.merged, {});", patches)
        assert applied(start, merged) == expected


def test_the_tone_curve_is_a_straight_line_until_something_is_set(run):
    curves = run(
        "tone",
        """
        const curve = (change) => m.toneCurve({ brightness: 0, contrast: 0, gamma: 1, ...change });
        return [{}, { brightness: 25 }, { contrast: 50 }, { gamma: 2 }, { contrast: -100 }].map(curve);
    """,
    )
    line = np.linspace(0, 1, 33)
    assert curves[0] == pytest.approx(line)
    assert curves[1] == pytest.approx(np.minimum(line + 0.25, 1))
    assert curves[2] == pytest.approx(np.clip((line - 0.5) * np.tan(3 * np.pi / 8) + 0.5, 0, 1))
    assert curves[3] == pytest.approx(np.sqrt(line))
    assert curves[4] == pytest.approx(np.full(33, 0.5))


def test_the_view_is_reversible_and_zooms_at_the_pointer(run):
    found = run(
        "view",
        """
        const view = new m.View(0.37, 12, -40);
        const screen = view.toScreen(333.25, 77.5);
        const back = view.toImage(screen.x, screen.y);
        const before = view.toImage(200, 150), after = view.zoomedAt(200, 150, 3.1).toImage(200, 150);
        const fitted = m.fitted(900, 700, 1600, 1200);
        return {back, before, after, corner: fitted.toScreen(1600, 1200), scale: fitted.scale};
        """,
    )
    assert found["back"] == pytest.approx({"x": 333.25, "y": 77.5})
    assert found["after"] == pytest.approx(found["before"])
    assert found["scale"] == pytest.approx((900 - 32) / 1600)
    assert found["corner"]["x"] == pytest.approx(900 - 16)


def test_hits_are_decided_by_the_outline_and_the_smaller_droplet_wins(run):
    found = run(
        "geometry",
        """
        const ring = (x, y, r, n = 64) => Array.from({length: n}, (_, i) => [
          x + r * Math.cos(2 * Math.PI * i / n), y + r * Math.sin(2 * Math.PI * i / n)]).flat();
        const droplet = (id, x, y, r) => {
          const contour = ring(x, y, r);
          return {id, contour, bounds: m.boundsOf(contour), area_px: Math.PI * r * r};
        };
        const droplets = [droplet(1, 50, 50, 40), droplet(2, 60, 50, 8), droplet(3, 200, 50, 10)];
        const grid = new m.SpatialGrid(droplets, 20);
        return {
          nested: grid.at(60, 50)?.id, outer: grid.at(30, 50)?.id, corner: grid.at(85, 85)?.id ?? null,
          inRect: grid.inRect([100, 0, 300, 100]).map(({id}) => id),
          same: m.sampledIou(ring(50, 50, 20), ring(50, 50, 20)),
          half: m.sampledIou(ring(50, 50, 20), ring(66, 50, 20)),
          apart: m.sampledIou(ring(50, 50, 20), ring(150, 50, 20)),
        };
        """,
    )
    assert (found["nested"], found["outer"], found["corner"]) == (2, 1, None)
    assert found["inRect"] == [3]
    assert found["same"] == 1
    # Two discs of radius r at a distance of 0.8 r share 0.336 of their union.
    assert found["half"] == pytest.approx(0.336, abs=0.06)
    assert found["apart"] == 0


def test_vendored_files_are_the_pinned_versions():
    static, tests = ROOT / "static" / "vendor", ROOT / "tests" / "vendor"
    pins = json.loads((static / "package.json").read_text())["dependencies"]
    pins |= json.loads((tests / "package.json").read_text())["devDependencies"]
    heads = {
        "tabulator-tables": static / "tabulator" / "tabulator_esm.min.mjs",
        "uplot": static / "uplot" / "uPlot.esm.js",
        "axe-core": tests / "axe-core" / "axe.min.js",
    }
    assert set(heads) == set(pins)
    for name, path in heads.items():
        assert f"v{pins[name]}" in path.read_text(encoding="utf-8")[:300], name
        assert (path.parent / "LICENSE").is_file(), name


def test_download_names_come_from_the_header(run):
    headers = [
        'attachment; filename="a b.csv"',
        "attachment; filename=x.csv; filename*=UTF-8''%C2%B5m.csv",
        None,
    ]
    assert run("api", "return given.map(m.filenameFrom);", headers) == ["a b.csv", "µm.csv", None]


def test_an_assay_marks_what_it_did_not_read_neither_positive_nor_negative(server, open_page):
    page = open_page()
    page.goto(f"{server.url}/")
    marks = page.evaluate(
        """async () => {
          const { Analysis } = await import("/static/analysis.js");
          const included = [{ id: 1 }, { id: 2 }, { id: 3 }];
          const annotation = Object.assign(new EventTarget(), { image: { id: "x" }, included });
          const analysis = new Analysis(annotation, null);
          analysis.assays = {
            ddpcr: { threshold: 5, droplets: { ids: [1, 2], amplitude: [9, 1] } },
            groups: { droplets: { ids: [1], class: ["main"] } },
          };
          return [["ddpcr"], ["groups"]].map((wanted) => Object.fromEntries(analysis.marks(wanted)));
        }"""
    )
    assert marks == [{"1": "positive", "2": None, "3": "unread"}, {"1": None}]
