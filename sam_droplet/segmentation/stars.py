"""Star-convex outlines: their geometry, how much two overlap, and which of many to keep. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from sam_droplet.imaging.masks import Mask
from sam_droplet.imaging.polygons import masks_from_polygons

N_RAYS = 32
# Vertices of a drawn outline: a circle of 96 corners is 0.04 % too narrow.
_N_VERTICES = 96
# Two outlines that share more than this are the same droplet.
SAME_IOU = 0.35
# An outline with more than this share inside a better one is a part of it: bead, ghost, inner rim.
INSIDE_SHARE = 0.7
# An outline that smaller ones cover by more than this is a group of droplets, not one; less is enough
# where they are many. (Beads in a droplet are few, or cover less.)
GROUP_SHARE = 0.35
MANY, MANY_SHARE = 8, 0.15
# Unless the second look is as sure as this of it: a droplet full of beads.
SURE_OF_ONE = 0.98
# Outlines whose centres are closer than twice this share of a radius, and as large but for this, are twins.
_TWIN_SHIFT, _TWIN_LOG_RATIO = 0.08, 0.12
# Vertices may lie this many rays from their own, where the centre moves.
_MOST_DRIFT = 4
# Outlines handled at once, so that what is worked on stays in a core's cache.
_RADII_CHUNK = 2048
_PAIRS_CHUNK = 1024

Float32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Stars:
    """Hold N outlines that a network proposed.

    centre_xy: (N, 2) image-corner frame. radii: (N, 32) px from there to the rim at equal angles
    from +x towards +y. score: (N,) in [0, 1]. All float32.
    """

    centre_xy: Float32
    radii: Float32
    score: Float32

    def __len__(self) -> int:
        return len(self.score)

    @classmethod
    def none(cls) -> Stars:
        """Return no outline at all."""
        return cls(np.empty((0, 2), np.float32), np.empty((0, N_RAYS), np.float32), np.empty(0, np.float32))

    @classmethod
    def join(cls, parts: Sequence[Stars]) -> Stars:
        """Concatenate several sets of outlines."""
        every = [cls.none(), *parts]
        return cls(
            np.concatenate([part.centre_xy for part in every]),
            np.concatenate([part.radii for part in every]),
            np.concatenate([part.score for part in every]),
        )

    def take(self, index: NDArray[np.generic] | slice) -> Stars:
        """Return the outlines at an index or boolean mask."""
        return Stars(self.centre_xy[index], self.radii[index], self.score[index])

    def replaced(self, index: NDArray[np.intp], others: Stars) -> Stars:
        """Return the outlines with those at an index replaced by others."""
        centre, radii, score = self.centre_xy.copy(), self.radii.copy(), self.score.copy()
        centre[index], radii[index], score[index] = others.centre_xy, others.radii, others.score
        return Stars(centre, radii, score)

    def scaled(self, factor: float, shift_xy: tuple[float, float] = (0.0, 0.0)) -> Stars:
        """Return the outlines after x -> factor * x + shift."""
        centre = self.centre_xy * np.float32(factor) + np.asarray(shift_xy, np.float32)
        return Stars(centre.astype(np.float32), self.radii * np.float32(factor), self.score)

    def equivalent_radii(self) -> Float32:
        """Return sqrt(area / pi), (N,), in px: the root mean square radius."""
        return np.asarray(np.sqrt((self.radii**2).mean(axis=1)), np.float32)

    def contain(self, points_xy: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return which outline holds which point: points (P, 2) -> (N, P) bool."""
        return self.distances(points_xy) <= 1

    def distances(self, points_xy: NDArray[np.floating]) -> Float32:
        """Return how far points (P, 2) lie from the centres, (N, P), in radii: 1 on an outline."""
        if len(self) == 0:
            return np.zeros((0, len(points_xy)), np.float32)
        offset = np.asarray(points_xy, np.float32)[None] - self.centre_xy[:, None]  # (N, P, 2)
        distance = np.hypot(offset[..., 0], offset[..., 1])
        return np.asarray(distance / self._radius_towards(offset), np.float32)

    def _radius_towards(self, offset: Float32) -> Float32:
        """Return each outline's radius in the direction of its offsets, (N, P, 2) -> (N, P)."""
        turn = np.arctan2(offset[..., 1], offset[..., 0]) * np.float32(N_RAYS / (2 * np.pi))
        turn += np.float32(N_RAYS) * (turn < 0)  # (N, P), 0 to 32
        below = turn.astype(np.intp)
        share = turn - below.astype(np.float32)
        # Two more columns instead of remainders: a turn may round up to a whole one.
        wrapped = np.concatenate([self.radii, self.radii[:, :2]], axis=1)
        first = below + np.arange(len(self))[:, None] * wrapped.shape[1]
        near, far = wrapped.ravel()[first], wrapped.ravel()[first + 1]
        return np.asarray(near + (far - near) * share, np.float32)

    def outlines(self) -> Float32:
        """Return smooth outlines, (N, 96, 2), in the image-corner frame."""
        turn = np.arange(_N_VERTICES) * (N_RAYS / _N_VERTICES)
        below, share = turn.astype(np.intp), (turn % 1.0).astype(np.float32)
        radii = self.radii[:, below] * (1 - share) + self.radii[:, (below + 1) % N_RAYS] * share
        return np.asarray(self.centre_xy[:, None] + radii[..., None] * unit_rays(_N_VERTICES), np.float32)

    def masks(self, image_hw: tuple[int, int]) -> list[Mask]:
        """Fill the outlines; those without a pixel inside the image are dropped."""
        limit = np.array([image_hw[1], image_hw[0]], np.float32)
        return masks_from_polygons(np.clip(self.outlines(), 0, limit), self.score)


