"""How synthetic droplets look: rims, shading, halos, fluorescence, inclusions, debris, camera.

Rim convention: the true edge is the darkest line of the rim (the brightest line where the rim is
bright), and the half-height of the flank where there is no rim, as in fluorescence.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging.synthetic_layout import Shapes

FloatImage = NDArray[np.float32]
Rng = np.random.Generator


@dataclass(frozen=True)
class Optics:
    """Parameters of the droplets' appearance in one scene; grey levels are in units of 1/255."""

    fluorescent: bool
    rim: float  # grey levels at the rim line, positive is dark
    rim_inner: float  # decay length inwards, in radii
    rim_outer: float  # decay length outwards, in radii
    rim_power: float  # 1 exponential, 2 Gaussian
    rim_one_sided: float  # share by which the rim changes across the droplet
    inner_ring: float  # bright line inside the rim
    outer_halo: float  # bright line outside the rim
    second_rim: float  # weaker rim further in
    second_rim_at: float  # in radii from the edge
    level: float  # interior above background
    dome: float  # interior shading towards the centre
    lens: tuple[float, float]  # interior gradient along x and y
    spot: float  # central focus spot
    spot_size: float
    waves: float  # faint concentric interference
    wave_count: float
    variation: float  # droplet to droplet, relative
    positive_share: float
    positive_level: float
    negative_level: float
    flatness: float  # fluorescence profile: 0 flat, 1 spherical


def sample_optics(rng: Rng, kind: str) -> Optics:
    """Draw the optics of one scene; kind is "brightfield", "phase" or "fluorescence"."""

    def sometimes(probability: float, low: float, high: float) -> float:
        return float(rng.uniform(low, high)) if rng.random() < probability else 0.0

    bright_rim = kind == "brightfield" and rng.random() < 0.12
    rim = float(rng.uniform(25, 120)) * (-0.8 if bright_rim else 1.0)
    phase = kind == "phase"
    return Optics(
        fluorescent=kind == "fluorescence",
        rim=float(rng.uniform(10, 60)) if phase else rim,
        rim_inner=float(np.exp(rng.uniform(np.log(0.03), np.log(0.3)))),
        rim_outer=float(np.exp(rng.uniform(np.log(0.02), np.log(0.12)))),
        rim_power=float(rng.uniform(1.0, 2.2)),
        rim_one_sided=sometimes(0.4, 0.1, 0.8),
        inner_ring=sometimes(0.4, 5, 50),
        outer_halo=float(rng.uniform(25, 90)) if phase else sometimes(0.3, 5, 45),
        second_rim=sometimes(0.25, 0.2, 0.7),
        second_rim_at=float(rng.uniform(0.12, 0.35)),
        level=float(rng.uniform(-60, -10)) if phase else float(rng.normal(0, 1) * rng.choice([2, 12, 30])),
        dome=float(rng.uniform(-30, 30)) if rng.random() < 0.6 else 0.0,
        lens=(float(rng.normal(0, 12)), float(rng.normal(0, 12))) if rng.random() < 0.5 else (0.0, 0.0),
        spot=sometimes(0.25, 10, 90) * (1 if rng.random() < 0.8 else -1),
        spot_size=float(rng.uniform(0.12, 0.5)),
        waves=sometimes(0.2, 2, 9),
        wave_count=float(rng.uniform(1.5, 5)),
        variation=float(rng.choice([0.02, 0.1, 0.3])),
        positive_share=float(rng.beta(0.7, 0.7)),
        positive_level=float(rng.uniform(60, 200)),
        negative_level=float(rng.choice([0.0, rng.uniform(2, 12), rng.uniform(15, 60)])),
        flatness=float(rng.uniform(0.0, 1.0)),
    )


@dataclass(eq=False)
class Canvas:
    """Collect light while a scene is drawn: image = fill - dark + bright, all (H, W) float32."""

    fill: FloatImage
    dark: FloatImage
    bright: FloatImage

    @classmethod
    def blank(cls, size: int) -> Canvas:
        """Return an empty canvas."""
        return cls(*(np.zeros((size, size), np.float32) for _ in range(3)))

    def combined(self) -> FloatImage:
        """Return the light relative to the background."""
        return self.fill - self.dark + self.bright


