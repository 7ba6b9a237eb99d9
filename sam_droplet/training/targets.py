"""Training pairs: a crop of a rendered scene, turned and dimmed at random, and its exact answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from sam_droplet.imaging.synthetic import STRATA, Scene, render_scene
from sam_droplet.imaging.synthetic_layout import Shapes, unit_vectors
from sam_droplet.segmentation.droplet_net import STRIDE, grey_range, network_input
from sam_droplet.segmentation.stars import N_RAYS

# Each kind of scene is met about as often: one droplet full of beads, or one plug, teaches what a hundred
# of a lattice do not. Without many empty fields the networks learn to see droplets in noise. DropletNet sees
# more small droplets, of which it has most to learn; the networks that judge its outlines more that deceives.
SHARES = {
    "anything": 0.16,
    "empty": 0.12,
    "few bright": 0.02,
    "giant": 0.03,
    "plugs": 0.03,
    "pressed": 0.02,
    "small": 0.03,
}
LOOK_SHARES = {"anything": 0.12, "empty": 0.15, "fluorescence": 0.02, "giant": 0.02, "plugs": 0.02}
# Droplets smaller than the second radius, in network pixels, are asked for neither way; below the first
# they are texture, in which nothing may be seen. (A scale is believed from 4.5 px on.)
TEXTURE_RADIUS_PX, SMALLEST_RADIUS_PX = 1.4, 2.8
# As far as scenes are large enough: the coarse looks at a picture see many small droplets at once.
LOG_SCALE_RANGE = (np.log(0.2), np.log(2.2))
_SCENE_PX, _LARGE_SCENE_PX, _SHARE_OF_LARGE = 512, 1152, 0.12
# Pictures are looked at with the grey range of the whole, in which a crop may be dark or faint.
_SHARE_OF_OWN_RANGE = 0.3


@dataclass(frozen=True, eq=False)
class Target:
    """Hold the answer for one crop at stride 2.

    centre: (h, w) 1 - gauge^2 inside droplets, else 0. log_radii: (32, h, w). counted: (h, w) bool,
    False where the truth is doubtful.
    """

    centre: NDArray[np.float32]
    log_radii: NDArray[np.float32]
    counted: NDArray[np.bool_]


def draw_stratum(rng: np.random.Generator, shares: Mapping[str, float]) -> str:
    """Return a stratum by its share; what the shares leave over falls evenly to all."""
    share = np.array([shares.get(name, 0.0) for name in STRATA])
    share += (1 - share.sum()) / len(STRATA)
    return str(rng.choice(list(STRATA), p=share))


def training_scene(seed: int, index: int, shares: Mapping[str, float] = SHARES) -> Scene:
    """Render scene ``index`` of a training set."""
    rng = np.random.default_rng([seed, index])
    chosen = draw_stratum(rng, shares)
    size = _LARGE_SCENE_PX if rng.random() < _SHARE_OF_LARGE else _SCENE_PX
    return render_scene(int(rng.integers(1 << 31)), chosen, size)


def star_target(shapes: Shapes, ignored: Shapes, size: int) -> Target:
    """Compute the exact answer for a ``size`` x ``size`` crop in the image-corner frame."""
    cells = size // STRIDE
    shapes = _near(shapes.take(shapes.equivalent_radii() > TEXTURE_RADIUS_PX), size)
    ignored = _near(ignored, size)
    owner, gauge = _owners(shapes, cells)
    _, ignored_gauge = _owners(ignored, cells)
    small = shapes.equivalent_radii() < SMALLEST_RADIUS_PX
    inside = owner >= 0
    counted = (ignored_gauge >= 1.0) | inside
    counted &= ~np.where(inside, small[owner] if len(shapes) else False, False)
    log_radii = np.zeros((N_RAYS, cells, cells), np.float32)
    rows, columns = np.nonzero(inside)
    if rows.size:
        points = np.asarray((np.stack([columns, rows], 1) + 0.5) * STRIDE, np.float64)
        distances = ray_distances(shapes, owner[rows, columns], points)
        log_radii[:, rows, columns] = np.log(np.maximum(distances, 1.0)).T
    centre = np.where(inside, 1 - gauge**2, 0).astype(np.float32)
    return Target(centre, log_radii, counted)


def _near(shapes: Shapes, size: int) -> Shapes:
    """Drop the shapes whose longest half axis cannot reach the crop."""
    reach = 1 / np.linalg.svd(shapes.ellipse, compute_uv=False)[:, -1:]
    near = ((shapes.centre_xy > -reach) & (shapes.centre_xy < size + reach)).all(axis=1)
    return shapes.take(np.asarray(near, bool))


def _owners(shapes: Shapes, cells: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return which shape each cell is most central to (-1 for none), and its gauge there."""
    owner = np.full((cells, cells), -1, np.intp)
    best = np.ones((cells, cells))
    reach = shapes.radii(32).max(axis=1) if len(shapes) else np.empty(0)
    for i in range(len(shapes)):
        x0, y0 = np.maximum(np.floor((shapes.centre_xy[i] - reach[i]) / STRIDE).astype(int), 0)
        x1, y1 = np.minimum(np.ceil((shapes.centre_xy[i] + reach[i]) / STRIDE).astype(int) + 1, cells)
        if x1 <= x0 or y1 <= y0:
            continue
        y, x = (np.mgrid[y0:y1, x0:x1] + 0.5) * STRIDE
        gauge = shapes.gauge(i, x, y)
        window = best[y0:y1, x0:x1]
        closer = gauge < window
        window[closer] = gauge[closer]
        owner[y0:y1, x0:x1][closer] = i
    return owner, best


