"""What else a picture shows: each outline compared with all that is proposed there. No torch.

A small ring among hundreds of larger ones is a bead or a ghost, and a faint one between its likes a droplet:
what is seen of it alone does not tell.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from sam_droplet.segmentation.prevalence import in_picture
from sam_droplet.segmentation.stars import INSIDE_SHARE, Stars, shared_areas

N_FEATURES = 29
# Outlines are counted by size, from 1 px on, and contrast, from 2^-11 on, in such parts of an octave.
_SIZES, _PER_SIZE_OCTAVE, _CONTRASTS, _PER_CONTRAST_OCTAVE, _FAINTEST = 96, 8, 48, 4, -11.0
# Sizes are alike over so many octaves, narrowly and widely; contrasts widely.
_NARROW, _WIDE = 0.09, 0.35
# What is known of sizes and contrasts, as middle and spread in octaves, counts as one droplet does.
_USUAL_SIZE, _USUAL_CONTRAST = (4.5, 1.5), (-3.0, 1.5)
# Neighbours touch where gaps are small against this share of a radius; they are alike within so many octaves.
_N_NEIGHBOURS, _GAP, _LIKE_OCTAVES, _WORTH_COUNTING = 8, 0.35, 0.15, 0.15

Float = NDArray[np.float64]
Index = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Seen:
    """Hold what the first two networks say of N outlines in one picture.

    stars: scored by how common droplets are here. rim_score, first_score: RimNet's and DropletNet's, (N,).
    contrast: standard deviation of what is seen round each, (N,), in shares of the grey range. area_px: of
    the picture.
    """

    stars: Stars
    rim_score: NDArray[np.float32]
    first_score: NDArray[np.float32]
    contrast: NDArray[np.float32]
    area_px: float

    @classmethod
    def of(
        cls,
        first_score: NDArray[np.float32],
        looked_at: Stars,
        contrast: NDArray[np.float32],
        image_hw: tuple[int, int],
    ) -> Seen:
        """Gather what two looks at a picture of (H, W) px gave: DropletNet's scores, and RimNet's answer."""
        common = in_picture(looked_at.score, looked_at.equivalent_radii(), contrast)
        stars = replace(looked_at, score=common)
        return cls(stars, looked_at.score, first_score, contrast, float(image_hw[0] * image_hw[1]))


def context_features(seen: Seen, asked: Index) -> NDArray[np.float32]:
    """Return what ContextNet reads about the outlines at an index, (M, 29), about as large as 1.

    Scores weigh all counts, so hundreds of guesses in noise count as the few droplets that they promise.
    """
    if len(asked) == 0:
        return np.empty((0, N_FEATURES), np.float32)
    radius = seen.stars.equivalent_radii().astype(np.float64)
    size = np.log2(np.maximum(radius, 1.0))
    contrast = np.log2(np.maximum(seen.contrast.astype(np.float64), 2.0**_FAINTEST))
    likely = seen.stars.score.astype(np.float64)
    others = likely.sum() - likely[asked]
    covered = (likely @ (np.pi * radius**2)) / seen.area_px
    own = seen.stars.take(asked)
    columns = [
        logit(likely[asked]) / 4,
        logit(seen.rim_score[asked]) / 4,
        logit(seen.first_score[asked]) / 4,
        (size[asked] - _USUAL_SIZE[0]) / _USUAL_SIZE[1],
        (contrast[asked] - _USUAL_CONTRAST[0]) / _USUAL_CONTRAST[1],
        np.log1p(others) / 4,
        np.full(len(asked), np.log1p(len(radius) - 1) / 6),
        np.full(len(asked), min(2.0, covered)),
        np.log1p(others / max(seen.area_px / 1e6, 0.05)) / 6,
        *_alike(size, contrast, likely, asked),
        *_against_others(size, likely, asked, _USUAL_SIZE),
        *_against_others(contrast, likely, asked, _USUAL_CONTRAST),
        *_overlaps(own),
        *_neighbours(own),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def logit(share: NDArray[np.floating]) -> Float:
    """Return log(p / (1 - p)), for p kept 1e-4 away from 0 and 1."""
    p = np.clip(share.astype(np.float64), 1e-4, 1 - 1e-4)
    return np.asarray(np.log(p / (1 - p)), np.float64)


def _alike(size: Float, contrast: Float, likely: Float, asked: Index) -> list[Float]:
    """Count the other droplets and outlines of like size and contrast, and of like size alone."""
    row = np.clip(np.round(_PER_SIZE_OCTAVE * size), 0, _SIZES - 1).astype(np.intp)
    column = np.round(_PER_CONTRAST_OCTAVE * (contrast - _FAINTEST))
    cell = row * _CONTRASTS + np.clip(column, 0, _CONTRASTS - 1).astype(np.intp)
    narrow, wide = (_kernel(_SIZES, _PER_SIZE_OCTAVE, octaves) for octaves in (_NARROW, _WIDE))
    contrasts = _kernel(_CONTRASTS, _PER_CONTRAST_OCTAVE, _WIDE)
    counts = []
    for weight in (likely, np.ones(len(size))):
        table = np.bincount(cell, weight, minlength=_SIZES * _CONTRASTS).reshape(_SIZES, _CONTRASTS)
        for sums in (narrow @ table @ contrasts, wide @ table @ contrasts):
            counts.append(np.maximum(sums.ravel()[cell[asked]] - weight[asked], 0))
        counts.append(np.maximum((narrow @ table.sum(axis=1))[row[asked]] - weight[asked], 0))
    near, far, sized, all_near, all_far, all_sized = counts
    others = likely.sum() - likely[asked]
    return [
        *(np.log1p(count) / 3 for count in (near, far, sized)),
        *(np.log1p(count) / 4 for count in (all_near, all_far, all_sized)),
        (near + 0.1) / (all_near + 0.4),
        (sized + 0.1) / (all_sized + 0.4),
        (sized + 0.02) / (others + 1),
    ]


def _kernel(n_bins: int, per_octave: int, octaves: float) -> Float:
    apart = np.subtract.outer(np.arange(n_bins), np.arange(n_bins)) / per_octave
    return np.asarray(np.exp(-0.5 * (apart / octaves) ** 2), np.float64)


def _against_others(value: Float, likely: Float, asked: Index, usual: tuple[float, float]) -> list[Float]:
    """Compare with the mean of the other droplets: in their standard deviations, as it is, and these."""
    middle, spread = usual
    weight, own = likely[asked], value[asked]
    others = likely.sum() - weight + 1
    mean = (likely @ value - weight * own + middle) / others
    square = (likely @ value**2 - weight * own**2 + middle**2 + spread**2) / others
    deviation = np.sqrt(np.maximum(square - mean**2, 1e-4))
    return [np.clip((own - mean) / deviation, -4, 4) / 2, (own - mean) / 1.5, deviation]


def _overlaps(stars: Stars) -> list[Float]:
    """Return how much of each a better one covers, all better ones, and how many lie in it."""
    likely, area = stars.score.astype(np.float64), stars.equivalent_radii().astype(np.float64) ** 2
    i, j, shared = shared_areas(stars)
    share = np.clip(shared / np.maximum(area[i], 1e-6), 0, 1) * likely[j] * (likely[j] > likely[i])
    most, inner = np.zeros(len(stars)), (area[j] < 0.5 * area[i]) & (shared > INSIDE_SHARE * area[j])
    np.maximum.at(most, i, share)
    together = np.bincount(i, share, minlength=len(stars))
    held = np.bincount(i, likely[j] * inner, minlength=len(stars))
    return [most, np.minimum(together, 2), np.log1p(held)]


def _neighbours(stars: Stars) -> list[Float]:
    """Count the droplets of the same size that each touches, and all that it touches."""
    likely, radius = stars.score.astype(np.float64), stars.equivalent_radii().astype(np.float64)
    counted = np.flatnonzero(likely > _WORTH_COUNTING)
    if len(counted) < 2:
        return [np.zeros(len(stars))] * 2
    # One more than asked for: a droplet is its own nearest neighbour.
    nearest = min(_N_NEIGHBOURS + 1, len(counted))
    distance, place = cKDTree(stars.centre_xy[counted]).query(stars.centre_xy, k=nearest)
    other = counted[place]
    own = radius[:, None]
    gap = (distance - radius[other] - own) / np.maximum(own, 1)
    touching = likely[other] * (other != np.arange(len(stars))[:, None]) * np.exp(-0.5 * (gap / _GAP) ** 2)
    octaves = np.log2(np.maximum(radius[other], 1) / np.maximum(own, 1))
    same = touching * np.exp(-0.5 * (octaves / _LIKE_OCTAVES) ** 2)
    return [np.log1p(same.sum(axis=1)), np.log1p(touching.sum(axis=1))]
