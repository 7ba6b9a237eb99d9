"""Outlines moved a little, as a whole or in parts, so that they agree with every point that a user gave."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sam_droplet.segmentation.prompts import Prompt
from sam_droplet.segmentation.stars import N_RAYS, Float32, Stars

# Further points grow or shrink an outline by at most this share of its radius, and bend a part of it by at
# most the second; else they mean another thing.
_MOST_GROWTH, _MOST_BEND = 0.2, 0.5
# An outline passes a point of its inside, and one of its outside, this far from it in radii.
_MARGIN = 0.02
# A point bends the outline up to this far from it, in rays to either side: 62 degrees.
_BEND_RAYS = 5.5
_MOST_ROUNDS = 20


def corrected(stars: Stars, prompt: Prompt) -> Stars:
    """Return the outlines round the first point so moved that all points agree; best first.

    They grow or shrink as a whole where that is enough, and are bent near the points where it is not.
    """
    near = stars.take(stars.contain(prompt.positive_xy[:1])[:, 0])
    near = near.take(np.argsort(-near.score, kind="stable"))
    resized = _resized(near, prompt)
    return resized if len(resized) else _bent(near, prompt)


def _resized(stars: Stars, prompt: Prompt) -> Stars:
    least = (1 + _MARGIN) * stars.distances(prompt.positive_xy).max(axis=1)
    most = (1 - _MARGIN) * stars.distances(prompt.negative_xy).min(axis=1, initial=np.inf)
    factor = np.minimum(np.maximum(1, least), most)
    fits = (least <= most) & (np.abs(factor - 1) <= _MOST_GROWTH)
    return _with_radii(stars, stars.radii * factor[:, None]).take(fits)


def _bent(stars: Stars, prompt: Prompt) -> Stars:
    """Return the outlines that can be bent so that all points agree, near the points that do not."""
    reach = _reach(stars, np.concatenate([prompt.positive_xy, prompt.negative_xy]))
    bent = stars
    for _ in range(_MOST_ROUNDS):  # a bend at one point moves the outline at its neighbours, too
        wanted = _wanted_shift(bent, prompt)
        if not wanted.any():
            break
        # Where points meet, a ray follows what they want on the average.
        pull = reach * (wanted != 0)[..., None]
        shift = (pull * wanted[..., None]).sum(axis=1) / np.maximum(pull.sum(axis=1), 1)
        bent = _with_radii(stars, bent.radii * np.exp(shift))
    change = np.abs(np.log(bent.radii / stars.radii)).max(axis=1, initial=0)
    return bent.take((change <= np.log1p(_MOST_BEND)) & ~_wanted_shift(bent, prompt).any(axis=1))


def _reach(stars: Stars, points_xy: NDArray[np.float64]) -> Float32:
    """Return how much each point moves each ray, (N, P, 32): 1 towards it, falling to 0 on either side."""
    offset = points_xy[None] - stars.centre_xy[:, None]
    towards = np.arctan2(offset[..., 1], offset[..., 0]) * (N_RAYS / (2 * np.pi))
    apart = np.abs((np.arange(N_RAYS) - towards[..., None] + N_RAYS / 2) % N_RAYS - N_RAYS / 2)
    return np.asarray(np.cos(np.minimum(apart / _BEND_RAYS, 1) * (np.pi / 2)) ** 2, np.float32)


def _wanted_shift(stars: Stars, prompt: Prompt) -> Float32:
    """Return by what log factor the outline must move at each point, (N, P): 0 where it agrees."""
    inner, outer = (
        np.log(np.maximum(stars.distances(points), 1e-3))
        for points in (prompt.positive_xy, prompt.negative_xy)
    )
    grow = np.where(inner > 0, inner + _MARGIN, 0)
    shrink = np.where(outer <= 0, outer - _MARGIN, 0)
    return np.asarray(np.concatenate([grow, shrink], axis=1), np.float32)


def _with_radii(stars: Stars, radii: NDArray[np.floating]) -> Stars:
    return Stars(stars.centre_xy, np.asarray(radii, np.float32), stars.score)