def unit_rays(n_rays: int = N_RAYS) -> Float32:
    """Return unit vectors at equal angles from +x towards +y, (n_rays, 2)."""
    angle = np.arange(n_rays) * (2 * np.pi / n_rays)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def radii_from(offset_xy: NDArray[np.floating]) -> Float32:
    """Return rays from the origin to outlines, (N, 32, 2) -> (N, 32).

    Vertex k must point near ray k; the rim between two vertices is taken linear in angle, which is
    exact for a circle (a straight chord would pull the outline inwards).
    """
    parts = [_radii_from(offset_xy[i : i + _RADII_CHUNK]) for i in range(0, len(offset_xy), _RADII_CHUNK)]
    return np.concatenate(parts) if parts else np.empty(offset_xy.shape[:2], np.float32)


def _radii_from(offset_xy: NDArray[np.floating]) -> Float32:
    n_rays = offset_xy.shape[1]
    x, y = offset_xy[..., 0].astype(np.float32), offset_xy[..., 1].astype(np.float32)
    distance = np.hypot(x, y)
    # How far each vertex lies past ray k, in steps, in [-n/2, n/2].
    past = np.arctan2(y, x) / np.float32(2 * np.pi / n_rays) - np.arange(n_rays, dtype=np.float32)
    past -= np.float32(n_rays) * np.round(past / np.float32(n_rays))
    # Most outlines hardly drift: the rim on ray k lies between their vertices k - 1 and k + 1.
    steady = np.abs(past).max(axis=1) < 1
    radii = np.empty_like(distance)
    radii[steady] = _between_vertices(distance[steady], past[steady], 1)
    radii[~steady] = _between_vertices(distance[~steady], past[~steady], _MOST_DRIFT)
    return radii


def _between_vertices(distance: Float32, past: Float32, drift: int) -> Float32:
    """Interpolate each ray between the two vertices on either side, at most ``drift`` rays away."""
    n_rays = distance.shape[1]
    turns = np.arange(-drift, n_rays + drift) % n_rays
    distance_round, past_round = distance[:, turns], past[:, turns]
    radii = distance.copy()
    for shift in range(-drift, drift):
        first = slice(drift + shift, drift + shift + n_rays)
        second = slice(first.start + 1, first.stop + 1)
        before, after = (
            past_round[:, first] + np.float32(shift),
            past_round[:, second] + np.float32(shift + 1),
        )
        share = -before / np.maximum(after - before, np.float32(1e-6))
        near, far = distance_round[:, first], distance_round[:, second]
        np.copyto(radii, near + (far - near) * share, where=(before <= 0) & (after > 0))
    return radii


