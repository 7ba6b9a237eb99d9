"""Outlines on the extreme line of their rims, where the droplets of a picture agree on it. No torch.

The networks say where a rim is to within a few per cent; the convention (docs/adr/0003) says which line of
it is the edge. What hundreds of droplets show together is steadier than what one shows under noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging.extreme_line import nearest_minimum, smoothed
from sam_droplet.segmentation.stars import Stars
from sam_droplet.segmentation.unrolling import unroll

Float32 = NDArray[np.float32]

# Across the rim, in radii, and how finely droplets are seen for it.
_STEPS = np.linspace(0.8, 1.2, 41, dtype=np.float32)
_RADIUS_PX = 20.0
# A line this close that stands out by this share of what is seen across the rim, and by this much of the
# grey range, may be the rim's.
_FARTHEST, _PROMINENT, _LEAST_CONTRAST = 0.1, 0.25, 0.01
# Outlines with this score vote, if they are as many; this share of them must see a line, and agree on it.
_VOTING_SCORE, _FEWEST, _COMMON_SHARE, _AGREEMENT = 0.5, 8, 0.5, 0.03
# What they show together must range over as many standard deviations of what one shows.
_LEAST_TOGETHER = 1.2
# An outline's own line counts where it differs from the common one by no more than this.
_OWN = 0.03
_CHUNK = 1024


def on_common_line(pyramid: Sequence[NDArray[Any]], low_high: tuple[float, float], stars: Stars) -> Stars:
    """Grow or shrink outlines, as wholes, to the dark or bright line that most of them lie close to.

    Outlines without a line of their own change as most do; none changes where the droplets of the picture
    do not agree. pyramid: the picture (H, W, C), then successive halves. stars: in pixels of the first.
    """
    voting = stars.score >= _VOTING_SCORE
    if voting.sum() < _FEWEST:
        return stars
    chunks = [stars.take(slice(i, i + _CHUNK)) for i in range(0, len(stars), _CHUNK)]
    profile = np.concatenate([_profiles(pyramid, low_high, chunk) for chunk in chunks])
    if _together(profile[voting]) < _LEAST_TOGETHER:
        return stars
    lines = [_line(sign * profile) for sign in (1, -1)]  # dark, bright
    agreed = [(common, line) for line in lines if (common := _common(line[voting])) is not None]
    if not agreed:
        return stars
    common, line = min(agreed, key=lambda found: abs(found[0] - 1))
    factor = np.where(np.abs(line - common) <= _OWN, line, np.float32(common))  # NaN compares as False
    return Stars(stars.centre_xy, (stars.radii * factor[:, None]).astype(np.float32), stars.score)


def _together(profile: Float32) -> float:
    """Return the range of the mean of all profiles, each in its own standard deviations: little in noise."""
    spread = profile.std(axis=1, keepdims=True)
    return float(np.ptp(((profile - profile.mean(axis=1, keepdims=True)) / (spread + 1e-6)).mean(axis=0)))


def _common(line: Float32) -> float | None:
    """Return the median of where a line is seen, None where too few see it or they disagree."""
    seen = line[np.isfinite(line)]
    if len(seen) < max(_FEWEST, _COMMON_SHARE * len(line)):
        return None
    common = float(np.median(seen))
    spread = 1.4826 * float(np.median(np.abs(seen - common)))
    return common if spread <= _AGREEMENT else None


def _profiles(pyramid: Sequence[NDArray[Any]], low_high: tuple[float, float], stars: Stars) -> Float32:
    """Return the median grey value over the rays inside the picture, (N, 41); 0 where there is none."""
    seen = unroll(pyramid, low_high, stars, _STEPS, _RADIUS_PX)
    whole = np.asarray(seen.inside.all(axis=2))  # (N, 32)
    ordered = np.sort(np.where(whole[..., None], seen.grey, np.inf), axis=1)
    middle = np.maximum(whole.sum(axis=1) - 1, 0) // 2
    median = np.take_along_axis(ordered, middle[:, None, None], axis=1)[:, 0]
    return np.where(np.isfinite(median), median, 0).astype(np.float32)


def _line(profile: Float32) -> Float32:
    """Return where the prominent minimum nearest to 1 lies, (N,) in radii; NaN where there is none."""
    smooth = smoothed(profile)
    best, found = nearest_minimum(smooth, _STEPS[1:-1], _FARTHEST, _PROMINENT, _LEAST_CONTRAST)
    best = np.clip(best, 1, smooth.shape[1] - 2)
    rows = np.arange(len(smooth))
    left, middle, right = smooth[rows, best - 1], smooth[rows, best], smooth[rows, best + 1]
    # The vertex of the parabola through the three lowest values.
    between = 0.5 * (left - right) / np.maximum(left - 2 * middle + right, 1e-6)
    place = _STEPS[1:-1][best] + np.clip(between, -0.5, 0.5) * (_STEPS[1] - _STEPS[0])
    return np.asarray(np.where(found, place, np.nan), np.float32)
