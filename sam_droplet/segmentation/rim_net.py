"""RimNet: a second, closer look at each outline that DropletNet proposes.

It sees one proposal at a time, unrolled round its centre and at the same size whatever the droplet's, says
whether there is a droplet, and moves the rim along each ray to where it lies.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sam_droplet.segmentation.stars import N_RAYS, Stars, stars_from_outlines, unit_rays
from sam_droplet.segmentation.unrolling import STEPS, Unrolled

# What it sees: the first channels are grey values, the last is the score of the proposal.
N_CHANNELS, GREY_CHANNELS, SCORE_CHANNEL = 6, 2, 5
# A rim is moved by at most this, in log radius.
MOST_SHIFT = 0.5
_FLAT = 0.02  # grey differences below this are not stretched further

Float32 = NDArray[np.float32]


class _RingConv(nn.Module):
    """3 x 3 convolution over rays, which close to a ring, and steps; normalised, then ReLU."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(c_in, c_out, 3, stride, (0, 1), bias=False), nn.BatchNorm2d(c_out)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, rays, steps) to (N, C', rays / stride, steps / stride)."""
        return F.relu(self.conv(torch.cat([x[:, :, -1:], x, x[:, :, :1]], dim=2)))


class RimNet(nn.Module):
    """Judge and correct unrolled proposals."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.width = width
        self.near = nn.ModuleList([_RingConv(N_CHANNELS, width, 2), _RingConv(width, width)])
        self.far = nn.ModuleList([_RingConv(width, 2 * width, 2), _RingConv(2 * width, 2 * width)])
        self.score = nn.Sequential(nn.Linear(4 * width, 64), nn.ReLU(), nn.Linear(64, 1))
        self.squeeze = nn.Conv2d(width, 12, 1)
        self.of_ray = nn.Conv1d(12 * (len(STEPS) // 2), 64, 1)
        self.of_all = nn.Linear(4 * width, 64)
        self.shift = nn.Sequential(nn.Conv1d(64, 48, 3), nn.ReLU(), nn.Conv1d(48, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, 33): the logit of "a droplet", then the log of true over proposed radius per ray.

        x: (N, 6, 32, 40) as rim_input makes it.
        """
        near = self.near[0](x)
        near = near + self.near[1](near)  # (N, W, 16, 20)
        far = self.far[0](near)
        far = far + self.far[1](far)  # (N, 2W, 8, 10)
        whole = torch.cat([far.mean((2, 3)), far.amax((2, 3))], dim=1)  # (N, 4W)
        score = self.score(whole)
        rays = F.relu(self.squeeze(near)).permute(0, 1, 3, 2).flatten(1, 2)  # (N, 12 * 20, 16)
        rays = F.relu(self.of_ray(rays) + self.of_all(whole)[..., None])
        rays = self.shift(torch.cat([rays[..., -1:], rays, rays[..., :1]], dim=2))  # (N, 2, 16)
        shift = rays.permute(0, 2, 1).flatten(1)  # (N, 32)
        return torch.cat([score, MOST_SHIFT * torch.tanh(shift)], dim=1)


def rim_input(unrolled: Unrolled, stars: Stars) -> Float32:
    """Return what RimNet sees, (N, 6, 32, 40) float32.

    Channels: grey stretched to its own contrast, grey as it is, inside the picture, shape of the outline,
    its size, and the score it was proposed with.
    """
    grey = unrolled.grey
    mean, spread = grey.mean(axis=(1, 2), keepdims=True), grey.std(axis=(1, 2), keepdims=True)
    radius = np.maximum(stars.equivalent_radii(), 1e-3)[:, None, None]
    score = np.clip(stars.score, 1e-3, 1 - 1e-3)
    x = np.empty((len(stars), N_CHANNELS, N_RAYS, len(STEPS)), np.float32)
    x[:, 0] = (grey - mean) / (spread + _FLAT)
    x[:, 1] = grey - 0.5
    x[:, 2] = unrolled.inside
    x[:, 3] = 4 * np.log(np.maximum(stars.radii[..., None], 1e-3) / radius)
    x[:, 4] = np.log(radius / 20) / 2
    x[:, SCORE_CHANNEL] = (np.log(score / (1 - score)) / 4)[:, None, None]
    return x


def moved(stars: Stars, answer: Float32) -> Stars:
    """Apply RimNet's answer, (N, 33): new scores, and rims moved along their rays."""
    radii = stars.radii * np.exp(answer[:, 1:])
    outline = stars.centre_xy[:, None] + radii[..., None] * unit_rays()
    return stars_from_outlines(
        outline.astype(np.float32), np.asarray(1 / (1 + np.exp(-answer[:, 0])), np.float32)
    )