def stars_from_outlines(outline: Float32, score: Float32) -> Stars:
    """Express outlines (N, 32, 2), vertex k near ray k, as rays from their own centroid."""
    centre = _centroids(outline)
    return Stars(centre, radii_from(outline - centre[:, None]), score.astype(np.float32))


def _centroids(outline: Float32) -> Float32:
    """Return the area centroids of polygons, (N, K, 2) -> (N, 2)."""
    origin = outline.mean(axis=1, keepdims=True)  # keeps the products small
    a, b = outline - origin, np.roll(outline - origin, -1, axis=1)
    cross = a[..., 0] * b[..., 1] - b[..., 0] * a[..., 1]  # (N, K)
    moment = ((a + b) * cross[..., None]).sum(axis=1)
    centroid = origin[:, 0] + moment / (3 * np.maximum(cross.sum(axis=1), 1e-6))[:, None]
    return np.asarray(centroid, np.float32)


def _sample_points(radii: Float32) -> tuple[Float32, Float32]:
    """Return 48 points of each outline from its centre, (N, 48, 2), and the area each stands for, (N, 48)."""
    some = radii[:, ::2]  # (N, 16)
    rings = np.sqrt((np.arange(3, dtype=np.float32) + 0.5) / 3)
    reach = (rings[:, None] * some[:, None]).reshape(len(radii), -1)
    area = np.maximum(some**2, np.float32(1e-6))
    share = np.tile(area / (3 * area.sum(axis=1, keepdims=True)), 3)
    return reach[..., None] * np.tile(unit_rays(16), (3, 1)), share


def _shares_inside(stars: Stars, i: NDArray[np.intp], j: NDArray[np.intp]) -> Float32:
    """Return the share of each outline i inside j, at 48 points of i."""
    share = np.empty(len(i), np.float32)
    for start in range(0, len(i), _PAIRS_CHUNK):
        some, others = i[start : start + _PAIRS_CHUNK], j[start : start + _PAIRS_CHUNK]
        apart = stars.centre_xy[some] - stars.centre_xy[others]
        points, weight = _sample_points(stars.radii[some])
        offset = apart[:, None] + points  # (n, 48, 2)
        distance = np.hypot(offset[..., 0], offset[..., 1])
        inside = distance <= stars.take(others)._radius_towards(offset)
        share[start : start + _PAIRS_CHUNK] = (inside * weight).sum(axis=1)
    return share


def _may_be_groups(
    stars: Stars, i: NDArray[np.intp], j: NDArray[np.intp], shared: Float32, area: Float32
) -> NDArray[np.bool_]:
    """Tell which outlines hold so many others that these must be decided first, (N,).

    A ring of droplets, seen from afar, can look like one large droplet and score higher than each; what is
    surely one waits for no parts of it, of which there may be many where it holds beads.
    """
    held = (shared > INSIDE_SHARE * area[j]) & (area[j] < 0.25 * area[i])
    held &= stars.score[j] > 0.5 * stars.score[i]
    filled = np.bincount(i[held], weights=shared[held], minlength=len(stars))
    group = _is_group(filled / np.maximum(area, 1e-6), np.bincount(i[held], minlength=len(stars)))
    return group & (stars.score < SURE_OF_ONE)


