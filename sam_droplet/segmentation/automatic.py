"""Find every droplet: look at several scales, keep what each scale sees best, resolve overlaps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging.pyramid import halved
from sam_droplet.segmentation.droplet_net import grey_range
from sam_droplet.segmentation.orientation import chosen_laying
from sam_droplet.segmentation.picture_context import Seen
from sam_droplet.segmentation.prompts import FindOptions, Progress
from sam_droplet.segmentation.rim_line import on_common_line
from sam_droplet.segmentation.runtime import DropletRuntime
from sam_droplet.segmentation.stars import Stars, distinct, suppress

# Outlines below this score are not even kept for clicks.
PROPOSAL_THRESHOLD = 0.05
# The network sees droplets best at these diameters, in its own pixels; beyond the outer pair a
# scale is not believed.
_TRUSTED_FROM, _BEST_FROM, _BEST_TO, _TRUSTED_TO = 9.0, 20.0, 64.0, 140.0
# A magnified look costs four times the full one: it is taken where at least this many outlines, and
# this share of all, are below a diameter that the full look sees badly.
_SMALL_PX = 13.0
_SMALL_COUNT = 3
_SMALL_SHARE = 0.15
# Small pictures are always looked at magnified too: it costs little.
_SMALL_IMAGE_PX = 400_000
_COARSEST_SIDE_PX = 64


class Parts:
    """Count the parts of a look that are done, and say so; what there is in all shows as it goes."""

    def __init__(self, on_progress: Progress | None) -> None:
        self._on_progress = on_progress
        self._done = self._total = 0

    def expect(self, n: int) -> None:
        self._total += n

    def __call__(self) -> None:
        self._done += 1
        if self._on_progress is not None:
            self._on_progress(self._done, self._total)


def propose(
    runtime: DropletRuntime, pixels: NDArray[np.generic], on_progress: Progress | None = None
) -> Stars:
    """Return every likely outline of a picture.

    It is looked at the way up that its content chooses, in full size, at halves of it, and magnified where
    droplets are small. Each outline that a scale is believed about gets a second, closer look, and is judged
    by how common droplets are here and by what else there is.
    pixels: (H, W, C), any bit depth. on_progress: called with the parts done and those known so far; what
    it raises ends the look.
    """
    parts, laying = Parts(on_progress), chosen_laying(pixels)
    laid = laying.of(pixels)
    low_high, halves = grey_range(laid), pyramid(laid)
    believed = first_look(runtime, halves, low_high, parts)
    parts.expect(runtime.n_portions(len(believed)))
    looked_at, contrast = runtime.second_look(halves, low_high, believed, parts)
    seen = Seen.of(believed.score, looked_at, contrast, laid.shape[:2])
    kept = np.flatnonzero(looked_at.score >= PROPOSAL_THRESHOLD)
    settled = on_common_line(halves, low_high, runtime.in_context(seen, kept))
    return laying.back(settled, pixels.shape[:2])


def first_look(
    runtime: DropletRuntime,
    halves: Sequence[NDArray[np.generic]],
    low_high: tuple[float, float],
    parts: Parts | None = None,
) -> Stars:
    """Return what DropletNet alone proposes, each outline once: what RimNet looks at, and learns from.

    halves: the picture (H, W, C), then successive halves. low_high: the grey values seen as 0 and 1.
    """
    parts = parts or Parts(None)
    pixels = halves[0]
    height, width = pixels.shape[:2]
    for picture in halves:
        parts.expect(runtime.n_tiles(picture.shape[:2], 1.0))
    seen = []
    for level, picture in enumerate(halves):
        scale = 0.5**level
        stars = runtime.stars(picture, 1.0, PROPOSAL_THRESHOLD, low_high, parts)
        seen.append((scale, stars.scaled(1 / scale)))
    full = seen[0][1]
    diameter = 2 * full.equivalent_radii()[full.score > 0.3]
    small = int((diameter < _SMALL_PX).sum())
    many_small = small >= max(_SMALL_COUNT, _SMALL_SHARE * len(diameter))
    if height * width <= _SMALL_IMAGE_PX or many_small:
        parts.expect(runtime.n_tiles((height, width), 2.0))
        seen.append((2.0, runtime.stars(pixels, 2.0, PROPOSAL_THRESHOLD, low_high, parts)))
    stars = Stars.join([part for _, part in seen])
    trust = np.concatenate([trusted(2 * part.equivalent_radii() * scale) for scale, part in seen])
    believed = stars.take(trust > 0)
    return believed.take(distinct(believed, believed.score * trust[trust > 0]))


def pyramid(pixels: NDArray[np.generic]) -> list[NDArray[np.generic]]:
    """Return a picture (H, W, C) and its successive halves."""
    halves = [pixels]
    while min(halves[-1].shape[:2]) >= 2 * _COARSEST_SIDE_PX:
        halves.append(halved(halves[-1]))
    return halves


def trusted(diameter_px: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how far a scale is believed about droplets of these network diameters, in [0, 1]."""
    log = np.log(np.maximum(diameter_px, 1e-3))
    return np.interp(
        log,
        np.log([_TRUSTED_FROM, _BEST_FROM, _BEST_TO, _TRUSTED_TO]),
        [0.6, 1.0, 1.0, 0.6],
        left=0.0,
        right=0.0,
    ).astype(np.float32)


def select(proposals: Stars, options: FindOptions) -> Stars:
    """Choose the droplets among proposals: score, overlaps, size, and whether they reach into the region.

    Best first.
    """
    survivors = proposals.take(proposals.score >= options.threshold)
    kept = survivors.take(suppress(survivors))
    diameter = 2 * kept.equivalent_radii()
    wanted = np.ones(len(kept), bool)
    if options.diameter_min_px is not None:
        wanted &= diameter >= options.diameter_min_px
    if options.diameter_max_px is not None:
        wanted &= diameter <= options.diameter_max_px
    if options.roi_xyxy is not None:
        x0, y0, x1, y1 = options.roi_xyxy
        (x, y), reach = kept.centre_xy.T, kept.radii.max(axis=1)
        wanted &= (x + reach > x0) & (x - reach < x1) & (y + reach > y0) & (y - reach < y1)
    return kept.take(wanted)
