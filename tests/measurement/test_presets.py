"""Presets fit the droplets at hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sam_droplet.errors import InputError
from sam_droplet.imaging.images import Image
from sam_droplet.imaging.masks import Mask
from sam_droplet.measurement.droplets import Droplet, apply_filters, measure
from sam_droplet.measurement.presets import PRESETS, preset_filters


@pytest.fixture
def droplets(make_disc: Callable[..., Mask], make_image: Callable[..., Image]) -> list[Droplet]:
    """Five of radius 15, one of 22 (merged), one flat one, and one at the border."""
    masks = [make_disc(40 + 60 * i, 50, 15) for i in range(5)]
    masks += [make_disc(60, 130, 22), make_disc(160, 130, 28, 9), make_disc(8, 130, 15)]
    return measure(make_image((180, 360)), masks)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("monodisperse", [1, 2, 3, 4, 5]),
        ("ddpcr", [1, 2, 3, 4, 5]),
        ("polydisperse", [1, 2, 3, 4, 5, 6]),
        ("particles", [1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_presets_keep_what_they_say(droplets: list[Droplet], name: str, kept: list[int]) -> None:
    judged = apply_filters(droplets, preset_filters(name, droplets))
    assert [d.id for d in judged if d.included] == kept


def test_every_preset_works_without_droplets() -> None:
    for name in PRESETS:
        assert apply_filters([], preset_filters(name, [])) == []


def test_unknown_preset_is_refused() -> None:
    with pytest.raises(InputError, match="monodisperse"):
        preset_filters("foam", [])