def ray_distances(
    shapes: Shapes, owner: NDArray[np.intp], points_xy: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return how far the rim of shape ``owner[i]`` lies from inner point i along 32 rays, (N, 32) px.

    Exact: the ray meets the ellipse where |A (p + t u)| = 1, and a facet where f . (p + t u) = 1.
    """
    rays = unit_vectors(N_RAYS)
    offset = points_xy - shapes.centre_xy[owner]  # (N, 2)
    d = (rays @ shapes.ellipse.transpose(0, 2, 1)).astype(np.float32)  # (M, 32, 2), once per shape
    p = (shapes.ellipse[owner] @ offset[..., None])[..., 0].astype(np.float32)  # (N, 2)
    a = (d**2).sum(-1)[owner]  # (N, 32)
    b = d[owner, :, 0] * p[:, :1] + d[owner, :, 1] * p[:, 1:]
    c = (p**2).sum(-1, keepdims=True) - 1
    distance = (-b + np.sqrt(np.maximum(b**2 - a * c, 0))) / a
    for f in range(shapes.facets.shape[1]):
        cut = np.flatnonzero(shapes.facets[owner, f].any(axis=1))
        if cut.size == 0:
            continue
        facet = shapes.facets[owner[cut], f]
        towards = facet @ rays.T  # (n, 32)
        room = 1 - (facet * offset[cut]).sum(-1, keepdims=True)
        hit = np.where(towards > 1e-9, room / np.maximum(towards, 1e-9), np.inf)
        distance[cut] = np.minimum(distance[cut], hit)
    return np.asarray(np.maximum(distance, 0), np.float32)


class CropDataset(Dataset[Any]):
    """Serve crop ``i`` of a training run; the same seed and i give the same crop on any machine."""

    def __init__(self, scenes: Sequence[Scene], seed: int, length: int, size: int) -> None:
        self.scenes, self.seed, self.length, self.size = scenes, seed, length, size
        self._ranges = [grey_range(scene.pixels) for scene in scenes]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> tuple[NDArray[np.float32], ...]:
        """Return the picture (3, S, S), centre (h, w), log radii (32, h, w) and weight (h, w)."""
        rng = np.random.default_rng([self.seed, i])
        chosen = int(rng.integers(len(self.scenes)))
        scene = self.scenes[chosen]
        picture, shapes, ignored = _cropped(rng, scene, self.size)
        target = star_target(shapes, ignored, self.size)
        low_high = None if rng.random() < _SHARE_OF_OWN_RANGE else self._ranges[chosen]
        seen = adjusted(rng, network_input(picture, low_high))
        return (
            np.ascontiguousarray(seen.transpose(2, 0, 1)),
            target.centre,
            target.log_radii,
            target.counted.astype(np.float32),
        )


def _cropped(rng: np.random.Generator, scene: Scene, size: int) -> tuple[NDArray[np.uint8], Shapes, Shapes]:
    """Cut, scale, flip and turn a square out of a scene, together with its truth."""
    full = scene.pixels.shape[0]
    side = min(full, round(size / float(np.exp(rng.uniform(*LOG_SCALE_RANGE)))))
    x, y = (int(v) for v in rng.integers(0, full - side + 1, 2))
    smaller = side > size
    interpolation = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    window = scene.pixels[y : y + side, x : x + side]
    picture = np.asarray(cv2.resize(window, (size, size), interpolation=interpolation), np.uint8)
    matrix, shift = np.eye(2) * (size / side), -np.array([x, y]) * (size / side)
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
        matrix, shift = np.diag([-1.0, 1.0]) @ matrix, np.array([size - shift[0], shift[1]])
    if rng.random() < 0.5:
        picture = picture[::-1]
        matrix, shift = np.diag([1.0, -1.0]) @ matrix, np.array([shift[0], size - shift[1]])
    if rng.random() < 0.5:
        picture = picture.transpose(1, 0, 2)
        matrix, shift = matrix[::-1].copy(), shift[::-1].copy()
    return picture, scene.shapes.transformed(matrix, shift), scene.ignored.transformed(matrix, shift)


def adjusted(rng: np.random.Generator, picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Change tone, noise and sharpness as cameras differ."""
    if rng.random() < 0.4:
        picture = np.clip(picture, 0, None) ** np.float32(rng.uniform(0.6, 1.6))
    if rng.random() < 0.25:
        picture = picture + rng.normal(0, rng.uniform(0.01, 0.06), picture.shape).astype(np.float32)
    if rng.random() < 0.12:
        picture = 1 - picture
    if rng.random() < 0.15:
        blurred = cv2.GaussianBlur(np.ascontiguousarray(picture), (0, 0), rng.uniform(0.4, 1.2))
        picture = np.asarray(blurred, np.float32)
    if rng.random() < 0.25:
        picture = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2)
    return np.asarray(picture, np.float32)
