"""The summary: counts, reasons, sizes and volumes of what is included."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import pi

import numpy as np
import pytest

from sam_droplet.imaging.images import Calibration, Image
from sam_droplet.imaging.masks import Mask
from sam_droplet.measurement.droplets import Droplet, Filters, apply_filters, measure
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


def test_edge_weights_leave_out_what_touches_the_border_and_favour_the_large(
    droplets: list[Droplet],
) -> None:
    plain = summarize(droplets[:4], None)["diameter_px"]
    weighted = summarize(droplets, None, edge_weights_wh=(220, 160))
    assert weighted["n_included"] == 5
    assert weighted["diameter_px"]["n"] == 4
    assert weighted["diameter_px"]["mean"] > plain["mean"]
    assert weighted["edge_bias_weights"] is True


def test_few_droplets_are_noted(droplets: list[Droplet]) -> None:
    notes = summarize(droplets, None)["notes"]
    assert any("are recommended" in note for note in notes)
    assert any("Dv90" in note for note in notes)
