"""Things to point at that are not droplets, rendered into scenes: beads, cells, crystals, debris, blobs,
channel parts and letters, each with its exact outline. What they look like is in synthetic_object_looks.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from sam_droplet.imaging.synthetic import Scene, render_scene
from sam_droplet.imaging.synthetic_layout import FloatArray, Shapes
from sam_droplet.imaging.synthetic_object_looks import draw_outline, sample_look
from sam_droplet.imaging.synthetic_object_shapes import SHAPES, letters
from sam_droplet.imaging.synthetic_outlines import KINDS, Outline, PromptScene

Rng = np.random.Generator

# Beads, cells and crystals lie in droplets and free; the others hide what is under them.
_PARTICLES = ("bead", "cell", "crystal")
_HIDING = ("debris", "blob", "letter")
_MOST_HIDDEN = 0.35
# Where a thing is probed for that, between its middle and its rim.
_RINGS = (0.3, 0.6, 0.9)
# Touching droplets are one more thing to point at only while they are few.
_GROUP_SIZE = (2, 12)
_TOUCHING = 1.06
_MOST_IN_DROPLETS = 80


def render_promptable(
    seed: int, stratum: str = "anything", size: int = 512, kinds: Sequence[str] = KINDS[2:]
) -> PromptScene:
    """Render a scene of STRATA and put things of the given kinds into it; the same seed, the same picture."""
    scene = render_scene(seed, stratum, size)
    rng = np.random.default_rng([seed, size, 8])
    pixels = scene.pixels.astype(np.float32)
    hidden = np.zeros((size, size), bool)
    drawn: list[Outline] = []
    for kind in [kind for kind in ("channel", *_PARTICLES, *_HIDING) if kind in kinds]:
        look = sample_look(rng, kind)
        for outline in _placed(rng, kind, scene, size):
            bits = draw_outline(rng, pixels, outline, look)
            if bits is None:
                continue
            drawn = [*drawn, outline]
            if kind in _HIDING:
                drawn = [*(o for o in drawn[:-1] if not _is_hidden(o, bits)), outline]
                hidden |= bits
    things = [*_droplets(scene.shapes), *_groups(scene.shapes)]
    things = [thing for thing in things if not _is_hidden(thing, hidden)]
    final = np.clip(np.round(pixels), 0, 255).astype(np.uint8)
    return PromptScene(final, (*things, *drawn))


def _placed(rng: Rng, kind: str, scene: Scene, size: int) -> Iterator[Outline]:
    """Yield the things of one kind for one scene, often none."""
    if rng.random() < 0.4:
        return
    if kind == "letter":
        yield from (Outline(kind, solids, holes) for solids, holes in letters(rng, size))
        return
    shape = SHAPES[kind]
    if kind == "channel":
        for _ in range(int(rng.integers(1, 4))):
            centre = rng.uniform(0, size, 2)
            yield _moved(kind, shape(rng, float(np.exp(rng.uniform(np.log(10), np.log(size / 5))))), centre)
        return
    if kind in _PARTICLES and len(scene.shapes):
        yield from _inside_droplets(rng, kind, shape, scene.shapes)
    typical = float(np.exp(rng.uniform(np.log(3), np.log(14 if kind in _PARTICLES else size / 12))))
    placed = np.empty((0, 3))
    for _ in range(int(rng.integers(1, 18))):
        radius = typical * float(np.exp(rng.normal(0, 0.15 if kind == "bead" else 0.4)))
        xyr = np.array([*rng.uniform(0, size, 2), max(radius, 2.5)])
        if (np.hypot(*(placed[:, :2] - xyr[:2]).T) > placed[:, 2] + xyr[2]).all():
            placed = np.vstack([placed, xyr])
            yield _moved(kind, shape(rng, xyr[2]), xyr[:2])


def _inside_droplets(
    rng: Rng, kind: str, shape: Callable[[Rng, float], tuple[FloatArray, ...]], shapes: Shapes
) -> Iterator[Outline]:
    radii, relative = shapes.equivalent_radii(), rng.uniform(0.08, 0.32)
    counts = np.minimum(rng.poisson(float(np.exp(rng.uniform(-1.5, 1.5))), len(shapes)), 8)
    droplets = rng.permutation(np.repeat(np.arange(len(shapes)), counts))[:_MOST_IN_DROPLETS]
    placed = np.empty((0, 3))
    for i in droplets:
        radius = radii[i] * relative * float(np.exp(rng.normal(0, 0.12)))
        if radius < 2:
            continue
        angle, reach = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random()) * (0.85 * radii[i] - radius)
        centre = shapes.centre_xy[i] + max(reach, 0.0) * np.array([np.cos(angle), np.sin(angle)])
        if (np.hypot(*(placed[:, :2] - centre).T) > placed[:, 2] + radius).all():
            placed = np.vstack([placed, [*centre, radius]])
            yield _moved(kind, shape(rng, radius), centre)


def _moved(kind: str, solids: tuple[FloatArray, ...], centre_xy: FloatArray) -> Outline:
    return Outline(kind, tuple(solid + centre_xy for solid in solids))


def _droplets(shapes: Shapes) -> list[Outline]:
    radii = shapes.equivalent_radii()
    fine, coarse = shapes.polygons(96), shapes.polygons(48)
    return [Outline("droplet", (fine[i] if radii[i] > 12 else coarse[i],)) for i in range(len(shapes))]


def _groups(shapes: Shapes) -> list[Outline]:
    """Return the groups of a few droplets that touch each other and nothing else."""
    if len(shapes) < 2:
        return []
    radii = shapes.equivalent_radii()
    a, b = cKDTree(shapes.centre_xy).query_pairs(2 * _TOUCHING * radii.max(), output_type="ndarray").T
    distance = np.hypot(*(shapes.centre_xy[a] - shapes.centre_xy[b]).T)
    touch = distance < _TOUCHING * (radii[a] + radii[b])
    graph = coo_array((np.ones(touch.sum()), (a[touch], b[touch])), shape=(len(shapes), len(shapes)))
    n_groups, member = connected_components(graph, directed=False)
    size = np.bincount(member)
    polygons = shapes.polygons(48)
    return [
        Outline("group", tuple(polygons[member == group]))
        for group in range(n_groups)
        if _GROUP_SIZE[0] <= size[group] <= _GROUP_SIZE[1]
    ]


def _is_hidden(thing: Outline, hidden: NDArray[np.bool_]) -> bool:
    """Tell whether too much of a thing is hidden to judge it, from points on and inside its outline."""
    rim = np.concatenate(thing.solids)
    centre = rim.mean(axis=0)
    points = np.concatenate([centre + (rim - centre) * share for share in _RINGS])
    columns, rows = np.floor(points).astype(int).T
    height, width = hidden.shape
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    return bool(inside.any() and hidden[rows[inside], columns[inside]].mean() > _MOST_HIDDEN)
