"""Put outlines on the rim: the network says where a droplet is, the picture says where its edge is.

The edge is the extreme line of the rim (docs/adr/0003): the darkest or brightest line across it.
Each outline moves as a whole; its shape stays the network's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_droplet.segmentation.stars import Stars, unit_rays

Float32 = NDArray[np.float32]

# How far the line is looked for to either side, in radii, and its bounds in network pixels.
_REACH, _LEAST_PX, _MOST_PX = 0.32, 2.5, 9.0
_STEPS = np.linspace(-1, 1, 29, dtype=np.float32)
# A line twice as far away must be much more prominent: the weight falls as a Gaussian of this width.
_NEAR = 0.6
# A line is believed if it stands out by this many standard errors, and by this much of the grey range.
_SIGNIFICANT, _LEAST_CONTRAST = 3.0, 0.02
# Who votes on the common shift, how many at least, what share of them must see a line, and how far
# half of them may differ, in radii.
_VOTING_SCORE, _FEWEST, _LINE_SHARE, _AGREEMENT = 0.3, 3, 0.4, 0.04
_CHUNK = 250  # outlines at once, so that their profiles stay in a core's cache


@dataclass(frozen=True, eq=False)
class RimLines:
    """Hold, for N outlines, how far off the nearest dark and bright lines are, each (N, 2): dark, bright.

    shift: in radii, outwards. weight: how much the line stands out; 0 for none.
    """

    shift: Float32
    weight: Float32

    def take(self, index: NDArray[np.generic]) -> RimLines:
        """Return the lines at an index or boolean mask."""
        return RimLines(self.shift[index], self.weight[index])

    @classmethod
    def join(cls, parts: Sequence[RimLines]) -> RimLines:
        """Concatenate the lines of several windows of a picture."""
        none = np.empty((0, 2), np.float32)
        shift, weight = [none, *(part.shift for part in parts)], [none, *(part.weight for part in parts)]
        return cls(np.concatenate(shift), np.concatenate(weight))


def fit_rims(picture: Float32, stars: Stars) -> Stars:
    """Move each outline by one distance, so that it runs along the line of its rim.

    picture: (H, W, 3) float32 as the network saw it. stars: in its pixels.
    """
    return move_to_lines(stars, rim_lines(picture, stars))


def rim_lines(picture: Float32, stars: Stars) -> RimLines:
    """Look for the lines near each outline, in a picture or a window of it (H, W, 3)."""
    if len(stars) == 0:
        return RimLines.join([])
    radius = stars.equivalent_radii()
    reach = np.clip(_REACH * radius, _LEAST_PX, _MOST_PX)
    # Three terms, because numpy is slow at means over a short last axis.
    grey = np.asarray((picture[..., 0] + picture[..., 1] + picture[..., 2]) / 3, np.float32)
    profile, error = _profiles(grey, stars, reach, _STEPS)
    needed = np.maximum(_SIGNIFICANT * error, _LEAST_CONTRAST)
    places, weights = zip(_nearest_line(-profile, needed), _nearest_line(profile, needed), strict=True)
    shift = np.stack(places, axis=1) * (reach / radius)[:, None]
    return RimLines(shift.astype(np.float32), np.stack(weights, axis=1))


def move_to_lines(stars: Stars, lines: RimLines) -> Stars:
    """Move the outlines of one picture to their lines.

    All lines of a picture are dark, or all are bright: whichever stand out more. Droplets of one picture
    must agree: outlines whose rim is faint, or says something else, move as most do; where there is
    no common line (fluorescence, empty pictures), nothing moves.
    """
    kind = 0 if lines.weight[:, 0].sum() >= lines.weight[:, 1].sum() else 1
    shift, certain = lines.shift[:, kind], lines.weight[:, kind] > 0
    voters = certain & (stars.score > _VOTING_SCORE)
    if voters.sum() < max(_FEWEST, _LINE_SHARE * (stars.score > _VOTING_SCORE).sum()):
        return stars
    middle = float(np.median(shift[voters]))
    if np.median(np.abs(shift[voters] - middle)) > _AGREEMENT:
        return stars
    common = np.where(certain, np.clip(shift, middle - _AGREEMENT, middle + _AGREEMENT), middle)
    moved = stars.radii + (common * stars.equivalent_radii())[:, None]
    return Stars(stars.centre_xy, moved.astype(np.float32), stars.score)


def _profiles(grey: Float32, stars: Stars, reach: Float32, steps: Float32) -> tuple[Float32, Float32]:
    """Return the median grey value across each rim, (N, S), and its standard error, (N,)."""
    height, width = grey.shape
    profile = np.empty((len(stars), len(steps)), np.float32)
    error = np.empty(len(stars), np.float32)
    for start in range(0, len(stars), _CHUNK):
        part = slice(start, start + _CHUNK)
        distance = stars.radii[part, :, None] + reach[part, None, None] * steps  # (n, 32, S)
        x = stars.centre_xy[part, 0, None, None] + distance * unit_rays()[None, :, 0, None]
        y = stars.centre_xy[part, 1, None, None] + distance * unit_rays()[None, :, 1, None]
        shape = (-1, distance.shape[1] * len(steps))
        # Pixel centres lie at halves in our frame, at integers in OpenCV's.
        seen = cv2.remap(
            grey,
            x.reshape(shape) - 0.5,
            y.reshape(shape) - 0.5,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        ).reshape(distance.shape)
        # A ray that leaves the picture tells nothing; one wholly inside must remain.
        x_ends, y_ends = x[:, :, [0, -1]], y[:, :, [0, -1]]
        inside = (x_ends > 0) & (x_ends < width) & (y_ends > 0) & (y_ends < height)
        usable = inside.all(axis=2, keepdims=True)
        usable |= ~usable.any(axis=1, keepdims=True)
        values = np.where(usable, seen, np.nan)
        n_rays = usable[:, :, 0].sum(axis=1)
        middle = _median_of_known(values, n_rays)  # (n, S)
        off = np.abs(values - middle[:, None]).reshape(len(values), -1, 1)
        spread = _median_of_known(off, n_rays * len(steps))[:, 0]
        profile[part] = middle
        error[part] = 1.25 * 1.48 * spread / np.sqrt(usable.sum(axis=(1, 2)))
    kernel = np.array([[1, 2, 3, 2, 1]], np.float32) / 9
    return np.asarray(cv2.filter2D(profile, -1, kernel, borderType=cv2.BORDER_REPLICATE), np.float32), error


def _median_of_known(values: Float32, n_known: NDArray[np.integer]) -> Float32:
    """Return medians over axis 1 of (N, K, S) values, of which ``n_known`` (N,) are not NaN: (N, S).

    Sorting, which puts NaN last, is several times faster here than numpy's nanmedian.
    """
    ordered = np.sort(values, axis=1)
    rows = np.arange(len(values))
    return np.asarray((ordered[rows, (n_known - 1) // 2] + ordered[rows, n_known // 2]) / 2, np.float32)


def _nearest_line(profile: Float32, needed: Float32) -> tuple[Float32, Float32]:
    """Return the most prominent maximum, near ones preferred: its place, (N,), and weight (0 for none)."""
    before = np.maximum.accumulate(-profile, axis=1)[:, :-2]
    after = np.maximum.accumulate(-profile[:, ::-1], axis=1)[:, ::-1][:, 2:]
    inner = profile[:, 1:-1]
    # How far one must go down on the higher of both sides before leaving the window.
    prominence = np.minimum(inner + before, inner + after)
    peak = (inner >= profile[:, :-2]) & (inner > profile[:, 2:]) & (prominence > needed[:, None])
    weight = np.where(peak, prominence * np.exp(-((_STEPS[1:-1] / _NEAR) ** 2)), 0.0)
    best = weight.argmax(axis=1)
    rows = np.arange(len(profile))
    return _refined(profile, best + 1), np.asarray(weight[rows, best], np.float32)


def _refined(profile: Float32, peak: NDArray[np.intp]) -> Float32:
    """Place a maximum between samples by a parabola, in [-1, 1]."""
    rows = np.arange(len(profile))
    before, at, after = profile[rows, peak - 1], profile[rows, peak], profile[rows, peak + 1]
    curve = np.minimum(before - 2 * at + after, -1e-9)
    step = np.clip(0.5 * (before - after) / curve, -0.5, 0.5)
    return np.asarray((peak + step) * (2 / (profile.shape[1] - 1)) - 1, np.float32)
