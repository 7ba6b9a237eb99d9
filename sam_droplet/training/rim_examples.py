"""Examples for RimNet: what DropletNet proposes on rendered scenes, unrolled, and what is true of it.

An outline that is moved far is looked at again from where it is then, so that what RimNet itself has moved is
learned from, too: noise along which an outline was laid looks more like a rim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging.synthetic_layout import Shapes
from sam_droplet.segmentation.automatic import first_look
from sam_droplet.segmentation.rim_net import MOST_SHIFT, rim_input
from sam_droplet.segmentation.runtime import DropletRuntime
from sam_droplet.segmentation.stars import N_RAYS, Stars, unit_rays
from sam_droplet.segmentation.unrolling import Unrolled, unroll
from sam_droplet.training.draws import weight_of_each
from sam_droplet.training.scene_looks import best_matches, hold_their_centres, in_portions, joined, look_at
from sam_droplet.training.targets import ray_distances

# A proposal that shares this much with a true droplet is that droplet; one that shares less than the second
# with every droplet, and with everything doubtful, is none. What lies between is not learned from.
_SAME_IOU, _OTHER_IOU = 0.5, 0.35
# At most this many proposals of either kind are taken from one scene, and this many guesses round the truth.
_MOST_OF_A_KIND, _MOST_GUESSES = 90, 30
# Outlines that are moved by less, in log radius, are seen as they were.
_MOVED = 0.1

Float32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class RimExamples:
    """Hold N examples, in a quarter of the memory of what RimNet sees of them.

    grey, inside: (N, 32, 40) float16 and bool, unrolled round outlines of radii (N, 32), which were proposed
    with a score (N,). is_droplet: (N,) bool. log_shift: (N, 32) true over proposed radius. visible: (N, 32)
    bool, the rim lies inside the picture. weight: (N,), how often each is drawn.
    """

    grey: NDArray[np.float16]
    inside: NDArray[np.bool_]
    radii: Float32
    score: Float32
    is_droplet: NDArray[np.bool_]
    log_shift: Float32
    visible: NDArray[np.bool_]
    weight: Float32

    def __len__(self) -> int:
        return len(self.is_droplet)

    def seen(self, index: NDArray[np.integer], gamma: Float32) -> Float32:
        """Return what RimNet sees of the examples at an index, (M, 6, 32, 40), in another tone each.

        gamma: (M,), the power to which grey values are raised.
        """
        grey = self.grey[index].astype(np.float32)
        toned = np.clip(grey, 0, None) ** gamma[:, None, None]
        unrolled = Unrolled(np.where(gamma[:, None, None] == 1, grey, toned), self.inside[index])
        nowhere = np.zeros((len(index), 2), np.float32)
        return rim_input(unrolled, Stars(nowhere, self.radii[index], self.score[index]))


def collect_examples(weights: Path, seed: int, n_scenes: int) -> RimExamples:
    """Return the examples of ``n_scenes`` rendered scenes, looked at with the networks in a file.

    Where the file holds a RimNet, what it moves is among them.
    """
    return joined(in_portions(scene_examples, weights, seed, n_scenes))


def scene_examples(runtime: DropletRuntime, seed: int, index: int) -> RimExamples:
    """Render scene ``index``, let DropletNet propose, and compare with the truth."""
    rng = np.random.default_rng([seed, index, 1])
    scene, low_high, halves = look_at(rng, seed, index)
    # As RimNet will see them: neither judged by the rest of the picture nor moved to a common line.
    proposed = with_moved(runtime, halves, low_high, first_look(runtime, halves, low_high))
    guessed = _guesses(rng, scene.shapes)
    stars = Stars.join([proposed, guessed])
    if len(stars) == 0:
        stars = _anywhere(rng, halves[0].shape[0])
    owner, overlap, doubtful = best_matches(stars, scene)
    same = (overlap >= _SAME_IOU) & hold_their_centres(scene.shapes, owner, stars)
    other = (overlap < _OTHER_IOU) & (doubtful < _OTHER_IOU)
    chosen = np.concatenate([_some(rng, same, len(proposed)), _some(rng, other, len(proposed))])
    stars, owner, same = stars.take(chosen), owner[chosen], same[chosen]
    truth = np.zeros((len(stars), N_RAYS), np.float32)
    truth[same] = ray_distances(scene.shapes, owner[same], stars.centre_xy[same].astype(np.float64))
    shift = np.log(np.maximum(truth, 0.3) / np.maximum(stars.radii, 0.3))
    rim = stars.centre_xy[:, None] + truth[..., None] * unit_rays()
    unrolled = unroll(halves, low_high, stars)
    return RimExamples(
        unrolled.grey.astype(np.float16),
        unrolled.inside,
        stars.radii,
        stars.score,
        same,
        np.clip(shift, -MOST_SHIFT, MOST_SHIFT).astype(np.float32) * same[:, None],
        ((rim >= 0) & (rim <= halves[0].shape[0])).all(axis=2),
        np.full(len(stars), weight_of_each(len(stars)), np.float32),
    )


def with_moved(
    runtime: DropletRuntime, halves: Sequence[NDArray[Any]], low_high: tuple[float, float], proposed: Stars
) -> Stars:
    """Add the outlines that the second look moves to where it moves them, with the score that they had."""
    seen, _ = runtime.second_look(halves, low_high, proposed)
    moved = np.abs(np.log(seen.equivalent_radii() / np.maximum(proposed.equivalent_radii(), 1e-3)))
    far = np.flatnonzero(moved > _MOVED)
    return Stars.join([proposed, replace(seen.take(far), score=proposed.score[far])])


def _guesses(rng: np.random.Generator, shapes: Shapes) -> Stars:
    """Return outlines a little off true ones, as clicks and other scales propose them."""
    some = shapes.take(rng.permutation(len(shapes))[:_MOST_GUESSES])
    n, size = len(some), some.equivalent_radii()[:, None]
    centre = some.centre_xy + rng.normal(0, 0.12, (n, 2)) * size
    circle = size * np.ones((1, N_RAYS))
    shape = np.where(rng.random((n, 1)) < 0.5, circle, some.radii(N_RAYS))
    radii = shape * np.exp(rng.normal(0, 0.15, (n, 1)))
    score = 1 / (1 + np.exp(-rng.normal(0, 2, n)))
    return Stars(centre.astype(np.float32), radii.astype(np.float32), score.astype(np.float32))


def _anywhere(rng: np.random.Generator, size: int) -> Stars:
    """Return a few circles anywhere, for scenes in which nothing is proposed."""
    radius = np.exp(rng.uniform(np.log(5), np.log(60), 8)).astype(np.float32)
    centre = rng.uniform(0, size, (8, 2)).astype(np.float32)
    return Stars(centre, np.repeat(radius[:, None], N_RAYS, axis=1), np.full(8, 0.1, np.float32))


def _some(rng: np.random.Generator, wanted: NDArray[np.bool_], n_proposed: int) -> NDArray[np.intp]:
    """Return a sample of the wanted proposals, and all wanted guesses."""
    index = np.flatnonzero(wanted)
    proposed, guessed = index[index < n_proposed], index[index >= n_proposed]
    return np.concatenate([rng.permutation(proposed)[:_MOST_OF_A_KIND], guessed])
