"""A plain packed emulsion with as many droplets as asked for: what speed is measured on. Not for training."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

# Share of the lattice pitch that a droplet's radius takes; below 0.5, so that droplets do not overlap.
_FILL = 0.46


def emulsion_picture(n_droplets: int, side_px: int) -> NDArray[np.uint8]:
    """Return (side, side, 3) uint8: about ``n_droplets`` dark-rimmed discs on a jittered hexagonal lattice.

    Copies of it fit together without a seam.
    """
    rng = np.random.default_rng([n_droplets, side_px])
    pitch = side_px / np.sqrt(n_droplets * np.sqrt(0.75))
    # Rows come in pairs, or else the lattice would not go on in the next copy.
    n_rows, n_columns = 2 * round(side_px / (2 * pitch * np.sqrt(0.75))), round(side_px / pitch)
    row, column = np.mgrid[:n_rows, :n_columns]
    lattice = np.stack([column + 0.5 * (row % 2), row], axis=-1).reshape(-1, 2)
    centres = lattice * (side_px / n_columns, side_px / n_rows) + rng.normal(0, 0.02 * pitch, lattice.shape)
    y, x = np.mgrid[:side_px, :side_px] + 0.5
    tree = cKDTree(centres % side_px, boxsize=side_px)
    distance, _ = tree.query(np.stack([x, y], axis=-1).reshape(-1, 2))
    radius = _FILL * pitch
    from_rim = (distance.reshape(side_px, side_px) - radius).astype(np.float32)
    light = 150 + 25 * (from_rim < 0) - 90 * np.exp(-((from_rim / max(1.2, 0.12 * radius)) ** 2))
    light = cv2.GaussianBlur(light, (0, 0), 0.7) + rng.normal(0, 4, light.shape)
    return np.repeat(light.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