def draw_droplets(rng: Rng, canvas: Canvas, shapes: Shapes, optics: Optics) -> NDArray[np.float64]:
    """Draw every shape; return each droplet's contrast in grey levels, (N,)."""
    radii = shapes.radii(32)
    largest, equivalent = radii.max(axis=1), shapes.equivalent_radii()
    contrast = np.zeros(len(shapes))
    for i in range(len(shapes)):
        reach = largest[i] * 1.5 + 4
        window = _window(canvas.fill.shape, shapes.centre_xy[i], reach)
        if window is None:
            continue
        rows, columns = window
        y, x = np.mgrid[rows, columns] + 0.5
        gauge = shapes.gauge(i, x, y)
        distance = (gauge - 1) * equivalent[i] * _rim_stretch(shapes, i, x, y, equivalent[i])
        if optics.fluorescent:
            contrast[i] = _draw_glow(rng, canvas, window, gauge, distance, optics)
        else:
            _draw_refraction(rng, canvas, window, gauge, distance, optics, shapes, i, x, y)
            contrast[i] = abs(optics.rim) + abs(optics.level) + optics.outer_halo
    return contrast


def _window(
    shape: tuple[int, ...], centre_xy: NDArray[np.float64], reach: float
) -> tuple[slice, slice] | None:
    x0, y0 = np.maximum(np.floor(centre_xy - reach).astype(int), 0)
    x1 = min(int(np.ceil(centre_xy[0] + reach)), shape[1])
    y1 = min(int(np.ceil(centre_xy[1] + reach)), shape[0])
    return (slice(y0, y1), slice(x0, x1)) if x1 > x0 and y1 > y0 else None


def _rim_stretch(
    shapes: Shapes,
    i: int,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    radius: float,
) -> NDArray[np.float64] | float:
    """Turn gauge steps into pixels: 1 / (|grad gauge| * radius), exact on the rim to first order."""
    if not shapes.facets[i].any() and np.allclose(shapes.ellipse[i], np.eye(2) / radius, rtol=1e-3):
        return 1.0
    step = 0.25
    gradient = np.hypot(
        shapes.gauge(i, x + step, y) - shapes.gauge(i, x - step, y),
        shapes.gauge(i, x, y + step) - shapes.gauge(i, x, y - step),
    ) / (2 * step)
    # Near the centre the gradient vanishes; rims are far from there.
    stretch: NDArray[np.float64] = 1.0 / np.maximum(gradient * radius, 0.2)
    return stretch


def _draw_glow(
    rng: Rng,
    canvas: Canvas,
    window: tuple[slice, slice],
    gauge: NDArray[np.float64],
    distance: NDArray[np.float64],
    optics: Optics,
) -> float:
    positive = rng.random() < optics.positive_share
    level = optics.positive_level if positive else optics.negative_level
    level *= 1 + optics.variation * rng.normal()
    cover = np.clip(0.5 - distance, 0, 1)
    profile = np.sqrt(np.clip(1 - optics.flatness * np.minimum(gauge, 1) ** 2, 0, 1))
    if optics.spot > 60:  # rim-stained droplets
        profile = 0.35 + 0.65 * np.exp(-(((gauge - 0.93) / 0.12) ** 2))
    canvas.fill[window] = np.maximum(canvas.fill[window], cover * level * profile)
    return abs(level)


def _draw_refraction(
    rng: Rng,
    canvas: Canvas,
    window: tuple[slice, slice],
    gauge: NDArray[np.float64],
    distance: NDArray[np.float64],
    optics: Optics,
    shapes: Shapes,
    i: int,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
) -> None:
    o = optics
    own = 1 + o.variation * rng.normal(size=3)
    radius = 1.0 / np.sqrt(abs(np.linalg.det(shapes.ellipse[i])))
    inner_px, outer_px = max(1.0, o.rim_inner * radius), max(0.8, o.rim_outer * radius)
    u, v = (x - shapes.centre_xy[i, 0]) / radius, (y - shapes.centre_xy[i, 1]) / radius
    inside = np.minimum(gauge, 1.0)
    value = o.level * own[0] + o.dome * own[1] * (1 - inside**2) + o.lens[0] * u + o.lens[1] * v
    if o.spot:
        value = value + o.spot * own[2] * np.exp(-((inside / o.spot_size) ** 2))
    if o.waves:
        value = value + o.waves * np.cos(2 * np.pi * o.wave_count * inside)
    cover = np.clip(0.5 - distance, 0, 1)
    canvas.fill[window] = canvas.fill[window] * (1 - cover) + cover * value

    decay = np.where(distance < 0, -distance / inner_px, distance / outer_px)
    line = np.exp(-(decay**o.rim_power))
    if o.rim_one_sided:
        line = line * (1 + o.rim_one_sided * np.clip(u * 0.7 + v * 0.7, -1, 1))
    if o.second_rim:
        at = -max(2.5, o.second_rim_at * radius)
        line = np.maximum(line, o.second_rim * np.exp(-(((distance - at) / max(0.8, inner_px * 0.4)) ** 2)))
    strength = o.rim * own[2]
    target = canvas.dark if strength > 0 else canvas.bright
    target[window] = np.maximum(target[window], abs(strength) * line)
    for brightness, at, width in (
        (o.inner_ring, -1.8 * inner_px - 1.0, max(0.9, inner_px * 0.7)),
        (o.outer_halo, 1.8 * outer_px + 1.0, max(0.9, outer_px)),
    ):
        if brightness:
            glow = brightness * np.exp(-(((distance - at) / width) ** 2))
            canvas.bright[window] = np.maximum(canvas.bright[window], glow)


