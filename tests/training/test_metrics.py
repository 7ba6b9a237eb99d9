"""The figures agree with cases that can be counted by hand."""

import numpy as np
import pytest

from sam_droplet.imaging.masks import mask_from_polygon
from sam_droplet.segmentation.stars import unit_rays
from sam_droplet.training.metrics import Comparison, disc_iou_matrix, figures, mask_iou_matrix


def comparison(iou, score=None, excused=None):
    iou = np.array(iou, float)
    n, t = iou.shape
    return Comparison.of(
        iou,
        np.array(score if score is not None else np.linspace(1, 0.5, n)),
        np.array(excused if excused is not None else [False] * n),
        np.full(n, 10.0),
        np.full(t, 10.0),
    )


def test_a_true_droplet_is_matched_once_by_the_best_score():
    assert comparison([[0.8], [0.9]], score=[0.9, 0.5]).matched[0.7].tolist() == [0, -1]


def test_precision_recall_and_count_by_hand():
    f = figures([comparison([[0.95, 0, 0], [0, 0.75, 0], [0, 0, 0]])])
    assert f.precision["0.7"] == pytest.approx(2 / 3)
    assert f.recall["0.7"] == pytest.approx(2 / 3)
    assert f.f1["0.9"] == pytest.approx(1 / 3)
    assert f.count_error_percent == pytest.approx(0.0)


def test_what_is_excused_counts_neither_way():
    f = figures([comparison([[0.95], [0.0]], excused=[False, True])])
    assert f.precision["0.7"] == 1.0
    assert f.n_found == 1


def test_an_empty_scene_with_a_false_droplet_has_no_precision():
    f = figures([comparison(np.zeros((1, 0)))])
    assert f.precision["0.7"] == 0.0
    assert f.recall["0.7"] == 1.0


def test_average_precision_falls_when_false_ones_score_higher():
    good = figures([comparison([[0.9], [0.0]], score=[0.9, 0.1])]).average_precision
    bad = figures([comparison([[0.9], [0.0]], score=[0.1, 0.9])]).average_precision
    assert good == pytest.approx(1.0)
    assert bad == pytest.approx(0.5)


def test_disc_overlap_agrees_with_painted_masks():
    discs = np.array([[50, 50, 20], [60, 55, 20], [50, 50, 8], [120, 50, 10]], float)
    masks = [mask_from_polygon(d[:2] + d[2] * unit_rays(96), 1.0, (128, 160)) for d in discs]
    assert disc_iou_matrix(discs, discs) == pytest.approx(mask_iou_matrix(masks, masks), abs=0.01)
