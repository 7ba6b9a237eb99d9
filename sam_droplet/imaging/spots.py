"""Bright spots on a dark channel, such as beads and cells: masks by threshold, touching ones cut apart.

No network: a fluorescence channel shows beads as what is bright, and nothing else is.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, spatial

from sam_droplet.errors import InputError
from sam_droplet.imaging.masks import Mask, mask_from_bits

Floats = NDArray[np.float32]

# A tile's median is the background: at least four times the spots' size, so spots do not move it.
_TILE_PX = 96
_NOISE_SDS = 6.0
# Smaller parts are noise; the median part tells the size of one spot.
_AREA_MIN_PX = 5
_AREA_MIN_SHARE = 0.25
# Parts this much larger than one spot may hold several.
_SPLIT_AREA_SHARE = 1.4
# Two spots' centres are at least this share of a diameter apart, each about as deep as a spot.
_APART_SHARE = 0.5
_DEPTH_SHARE = 0.55
# A heap has at least as many spots as its area holds, counted from 0.7 of a further one; heaps are
# bright, and their blur makes each spot look larger.
_HEAP_AREA_SHARE = 1.1
_ROUND_UP_FROM = 0.3
_HEAP_DEPTH_SHARE = 1.5
_LLOYD_STEPS = 20
_UPSAMPLE = 3


def find_spots(
    pixels: NDArray[Any], *, diameter_px: float | None = None, threshold: float | None = None
) -> list[Mask]:
    """Find bright spots in one channel (H, W), top to bottom; an empty list where nothing stands out.

    diameter_px: of one spot; without it, that of the median part. threshold: raw value at or above which
    a pixel belongs to a spot; without it, the cut between bright pixels and their blurred surroundings.
    """
    if pixels.ndim != 2:
        raise InputError(f"Spots are found in one channel, (H, W), not in an array of shape {pixels.shape}.")
    raw = np.asarray(pixels, np.float32)
    bright = raw >= threshold if threshold is not None else _bright(raw)
    labels, _ = ndimage.label(bright, structure=np.ones((3, 3), int))
    parts = [
        (window, labels[window] == label)
        for label, window in enumerate(ndimage.find_objects(labels), 1)
        if window is not None
    ]
    parts = [(window, bits) for window, bits in parts if np.count_nonzero(bits) >= _AREA_MIN_PX]
    if not parts:
        return []
    single_px = pi / 4 * diameter_px**2 if diameter_px else float(np.median([p[1].sum() for p in parts]))
    masks = []
    for (rows, columns), bits in parts:
        for piece in _pieces(bits, single_px):
            mask = mask_from_bits(piece, 1.0, offset_xy=(columns.start, rows.start))
            if mask is not None and mask.area_px >= _AREA_MIN_SHARE * single_px:
                masks.append(mask)
    return masks


def _bright(raw: Floats) -> NDArray[np.bool_]:
    """Return the pixels on the bright side of the cut through everything above the background."""
    above = raw - _background(raw)
    noise = 1.4826 * float(np.median(np.abs(above)))
    standing_out = above > max(_NOISE_SDS * noise, 1e-6 * float(above.max()))
    if not standing_out.any():
        return np.zeros(raw.shape, bool)
    values = np.sort(above[standing_out])
    # Evenly bright spots have no dark side of their own: half their height is the edge, and a cut
    # through the noise on their tops would shatter them.
    half_height = 0.5 * float(np.percentile(values, 90))
    return np.asarray(above >= min(_halving_cut(values), half_height))


def _halving_cut(values: Floats) -> float:
    """Return the cut with most variance between its sides (Otsu 1979), at the start of the upper side."""
    n = len(values)
    below = np.arange(1, n)
    sums = np.cumsum(values, dtype=np.float64)
    if n < 2 or values[0] == values[-1]:
        return float(values[0])
    means = sums[:-1] / below, (sums[-1] - sums[:-1]) / (n - below)
    return float(values[int(np.argmax(below * (n - below) * (means[1] - means[0]) ** 2)) + 1])


def _background(raw: Floats) -> Floats:
    """Return the medians of tiles, smoothly joined to (H, W)."""
    height, width = raw.shape
    rows, columns = max(1, round(height / _TILE_PX)), max(1, round(width / _TILE_PX))
    medians = np.array(
        [
            [float(np.median(tile)) for tile in np.array_split(band, columns, axis=1)]
            for band in np.array_split(raw, rows, axis=0)
        ],
        np.float32,
    )
    return np.asarray(cv2.resize(medians, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _pieces(bits: NDArray[np.bool_], single_px: float) -> list[NDArray[np.bool_]]:
    """Cut a part that is larger than one spot into its spots."""
    if bits.sum() < _SPLIT_AREA_SHARE * single_px:
        return [bits]
    pixels = np.argwhere(bits).astype(np.float64)
    centres = _spot_centres_yx(bits, pixels, single_px)
    nearest = spatial.cKDTree(centres).query(pixels)[1]
    pieces = []
    for spot in range(len(centres)):
        piece = np.zeros(bits.shape, bool)
        own = pixels[nearest == spot].astype(int)
        piece[own[:, 0], own[:, 1]] = True
        pieces.append(piece)
    return pieces


def _spot_centres_yx(
    bits: NDArray[np.bool_], pixels: NDArray[np.float64], single_px: float
) -> NDArray[np.float64]:
    """Return the centres of the spots in a part, (K, 2): one per necked bulge, or more by its area."""
    radius_px = sqrt(single_px / pi)
    # Spots of a few pixels have no distinct depths on their own grid, hence the finer one.
    fine = np.kron(np.pad(bits, 1).astype(np.uint8), np.ones((_UPSAMPLE, _UPSAMPLE), np.uint8)).astype(
        np.uint8
    )
    depth = cv2.GaussianBlur(cv2.distanceTransform(fine, cv2.DIST_L2, 5), (0, 0), _UPSAMPLE / 3) / _UPSAMPLE
    apart = _disc(max(1, round(2 * _APART_SHARE * radius_px * _UPSAMPLE)))
    peaks = (depth == ndimage.maximum_filter(depth, footprint=apart)) & (depth >= _DEPTH_SHARE * radius_px)
    labels, n_bulges = ndimage.label(peaks)
    by_area = int(len(pixels) / (_HEAP_AREA_SHARE * single_px) + _ROUND_UP_FROM)
    # A part that is much deeper than a spot is one larger thing and not a heap of spots.
    if n_bulges >= by_area or depth.max() > _HEAP_DEPTH_SHARE * radius_px:
        centres = ndimage.center_of_mass(peaks, labels, range(1, max(n_bulges, 1) + 1))
        found = (np.array(centres, np.float64).reshape(-1, 2) + 0.5) / _UPSAMPLE - 1.5
        return found if n_bulges else pixels.mean(axis=0, keepdims=True)
    return _spread_centres(pixels, by_area)


def _spread_centres(pixels: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Return k centres that share the pixels out evenly (Lloyd's k-means from the farthest points)."""
    centres = pixels[[int(np.argmax(((pixels - pixels.mean(axis=0)) ** 2).sum(axis=1)))]]
    while len(centres) < k:
        distance = spatial.cKDTree(centres).query(pixels)[0]
        centres = np.vstack([centres, pixels[int(np.argmax(distance))]])
    for _ in range(_LLOYD_STEPS):
        nearest = spatial.cKDTree(centres).query(pixels)[1]
        centres = np.array([pixels[nearest == i].mean(axis=0) for i in range(k)])
    return centres


def _disc(radius: int) -> NDArray[np.bool_]:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(x * x + y * y <= radius * radius)