def draw_ghosts(rng: Rng, size: int, radius: float, strength: float, count: int) -> FloatImage:
    """Return faint out-of-focus rims of a second layer, (size, size), to be added to the image."""
    ghosts = np.zeros((size, size), np.float32)
    for _ in range(count):
        own = max(3.0, radius * rng.uniform(0.7, 1.4))
        start, span = (0, 360) if rng.random() < 0.4 else (rng.uniform(0, 360), rng.uniform(60, 220))
        centre = rng.uniform(0, size, 2)
        level = strength * rng.uniform(0.4, 1.0)
        for shift, sign in ((0.0, -1.0), (rng.uniform(0.05, 0.2) * own, 1.0)):
            cv2.ellipse(
                ghosts,
                (int(centre[0]), int(centre[1])),
                (max(2, int(own - shift)),) * 2,
                0,
                start,
                start + span,
                float(sign * level),
                max(1, round(own * 0.08)),
                cv2.LINE_AA,
            )
    blurred = cv2.GaussianBlur(ghosts, (0, 0), max(0.7, radius * rng.uniform(0.02, 0.12)))
    return np.asarray(blurred, np.float32)


def draw_inclusions(
    rng: Rng, light: FloatImage, shapes: Shapes, per_droplet: float, kind: str, *, most: int
) -> None:
    """Draw beads, cells or crystals inside droplets, at most ``most`` in each, in place."""
    radius = shapes.equivalent_radii()
    contrast = float(rng.choice([-90.0, -50.0, 60.0, 120.0]))
    relative = rng.uniform(0.05, 0.2)
    for i in np.repeat(np.arange(len(shapes)), np.minimum(rng.poisson(per_droplet, len(shapes)), most)):
        if radius[i] < 5:
            continue
        spot = max(1.0, radius[i] * relative * rng.uniform(0.7, 1.3))
        offset = rng.normal(0, 0.45, 2)
        offset *= min(1.0, 0.9 / max(np.hypot(*offset), 1e-6)) * radius[i]
        draw_particle(rng, light, shapes.centre_xy[i] + offset, spot, contrast, kind)


def draw_particle(
    rng: Rng, light: FloatImage, centre_xy: NDArray[np.float64], radius: float, contrast: float, kind: str
) -> None:
    """Draw one bead, cell or crystal, in place."""
    x, y = (float(v) for v in centre_xy)
    window = _window(light.shape, centre_xy, radius * 2 + 3)
    if window is None:
        return
    patch = light[window]
    if kind == "crystal":
        angle = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
        points = np.stack([np.cos(angle), np.sin(angle)], 1) * radius * rng.uniform(0.5, 1.5, (len(angle), 1))
        points += (x - window[1].start, y - window[0].start)
        drawn = np.zeros(patch.shape, np.float32)
        cv2.fillPoly(drawn, [np.round(points * 16).astype(np.int32)], 1.0, cv2.LINE_AA, 4)
        patch += drawn * contrast
        return
    yy, xx = np.mgrid[window] + 0.5
    distance = np.hypot(xx - x, yy - y)
    if kind == "cell":
        angle = np.arctan2(yy - y, xx - x)
        distance = distance * (1 + 0.2 * np.sin(2 * angle + rng.uniform(0, 6)) + 0.1 * np.sin(3 * angle))
    disc = np.clip(radius + 0.5 - distance, 0, 1)
    patch += (disc * contrast).astype(np.float32)
    if radius > 2.5 and rng.random() < 0.5:
        patch -= (1.2 * contrast * np.exp(-((distance / (radius * 0.5)) ** 2))).astype(np.float32)


def draw_bubbles(
    rng: Rng, light: FloatImage, centres_xy: NDArray[np.float64], radii: NDArray[np.float64]
) -> None:
    """Draw air bubbles, in place: a broad black rim and a small bright centre."""
    for centre, radius in zip(centres_xy, radii, strict=True):
        window = _window(light.shape, centre, radius * 1.3 + 2)
        if window is None:
            continue
        y, x = np.mgrid[window] + 0.5
        q = np.hypot(x - centre[0], y - centre[1]) / radius
        cover = np.clip((1 - q) * radius + 0.5, 0, 1)
        inside = -rng.uniform(90, 150) * np.clip(q * 1.6 - 0.3, 0, 1) + 60 * np.exp(-((q / 0.3) ** 2))
        light[window] = light[window] * (1 - cover) + cover * inside
