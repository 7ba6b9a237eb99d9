"""Where MobileSAM's training from nothing begins: with places that its attention can tell apart.

As SAM's code initializes them, positions differ little over 80 px of the frame, and queries know nothing of
keys, so that thousands of steps pass before a click means a place. Frequencies are a buffer of the weights'
file and projections are weights, so that beginning otherwise changes neither network nor file.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from sam_droplet.segmentation.mobile_sam import Attention, MobileSam

# The finest waves are so many times shorter than SAM's: places 10 px apart differ then.
_FINEST = 8.0
_GAIN = 1.5


@torch.no_grad()
def begin_with_places(sam: MobileSam) -> None:
    """Spread the waves of the position code over three octaves; let queries find keys like themselves."""
    frequencies = sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    octaves = torch.linspace(0, math.log(_FINEST), frequencies.shape[1])[torch.randperm(frequencies.shape[1])]
    frequencies.mul_(octaves.exp())
    for part in sam.mask_decoder.transformer.modules():
        # Only where tokens and image meet: these work in fewer channels than they are given.
        if isinstance(part, Attention) and part.q_proj.out_features < part.q_proj.in_features:
            nn.init.orthogonal_(part.q_proj.weight, _GAIN)
            part.k_proj.weight.copy_(part.q_proj.weight)
            nn.init.zeros_(part.q_proj.bias)
            nn.init.zeros_(part.k_proj.bias)
