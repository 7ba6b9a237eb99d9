"""Pictures at half their size, made a band of rows at a time so that memory stays small. No model here."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_BAND_ROWS = 512


def halved(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Return (H, W, C) pixels at half the size, each the mean of four: (ceil(H/2), ceil(W/2), C).

    The last row and column of odd sides count twice, so that coordinates halve exactly.
    """
    height, width, channels = pixels.shape
    half = np.empty(((height + 1) // 2, (width + 1) // 2, channels), np.float32)
    for top in range(0, height, _BAND_ROWS):
        band = pixels[top : top + _BAND_ROWS].astype(np.float32)
        odd_rows, odd_columns = band.shape[0] % 2, width % 2
        if odd_rows or odd_columns:
            band = np.pad(band, ((0, odd_rows), (0, odd_columns), (0, 0)), mode="edge")
        rows, columns = band.shape[0] // 2, band.shape[1] // 2
        seen = cv2.resize(band, (columns, rows), interpolation=cv2.INTER_AREA)
        half[top // 2 : top // 2 + rows] = seen.reshape(rows, columns, channels)
    return half
