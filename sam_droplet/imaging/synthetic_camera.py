"""What surrounds droplets and what the camera does: texture, walls, debris, light, blur, noise, text."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging.synthetic_optics import FloatImage, Rng, draw_particle

_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX)


def texture(rng: Rng, size: int, strength: float) -> FloatImage:
    """Return smooth-to-grainy background texture with standard deviation ``strength``."""
    field = np.zeros((size, size), np.float32)
    for _ in range(int(rng.integers(1, 4))):
        grain = float(np.exp(rng.uniform(np.log(1.0), np.log(size / 6))))
        small = max(4, int(size / grain) + 2)
        noise = rng.normal(0, 1, (small, small)).astype(np.float32)
        field += cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
    spread = float(field.std())
    return field * np.float32(strength / max(spread, 1e-6))


def draw_walls(rng: Rng, light: FloatImage) -> None:
    """Draw channel walls: long straight lines or bands, in place."""
    size = light.shape[0]
    angle = float(rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)]))
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    along = (x - size / 2) * np.cos(angle) + (y - size / 2) * np.sin(angle)
    for offset in rng.uniform(-size / 2, size / 2, int(rng.integers(1, 4))):
        distance = along - offset
        width, strength = rng.uniform(1, 5), rng.uniform(-90, 40)
        light += (strength * np.exp(-((distance / width) ** 2))).astype(np.float32)
        if rng.random() < 0.4:  # the material behind the wall is lighter or darker
            light += (rng.uniform(-40, 40) * (distance > 0)).astype(np.float32)


def draw_pillars(rng: Rng, light: FloatImage) -> None:
    """Draw square, hexagonal or bar-like pillars of a chip, in place."""
    size = light.shape[0]
    sides, radius = int(rng.choice([3, 4, 4, 6])), float(rng.uniform(6, 40))
    turn, stretch = rng.uniform(0, np.pi), rng.uniform(0.4, 1.0)
    angle = turn + np.arange(sides) * 2 * np.pi / sides
    outline = np.stack([np.cos(angle), np.sin(angle) * stretch], 1) * radius
    step = radius * rng.uniform(2.5, 5)
    shade, edge = float(rng.uniform(-40, 40)), float(rng.uniform(-90, 30))
    for cx in np.arange(rng.uniform(0, step), size, step):
        for cy in np.arange(rng.uniform(0, step), size, step):
            points = [np.round((outline + np.array([cx, cy])) * 16).astype(np.int32)]
            drawn = np.zeros_like(light)
            cv2.fillPoly(drawn, points, shade, cv2.LINE_AA, 4)
            cv2.polylines(drawn, points, True, edge, int(rng.integers(1, 4)), cv2.LINE_AA, 4)
            light += drawn
            if rng.random() < 0.3:
                return


def draw_debris(rng: Rng, light: FloatImage, count: int) -> None:
    """Draw dust, fibres, crystals and stray particles anywhere, in place."""
    size = light.shape[0]
    for _ in range(count):
        centre = rng.uniform(0, size, 2)
        contrast = float(rng.uniform(30, 120) * rng.choice([-1, 1]))
        if rng.random() < 0.2:  # fibre
            turns = np.cumsum(rng.normal(0, 0.25, 30)) + rng.uniform(0, 2 * np.pi)
            steps = rng.uniform(2, 9) * np.stack([np.cos(turns), np.sin(turns)], 1)
            points = [np.round((centre + np.cumsum(steps, 0)) * 16).astype(np.int32)]
            drawn = np.zeros_like(light)
            cv2.polylines(drawn, points, False, contrast, int(rng.integers(1, 4)), cv2.LINE_AA, 4)
            light += drawn
        else:
            kind = str(rng.choice(["bead", "cell", "crystal"]))
            draw_particle(rng, light, centre, float(np.exp(rng.uniform(0, np.log(8)))), contrast, kind)


def illuminate(rng: Rng, image: FloatImage) -> FloatImage:
    """Apply a lighting gradient and vignetting."""
    size = image.shape[0]
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    gx, gy = rng.uniform(-0.5, 0.5, 2)
    light = 1 + gx * x + gy * y
    if rng.random() < 0.3:
        light = light * (1 - rng.uniform(0.3, 1.2) * (x**2 + y**2))
    return np.asarray(image * light, np.float32)


def blur(rng: Rng, image: FloatImage, radius: float) -> FloatImage:
    """Apply defocus and sometimes motion blur, never so much that droplets of ``radius`` px dissolve."""
    sigma = float(rng.choice([0.0, 0.5, 0.8, 1.2, 1.8, 2.8, 4.0]))
    sigma = min(sigma, 0.14 * radius)
    if sigma > 0.3:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)
    if rng.random() < 0.05:
        length = int(np.clip(radius * 0.25, 2, 9))
        kernel = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1 / length
        image = np.asarray(cv2.filter2D(image, -1, kernel if rng.random() < 0.5 else kernel.T), np.float32)
    return image


def expose(rng: Rng, image: FloatImage, background: float, contrast: float) -> FloatImage:
    """Scale contrast about the background, add shot and read noise; values may leave 0..255."""
    exposed = (image - background) * contrast + background
    if rng.random() < 0.35:
        grain = rng.uniform(0.02, 0.5)
        exposed = exposed + rng.normal(0, 1, image.shape) * np.sqrt(np.maximum(exposed, 0)) * grain
    exposed = exposed + rng.normal(0, float(np.exp(rng.uniform(np.log(0.3), np.log(7)))), image.shape)
    if rng.random() < 0.03:  # interlaced video
        exposed = exposed.copy()
        exposed[1::2] = np.roll(exposed[1::2], int(rng.integers(1, 3)), axis=1)
    return np.asarray(exposed, np.float32)


def colour(rng: Rng, image: FloatImage, *, fluorescent: bool) -> NDArray[np.float32]:
    """Return (H, W, 3): grey, tinted, or one fluorescent colour."""
    grey = np.repeat(image[..., None], 3, axis=2)
    if fluorescent and rng.random() < 0.5:
        tint = np.array([[0, 1, 0], [1, 0, 0], [0, 0.1, 1], [1, 1, 0], [1, 0, 1]])[rng.integers(5)]
        return np.asarray(grey * tint, np.float32)
    if rng.random() < 0.2:
        return np.asarray(grey * rng.uniform(0.5, 1.15, 3), np.float32)
    return grey


def stain_particles(
    rng: Rng, pixels: NDArray[np.float32], shapes_xy: NDArray[np.float64], radius: float
) -> None:
    """Overlay saturated coloured blobs (a bead channel merged into the picture), in place."""
    tint = np.array([[40, 255, 40], [255, 40, 40], [60, 60, 255]], float)[rng.integers(3)]
    size = pixels.shape[0]
    for centre in shapes_xy:
        if rng.random() < 0.4:
            continue
        at = centre + rng.normal(0, 0.4, 2) * radius
        spread = max(1.0, radius * rng.uniform(0.04, 0.14))
        angle = np.linspace(0, 2 * np.pi, 10, endpoint=False)
        blob = at + np.stack([np.cos(angle), np.sin(angle)], 1) * spread * rng.uniform(0.6, 1.6, (10, 1))
        if ((blob > 0) & (blob < size)).any():
            cv2.fillPoly(pixels, [np.round(blob * 16).astype(np.int32)], tint.tolist(), cv2.LINE_8, 4)


def burn_in_text(rng: Rng, pixels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Draw text or a scale bar over the picture, in place; return (H, W) bool: what it hides."""
    size = pixels.shape[0]
    hidden = np.zeros((size, size), bool)
    scale, font = float(rng.uniform(0.4, 1.6)), int(rng.choice(_FONTS))
    text = str(rng.choice(["100 um", "50 um", "200 um", "t = 12.4 s", "10x", "1000 um", "0042", "20us V1.7"]))
    (width, height), _ = cv2.getTextSize(text, font, scale, max(1, int(scale * 2)))
    box_w, box_h = min(size, width + 12), min(size, height * 2 + 22)
    x, y = int(rng.integers(0, size - box_w + 1)), int(rng.integers(0, size - box_h + 1))
    if rng.random() < 0.7:  # corners are usual
        x, y = int(rng.choice([0, size - box_w])), int(rng.choice([0, size - box_h]))
    ink = float(rng.choice([255, 255, 0]))
    if rng.random() < 0.5:
        pixels[y : y + box_h, x : x + box_w] = 255 - ink
        hidden[y : y + box_h, x : x + box_w] = True
    stamp = np.zeros((size, size), np.uint8)
    cv2.putText(stamp, text, (x + 6, y + height + 6), font, scale, 255, max(1, int(scale * 2)), cv2.LINE_AA)
    if rng.random() < 0.7:
        cv2.rectangle(stamp, (x + 6, y + height + 12), (x + box_w - 6, y + height + 18), 255, -1)
    share = stamp[..., None].astype(np.float32) / 255
    pixels[:] = pixels * (1 - share) + ink * share
    return hidden | (stamp > 127)


def compress(rng: Rng, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pass the picture through JPEG at a random quality."""
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 96))])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
