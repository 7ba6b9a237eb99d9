"""Two pictures of one field: amplitudes at the shifted places, and inclusions in their droplets."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import pi
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sam_droplet.errors import InputError
from sam_droplet.imaging.images import Calibration, Image, load_image_file
from sam_droplet.imaging.masks import Mask
from sam_droplet.imaging.registration import NO_SHIFT, Shift
from sam_droplet.imaging.spots import find_spots
from sam_droplet.measurement.ddpcr import DdpcrAssay, amplitudes, read_amplitudes
from sam_droplet.measurement.ddpcr import ddpcr_assay as assay_of_reading
from sam_droplet.measurement.droplets import Droplet, measure
from sam_droplet.measurement.fields import brightest_channel, moved_mask
from sam_droplet.measurement.loading import loading_assay

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
MakeDisc = Callable[..., Mask]
MakeImage = Callable[..., Image]


def ddpcr_assay(
    droplets: list[Droplet],
    fluorescence: Image,
    calibration: Calibration | None,
    *,
    threshold: float | None = None,
    dilution: float = 1.0,
    **how: Any,
) -> DdpcrAssay:
    """Read the amplitudes and judge them, in one go."""
    reading = read_amplitudes(droplets, fluorescence, **how)
    return assay_of_reading(droplets, reading, calibration, threshold=threshold, dilution=dilution)


@dataclass
class Field:
    droplets: list[Droplet]
    fluorescence: Image
    positive_ids: set[int]


@pytest.fixture
def make_field(make_disc: MakeDisc, make_image: MakeImage) -> Callable[..., Field]:
    """About 150 droplets of 16 to 24 px; every seventh is bright in the shifted second picture."""

    def make(shift_xy: tuple[int, int] = (0, 0), *, bright: float = 90.0) -> Field:
        rng = np.random.default_rng(0)
        hw = (330, 420)
        masks, values = [], []
        # Under 15 % light at one side, as through a fluorescence objective.
        light = np.linspace(0.5, 1.5, hw[1])[None, :]
        picture = 20 * np.repeat(light, hw[0], axis=0)
        for row in range(11):
            for column in range(14):
                radius = rng.uniform(8, 12)
                x = 20 + 28 * column + rng.uniform(-3, 3)
                y = 20 + 29 * row + rng.uniform(-3, 3)
                masks.append(make_disc(x, y, radius))
                values.append(bright if len(masks) % 7 == 0 else 8.0)
                centre = round((x - 0.5 + shift_xy[0]) * 16), round((y - 0.5 + shift_xy[1]) * 16)
                disc = np.zeros(hw, np.float32)
                cv2.circle(disc, centre, round(radius * 16), 1.0, -1, cv2.LINE_AA, 4)
                picture = picture + disc * values[-1] * light
        picture = picture + rng.normal(0, 1.5, hw)
        droplets = measure(make_image(hw), masks)
        positive = {d.id for d, value in zip(droplets, values, strict=True) if value == 90.0}
        pixels = np.clip(picture, 0, 255).astype(np.uint8)
        return Field(droplets, make_image(pixels), positive)

    return make


def test_assay_finds_the_positive_droplets(make_field: Callable[..., Field]) -> None:
    field = make_field()
    found = ddpcr_assay(field.droplets, field.fluorescence, Calibration(2.0, "typed"))
    assert {n for n, positive in found.positive_by_id.items() if positive} == field.positive_ids
    assert (found.estimate.n, found.estimate.k) == (154, 22)
    volumes = pi / 6 * np.array([2 * d.measures.diameter_px for d in field.droplets]) ** 3 / 1000
    expected = -np.log(1 - 22 / 154) / (volumes.mean() * 1e-6)
    assert found.estimate.copies_per_ul == pytest.approx(expected)
    assert found.polydisperse is not None
    assert found.polydisperse.copies_per_ul == pytest.approx(expected, rel=0.1)


def sliced_volume_ul(diameter_um: float, height_um: float) -> float:
    """Add up the discs of a sphere between two plates: independent of the formula of the product."""
    half = min(diameter_um, height_um) / 2
    edges = np.linspace(-half, half, 4001)
    z = (edges[1:] + edges[:-1]) / 2
    return float((pi * ((diameter_um / 2) ** 2 - z**2)).sum() * (edges[1] - edges[0]) * 1e-9)


def test_a_low_chamber_raises_concentrations_and_lowers_loading(make_field: Callable[..., Field]) -> None:
    field = make_field()
    low = Calibration(2.0, "typed", 34.0)
    found = ddpcr_assay(field.droplets, field.fluorescence, low, dilution=3)
    diameters = {d.id: 2 * d.measures.diameter_px for d in field.droplets}
    assert min(diameters.values()) < 34 < max(diameters.values())  # spheres and flattened ones
    volumes = {n: sliced_volume_ul(d, 34) for n, d in diameters.items()}
    mean = np.mean(list(volumes.values()))
    assert found.estimate.copies_per_ul == pytest.approx(-3 * np.log(1 - 22 / 154) / mean, rel=1e-6)
    # The most likely concentration, by trying many: each droplet with its own volume.
    tried = np.linspace(0.5, 2, 15_001) * -np.log(1 - 22 / 154) / mean
    dark = sum(v for n, v in volumes.items() if n not in field.positive_ids)
    bright = np.array([v for n, v in volumes.items() if n in field.positive_ids])
    likelihood = -tried * dark + np.log1p(-np.exp(-np.outer(tried, bright))).sum(axis=1)
    assert found.polydisperse is not None
    assert found.polydisperse.copies_per_ul == pytest.approx(3 * tried[likelihood.argmax()], rel=2e-4)
    spheres = ddpcr_assay(field.droplets, field.fluorescence, Calibration(2.0, "typed"), dilution=3)
    assert found.estimate.copies_per_ul > 1.05 * (spheres.estimate.copies_per_ul or 0)
    loaded = loading_assay(field.droplets, [], low, stock_per_ml=1e6)
    assert loaded.estimate.lam_from_stock == pytest.approx(mean * 1e3, rel=1e-6)


def test_assay_reads_amplitudes_at_the_shifted_places(make_field: Callable[..., Field]) -> None:
    field = make_field((37, -22))
    found = ddpcr_assay(field.droplets, field.fluorescence, None)
    assert found.shift.rounded_at(*found.shift.middle_xy) == (37, -22)
    assert found.n_outside > 0
    assert len(found.amplitude_by_id) + found.n_outside == len(field.droplets)
    inside = set(found.amplitude_by_id)
    assert {n for n, positive in found.positive_by_id.items() if positive} == field.positive_ids & inside
    assert any("is shifted by 3" in note for note in found.notes)
    assert any(note.startswith(f"Not read: {found.n_outside} of ") for note in found.notes)
    assert found.estimate.copies_per_ul is None
    assert found.polydisperse is None


def test_untrustworthy_shift_is_not_applied_and_is_noted(make_field: Callable[..., Field]) -> None:
    field = make_field()
    noise = np.random.default_rng(3).integers(0, 255, (330, 420, 1)).astype(np.uint8)
    found = ddpcr_assay(field.droplets, replace(field.fluorescence, pixels=noise), None)
    assert found.shift == NO_SHIFT
    assert any("none was applied" in note for note in found.notes)


def test_given_threshold_and_shift_are_used(make_field: Callable[..., Field]) -> None:
    field = make_field()
    found = ddpcr_assay(field.droplets, field.fluorescence, None, threshold=-100.0, shift=NO_SHIFT)
    assert found.estimate.state == "saturated"
    assert found.threshold == -100
    assert 10 < found.proposal.value < 50
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False)) == found.as_dict()


def test_dark_field_has_no_positive_droplet(make_field: Callable[..., Field]) -> None:
    field = make_field(bright=8.0)
    found = ddpcr_assay(field.droplets, field.fluorescence, Calibration(2.0, "typed"))
    assert found.estimate.state == "none_positive"
    assert any("two clear groups" in note for note in found.notes)


def test_only_included_droplets_count(make_field: Callable[..., Field]) -> None:
    field = make_field()
    droplets = [replace(d, included=d.id > 7) for d in field.droplets]
    found = ddpcr_assay(droplets, field.fluorescence, None)
    assert (found.estimate.n, found.estimate.k) == (147, 21)
    assert set(found.extra_columns()) == set(range(8, 155))


def test_net_amplitude_subtracts_the_local_background(make_field: Callable[..., Field]) -> None:
    field = make_field()
    pixels = field.fluorescence.pixels[:, :, 0]
    mean, net, ratio = (amplitudes(field.droplets, pixels, kind=k) for k in ("mean", "net", "ratio"))
    x = {d.id: d.measures.center_x_px for d in field.droplets}
    for number in field.positive_ids:
        light = 0.5 + x[number] / 420
        assert mean[number] == pytest.approx(110 * light, rel=0.05)
        assert net[number] == pytest.approx(90 * light, rel=0.08)
        assert ratio[number] == pytest.approx(5.5, rel=0.15)


def test_impossible_requests_are_refused(make_field: Callable[..., Field], make_image: MakeImage) -> None:
    field = make_field()
    with pytest.raises(InputError, match="amplitude must be"):
        ddpcr_assay(field.droplets, field.fluorescence, None, amplitude="peak")
    with pytest.raises(InputError, match="no channel 3"):
        ddpcr_assay(field.droplets, field.fluorescence, None, channel=3)
    with pytest.raises(InputError, match="same size"):
        ddpcr_assay(field.droplets, make_image((50, 60)), None)
    with pytest.raises(InputError, match="No included droplet"):
        ddpcr_assay([], field.fluorescence, None)


def test_channel_with_the_signal_is_chosen(make_image: MakeImage) -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:, :, 0] = 200
    pixels[10:20, 10:20, 1] = 120
    assert brightest_channel(make_image(pixels)) == 1


def test_moved_mask_is_clipped(make_disc: MakeDisc) -> None:
    mask = make_disc(20, 20, 8)
    moved = moved_mask(mask, (-20, 3), (40, 40))
    assert moved is not None
    assert moved.box_xyxy == (0, 15, 8, 31)
    assert moved.area_px == mask.area_px / 2
    assert moved_mask(mask, (500, 0), (40, 40)) is None


def test_inclusions_belong_to_the_droplet_that_holds_them(make_disc: MakeDisc, make_image: MakeImage) -> None:
    droplets = measure(make_image((100, 200)), [make_disc(30 + 45 * i, 50, 20) for i in range(4)])
    beads = [make_disc(*xy, 3) for xy in ((30, 50), (25, 45), (75, 60), (49, 50), (52, 50), (100, 5))]
    found = loading_assay(droplets, beads, Calibration(1.0, "typed"), stock_per_ml=1e6)
    assert dict(found.count_by_id) == {1: 3, 2: 1, 3: 0, 4: 0}
    assert found.parents == (1, 1, 2, 1, None, None)
    assert (found.estimate.n_inclusions, found.n_outside) == (4, 2)
    mean_volume = np.mean([pi / 6 * d.measures.diameter_px**3 / 1000 for d in droplets])
    assert found.estimate.lam_from_stock == pytest.approx(mean_volume * 1e-3)
    assert found.extra_columns()[1] == {"n_inclusions": 3}


def test_droplets_that_the_shift_puts_outside_the_second_picture_are_not_counted_as_empty(
    make_disc: MakeDisc, make_image: MakeImage
) -> None:
    droplets = measure(make_image((100, 200)), [make_disc(30 + 45 * i, 50, 20) for i in range(4)])
    shift = Shift(30.0, 0.0, 1.0, 0.0, True)
    beads = [make_disc(30 + 45 * i + 30, 50, 3) for i in range(3)]
    found = loading_assay(droplets, beads, None, shift=shift, stock_per_ml=1e6, second_hw=(100, 200))
    assert dict(found.count_by_id) == {1: 1, 2: 1, 3: 1}
    assert (found.estimate.lam, found.estimate.n_droplets, found.n_unseen) == (1.0, 3, 1)
    assert "Not counted: 1 of 4 included droplets, partly outside the second picture." in found.notes()
    assert "Without a calibration there are no volumes and so no λ from the stock." in found.notes()
    with pytest.raises(InputError, match="wholly inside"):
        loading_assay(droplets, beads, None, shift=Shift(300.0, 0.0, 1.0, 0.0, True), second_hw=(100, 200))


def test_a_ratio_to_no_background_is_told_and_not_infinite(
    make_disc: MakeDisc, make_image: MakeImage
) -> None:
    pixels = np.zeros((100, 200), np.uint8)
    pixels[:, :95] = 10
    masks = [make_disc(30 + 45 * i, 50, 12) for i in range(4)]
    for mask in masks:
        x0, y0, x1, y1 = mask.box_xyxy
        pixels[y0:y1, x0:x1][mask.bits] = 50
    image = make_image(pixels)
    droplets = measure(image, masks)
    reading = read_amplitudes(droplets, image, shift=NO_SHIFT, amplitude="ratio")
    assert dict(reading.amplitude_by_id) == {1: 5.0, 2: 5.0}
    found = assay_of_reading(droplets, reading, None)
    assert found.n_outside == 2
    assert any(note.startswith("Not read: 2 of 4 included droplets") for note in found.notes)
    dark = [replace(d, included=d.id > 2) for d in droplets]
    with pytest.raises(InputError, match="choose the amplitude net"):
        assay_of_reading(dark, reading, None)


def test_inclusions_of_a_shifted_picture_and_of_excluded_droplets(
    make_disc: MakeDisc, make_image: MakeImage
) -> None:
    droplets = measure(make_image((100, 200)), [make_disc(30 + 45 * i, 50, 20) for i in range(2)])
    beads = [make_disc(30 + 12, 50 - 7, 3), make_disc(75 + 12, 50 - 7, 3)]
    shift = Shift(12.0, -7.0, 1.0, 0.0, True)
    assert dict(loading_assay(droplets, beads, None, shift=shift).count_by_id) == {1: 1, 2: 1}
    without_second = [replace(d, included=d.id == 1) for d in droplets]
    found = loading_assay(without_second, beads, None, shift=shift)
    assert (dict(found.count_by_id), found.n_outside) == ({1: 1}, 1)
    with pytest.raises(InputError):
        loading_assay([], beads, None)


def truth_droplets(name: str, image: Image, make_disc: MakeDisc) -> list[Droplet]:
    truth = json.loads((SHARED / f"{name}.circles.json").read_text())["circles"]
    masks = [make_disc(x + 0.5, y + 0.5, r) for x, y, r in truth]
    inside = [m for m in masks if m.box_xyxy[2] <= image.width and m.box_xyxy[3] <= image.height]
    return measure(image, inside)


def test_real_ddpcr_pair_gives_a_defensible_concentration(make_disc: MakeDisc) -> None:
    if not SHARED.exists():
        pytest.skip("needs the shared micrographs beside the repository")
    droplets = truth_droplets("ddPCR_0_0", load_image_file(SHARED / "ddPCR_0_0.png"), make_disc)
    green = load_image_file(SHARED / "ddPCR_0_1.png")
    found = ddpcr_assay(droplets, green, Calibration(1.11, "typed"))
    assert (found.shift.dx_px, found.shift.dy_px) == pytest.approx((78.3, -85.5), abs=1)
    assert found.channel == 1
    # By eye 25 to 29 of the droplets that both pictures show are clearly positive.
    assert 25 <= found.estimate.k <= 30
    assert found.estimate.copies_per_ul == pytest.approx(1150, rel=0.15)
    low, high = found.rain_concentrations
    assert low <= found.estimate.copies_per_ul <= high


def test_real_beads_lie_in_their_droplets(make_disc: MakeDisc) -> None:
    if not SHARED.exists():
        pytest.skip("needs the shared micrographs beside the repository")
    droplets = truth_droplets("bead_1", load_image_file(SHARED / "bead_1.jpg"), make_disc)
    beads = find_spots(load_image_file(SHARED / "bead.png").pixels[:, :, 1])
    found = loading_assay(droplets, beads, None)
    # Only whole droplets count; the beads of those at the border are outside.
    assert 200 <= found.estimate.n_inclusions <= 260
    assert found.estimate.lam == pytest.approx(1.0, abs=0.15)
