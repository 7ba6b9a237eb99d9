"""What lies inside what, by pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sam_droplet.imaging.images import Image
from sam_droplet.imaging.masks import Mask, mask_from_bits
from sam_droplet.measurement.droplets import measure
from sam_droplet.measurement.overlaps import contained_ids, parent_ids, parts_distance_px


def test_small_droplets_belong_to_the_one_that_holds_enough_of_them(
    make_disc: Callable[..., Mask], make_image: Callable[..., Image]
) -> None:
    # A large disc, a small one inside, one in the corner of its box (outside the disc), one half in.
    masks = [make_disc(60, 60, 40), make_disc(50, 60, 8), make_disc(27, 27, 5), make_disc(100, 60, 8)]
    droplets = measure(make_image((130, 130)), masks)
    assert contained_ids(droplets, 0.8) == {1: [2], 2: [], 3: [], 4: []}
    assert contained_ids(droplets, 0.3) == {1: [2, 4], 2: [], 3: [], 4: []}


def test_a_droplet_inside_others_has_the_smallest_of_them_as_parent(
    make_disc: Callable[..., Mask], make_image: Callable[..., Image]
) -> None:
    # Three one in another, one half in, one apart.
    discs = [(60, 60, 8), (60, 60, 40), (60, 62, 20), (100, 60, 8), (20, 110, 8)]
    droplets = measure(make_image((130, 130)), [make_disc(*disc) for disc in discs])
    assert parent_ids(droplets) == {1: 3, 3: 2}
    assert parent_ids([]) == {}


def test_parts_of_one_mask_have_a_distance(make_disc: Callable[..., Mask]) -> None:
    assert parts_distance_px(make_disc(30, 30, 10)) == 0
    bits = np.zeros((40, 60), bool)
    bits[5:10, 5:10] = bits[5:10, 45:50] = True
    mask = mask_from_bits(bits, 1.0)
    assert mask is not None
    assert parts_distance_px(mask) == pytest.approx(40)
