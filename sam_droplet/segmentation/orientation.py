"""Look at a picture the way up that its own content chooses, so that turning the camera changes no number.

A network's answers differ a little between a picture and its turned or mirrored copy, and by chance, not for
a reason. Of the eight ways to lay a picture down, one is chosen by what all eight have in common.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_droplet.segmentation.stars import N_RAYS, Stars

_ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Laying:
    """One of the eight ways to lay a picture down: mirrored left to right, top to bottom, then transposed."""

    mirrored_x: bool = False
    mirrored_y: bool = False
    transposed: bool = False

    def of(self, pixels: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return a view of (H, W, C) pixels laid down this way."""
        laid = pixels[:: -1 if self.mirrored_y else 1, :: -1 if self.mirrored_x else 1]
        return laid.transpose(1, 0, 2) if self.transposed else laid

    def back(self, stars: Stars, image_hw: tuple[int, int]) -> Stars:
        """Return outlines seen in the laid picture as they lie in the picture of (H, W) px itself."""
        centre, ray = stars.centre_xy.copy(), np.arange(N_RAYS)
        if self.transposed:
            centre, ray = centre[:, ::-1].copy(), (N_RAYS // 4 - ray) % N_RAYS
        if self.mirrored_x:
            centre[:, 0], ray = image_hw[1] - centre[:, 0], ray[(N_RAYS // 2 - np.arange(N_RAYS)) % N_RAYS]
        if self.mirrored_y:
            centre[:, 1], ray = image_hw[0] - centre[:, 1], ray[-np.arange(N_RAYS) % N_RAYS]
        return Stars(centre, stars.radii[:, ray], stars.score)


def chosen_laying(pixels: NDArray[np.generic]) -> Laying:
    """Return the way in which grey rises steeply and falls gently along x and y, and changes most along x.

    pixels: (H, W, C). The sums of the second and third powers of all steps between neighbours decide. They
    are exact for 8 bits, and copies side by side decide as one does.
    """
    power_2, power_3 = np.zeros(2), np.zeros(2)
    for top in range(0, pixels.shape[0], _ROWS_AT_ONCE):
        # One row more, for the step into the next part.
        grey = pixels[top : top + _ROWS_AT_ONCE + 1].sum(axis=2, dtype=np.float32)
        for axis, steps in enumerate((np.diff(grey[:_ROWS_AT_ONCE], axis=1), np.diff(grey, axis=0))):
            squares = steps * steps
            power_2[axis] += squares.sum(dtype=np.float64)
            power_3[axis] += (squares * steps).sum(dtype=np.float64)
    return Laying(bool(power_3[0] < 0), bool(power_3[1] < 0), bool(power_2[0] < power_2[1]))
