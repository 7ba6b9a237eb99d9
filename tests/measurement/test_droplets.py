"""Measuring, filtering with reasons, records and the summary."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from math import pi

import numpy as np
import pytest

from sam_droplet.errors import InputError
from sam_droplet.imaging.images import Calibration, Image
from sam_droplet.imaging.masks import Mask
from sam_droplet.measurement.droplets import (
    COLUMNS,
    Droplet,
    Filters,
    apply_filters,
    droplet_record,
    measure,
)

MakeDisc = Callable[..., Mask]
MakeImage = Callable[..., Image]


@pytest.fixture
def droplets(make_disc: MakeDisc, make_image: MakeImage) -> list[Droplet]:
    """Radii 5, 10, 15 and 20 well inside, then one of 10 that the left border cuts."""
    masks = [make_disc(30 + 50 * i, 40, 5 * (i + 1), score=0.5 + 0.1 * i) for i in range(4)]
    masks.append(make_disc(5, 120, 10))
    return measure(make_image((160, 220)), masks, model="droplet-net")


def test_measure_numbers_droplets_in_the_order_given(droplets: list[Droplet]) -> None:
    assert [d.id for d in droplets] == [1, 2, 3, 4, 5]
    assert [d.measures.touches_edge for d in droplets] == [False] * 4 + [True]
    assert [d.measures.center_x_px for d in droplets[:4]] == pytest.approx([30, 80, 130, 180])
    assert all(d.measures.center_y_px == pytest.approx(40) for d in droplets[:4])
    for droplet in droplets:
        assert droplet.measures.diameter_px == 2 * (droplet.measures.area_px / pi) ** 0.5


def test_measure_starts_at_the_first_id_and_keeps_the_source(
    make_disc: MakeDisc, make_image: MakeImage
) -> None:
    (droplet,) = measure(
        make_image((90, 90)), [make_disc(40, 40, 9)], source="point", model="mobile-sam", first_id=17
    )
    assert (droplet.id, droplet.source, droplet.model) == (17, "point", "mobile-sam")


def test_intensities_are_those_of_the_raw_sixteen_bit_pixels(
    make_disc: MakeDisc, make_image: MakeImage
) -> None:
    pixels = np.random.default_rng(0).integers(0, 4096, (90, 90)).astype(np.uint16)
    mask = make_disc(40, 45, 12)
    x0, y0, x1, y1 = mask.box_xyxy
    inside = pixels[y0:y1, x0:x1][mask.bits]
    measures = measure(make_image(pixels), [mask])[0].measures
    assert measures.mean_intensity == pytest.approx(inside.mean())
    assert measures.sd_intensity == pytest.approx(inside.std())
    assert measures.median_intensity == np.median(inside)
    assert (measures.min_intensity, measures.max_intensity) == (inside.min(), inside.max())
    assert measures.mean_intensity_by_channel == pytest.approx((inside.mean(),))


def test_several_channels_give_their_mean_and_one_mean_each(
    make_disc: MakeDisc, make_image: MakeImage
) -> None:
    pixels = np.zeros((80, 80, 3), np.uint8)
    pixels[:] = (10, 40, 250)
    (droplet,) = measure(make_image(pixels), [make_disc(40, 40, 10)])
    assert droplet.measures.mean_intensity == pytest.approx(100)
    assert droplet.measures.mean_intensity_by_channel == pytest.approx((10, 40, 250))
    record = droplet_record(droplet, None)
    assert [record[f"mean_intensity_c{i}"] for i in range(3)] == [10, 40, 250]


def test_background_is_the_ring_outside_all_masks(make_disc: MakeDisc, make_image: MakeImage) -> None:
    pixels = np.full((120, 120), 7, np.uint8)
    bright, dim = make_disc(50, 60, 15), make_disc(84, 60, 15)
    for mask, value in ((bright, 200), (dim, 90)):
        x0, y0, x1, y1 = mask.box_xyxy
        pixels[y0:y1, x0:x1][mask.bits] = value
    together = measure(make_image(pixels), [bright, dim])
    assert [d.measures.background_intensity for d in together] == [7, 7]


def test_background_is_missing_where_masks_cover_everything(make_image: MakeImage) -> None:
    halves = [Mask((20 * i, 0, 20 * i + 20, 40), np.ones((40, 20), bool), 1.0) for i in range(2)]
    measured = measure(make_image((40, 40)), halves)
    assert [d.measures.background_intensity for d in measured] == [None, None]
    assert all(d.included for d in apply_filters(measured, Filters({"background_intensity": (1, 2)})))


def test_droplets_of_all_sizes_measure_the_same_in_any_order(
    make_disc: MakeDisc, make_image: MakeImage
) -> None:
    rng = np.random.default_rng(5)
    image = make_image(rng.integers(0, 4096, (240, 300, 2)).astype(np.uint16))
    sizes = np.concatenate([rng.uniform(5, 25, 40), [0.8, 45]])
    masks = [make_disc(*rng.uniform(50, 190, 2), r, r * rng.uniform(0.4, 1), angle=r) for r in sizes.tolist()]
    together = measure(image, masks)
    assert [d.mask for d in together] == masks
    for index, droplet in enumerate(together):
        first = measure(image, [masks[index], *masks[:index], *masks[index + 1 :]])[0]
        assert vars(droplet.measures) == vars(first.measures)


def test_measuring_says_how_far_it_is_and_can_be_stopped(make_disc: MakeDisc, make_image: MakeImage) -> None:
    image = make_image((200, 200))
    masks = [make_disc(20 + 40 * (i % 4), 20 + 40 * (i // 4), radius) for i, radius in enumerate([5, 15] * 8)]
    seen: list[tuple[int, int]] = []
    measure(image, masks, on_progress=lambda *at: seen.append(at))
    assert seen == [(8, 16), (16, 16)]  # those of one size together

    def stop(done: int, total: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        measure(image, masks, on_progress=stop)


def test_mask_outside_the_image_is_refused(make_disc: MakeDisc, make_image: MakeImage) -> None:
    with pytest.raises(InputError, match="must lie inside its image of 50 x 40 px"):
        measure(make_image((40, 50)), [make_disc(45, 20, 10)])


def test_no_masks_give_no_droplets(make_image: MakeImage) -> None:
    assert measure(make_image((40, 50)), []) == []


def test_first_reason_in_table_order_wins(droplets: list[Droplet]) -> None:
    filters = Filters({"diameter_px": (15, 35), "area_px": (100, None), "score": (0.65, None)}, True)
    judged = apply_filters(droplets, filters)
    assert [d.exclusion_reason for d in judged] == [
        "area_px_below",
        "score_below",
        None,
        "diameter_px_above",
        "touches_edge",
    ]
    assert [d.included for d in judged] == [False, False, True, False, False]


def test_exclusion_by_the_user_comes_first_and_is_reversible(droplets: list[Droplet]) -> None:
    marked = [replace(d, excluded_by_user=d.id == 5) for d in droplets]
    assert apply_filters(marked, Filters(exclude_edge=True))[4].exclusion_reason == "user"
    again = apply_filters([replace(d, excluded_by_user=False) for d in marked], Filters())
    assert all(d.included and d.exclusion_reason is None for d in again)


def test_what_the_user_included_counts_and_tells_what_the_filters_say(droplets: list[Droplet]) -> None:
    filters = Filters({"area_px": (100, None)}, exclude_edge=True)
    marked = [replace(d, included_by_user=d.id in (1, 2, 5), excluded_by_user=d.id == 5) for d in droplets]
    judged = apply_filters(marked, filters)
    # The first breaks a rule, the second none, and the user's exclusion stands above all.
    assert [(d.included, d.exclusion_reason, d.included_although) for d in judged] == [
        (True, None, "area_px_below"),
        (True, None, None),
        (True, None, None),
        (True, None, None),
        (False, "user", None),
    ]
    again = apply_filters([replace(d, included_by_user=False) for d in judged], filters)
    assert (again[0].included, again[0].exclusion_reason, again[0].included_although) == (
        False,
        "area_px_below",
        None,
    )


def test_limits_are_inclusive(droplets: list[Droplet]) -> None:
    exact = droplets[1].measures.diameter_px
    judged = apply_filters(droplets, Filters({"diameter_px": (exact, exact)}))
    assert [d.id for d in judged if d.included] == [2]


@pytest.mark.parametrize("ranges", [{"diameter_um": (1, 2)}, {"area_px": (float("nan"), None)}])
def test_bad_filter_is_refused(
    droplets: list[Droplet], ranges: dict[str, tuple[float | None, float | None]]
) -> None:
    with pytest.raises(InputError):
        apply_filters(droplets, Filters(ranges))


def test_channel_that_is_not_there_is_refused(droplets: list[Droplet]) -> None:
    with pytest.raises(InputError, match="mean_intensity_c4"):
        apply_filters(droplets, Filters({"mean_intensity_c4": (0, 1)}))


def test_record_is_json_with_every_column(droplets: list[Droplet]) -> None:
    record = droplet_record(droplets[1], Calibration(0.5, "typed"))
    assert set(COLUMNS) <= set(record)
    assert json.loads(json.dumps(record)) == record
    diameter_um = droplets[1].measures.diameter_px * 0.5
    assert record["diameter_um"] == pytest.approx(diameter_um, rel=1e-6)
    assert record["area_um2"] == pytest.approx(droplets[1].measures.area_px * 0.25, rel=1e-6)
    assert record["volume_pl"] == pytest.approx(pi / 6 * diameter_um**3 / 1000, rel=1e-6)
    assert record["bbox"] == list(droplets[1].mask.bbox_xywh)


def test_record_without_calibration_has_no_micrometres(droplets: list[Droplet]) -> None:
    record = droplet_record(droplets[0], None)
    names = ("diameter_um", "area_um2", "volume_pl", "feret_max_um", "feret_min_um")
    assert [record[name] for name in names] == [None] * 5


def test_five_thousand_droplets_measure_in_seconds(make_image: MakeImage) -> None:
    y, x = np.mgrid[:40, :40] + 0.5
    bits = (x - 20) ** 2 + (y - 20) ** 2 < 400
    masks = [
        Mask((44 * i, 44 * j, 44 * i + 40, 44 * j + 40), bits, 1.0) for i in range(71) for j in range(71)
    ][:5000]
    image = make_image(np.random.default_rng(0).integers(0, 255, (44 * 71, 44 * 71)).astype(np.uint8))
    started = time.process_time()
    assert len(measure(image, masks)) == 5000
    # About 1.3 s on one core; the rest is for machines that do other work meanwhile.
    assert time.process_time() - started < 10