def _is_group(covered: NDArray[np.floating], members: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Tell which outlines are groups, from the share that others cover and how many these are."""
    return np.asarray((covered > GROUP_SHARE) | ((covered > MANY_SHARE) & (members >= MANY)))


def shared_areas(stars: Stars) -> tuple[NDArray[np.intp], NDArray[np.intp], Float32]:
    """Return pairs (i, j), sorted, and the area that they share, in units of pi px².

    Every pair appears in both orders. Areas are estimated at 48 points, to about 2 %.
    """
    radius = stars.equivalent_radii()
    i, j = _near_pairs(stars.centre_xy, radius)
    # Points of the smaller outline sample the overlap more finely.
    smaller_first = (radius[i] < radius[j]) | ((radius[i] == radius[j]) & (i < j))
    small, large = i[smaller_first], j[smaller_first]
    common = _shares_inside(stars, small, large) * radius[small] ** 2
    i, j = np.concatenate([small, large]), np.concatenate([large, small])
    order = np.lexsort((j, i))
    return i[order], j[order], np.concatenate([common, common])[order]


def _near_pairs(centre_xy: Float32, radius: Float32) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return all ordered pairs of discs that intersect."""
    if len(radius) < 2:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    pairs: list[NDArray[np.intp]] = []
    # Searching by size class keeps a few giants from pairing everything with everything.
    classes = np.floor(np.log2(np.maximum(radius, 1.0))).astype(int)
    trees = {c: (cKDTree(centre_xy[classes == c]), np.flatnonzero(classes == c)) for c in np.unique(classes)}
    for a, (tree_a, index_a) in trees.items():
        for b, (tree_b, index_b) in trees.items():
            if b > a:
                continue
            found = tree_a.sparse_distance_matrix(
                tree_b, float(radius[index_a].max() + radius[index_b].max()), output_type="coo_matrix"
            )
            left, right = index_a[found.row], index_b[found.col]
            close = (found.data < radius[left] + radius[right]) & (left != right)
            pairs.append(np.stack([left[close], right[close]]))
            if a != b:
                pairs.append(np.stack([right[close], left[close]]))
    i, j = np.concatenate(pairs, axis=1)
    return i.astype(np.intp), j.astype(np.intp)


def distinct(stars: Stars, preference: Float32) -> NDArray[np.intp]:
    """Return the indices of outlines without those that a preferred one all but repeats, in order.

    Several places and scales propose the same droplet; to look closer, one of them will do.
    """
    radius = stars.equivalent_radii()
    i, j = _near_pairs(stars.centre_xy, _TWIN_SHIFT * radius)
    twins = np.abs(np.log(np.maximum(radius[i], 1e-3) / np.maximum(radius[j], 1e-3))) < _TWIN_LOG_RATIO
    preferred = (preference[j] > preference[i]) | ((preference[j] == preference[i]) & (j < i))
    repeated = np.zeros(len(stars), bool)
    repeated[i[twins & preferred]] = True
    return np.flatnonzero(~repeated)


def suppress(stars: Stars) -> NDArray[np.intp]:
    """Return the indices of the droplets to keep, best score first.

    The same droplet seen twice is kept once; beads, ghosts and inner rims inside a droplet fall to
    it; an outline round several better droplets falls to them.
    """
    i, j, shared = shared_areas(stars)
    starts = np.searchsorted(i, np.arange(len(stars) + 1))
    area = stars.equivalent_radii() ** 2
    alive, accepted = np.ones(len(stars), bool), np.zeros(len(stars), bool)
    covered, members = np.zeros(len(stars)), np.zeros(len(stars), int)
    later = _may_be_groups(stars, i, j, shared, area)
    for k in np.lexsort((-stars.score, later)):
        if not alive[k]:
            continue
        accepted[k], alive[k] = True, False
        near = slice(starts[k], starts[k + 1])
        others, common = j[near], shared[near]
        iou = common / np.maximum(area[k] + area[others] - common, 1e-6)
        inside_me = common > INSIDE_SHARE * area[others]
        alive[others[(iou > SAME_IOU) | inside_me]] = False
        accepted[others[inside_me & (area[others] < area[k])]] = False
        # What reaches into its neighbours is no droplet either: every share counts, not only whole ones.
        larger = area[others] > area[k]
        covered[others[larger]] += common[larger] / area[others[larger]]
        members[others[larger & (common > INSIDE_SHARE * area[k])]] += 1
        alive[others[_is_group(covered[others], members[others])]] = False
    kept = np.flatnonzero(accepted)
    return np.asarray(kept[np.argsort(-stars.score[kept], kind="stable")], np.intp)
