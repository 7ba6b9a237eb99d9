"""DropletNet: every droplet of a picture in one pass, as star-convex outlines.

At every second pixel the network says how central the place is to a droplet (1 at its centre,
0 on its rim and outside) and how far the rim lies along 32 rays.
"""

from __future__ import annotations

import math
from functools import reduce
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sam_droplet.segmentation.stars import N_RAYS, Stars, radii_from, stars_from_outlines, unit_rays

STRIDE = 2
# The deepest level halves the picture six times: sides must be multiples of this.
SIDE_MULTIPLE = 64

CHANNELS = (24, 40, 64, 96, 128, 128)
# In ranges between the percentiles of a picture: in 78 pictures, rendered and real, nothing solid lay farther
# out than 2.6. What does is brought to where the brightest droplets of many pictures are.
_FARTHEST_LEARNED, _SHOWN_AT = 3.0, 1.5
# So much of a picture is a few places.
_FEW_SHARE = 0.0002


def _conv(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)
    )


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(x + f(x)), same shape."""
        return F.relu(x + self.second(self.first(x)))


class DropletNet(nn.Module):
    """U-Net with added skips from stride 2 to stride 64; the widest work is done at low resolution."""

    def __init__(self, channels: tuple[int, ...] = CHANNELS, n_rays: int = N_RAYS) -> None:
        super().__init__()
        self.channels, self.n_rays = channels, n_rays
        self.stem = _conv(3, channels[0], STRIDE)
        self.down = nn.ModuleList(
            [_conv(channels[0], channels[0])]
            + [nn.Sequential(_conv(a, b, 2), Residual(b)) for a, b in pairwise(channels)]
        )
        self.lateral = nn.ModuleList([nn.Conv2d(b, a, 1) for a, b in pairwise(channels)])
        self.up = nn.ModuleList([_conv(channels[0], channels[0])] + [Residual(c) for c in channels[1:-1]])
        self.head = nn.Sequential(_conv(channels[0], 32), nn.Conv2d(32, 1 + n_rays, 1))
        last = self.head[1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        with torch.no_grad():  # start at radii of 12 px and at "no droplet"
            last.bias[1:] = 2.5
            last.bias[0] = -2.0

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return centre logits (B, H/2, W/2) and log radii in px (B, 32, H/2, W/2).

        x: (B, 3, H, W) float, normalised; H and W multiples of SIDE_MULTIPLE.
        """
        out = self.head(self.features(x))
        return out[:, 0], out[:, 1:]

    def features(self, x: Tensor) -> Tensor:
        """Return what the head reads, (B, 24, H/2, W/2)."""
        x = self.stem(x)
        levels = []
        for down in self.down:
            x = down(x)
            levels.append(x)
        for i in reversed(range(len(self.up))):
            x = F.interpolate(self.lateral[i](x), scale_factor=2, mode="bilinear", align_corners=False)
            x = self.up[i](x + levels[i])
        return x


def grey_range(pixels: NDArray[np.generic]) -> tuple[float, float]:
    """Return what counts as black and white in (H, W, C) pixels: the 1st and 99.8th percentile of a sample.

    Where nearly all pixels are equal, the smallest and the largest value. Where a few things stand out
    farther than the network has learned, as three droplets on 2048 x 2048 px of dark ground do, the range
    reaches on towards them.
    """
    step_y, step_x = max(1, pixels.shape[0] // 512), max(1, pixels.shape[1] // 512)
    low, high = (float(v) for v in np.percentile(pixels[::step_y, ::step_x].astype(np.float32), (1.0, 99.8)))
    if low == high:
        return float(pixels.min()), float(pixels.max())
    darkest, brightest = _solid_extremes(pixels, 2 * step_y, 2 * step_x)
    farthest = _FARTHEST_LEARNED * (high - low)
    return (
        high - (high - darkest) / _SHOWN_AT if high - darkest > farthest else low,
        low + (brightest - low) / _SHOWN_AT if brightest - low > farthest else high,
    )


def _solid_extremes(pixels: NDArray[np.generic], step_y: int, step_x: int) -> tuple[float, float]:
    """Return the darkest and the brightest value that a few places have all over 3 x 3 px: no hot pixel."""
    height, width = pixels.shape[:2]
    rows, columns = max(1, height - 2), max(1, width - 2)
    near = [pixels[y : y + rows : step_y, x : x + columns : step_x] for y in range(3) for x in range(3)]
    shape = near[0].shape
    around = [part for part in near if part.shape == shape]
    most, least = (reduce(choose, around).ravel() for choose in (np.maximum, np.minimum))
    few = int(most.size * _FEW_SHARE)
    return float(np.partition(most, few)[few]), float(np.partition(least, -1 - few)[-1 - few])


def network_input(
    pixels: NDArray[np.generic], low_high: tuple[float, float] | None = None
) -> NDArray[np.float32]:
    """Return (H, W, 3) float32 with the grey range of all channels at 0..1.

    pixels: (H, W, C) at any bit depth. One channel is repeated; of more than three, three are used.
    """
    low, high = low_high or grey_range(pixels)
    channels = pixels.shape[2]
    chosen = pixels[..., [0, 0, 0]] if channels == 1 else pixels[..., [0, 1, min(2, channels - 1)]]
    scaled = (chosen.astype(np.float32) - np.float32(low)) / np.float32(high - low or 1)
    return np.asarray(scaled, np.float32)


def decode_stars(logits: Tensor, log_radii: Tensor, threshold: float) -> Stars:
    """Turn one network answer into stars at the local maxima of the centre map.

    logits: (h, w). log_radii: (32, h, w). Coordinates are in network pixels. Each outline is the
    mean of the outlines seen from the 3x3 places around its maximum, which steadies it below a pixel.
    """
    logits = logits.float()
    # Peaks are sought among logits, and the arithmetic is done in numpy on what is found: torch's
    # answers may differ in the last digit with the number of threads.
    peak = logits == F.max_pool2d(logits[None], 3, 1, 1)[0]
    rows, columns = torch.nonzero(peak & (logits > math.log(threshold / (1 - threshold))), as_tuple=True)
    if len(rows) == 0:
        return Stars.none()
    h, w = logits.shape
    steps = torch.tensor([(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)], device=rows.device)
    y = (rows[:, None] + steps[:, 0]).clamp(0, h - 1)  # (N, 9)
    x = (columns[:, None] + steps[:, 1]).clamp(0, w - 1)
    place = (y * w + x).flatten()
    weight = 1 / (1 + np.exp(-logits.flatten()[place].cpu().numpy().reshape(-1, 9)))
    log_radii_there = log_radii.flatten(1).index_select(1, place).float().cpu().numpy()
    radii = np.exp(log_radii_there.T.reshape(-1, 9, N_RAYS))
    origin = torch.stack([columns, rows], dim=1).cpu().numpy() * STRIDE + STRIDE / 2  # (N, 2)
    shift = torch.stack([x - columns[:, None], y - rows[:, None]], dim=2).cpu().numpy() * STRIDE
    seen = shift.astype(np.float32)[:, :, None] + radii[..., None] * unit_rays()  # (N, 9, 32, 2)
    from_peak = radii_from(seen.reshape(-1, N_RAYS, 2)).reshape(-1, 9, N_RAYS)
    steady = (from_peak * weight[..., None]).sum(axis=1) / weight.sum(axis=1, keepdims=True)
    outline = origin[:, None] + steady[..., None] * unit_rays()
    return stars_from_outlines(outline.astype(np.float32), weight[:, 4])
