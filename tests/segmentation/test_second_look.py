"""RimNet's look at outlines with the product's weights: what is far off is followed to where the rim is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sam_droplet.config import load_config
from sam_droplet.segmentation.automatic import pyramid
from sam_droplet.segmentation.checkpoints import DROPLET_NET, find
from sam_droplet.segmentation.droplet_net import grey_range
from sam_droplet.segmentation.engines import Engines
from sam_droplet.segmentation.runtime import DropletRuntime
from sam_droplet.segmentation.stars import Stars
from sam_droplet.segmentation.weights import load_weights


@pytest.fixture(scope="module")
def runtime() -> DropletRuntime:
    networks = load_weights(find(DROPLET_NET, load_config({})).path)
    return DropletRuntime(networks, "cpu", Engines("torch", "cpu", 1))


def _ellipse(half_x: float, half_y: float) -> np.ndarray:
    angle = np.arange(32) * (2 * np.pi / 32)
    return (1 / np.hypot(np.cos(angle) / half_x, np.sin(angle) / half_y)).astype(np.float32)


def test_an_outline_of_half_the_droplet_grows_to_all_of_it(runtime: DropletRuntime) -> None:
    half_x, half_y = 40, 22
    # Drawn at four times the size: its rim is the darkest line, a few px wide.
    large = np.full((640, 960, 3), 150, np.uint8)
    cv2.ellipse(large, (480, 320), (4 * half_x, 4 * half_y), 0, 0, 360, (40, 40, 40), 16, cv2.LINE_AA)
    picture = cv2.GaussianBlur(cv2.resize(large, (240, 160), interpolation=cv2.INTER_AREA), (0, 0), 1.0)
    picture = np.clip(picture + np.random.default_rng(0).normal(0, 2, picture.shape), 0, 255).astype(np.uint8)
    radii = np.minimum(_ellipse(0.6 * half_x, half_y), half_y)
    half = Stars(np.array([[120 - 0.4 * half_x, 80]], np.float32), radii[None], np.array([0.6], np.float32))
    after, contrast = runtime.second_look(pyramid(picture), grey_range(picture), half)
    share_before = float((half.radii**2).mean() / (half_x * half_y))
    share_after = float((after.radii**2).mean() / (half_x * half_y))
    assert share_before < 0.6
    # One look moves a rim by a factor of 1.65 at most, and reaches 0.76.
    assert share_after == pytest.approx(1.0, abs=0.06)
    assert after.centre_xy[0] == pytest.approx([120, 80], abs=1.5)
    assert after.score[0] > 0.9
    assert 0.05 < contrast[0] < 0.5  # a grey rim on light ground
