"""A CV that hangs on where a limit was set says so."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean, stdev

import pytest

from sam_droplet.imaging.images import Image
from sam_droplet.imaging.masks import Mask
from sam_droplet.measurement.droplets import Droplet, Filters, apply_filters, measure
from sam_droplet.measurement.limits import limit_notes


@pytest.fixture
def droplets(make_disc: Callable[..., Mask], make_image: Callable[..., Image]) -> list[Droplet]:
    """Ten of radius 19 to 21, and one of 25."""
    masks = [make_disc(40 + 60 * i, 50, 19 + 0.2 * i) for i in range(10)] + [make_disc(60, 130, 25)]
    return measure(make_image((180, 700)), masks)


def _cv_percent(droplets: list[Droplet]) -> float:
    diameters = [d.measures.diameter_px for d in droplets]
    return 100 * stdev(diameters) / fmean(diameters)


def _notes(droplets: list[Droplet], **ranges: tuple[float | None, float | None]) -> list[str]:
    filters = Filters(ranges)
    return limit_notes(apply_filters(droplets, filters), filters)


@pytest.mark.parametrize("share", [0.995, 1.005])
def test_a_droplet_at_the_limit_is_told_on_either_side_of_it(droplets: list[Droplet], share: float) -> None:
    largest = max(d.measures.diameter_px for d in droplets)
    (note,) = _notes(droplets, diameter_px=(None, share * largest))
    without, all_of_them = (_cv_percent(droplets[:n]) for n in (10, 11))
    assert note == (
        f"1 droplet lies within 1 % of a limit of the diameter: the CV is {without:.3g} % without, and "
        f"{all_of_them:.3g} % with. Set limits between groups of droplets, not through one."
    )


def test_a_limit_between_groups_is_not_worth_a_word(droplets: list[Droplet]) -> None:
    assert _notes(droplets, diameter_px=(30, 46)) == []
    assert _notes(droplets) == []


def test_areas_are_watched_as_diameters_are(droplets: list[Droplet]) -> None:
    largest = max(d.measures.area_px for d in droplets)
    (note,) = _notes(droplets, area_px=(None, largest))
    assert "limit of the area" in note


def test_too_few_droplets_have_no_cv_to_compare(droplets: list[Droplet]) -> None:
    largest = max(d.measures.diameter_px for d in droplets)
    assert _notes(droplets, diameter_px=(0.999 * largest, None)) == []


def test_what_other_filters_leave_out_is_not_counted(droplets: list[Droplet]) -> None:
    largest = max(d.measures.diameter_px for d in droplets)
    assert _notes(droplets, diameter_px=(None, largest), score=(2.0, None)) == []
