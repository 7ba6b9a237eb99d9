"""Small things among droplets of one size: satellites, stray beads, dust. No torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sam_droplet.segmentation.stars import Stars

# Below this share of the droplets' diameter an outline holds less than 4 % of their volume.
_SHARE = 1 / 3
# Only among so many droplets, spread by no more than this (SD over mean), and where small ones are few:
# an emulsion of all sizes keeps all of them.
_FEWEST, _MOST_SPREAD, _MOST_SMALL = 20, 0.2, 0.15


def much_smaller(stars: Stars, image_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Tell which outlines are far too small to be one of the droplets around, (N,) bool.

    The size of the droplets is the diameter at which half of the whole area is reached. What the border cuts
    is kept, and everything is where the droplets do not have one size.
    """
    radius = stars.equivalent_radii()
    main = usual_radius(radius)
    ordinary = radius[radius > main / 2]
    height, width = image_hw
    x, y = stars.centre_xy.T
    whole = (x > radius) & (y > radius) & (x < width - radius) & (y < height - radius)
    small = (radius < _SHARE * main) & whole
    one_size = len(ordinary) >= _FEWEST and ordinary.std() <= _MOST_SPREAD * ordinary.mean()
    return np.asarray(small & (one_size and small.sum() <= _MOST_SMALL * len(ordinary)))


def usual_radius(radius: NDArray[np.float32]) -> float:
    """Return the radius at which half of the area of all is reached, 0 where there are none."""
    if len(radius) == 0:
        return 0.0
    rising = np.sort(radius).astype(np.float64)
    area = np.cumsum(rising**2)
    return float(rising[np.searchsorted(area, area[-1] / 2)])
