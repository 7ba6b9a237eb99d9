"""Groups by size and by intensity."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sam_droplet.errors import InputError
from sam_droplet.imaging.images import Image
from sam_droplet.imaging.masks import Mask
from sam_droplet.measurement.droplets import Droplet, measure
from sam_droplet.measurement.populations import intensity_classes, size_groups


@pytest.fixture
def droplets_of(
    make_disc: Callable[..., Mask], make_image: Callable[..., Image]
) -> Callable[[np.ndarray], list[Droplet]]:
    """Droplets whose diameters are exactly those given; only that column matters here."""
    (template,) = measure(make_image((40, 40)), [make_disc(20, 20, 8)])

    def make(diameters: np.ndarray) -> list[Droplet]:
        return [
            replace(template, id=i, measures=replace(template.measures, diameter_px=float(d)))
            for i, d in enumerate(diameters, 1)
        ]

    return make


def sizes(*groups: tuple[float, float, int]) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(mean, mean * cv, n) for mean, cv, n in groups])


def test_monodisperse_droplets_are_one_group(droplets_of: Callable[..., list[Droplet]]) -> None:
    found = size_groups(droplets_of(sizes((40, 0.03, 400))))
    assert found.suggested == 1
    assert [g.name for g in found.groups] == ["main"]


def test_one_broad_population_stays_one_group(droplets_of: Callable[..., list[Droplet]]) -> None:
    diameters = np.random.default_rng(1).lognormal(3.5, 0.4, 600)
    assert size_groups(droplets_of(diameters)).suggested == 1


def test_satellites_are_counted_by_number_and_by_volume(droplets_of: Callable[..., list[Droplet]]) -> None:
    diameters = sizes((50, 0.03, 300), (15, 0.08, 100))
    found = size_groups(droplets_of(diameters))
    assert found.suggested == 2
    assert [g.name for g in found.groups] == ["satellite", "main"]
    satellite = found.groups[0]
    assert satellite.share_by_number_percent == pytest.approx(25)
    cubes = diameters**3
    assert satellite.share_by_volume_percent == pytest.approx(100 * cubes[300:].sum() / cubes.sum())
    assert satellite.diameter.mean == pytest.approx(diameters[300:].mean())
    assert found.names_by_id[1] == "main"
    assert found.names_by_id[400] == "satellite"


def test_three_groups_are_named_from_the_main_one(droplets_of: Callable[..., list[Droplet]]) -> None:
    found = size_groups(droplets_of(sizes((60, 0.03, 200), (30, 0.03, 200), (12, 0.05, 200))))
    assert [g.name for g in found.groups] == ["satellite_2", "satellite_1", "main"]


def test_merged_droplets_that_hold_little_volume_are_large(droplets_of: Callable[..., list[Droplet]]) -> None:
    found = size_groups(droplets_of(sizes((40, 0.03, 500), (51, 0.02, 20))))
    assert [g.name for g in found.groups] == ["main", "large"]


OUTLIERS = {
    "even": lambda rng, n: rng.uniform(15, 70, n),
    "broad": lambda rng, n: rng.lognormal(np.log(38), 0.35, n),
    "small": lambda rng, n: rng.uniform(14, 40, n),
}


@pytest.mark.parametrize("kind", OUTLIERS)
@pytest.mark.parametrize("seed", range(4))
def test_a_few_outliers_do_not_widen_the_group(
    droplets_of: Callable[..., list[Droplet]], kind: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    diameters = np.concatenate([rng.normal(40, 0.8, 380), OUTLIERS[kind](rng, 20)])
    found = size_groups(droplets_of(diameters))
    assert found.suggested == 1
    assert [g.name for g in found.groups] == ["main", "outlier"]
    main, outlier = found.groups
    assert main.diameter.cv_percent == pytest.approx(2, abs=0.2)
    assert main.diameter.mean == pytest.approx(40, abs=0.15)
    assert 375 <= main.diameter.n <= 395
    assert main.diameter.n + outlier.diameter.n == 400
    assert found.as_dict()["n_outliers"] == outlier.diameter.n
    assert len(found.components) == 1


@pytest.mark.parametrize("seed", range(4))
def test_two_groups_with_outliers_stay_two(droplets_of: Callable[..., list[Droplet]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = (rng.normal(50, 1.5, 230), rng.normal(60, 1.8, 150))
    found = size_groups(droplets_of(np.concatenate([*groups, rng.uniform(15, 90, 20)])))
    assert found.suggested == 2
    assert [g.name for g in found.groups if g.name != "outlier"] in (["satellite", "main"], ["main", "large"])
    for found_group, made in zip(found.groups, groups, strict=False):
        assert found_group.diameter.mean == pytest.approx(made.mean(), rel=0.01)
        assert found_group.diameter.cv_percent == pytest.approx(3, abs=0.6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spread", [0.12, 0.25, 0.4])
def test_broad_populations_have_no_outliers(
    droplets_of: Callable[..., list[Droplet]], seed: int, spread: float
) -> None:
    found = size_groups(droplets_of(np.random.default_rng(seed).lognormal(3.5, spread, 400)))
    assert (found.suggested, [g.name for g in found.groups]) == (1, ["main"])


EVEN = {
    "diameters": lambda rng, n: rng.uniform(20, 60, n),
    "wide": lambda rng, n: rng.uniform(10, 100, n),
    "logarithms": lambda rng, n: np.exp(rng.uniform(np.log(10), np.log(100), n)),
}


@pytest.mark.parametrize("kind", EVEN)
@pytest.mark.parametrize("n", [100, 400])
@pytest.mark.parametrize("seed", range(3))
def test_sizes_spread_evenly_are_no_row_of_groups(
    droplets_of: Callable[..., list[Droplet]], kind: str, n: int, seed: int
) -> None:
    found = size_groups(droplets_of(EVEN[kind](np.random.default_rng(seed), n)))
    assert (found.suggested, [g.name for g in found.groups]) == (1, ["main"])


@pytest.mark.parametrize("n", [15, 50])
@pytest.mark.parametrize("seed", range(4))
def test_few_droplets_of_two_sizes_are_two_groups(
    droplets_of: Callable[..., list[Droplet]], n: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    found = size_groups(droplets_of(np.concatenate([rng.normal(40, 1, n), rng.normal(50, 1.25, n)])))
    assert (found.suggested, [g.diameter.n for g in found.groups]) == (2, [n, n])


def test_a_shoulder_of_a_peak_is_no_group_of_its_own(droplets_of: Callable[..., list[Droplet]]) -> None:
    diameters = sizes((81.5, 0.015, 90), (84.8, 0.012, 180))  # Ashman's D is 2.9, but there is no dip between
    assert size_groups(droplets_of(diameters)).suggested == 1


def test_number_of_groups_can_be_chosen(droplets_of: Callable[..., list[Droplet]]) -> None:
    droplets = droplets_of(sizes((50, 0.03, 300), (15, 0.08, 100)))
    assert len(size_groups(droplets, n_groups=1).groups) == 1
    assert size_groups(droplets, n_groups=3).suggested == 2
    with pytest.raises(InputError, match="1 to 4"):
        size_groups(droplets, n_groups=9)
    with pytest.raises(InputError, match="cannot be split"):
        size_groups(droplets[:4], n_groups=3)


def test_scale_gives_groups_in_micrometres(droplets_of: Callable[..., list[Droplet]]) -> None:
    droplets = droplets_of(sizes((50, 0.03, 300), (15, 0.08, 100)))
    in_px, in_um = size_groups(droplets), size_groups(droplets, scale=1.11)
    for a, b in zip(in_px.groups, in_um.groups, strict=True):
        assert b.diameter.mean == pytest.approx(1.11 * (a.diameter.mean or 0))
        assert b.share_by_number_percent == a.share_by_number_percent


def test_shares_by_volume_are_those_of_flattened_droplets(
    droplets_of: Callable[..., list[Droplet]],
) -> None:
    diameters = sizes((50, 0.03, 300), (15, 0.08, 100))
    free = size_groups(droplets_of(diameters), scale=2.0)
    low = size_groups(droplets_of(diameters), scale=2.0, chamber_height=40.0)
    satellite, _ = low.groups
    # Over pi: wider than the plates, d^2*h/4 - h^3/12; the satellites are spheres.
    volumes = np.where(diameters < 20, diameters**3 * 8 / 6, (2 * diameters) ** 2 * 10 - 40**3 / 12)
    assert satellite.share_by_volume_percent == pytest.approx(100 * volumes[300:].sum() / volumes.sum())
    assert satellite.share_by_volume_percent > free.groups[0].share_by_volume_percent
    assert satellite.diameter == free.groups[0].diameter


def test_excluded_droplets_belong_to_no_group(droplets_of: Callable[..., list[Droplet]]) -> None:
    droplets = [replace(d, included=d.id > 3) for d in droplets_of(sizes((50, 0.03, 30)))]
    found = size_groups(droplets)
    assert set(found.names_by_id) == set(range(4, 31))
    assert json.loads(json.dumps(found.as_dict())) == found.as_dict()
    assert size_groups([]).groups == ()


def test_intensity_classes_by_given_and_proposed_threshold(
    make_disc: Callable[..., Mask], make_image: Callable[..., Image]
) -> None:
    pixels = np.full((60, 200), 10, np.uint8)
    masks = [make_disc(25 + 50 * i, 30, 10) for i in range(4)]
    for mask, value in zip(masks, (20, 25, 150, 160), strict=True):
        x0, y0, x1, y1 = mask.box_xyxy
        pixels[y0:y1, x0:x1][mask.bits] = value
    droplets = measure(make_image(pixels), masks)
    proposed = intensity_classes(droplets)
    assert proposed["threshold"] == pytest.approx(87.5)
    assert (proposed["high"]["ids"], proposed["low"]["ids"]) == ([3, 4], [1, 2])
    assert proposed["high"]["intensity"]["mean"] == 155
    moved = intensity_classes(droplets, threshold=25.0)
    assert moved["high"]["ids"] == [2, 3, 4]
    assert intensity_classes([])["high"]["n"] == 0
