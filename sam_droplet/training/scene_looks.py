"""Rendered scenes as the networks look at them, and which true droplet each outline is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from sam_droplet.imaging.synthetic import Scene
from sam_droplet.imaging.synthetic_layout import Shapes
from sam_droplet.segmentation.automatic import pyramid
from sam_droplet.segmentation.droplet_net import grey_range, network_input
from sam_droplet.segmentation.engines import TORCH, Engines
from sam_droplet.segmentation.runtime import DropletRuntime
from sam_droplet.segmentation.stars import N_RAYS, Stars, shared_areas
from sam_droplet.segmentation.weights import load_weights
from sam_droplet.training.fresh_processes import in_fresh_processes
from sam_droplet.training.targets import LOOK_SHARES, adjusted, training_scene

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_PORTION = 20  # scenes that a process does in one go

Float32 = NDArray[np.float32]
T = TypeVar("T")
D = TypeVar("D", bound="DataclassInstance")


def in_portions(
    of_scene: Callable[[DropletRuntime, int, int], T], weights: Path, seed: int, n_scenes: int
) -> list[T]:
    """Return what a function gives for the networks in a file, a seed and each of ``n_scenes`` scenes."""
    portions = in_fresh_processes(partial(_portion, of_scene, weights, seed), range(n_scenes), _PORTION)
    return [one for portion in portions for one in portion]


def _portion(
    of_scene: Callable[[DropletRuntime, int, int], T], weights: Path, seed: int, indices: Sequence[int]
) -> list[T]:
    torch.set_num_threads(1)
    runtime = DropletRuntime(load_weights(weights), "cpu", Engines(TORCH, "cpu", 1))
    return [of_scene(runtime, seed, index) for index in indices]


def joined(examples: Sequence[D]) -> D:
    """Concatenate the examples of several scenes: dataclasses of arrays with one row per example."""
    first = examples[0]
    return type(first)(*(np.concatenate([getattr(e, f.name) for e in examples]) for f in fields(first)))


def look_at(
    rng: np.random.Generator, seed: int, index: int
) -> tuple[Scene, tuple[float, float], list[NDArray[Any]]]:
    """Render scene ``index`` as a camera may show it; return it, its grey range, and it with its halves."""
    scene = training_scene(seed, index, LOOK_SHARES)
    pixels = adjusted(rng, network_input(scene.pixels))
    return scene, grey_range(pixels), pyramid(pixels)


def best_matches(stars: Stars, scene: Scene) -> tuple[NDArray[np.intp], Float32, Float32]:
    """Return each outline's best true droplet, their IoU, and the best IoU with something doubtful, (N,)."""
    n, n_true = len(stars), len(scene.shapes)
    everything = Stars.join([stars, _as_stars(scene.shapes), _as_stars(scene.ignored)])
    i, j, shared = shared_areas(everything)
    area = everything.equivalent_radii() ** 2
    iou = shared / np.maximum(area[i] + area[j] - shared, 1e-6)
    owner, overlap, doubtful = np.zeros(n, np.intp), np.zeros(n, np.float32), np.zeros(n, np.float32)
    order = np.argsort(iou, kind="stable")  # the best is written last
    i, j, iou = i[order], j[order], iou[order]
    of_true = (i < n) & (j >= n) & (j < n + n_true)
    owner[i[of_true]], overlap[i[of_true]] = j[of_true] - n, iou[of_true]
    of_doubtful = (i < n) & (j >= n + n_true)
    doubtful[i[of_doubtful]] = iou[of_doubtful]
    return owner, overlap, doubtful


def _as_stars(shapes: Shapes) -> Stars:
    return Stars(
        shapes.centre_xy.astype(np.float32),
        shapes.radii(N_RAYS).astype(np.float32),
        np.ones(len(shapes), np.float32),
    )


def hold_their_centres(shapes: Shapes, owner: NDArray[np.intp], stars: Stars) -> NDArray[np.bool_]:
    """Tell which outlines' centres lie inside the true droplet at ``owner``, (N,)."""
    if len(shapes) == 0:
        return np.zeros(len(stars), bool)
    offset = stars.centre_xy - shapes.centre_xy[owner]
    gauge = np.hypot(*(shapes.ellipse[owner] @ offset[..., None])[..., 0].T)
    return np.asarray(np.maximum(gauge, (shapes.facets[owner] @ offset[..., None]).max((1, 2))) < 0.95)
