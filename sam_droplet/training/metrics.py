"""Compare found droplets with the truth: one-to-one matches by IoU, then the usual figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging.masks import Mask, iou

Float = NDArray[np.float64]

IOU_THRESHOLDS = (0.5, 0.7, 0.9)
# A prediction that shares this much with something ignored counts neither way.
IGNORED_IOU = 0.3


@dataclass(frozen=True, eq=False)
class Comparison:
    """Hold one image's predictions against its truth.

    matched: each prediction's true droplet or -1, (P,), by least IoU. score: (P,). excused: (P,) bool, counts
    neither way where it matches nothing. diameter, true_diameter: (P,), (T,) px.
    """

    matched: dict[float, NDArray[np.intp]]
    score: Float
    excused: NDArray[np.bool_]
    diameter: Float
    true_diameter: Float

    @classmethod
    def of(
        cls,
        iou: Float,
        score: Float,
        excused: NDArray[np.bool_],
        diameter: Float,
        true_diameter: Float,
    ) -> Comparison:
        """Match predictions with the truth, given the IoU of each with each, (P, T)."""
        matched = {threshold: matches(iou, score, threshold) for threshold in IOU_THRESHOLDS}
        return cls(matched, score, excused, diameter, true_diameter)

    @property
    def n_true(self) -> int:
        """Return the number of true droplets."""
        return len(self.true_diameter)


@dataclass(frozen=True)
class Figures:
    """Hold what a benchmark reports about one group of images."""

    n_images: int
    n_true: int
    n_found: int
    precision: dict[str, float]
    recall: dict[str, float]
    f1: dict[str, float]
    average_precision: float
    count_error_percent: float
    diameter_error_percent: float
    diameter_bias_percent: float
    diameter_error_p95_percent: float


def matches(iou: Float, score: Float, threshold: float) -> NDArray[np.intp]:
    """Return each prediction's true droplet or -1, best scores choosing first: (P, T), (P,) -> (P,)."""
    matched = np.full(len(score), -1, np.intp)
    free = np.ones(iou.shape[1], bool)
    for p in np.argsort(-score, kind="stable"):
        candidates = np.where(free, iou[p], -1.0)
        if candidates.size and candidates.max() >= threshold:
            matched[p] = int(candidates.argmax())
            free[matched[p]] = False
    return matched


def figures(comparisons: Sequence[Comparison]) -> Figures:
    """Pool several images into one set of figures; diameters are judged on matches at IoU 0.5."""
    precision, recall, f1 = {}, {}, {}
    n_true = sum(c.n_true for c in comparisons)
    for threshold in IOU_THRESHOLDS:
        hits, false = 0, 0
        for c in comparisons:
            matched = c.matched[threshold]
            hits += int((matched >= 0).sum())
            false += int(((matched < 0) & ~c.excused).sum())
        key = f"{threshold:g}"
        precision[key] = hits / (hits + false) if hits + false else 1.0
        recall[key] = hits / n_true if n_true else 1.0
        total = precision[key] + recall[key]
        f1[key] = 2 * precision[key] * recall[key] / total if total else 0.0
    errors = np.concatenate([_diameter_errors(c) for c in comparisons] or [np.empty(0)])
    counted = sum(_counted(c) for c in comparisons)
    return Figures(
        n_images=len(comparisons),
        n_true=n_true,
        n_found=counted,
        precision=precision,
        recall=recall,
        f1=f1,
        average_precision=_average_precision(comparisons, 0.7),
        count_error_percent=100 * (counted / n_true - 1) if n_true else float(counted),
        diameter_error_percent=100 * float(np.median(np.abs(errors))) if errors.size else 0.0,
        diameter_bias_percent=100 * float(np.median(errors)) if errors.size else 0.0,
        diameter_error_p95_percent=100 * float(np.percentile(np.abs(errors), 95)) if errors.size else 0.0,
    )


def _counted(comparison: Comparison) -> int:
    matched = comparison.matched[0.5]
    return int(((matched >= 0) | ~comparison.excused).sum())


def _diameter_errors(comparison: Comparison) -> Float:
    matched = comparison.matched[0.5]
    hit = matched >= 0
    return np.asarray(comparison.diameter[hit] / comparison.true_diameter[matched[hit]] - 1, np.float64)


def _average_precision(comparisons: Sequence[Comparison], threshold: float) -> float:
    """Return the area under precision over recall, every image's predictions sorted together."""
    scores, hits = [], []
    for c in comparisons:
        matched = c.matched[threshold]
        counts = (matched >= 0) | ~c.excused
        scores.append(c.score[counts])
        hits.append(matched[counts] >= 0)
    n_true = sum(c.n_true for c in comparisons)
    if n_true == 0 or not scores:
        return 1.0
    hit = np.concatenate(hits)[np.argsort(-np.concatenate(scores), kind="stable")]
    if hit.size == 0:
        return 0.0
    precision = np.cumsum(hit) / np.arange(1, hit.size + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((envelope * hit).sum() / n_true)


def mask_iou_matrix(a: Sequence[Mask], b: Sequence[Mask]) -> Float:
    """Return the IoU of every mask with every other, (len(a), len(b))."""
    matrix = np.zeros((len(a), len(b)))
    if not a or not b:
        return matrix
    left, top, right, bottom = np.array([m.box_xyxy for m in b]).T.copy()
    for i, mask in enumerate(a):
        x0, y0, x1, y1 = mask.box_xyxy
        touched = (left < x1) & (x0 < right) & (top < y1) & (y0 < bottom)
        for j in np.flatnonzero(touched).tolist():
            matrix[i, j] = iou(mask, b[j])
    return matrix


def disc_iou_matrix(a_xyr: Float, b_xyr: Float) -> Float:
    """Return the IoU of every disc (x, y, r) with every other, (len(a), len(b)), exactly."""
    ra, rb = a_xyr[:, None, 2], b_xyr[None, :, 2]
    d = np.hypot(a_xyr[:, None, 0] - b_xyr[None, :, 0], a_xyr[:, None, 1] - b_xyr[None, :, 1])
    small = np.minimum(ra, rb)
    safe = np.maximum(d, 1e-9)
    cos_a = np.clip((d**2 + ra**2 - rb**2) / (2 * safe * ra), -1, 1)
    cos_b = np.clip((d**2 + rb**2 - ra**2) / (2 * safe * rb), -1, 1)
    kite = np.sqrt(np.maximum((-d + ra + rb) * (d + ra - rb) * (d - ra + rb) * (d + ra + rb), 0)) / 2
    lens = ra**2 * np.arccos(cos_a) + rb**2 * np.arccos(cos_b) - kite
    shared = np.where(d >= ra + rb, 0.0, np.where(d <= np.abs(ra - rb), np.pi * small**2, lens))
    return np.asarray(shared / (np.pi * (ra**2 + rb**2) - shared), np.float64)
