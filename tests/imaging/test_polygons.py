"""Polygons filled together are, pixel for pixel, those filled one by one."""

import numpy as np
import pytest

from sam_droplet.imaging import polygons
from sam_droplet.imaging.masks import mask_from_polygon
from sam_droplet.imaging.polygons import masks_from_polygons

HW = (120, 160)


def random_polygons(seed: int, n: int) -> np.ndarray:
    """Polygons of 24 corners, some with crossing sides, cut to the image: (n, 24, 2) float32."""
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, (n, 24)), axis=1)
    radius = np.exp(rng.normal(2, 0.8, (n, 1))) * rng.uniform(0.3, 1.2, (n, 24))
    offset = np.stack([np.cos(angle), np.sin(angle)], axis=2) * radius[..., None]
    centre = rng.uniform(-10, 170, (n, 1, 2))
    points = centre + offset
    points[: n // 4] = np.round(points[: n // 4])  # corners on pixel corners ...
    points[n // 4 : n // 2] = np.round(points[n // 4 : n // 2]) + 0.5  # ... and on pixel centres
    return np.clip(points, 0, [HW[1], HW[0]]).astype(np.float32)


@pytest.mark.parametrize("step_px", [1, 20_000, 4_000_000])
def test_many_are_filled_as_one_by_one(step_px, monkeypatch):
    monkeypatch.setattr(polygons, "_STEP_PX", step_px)
    contours = random_polygons(1, 300)
    scores = np.linspace(0, 1, 300, dtype=np.float32)
    expected = [mask_from_polygon(c, float(s), HW) for c, s in zip(contours, scores, strict=True)]
    expected = [mask for mask in expected if mask is not None]
    masks = masks_from_polygons(contours, scores)
    assert len(masks) == len(expected) > 200
    for ours, theirs in zip(masks, expected, strict=True):
        assert ours.box_xyxy == theirs.box_xyxy
        assert np.array_equal(ours.bits, theirs.bits)
        assert ours.score == theirs.score
        assert np.array_equal(ours.contour_xy, theirs.contour_xy)


def test_no_polygons_are_no_masks():
    assert masks_from_polygons(np.empty((0, 96, 2), np.float32), np.empty(0, np.float32)) == []
