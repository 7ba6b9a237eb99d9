"""The summary: counts, reasons, sizes and volumes of what is included."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from math import pi

import numpy as np
import pytest

from sam_droplet.imaging.images import Calibration, Image
from sam_droplet.imaging.masks import Mask
from sam_droplet.measurement.droplets import Droplet, Filters, apply_filters, droplet_record, measure
from sam_droplet.measurement.summary import summarize


@pytest.fixture
def droplets(make_disc: Callable[..., Mask], make_image: Callable[..., Image]) -> list[Droplet]:
    """Radii 5, 10, 15 and 20 well inside, then one of 10 that the left border cuts."""
    masks = [make_disc(30 + 50 * i, 40, 5 * (i + 1)) for i in range(4)]
    return measure(make_image((160, 220)), [*masks, make_disc(5, 120, 10)])


def test_summary_counts_reasons_and_describes_the_included(droplets: list[Droplet]) -> None:
    judged = apply_filters(droplets, Filters({"diameter_px": (15, None)}, exclude_edge=True))
    summary = summarize(judged, Calibration(2.0, "typed"))
    assert (summary["n_found"], summary["n_included"], summary["n_excluded"]) == (5, 3, 2)
    assert summary["excluded_by_reason"] == {"diameter_px_below": 1, "touches_edge": 1}
    diameters = np.array([d.measures.diameter_px for d in judged if d.included])
    assert summary["diameter_px"]["mean"] == pytest.approx(diameters.mean(), rel=1e-6)
    assert summary["diameter_px"]["sd"] == pytest.approx(diameters.std(ddof=1), rel=1e-6)
    cv = 100 * diameters.std(ddof=1) / diameters.mean()
    assert summary["diameter_px"]["cv_percent"] == pytest.approx(cv, rel=1e-6)
    assert summary["diameter_um"]["median"] == pytest.approx(2 * np.median(diameters), rel=1e-6)
    assert summary["volume_pl"]["mean"] == pytest.approx(
        pi / 6 * np.mean((2 * diameters) ** 3) / 1000, rel=1e-6
    )


def test_empty_summary_says_why() -> None:
    summary = summarize([], None, intervals=True)
    assert (summary["n_found"], summary["n_included"], summary["diameter_px"]["mean"]) == (0, 0, None)
    assert summary["notes"] == ["No droplet was found."]


def test_summary_says_when_everything_is_excluded(droplets: list[Droplet]) -> None:
    summary = summarize(apply_filters(droplets, Filters({"area_px": (1e6, None)})), None)
    assert summary["notes"] == ["No droplet is included."]
    assert summary["excluded_by_reason"] == {"area_px_below": 5}


@pytest.mark.parametrize(("radius", "n", "um"), [(35.0, 3, 2.174), (20.0, 7, 1.11), (12.0, 24, 0.65)])
def test_equal_droplets_have_no_spread(
    make_disc: Callable[..., Mask], make_image: Callable[..., Image], radius: float, n: int, um: float
) -> None:
    image = make_image((80, 80 * n))
    alike = measure(image, [make_disc(40 + 80 * i, 40, radius) for i in range(n)])
    summary = summarize(alike, Calibration(um, "typed"))
    for name in ("diameter_px", "diameter_um", "volume_pl", "circularity", "mean_intensity"):
        assert (name, summary[name]["sd"], summary[name]["cv_percent"]) == (name, 0, 0)


def test_intensities_around_or_below_zero_have_no_cv(
    make_disc: Callable[..., Mask], make_image: Callable[..., Image]
) -> None:
    pixels = np.random.default_rng(0).normal(-5, 1, (80, 160)).astype(np.float32)
    found = measure(make_image(pixels), [make_disc(40, 40, 20), make_disc(110, 40, 20)])
    intensity = summarize(found, None)["mean_intensity"]
    assert intensity["mean"] == pytest.approx(-5, abs=0.1)
    assert intensity["sd"] > 0
    assert intensity["cv_percent"] is None


def test_summary_is_json_and_names_the_calibration(droplets: list[Droplet]) -> None:
    summary = summarize(droplets, Calibration(0.5, "line"), intervals=True)
    assert json.loads(json.dumps(summary)) == summary
    assert (summary["um_per_px"], summary["calibration_source"]) == (0.5, "line")
    assert summary["pdi_definition"] == "(sd/mean)^2"
    without = summarize(droplets, None, intervals=True)
    assert (without["diameter_um"], without["volume_pl"], without["um_per_px"]) == (None, None, None)


def test_intervals_scale_with_the_calibration(droplets: list[Droplet]) -> None:
    found = summarize(droplets, Calibration(0.5, "line"), intervals=True)["intervals_95"]
    low, high = found["diameter_px"]["mean"]
    assert found["diameter_um"]["mean"] == pytest.approx([low / 2, high / 2], rel=1e-6)
    assert found["diameter_um"]["cv_percent"] == found["diameter_px"]["cv_percent"]
    assert found["mean_volume_pl"][0] < found["mean_volume_pl"][1]


def test_a_low_chamber_changes_volumes_and_nothing_else(droplets: list[Droplet]) -> None:
    free = summarize(droplets, Calibration(0.5, "line"), intervals=True)
    low_um = 0.6 * free["diameter_um"]["min"]
    flat = summarize(droplets, Calibration(0.5, "line", low_um), intervals=True)
    changed = {name for name in free if free[name] != flat[name]}
    assert changed == {"chamber_height_um", "n_flattened", "volume_pl", "intervals_95", "notes"}
    assert flat["intervals_95"]["diameter_um"] == free["intervals_95"]["diameter_um"]
    records = [droplet_record(d, Calibration(0.5, "line", low_um)) for d in droplets if d.included]
    assert flat["volume_pl"]["mean"] == pytest.approx(np.mean([r["volume_pl"] for r in records]), rel=1e-6)
    low, high = flat["intervals_95"]["mean_volume_pl"]
    assert low <= flat["volume_pl"]["mean"] <= high < free["volume_pl"]["mean"]
    tall = summarize(droplets, Calibration(0.5, "line", 1e4), intervals=True)
    assert (tall["volume_pl"], tall["intervals_95"]) == (free["volume_pl"], free["intervals_95"])


def test_notes_say_how_many_droplets_the_chamber_flattens(droplets: list[Droplet]) -> None:
    included = sorted(0.5 * d.measures.diameter_px for d in droplets if d.included)

    def told(height_um: float | None) -> tuple[int | None, list[str]]:
        summary = summarize(droplets, Calibration(0.5, "line", height_um))
        return summary["n_flattened"], [note for note in summary["notes"] if "chamber" in note]

    assert told(None) == (None, [])
    assert summarize(droplets, None)["n_flattened"] is None
    n, wider = len(included), [d for d in included if d > included[0]]
    some, (note,) = told(included[0])  # as wide as the chamber is high: still a sphere
    assert (some, n - len(wider)) == (len(wider), included.count(included[0]))
    assert note == (
        f"{some} of {n} included droplets are wider than the chamber is high ({included[0]:.6g} µm) "
        "and counted as flattened; the others are spheres."
    )
    assert told(1.0)[1] == [
        f"{n} of {n} included droplets are wider than the chamber is high (1 µm) and counted as flattened."
    ]
    assert told(250.0) == (
        0,
        [
            "No included droplet is wider than the chamber is high (250 µm), "
            "so all volumes are those of spheres."
        ],
    )
    out = [replace(d, included=False, exclusion_reason="user") for d in droplets]
    assert summarize(out, Calibration(0.5, "line", 1.0))["notes"] == ["No droplet is included."]


def test_edge_weights_leave_out_what_touches_the_border_and_favour_the_large(
    droplets: list[Droplet],
) -> None:
    plain = summarize(droplets[:4], None)["diameter_px"]
    weighted = summarize(droplets, None, edge_weights_wh=(220, 160))
    assert weighted["n_included"] == 5
    assert weighted["diameter_px"]["n"] == 4
    assert weighted["diameter_px"]["mean"] > plain["mean"]
    assert weighted["edge_bias_weights"] is True


def test_edge_weights_of_cut_droplets_only_say_why_there_is_no_size(droplets: list[Droplet]) -> None:
    summary = summarize(droplets[4:], None, edge_weights_wh=(220, 160))
    assert (summary["n_included"], summary["diameter_px"]["mean"]) == (1, None)
    (note,) = summary["notes"]
    assert note.startswith("All included droplets touch the image border")


def test_few_droplets_are_noted(droplets: list[Droplet]) -> None:
    notes = summarize(droplets, None)["notes"]
    assert "1 of 5 included droplets touch the image border, where" in notes[0]
    without = summarize(apply_filters(droplets, Filters(exclude_edge=True)), None)["notes"]
    assert not any("border" in note for note in without)
    assert any("are recommended" in note for note in notes)
    assert any("Dv90" in note for note in notes)


def field(scale: float, dx: float) -> list[tuple[float, float, float]]:
    """Centres and radii of 60 discs of 12 to 30 px in diameter, magnified and shifted."""
    rng = np.random.default_rng(7)
    places = [(25 + 40 * i, 25 + 40 * j) for i in range(10) for j in range(6)]
    jitter = rng.uniform(-2, 2, (60, 2))
    radii = rng.uniform(6, 15, 60)
    return [
        ((x + u + dx) * scale, (y + v + dx) * scale, r * scale)
        for (x, y), (u, v), r in zip(places, jitter, radii, strict=True)
    ]


def numbers(summary: dict[str, object]) -> dict[str, float]:
    parts = ("diameter_um", "volume_pl", "circularity")
    return {
        f"{part}.{name}": value
        for part in parts
        for name, value in summary[part].items()  # type: ignore[attr-defined]
        # The single largest and smallest droplet carry the whole error of one; and the SD of a
        # circularity near 1 is nothing but pixel noise.
        if value is not None
        and name not in ("min", "max")
        and (part != "circularity" or name in ("mean", "n"))
    }


@pytest.mark.parametrize("change", ["flip", "turn", "shift", "rescale_up", "rescale_down", "tile"])
def test_changes_of_the_picture_change_no_summary_number_by_one_percent(
    change: str, make_disc: Callable[..., Mask], make_image: Callable[..., Image]
) -> None:
    scale = {"rescale_up": 2.5, "rescale_down": 0.8}.get(change, 1.0)
    places = field(scale, 0.37 if change == "shift" else 0.0)
    width, height = round(430 * scale), round(270 * scale)
    masks = [make_disc(*place) for place in places]
    if change == "flip":
        masks = [make_disc(width - x, y, r) for x, y, r in places]
    if change == "turn":
        masks = [make_disc(y, width - x, r) for x, y, r in places]
        width, height = height, width
    if change == "tile":
        masks += [make_disc(x + width, y, r) for x, y, r in places]
        width *= 2
    before = [make_disc(*place) for place in field(1.0, 0.0)]
    reference = summarize(measure(make_image((270, 430)), before), Calibration(2.0, "typed"))
    changed = summarize(measure(make_image((height, width)), masks), Calibration(2.0 / scale, "typed"))
    expected, found = numbers(reference), numbers(changed)
    if change == "tile":
        # Twice the droplets: counts double, and estimates of spread lose their n/(n - 1).
        for counted in ("diameter_um.n", "volume_pl.n", "circularity.n", "volume_pl.total"):
            assert found.pop(counted) == pytest.approx(2 * expected.pop(counted), rel=0.01)
        found.pop("diameter_um.cv_se_percent")
        expected.pop("diameter_um.cv_se_percent")
    tolerances = {"diameter_um.pdi": 0.02}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=tolerances.get(name, 0.01)), name
