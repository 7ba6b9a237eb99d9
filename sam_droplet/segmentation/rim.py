"""Put outlines on the rim: the network says where a droplet is, the picture says where its edge is.

The edge is the extreme line of the rim (docs/adr/0003): the darkest or brightest line across it.
Each outline moves as a whole; its shape stays the network's.
"""

from __future__ import annotations

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
_CHUNK = 2000


def fit_rims(picture: Float32, stars: Stars) -> Stars:
    """Move each outline by one distance, so that it runs along the line of its rim.

    picture: (H, W, 3) float32 as the network saw it. stars: in its pixels. Droplets of one picture
    must agree: outlines whose rim is faint, or says something else, move as most do; where there is
    no common line (fluorescence, empty pictures), nothing moves.
    """
    if len(stars) == 0:
        return stars
    radius = stars.equivalent_radii()
    reach = np.clip(_REACH * radius, _LEAST_PX, _MOST_PX)
    profile, error = _profiles(picture.mean(axis=2), stars, reach, _STEPS)
    place, certain = _lines(profile, error)
    shift = place * reach / radius  # in radii, comparable between droplets of all sizes
    voters = certain & (stars.score > _VOTING_SCORE)
    if voters.sum() < max(_FEWEST, _LINE_SHARE * (stars.score > _VOTING_SCORE).sum()):
        return stars
    middle = float(np.median(shift[voters]))
    if np.median(np.abs(shift[voters] - middle)) > _AGREEMENT:
        return stars
    common = np.where(certain, np.clip(shift, middle - _AGREEMENT, middle + _AGREEMENT), middle)
    return Stars(stars.centre_xy, (stars.radii + (common * radius)[:, None]).astype(np.float32), stars.score)


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
        inside = (x > 0) & (x < width) & (y > 0) & (y < height)
        # A ray that leaves the picture tells nothing; one wholly inside must remain.
        usable = inside.all(axis=2, keepdims=True)
        usable |= ~usable.any(axis=1, keepdims=True)
        values = np.where(usable, seen, np.nan)
        middle = np.nanmedian(values, axis=1)
        spread = np.nanmedian(np.abs(values - middle[:, None]), axis=(1, 2))
        profile[part] = middle
        error[part] = 1.25 * 1.48 * spread / np.sqrt(usable.sum(axis=(1, 2)))
    kernel = np.array([[1, 2, 3, 2, 1]], np.float32) / 9
    return np.asarray(cv2.filter2D(profile, -1, kernel, borderType=cv2.BORDER_REPLICATE), np.float32), error


def _lines(profile: Float32, error: Float32) -> tuple[Float32, NDArray[np.bool_]]:
    """Return where the rim's line lies in [-1, 1] of each reach, (N,), and whether it is certain, (N,).

    All lines of a picture are dark, or all are bright: whichever stand out more.
    """
    needed = np.maximum(_SIGNIFICANT * error, _LEAST_CONTRAST)
    dark_place, dark_weight = _nearest_line(-profile, needed)
    bright_place, bright_weight = _nearest_line(profile, needed)
    if dark_weight.sum() >= bright_weight.sum():
        return dark_place, dark_weight > 0
    return bright_place, bright_weight > 0


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
