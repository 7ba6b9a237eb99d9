"""Seeded droplet micrographs with exact truth, for training, tests and the sample images.

Everything is rendered; nothing is copied. The same seed and stratum give the same picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging import synthetic_camera as camera
from sam_droplet.imaging import synthetic_layout as layout
from sam_droplet.imaging import synthetic_optics as optics
from sam_droplet.imaging.synthetic_layout import Shapes
from sam_droplet.imaging.synthetic_optics import FloatImage, Rng
from sam_droplet.imaging.synthetic_truth import FAINT, clarity, rim_profiles, with_seen_rims


@dataclass(frozen=True, eq=False)
class Scene:
    """Hold one rendered micrograph and its truth.

    pixels: (H, W, 3) uint8. shapes: the droplets that a person would outline. ignored: things that
    count neither way (bubbles, droplets too faint or too hidden to judge).
    """

    pixels: NDArray[np.uint8]
    shapes: Shapes
    ignored: Shapes


@dataclass(frozen=True)
class Recipe:
    """What a scene is drawn from; probabilities unless said otherwise."""

    layouts: tuple[str, ...] = ("hexagonal", "hexagonal", "bidisperse", "polydisperse", "sparse", "crowded")
    kinds: tuple[str, ...] = ("brightfield", "brightfield", "brightfield", "phase", "fluorescence")
    radius: tuple[float, float] = (4.0, 80.0)
    vacancy: tuple[float, ...] = (0.0, 0.0, 0.02, 0.06, 0.2, 0.4)
    stretched: float = 0.25
    pressed: float = 0.2
    inclusions: float = 0.3
    swarms: float = 0.0  # of the inclusions: tens of beads or cells in each droplet
    stained: float = 0.12
    ghosts: float = 0.3
    bubbles: float = 0.1
    walls: float = 0.12
    pillars: float = 0.05
    debris: float = 0.5
    texture: float = 0.3
    text: float = 0.18
    inverted: float = 0.05
    contrast: tuple[float, float] = (0.25, 1.5)


STRATA: dict[str, Recipe] = {
    "anything": Recipe(layouts=(*Recipe.layouts, "array", "plugs"), swarms=0.15),
    "packed": Recipe(layouts=("hexagonal",), kinds=("brightfield",), radius=(8, 40), vacancy=(0.0, 0.02)),
    "voids": Recipe(layouts=("hexagonal",), kinds=("brightfield",), radius=(8, 40), vacancy=(0.06, 0.2)),
    "bidisperse": Recipe(layouts=("bidisperse",), kinds=("brightfield",)),
    "polydisperse": Recipe(layouts=("polydisperse",), radius=(8, 40)),
    "sparse": Recipe(layouts=("sparse",), kinds=("brightfield",), radius=(8, 80)),
    "inclusions": Recipe(kinds=("brightfield",), radius=(15, 60), inclusions=1.0, stained=0.4, swarms=0.2),
    "second layer": Recipe(kinds=("brightfield",), radius=(10, 40), ghosts=1.0),
    "pressed": Recipe(layouts=("crowded",), kinds=("brightfield",), radius=(10, 50), pressed=1.0),
    "plugs": Recipe(layouts=("plugs",), kinds=("brightfield",), radius=(15, 50), walls=1.0),
    "phase": Recipe(kinds=("phase",), radius=(8, 50)),
    "fluorescence": Recipe(kinds=("fluorescence",), radius=(8, 50)),
    "low contrast": Recipe(kinds=("brightfield",), radius=(10, 50), contrast=(0.12, 0.3)),
    "small": Recipe(kinds=("brightfield",), radius=(3, 6), inclusions=0.0),
    "giant": Recipe(
        layouts=("sparse", "polydisperse"),
        kinds=("brightfield",),
        radius=(80, 190),
        inclusions=0.5,
        swarms=0.5,
    ),
    "text": Recipe(layouts=("hexagonal", "polydisperse"), radius=(10, 40), text=1.0),
    "empty": Recipe(layouts=("none",), texture=0.9, debris=0.8, walls=0.4, pillars=0.3, ghosts=0.0),
    "array": Recipe(layouts=("array",), kinds=("brightfield", *2 * ("fluorescence",)), radius=(6, 40)),
    # Every small bright disc is a droplet here; elsewhere many a lone speck is dust.
    "few bright": Recipe(
        layouts=("sparse",),
        kinds=("fluorescence",),
        radius=(4, 40),
        inclusions=0.0,
        ghosts=0.0,
        bubbles=0.0,
        walls=0.0,
        pillars=0.0,
        debris=0.0,
        texture=0.1,
        text=0.0,
        contrast=(0.5, 1.5),
    ),
}


def render_scene(seed: int, stratum: str = "anything", size: int = 512) -> Scene:
    """Render one micrograph of ``size`` x ``size`` px from a seed and a stratum of STRATA."""
    recipe = STRATA[stratum]
    rng = np.random.default_rng([seed, list(STRATA).index(stratum), size])
    radius = float(np.exp(rng.uniform(*np.log(recipe.radius))))
    shapes = place(rng, recipe, size, radius)
    look = optics.sample_optics(rng, str(rng.choice(recipe.kinds)))
    background = float(rng.uniform(2, 50) if look.fluorescent else rng.uniform(60, 200))

    canvas = optics.Canvas.blank(size)
    bubbles = _bubbles(rng, size, radius) if rng.random() < recipe.bubbles else None
    contrast = optics.draw_droplets(rng, canvas, shapes, look)
    light = canvas.combined()
    _draw_surroundings(rng, light, recipe, shapes, look, radius)
    if bubbles is not None:
        centres, radii = bubbles
        optics.draw_bubbles(rng, light, centres, radii)

    gain = float(np.exp(rng.uniform(*np.log(recipe.contrast))))
    image = camera.blur(rng, camera.illuminate(rng, light + background), radius)
    drawn, profiles = shapes, rim_profiles(image, shapes)
    if not look.fluorescent:
        shapes = with_seen_rims(profiles, drawn, dark=look.rim > 0)
    exposed = camera.expose(rng, image, background, gain)
    noise = float(np.std(exposed - ((image - background) * gain + background)))
    pixels, hidden = _develop(rng, exposed, recipe, drawn, look, radius)
    seen = clarity(contrast, profiles, drawn, max(noise, 0.5) / gain)
    return _with_truth(pixels, shapes, seen, hidden, bubbles)


def place(rng: Rng, recipe: Recipe, size: int, radius: float) -> Shapes:
    """Place and shape the droplets of one scene."""
    kind = str(rng.choice(recipe.layouts))
    if kind == "none":
        return layout.discs(np.empty((0, 2)), np.empty(0))
    if kind == "plugs":
        return layout.plugs(rng, size, radius)
    centres, radii = _centres(rng, recipe, kind, size, radius)
    radii = np.maximum(radii, 2.5)
    overlap = float(rng.choice([0.0, 0.02, 0.05]))
    if rng.random() < recipe.pressed:
        crowding = rng.uniform(1.03, 1.18)
        shapes = layout.discs(centres, layout.without_overlaps(centres, radii, overlap) * crowding)
        return layout.pressed_flat(shapes)
    shapes = layout.discs(centres, layout.without_overlaps(centres, radii, overlap))
    if rng.random() < recipe.stretched:
        shapes = layout.stretched(rng, shapes, float(rng.uniform(0.6, 0.97)))
    return shapes


def _centres(
    rng: Rng, recipe: Recipe, kind: str, size: int, radius: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    spread = float(rng.choice([0.0, 0.02, 0.05, 0.1]))
    # Bounded, so that fields of the smallest droplets stay renderable in seconds.
    most = min(1500, int(0.9 * size**2 / (4 * radius**2)) + 1)
    if kind in ("hexagonal", "bidisperse"):
        centres = layout.hexagonal(
            rng,
            size,
            radius,
            pitch=float(rng.choice([rng.uniform(0.96, 1.03), rng.uniform(1.0, 1.3)])),
            jitter=float(rng.choice([0.0, 0.03, 0.1])),
            vacancy=float(rng.choice(recipe.vacancy)),
        )
        radii = radius * (1 + spread * rng.normal(size=len(centres)))
        if kind == "bidisperse":
            radii *= np.where(rng.random(len(radii)) < rng.uniform(0.1, 0.9), 1.0, rng.uniform(0.4, 0.8))
        if rng.random() < 0.4:
            centres, radii = layout.merged_giants(rng, centres, radii, 0.02)
        return centres, radii
    if kind == "array":
        pitch = np.exp(rng.uniform(np.log(1.1), np.log(3.5)))
        pitch_xy = (float(pitch), float(pitch * rng.choice([1.0, 1.0, rng.uniform(0.9, 1.6)])))
        vacancy = float(rng.choice(recipe.vacancy))
        centres = layout.array(rng, size, radius, pitch_xy=pitch_xy, vacancy=vacancy)
        return centres, radius * (1 + spread * rng.normal(size=len(centres)))
    if kind == "polydisperse":
        radii = radius * np.exp(rng.normal(0, rng.uniform(0.25, 0.6), int(rng.integers(8, max(9, most)))))
        return layout.scattered(rng, size, np.clip(radii, 3, size / 2.5), spacing=rng.uniform(0.95, 1.1))
    if kind == "crowded":
        radii = radius * (1 + spread * rng.normal(size=most))
        return layout.scattered(rng, size, radii, spacing=rng.uniform(0.92, 1.05))
    count = int(rng.integers(1, 16))
    return layout.scattered(rng, size, radius * np.exp(rng.normal(0, 0.2, count)), spacing=1.05)


def _bubbles(rng: Rng, size: int, radius: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    count = int(rng.integers(1, 5))
    return rng.uniform(0, size, (count, 2)), np.maximum(4.0, radius * rng.uniform(0.3, 1.3, count))


def _draw_surroundings(
    rng: Rng, light: FloatImage, recipe: Recipe, shapes: Shapes, look: optics.Optics, radius: float
) -> None:
    size = light.shape[0]
    if rng.random() < recipe.inclusions:
        kind = str(rng.choice(["bead", "bead", "cell", "crystal"]))
        swarm = recipe.swarms > 0 and rng.random() < recipe.swarms
        per_droplet = rng.uniform(8, 40) if swarm else np.exp(rng.uniform(-2, 2))
        optics.draw_inclusions(rng, light, shapes, float(per_droplet), kind, most=40 if swarm else 12)
    if rng.random() < recipe.ghosts:
        strength = 0.3 * (abs(look.rim) if not look.fluorescent else look.negative_level)
        light += optics.draw_ghosts(rng, size, radius, strength, int(rng.integers(1, 25)))
    if rng.random() < recipe.walls:
        camera.draw_walls(rng, light)
    if rng.random() < recipe.pillars:
        camera.draw_pillars(rng, light)
    if rng.random() < recipe.debris:
        camera.draw_debris(rng, light, int(rng.integers(1, 25)))
    if rng.random() < recipe.texture:
        light += camera.texture(rng, size, float(rng.uniform(1, 9)))


def _develop(
    rng: Rng, exposed: FloatImage, recipe: Recipe, shapes: Shapes, look: optics.Optics, radius: float
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    if rng.random() < recipe.inverted:
        exposed = 255 - exposed
    pixels = camera.colour(rng, np.clip(exposed, 0, 255), fluorescent=look.fluorescent)
    if rng.random() < recipe.stained and not look.fluorescent:
        camera.stain_particles(rng, pixels, shapes.centre_xy, radius)
    hidden = np.zeros(exposed.shape, bool)
    if rng.random() < recipe.text:
        hidden = camera.burn_in_text(rng, pixels)
    final = np.clip(np.round(pixels), 0, 255).astype(np.uint8)
    return (camera.compress(rng, final) if rng.random() < 0.3 else final), hidden


def _with_truth(
    pixels: NDArray[np.uint8],
    shapes: Shapes,
    seen: NDArray[np.float64],
    hidden: NDArray[np.bool_],
    bubbles: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
) -> Scene:
    """Sort the drawn droplets into asked for, ignored and (too faint or out of sight) forgotten."""
    size = pixels.shape[0]
    covered = np.zeros(len(shapes))
    visible = np.zeros(len(shapes))
    for i, polygon in enumerate(shapes.polygons(24)):
        inner = shapes.centre_xy[i] + (polygon - shapes.centre_xy[i]) * 0.7
        samples = np.concatenate([polygon, inner, shapes.centre_xy[i : i + 1]])
        within = ((samples >= 0) & (samples < size)).all(axis=1)
        visible[i] = within.mean()
        columns, rows = samples[within].astype(int).T
        covered[i] = hidden[rows, columns].mean() if within.any() else 0.0
    present = (visible > 0.12) & (seen > FAINT) & (covered < 0.8)
    certain = present & (seen > 1) & (covered < 0.35) & (visible > 0.25)
    ignored = shapes.take(present & ~certain)
    if bubbles is not None:
        drawn = layout.discs(*bubbles)
        ignored = Shapes(
            np.concatenate([ignored.centre_xy, drawn.centre_xy]),
            np.concatenate([ignored.ellipse, drawn.ellipse]),
            np.concatenate([ignored.facets, drawn.facets]),
        )
        # A droplet that a bubble hides cannot be asked for.
        distance = np.hypot(*(shapes.centre_xy[:, None] - drawn.centre_xy[None]).transpose(2, 0, 1))
        buried = (distance < 0.8 * (bubbles[1][None] + shapes.equivalent_radii()[:, None])).any(axis=1)
        certain &= ~buried
    return Scene(pixels, shapes.take(certain), ignored)


@dataclass(frozen=True)
class SampleInfo:
    """Name one sample micrograph of the home page."""

    name: str
    title: str
    description: str
    seed: int
    stratum: str
    size: int = 768


SAMPLES: tuple[SampleInfo, ...] = (
    SampleInfo("emulsion", "Emulsion", "Two sizes of droplets in brightfield, a few ghosts.", 5, "packed"),
    SampleInfo("beads", "Beads in droplets", "A packed layer with voids and stained beads.", 3, "packed"),
    SampleInfo("polydisperse", "Polydisperse", "Sizes from small to large, touching.", 8, "polydisperse"),
    SampleInfo("fluorescence", "Fluorescence", "Positive and negative droplets.", 3, "fluorescence"),
)


def sample_names() -> list[SampleInfo]:
    """Return the sample micrographs, in the order of the home page."""
    return list(SAMPLES)


def render_sample(name: str) -> NDArray[np.uint8]:
    """Render a sample micrograph by name, (H, W, 3) uint8; KeyError for an unknown name."""
    info = {sample.name: sample for sample in SAMPLES}[name]
    return render_scene(info.seed, info.stratum, info.size).pixels
