"""What ContextNet reads of a picture: counted by hand, and the same wherever a picture's droplets lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sam_droplet.segmentation.context_net import ContextNet, scores_in_context
from sam_droplet.segmentation.picture_context import N_FEATURES, Seen, context_features
from sam_droplet.segmentation.stars import N_RAYS, Stars

# Where the columns that are counted by hand stand.
OTHERS, SIZE_AGAINST_OTHERS, MOST_COVERED, HELD, LIKE_NEIGHBOURS, NEIGHBOURS = 5, 18, 24, 26, 27, 28


def seen(xyr: np.ndarray, score: np.ndarray, contrast: float = 0.2) -> Seen:
    """Return circles as two looks may see them, in a picture of a megapixel."""
    n = len(xyr)
    xyr = np.asarray(xyr, np.float32).reshape(n, 3)
    stars = Stars(xyr[:, :2], np.repeat(xyr[:, 2:], N_RAYS, axis=1), np.asarray(score, np.float32))
    return Seen(stars, stars.score, stars.score, np.full(n, contrast, np.float32), 1e6)


def everything(given_: Seen) -> np.ndarray:
    return context_features(given_, np.arange(len(given_.stars)))


def hexagonal(radius: float = 10.0, rows: int = 9) -> np.ndarray:
    """Return touching circles (x, y, r), ``rows`` in each direction."""
    y, x = np.mgrid[:rows, :rows].astype(float)
    centres = np.stack([2 * radius * (x + 0.5 * (y % 2)), np.sqrt(3) * radius * y], axis=-1).reshape(-1, 2)
    return np.column_stack([centres + 3 * radius, np.full(len(centres), radius)])


def test_touching_neighbours_are_counted() -> None:
    xyr = hexagonal()
    columns = everything(seen(xyr, np.full(81, 0.9)))
    middle = 4 * 9 + 4
    # Six touch; two more of the eight nearest lie 1.46 radii away, which is far.
    assert np.expm1(columns[middle, NEIGHBOURS]) == pytest.approx(6 * 0.9, rel=0.01)
    assert np.expm1(columns[middle, LIKE_NEIGHBOURS]) == pytest.approx(6 * 0.9, rel=0.01)
    assert np.expm1(4 * columns[middle, OTHERS]) == pytest.approx(80 * 0.9, rel=0.001)


def test_a_bead_among_droplets_stands_out() -> None:
    xyr = np.vstack([hexagonal(), [[400, 400, 2.5]]])
    columns = everything(seen(xyr, np.full(82, 0.9)))
    assert columns[-1, SIZE_AGAINST_OTHERS] < -1
    assert np.abs(columns[:-1, SIZE_AGAINST_OTHERS]).max() < 0.2


def test_what_a_better_outline_covers_is_told() -> None:
    columns = everything(seen([[100, 100, 20], [100, 100, 10], [300, 300, 15]], [0.9, 0.5, 0.8]))
    assert columns[:, MOST_COVERED] == pytest.approx([0, 0.9, 0], abs=0.02)
    assert np.expm1(columns[:, HELD]) == pytest.approx([0.5, 0, 0], abs=0.02)


circles = st.lists(
    st.tuples(*(st.floats(low, high, width=32) for low, high in ((0, 900), (0, 900), (1, 120), (0, 1)))),
    max_size=25,
)


@given(circles, st.integers(0, 1000))
def test_neither_their_order_nor_their_place_matters(drawn: list[tuple[float, ...]], seed: int) -> None:
    table = np.array(drawn, np.float32).reshape(-1, 4)
    order = np.random.default_rng(seed).permutation(len(table))
    columns = everything(seen(table[:, :3], table[:, 3]))
    assert columns.shape == (len(table), N_FEATURES)
    assert columns.dtype == np.float32
    assert np.isfinite(columns).all()
    # Places are whole numbers of px there and here, so that no distance changes.
    table[:, :2] = np.round(table[:, :2])
    columns = everything(seen(table[:, :3], table[:, 3]))
    moved = table[order] + np.array([64, 32, 0, 0], np.float32)
    assert everything(seen(moved[:, :3], moved[:, 3])) == pytest.approx(columns[order], abs=2e-3)


def test_an_untrained_network_leaves_scores_as_they_are() -> None:
    score = np.array([0.1, 0.5, 0.97], np.float32)
    given_ = seen([[100, 100, 20], [200, 100, 10], [300, 300, 15]], score)
    assert scores_in_context(ContextNet().eval(), given_, np.array([2, 0])) == pytest.approx(
        score[[2, 0]], abs=1e-6
    )
    assert len(scores_in_context(ContextNet().eval(), given_, np.empty(0, np.intp))) == 0


def test_a_clear_outline_alone_stays_a_droplet_whatever_the_network_says() -> None:
    doubting = ContextNet().eval()
    torch.nn.init.constant_(doubting.layers[-1].bias, -9.0)
    alone = seen([[100, 100, 20], [300, 300, 15]], [0.9, 0.02])
    assert scores_in_context(doubting, alone, np.array([0]))[0] > 0.4
    among = seen(hexagonal(), np.full(81, 0.9))
    assert scores_in_context(doubting, among, np.arange(81)).max() < 0.01
