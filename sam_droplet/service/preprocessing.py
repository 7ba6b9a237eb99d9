"""Contrast and noise filters for what the network sees; measuring always uses the raw pixels.

The names and their parameters are those of the original application's ``preprocessing`` object.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging.images import Image

View = NDArray[np.uint8]


@dataclass(frozen=True)
class Preprocessing:
    """Say which filters run, in the order of these fields; nothing runs by default.

    Kernel sizes are odd numbers of pixels; clip_limit and tile_grid belong to the contrast
    enhancement (CLAHE); amount is the weight of the unsharp mask.
    """

    gaussian_blur: bool = False
    gaussian_kernel_size: int = 5
    gaussian_sigma: float = 1.0
    median_filter: bool = False
    median_kernel_size: int = 5
    morphological_opening: bool = False
    opening_kernel_size: int = 3
    morphological_closing: bool = False
    closing_kernel_size: int = 3
    contrast_enhancement: bool = False
    clahe_clip_limit: float = 2.0
    clahe_grid_size: int = 8
    unsharp_mask: bool = False
    unsharp_radius: float = 1.0
    unsharp_amount: float = 1.0

    def steps(self) -> list[str]:
        """Return the names of the filters that run."""
        names = (
            "gaussian_blur",
            "median_filter",
            "morphological_opening",
            "morphological_closing",
            "contrast_enhancement",
            "unsharp_mask",
        )
        return [name for name in names if getattr(self, name)]

    def apply(self, image: Image) -> Image:
        """Return a filtered 8-bit copy of an image, of the same size and with a digest of its own."""
        view = self._filtered(image.view())
        digest = hashlib.sha256(f"{image.digest} {self}".encode()).hexdigest()
        return replace(image, pixels=view, digest=digest, bit_depth=8, channel_names=("red", "green", "blue"))

    def _filtered(self, view: View) -> View:
        for name in self.steps():
            view = _FILTERS[name](view, self)
        return view


def _gaussian_blur(view: View, p: Preprocessing) -> View:
    size = (p.gaussian_kernel_size, p.gaussian_kernel_size)
    return _u8(cv2.GaussianBlur(view, size, p.gaussian_sigma))


def _median_filter(view: View, p: Preprocessing) -> View:
    return _u8(cv2.medianBlur(view, p.median_kernel_size))


def _opening(view: View, p: Preprocessing) -> View:
    return _u8(cv2.morphologyEx(view, cv2.MORPH_OPEN, _disc(p.opening_kernel_size)))


def _closing(view: View, p: Preprocessing) -> View:
    return _u8(cv2.morphologyEx(view, cv2.MORPH_CLOSE, _disc(p.closing_kernel_size)))


def _contrast(view: View, p: Preprocessing) -> View:
    lab = cv2.cvtColor(view, cv2.COLOR_RGB2LAB)
    clahe = cv2.createCLAHE(p.clahe_clip_limit, (p.clahe_grid_size, p.clahe_grid_size))
    lab[..., 0] = clahe.apply(np.ascontiguousarray(lab[..., 0]))
    return _u8(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB))


def _unsharp(view: View, p: Preprocessing) -> View:
    blurred = cv2.GaussianBlur(view, (0, 0), p.unsharp_radius)
    return _u8(cv2.addWeighted(view, 1 + p.unsharp_amount, blurred, -p.unsharp_amount, 0))


def _disc(size: int) -> View:
    return _u8(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))


def _u8(array: NDArray[np.generic]) -> View:
    return np.asarray(array, np.uint8)


_FILTERS = {
    "gaussian_blur": _gaussian_blur,
    "median_filter": _median_filter,
    "morphological_opening": _opening,
    "morphological_closing": _closing,
    "contrast_enhancement": _contrast,
    "unsharp_mask": _unsharp,
}
