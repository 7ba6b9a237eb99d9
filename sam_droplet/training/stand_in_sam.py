"""Weights for MobileSAM that draw a disc about each point: for tests and benchmarks without the real ones.

Masks of random weights cover the image in texture whatever the prompt, which no filter, box or clock
is made for. Everything that is not touched here stays random.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sam_droplet.segmentation.mobile_sam import LOW_RES_SIDE, MobileSam
from sam_droplet.segmentation.tiny_vit import IMAGE_SIDE

# Radii in model pixels of the discs of masks 0 (single) to 3.
RADII_PX = (80.0, 60.0, 75.0, 120.0)


def random_sam() -> MobileSam:
    """Return a network with random weights, in which every parameter and statistic matters."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MobileSam()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim == 1 or "attention_biases" in name:
                value.add_(0.2 * torch.randn(value.shape, generator=generator))
        for name, statistic in model.named_buffers():
            if name.endswith("running_mean"):
                statistic.normal_(0, 0.2, generator=generator)
            if name.endswith("running_var"):
                statistic.uniform_(0.5, 1.5, generator=generator)
    return model.eval().requires_grad_(False)


def draw_discs(model: MobileSam, embedding: Tensor, steepness: float = 1.0) -> MobileSam:
    """Return a copy that draws discs of RADII_PX about each point, with predicted IoUs about 0.9.

    embedding: (1, 256, 64, 64) of a picture, for which the copy is fitted; it serves others as well.
    steepness: factor of all logits; at 1 they are 4 in the middle of a disc and 0 on its rim.
    """
    copy: Any = MobileSam()
    copy.load_state_dict(model.state_dict())
    with torch.no_grad():
        _look_where_the_point_is(copy)
        _fit_discs(copy, embedding)
        head = copy.mask_decoder.iou_prediction_head.layers[2]
        head.weight *= 6
        points, labels = _scattered_points()
        _, iou = copy.decode(embedding, points, labels)
        head.bias += 0.9 - iou.mean(dim=0)
        for weights in copy.mask_decoder.output_hypernetworks_mlps:
            weights.layers[2].weight *= steepness
            weights.layers[2].bias *= steepness
    fitted: MobileSam = copy.eval().requires_grad_(False)
    return fitted


def _scattered_points() -> tuple[Tensor, Tensor]:
    xy = [[x, y] for x in (150.0, 500.0, 900.0) for y in (200.0, 700.0)]
    return torch.tensor([[point, [0, 0]] for point in xy]), torch.tensor([[1, -1]] * len(xy))


def _look_where_the_point_is(model: Any) -> None:
    """Let the second image-to-token attention compare positions alone, so that cells find their point."""
    first, second = model.mask_decoder.transformer.layers
    # 64 of the 128 frequencies, sine and cosine, carry nothing but position.
    placed = torch.cat([torch.arange(64), torch.arange(128, 192)])
    prompts = model.prompt_encoder
    for kind in (*prompts.point_embeddings, prompts.not_a_point_embed, model.mask_decoder.iou_token,
                 model.mask_decoder.mask_tokens):  # fmt: skip
        kind.weight *= 3
        kind.weight[:, placed] = 0
    for corner in prompts.point_embeddings[2:]:  # a box draws about both of its corners
        corner.weight.copy_(prompts.point_embeddings[1].weight)
    for norm in (first.norm4, second.norm3):
        norm.weight[placed] = 0
        norm.bias[placed] = 0
    # Each token attends to itself at first, so that it stays what it is.
    own = first.self_attn
    for layer, scale in ((own.q_proj, 2), (own.k_proj, 2), (own.v_proj, 1), (own.out_proj, 1)):
        layer.weight.copy_(scale * torch.eye(256))
        layer.bias.zero_()
    pick = torch.zeros(128, 256)
    i = torch.arange(64)
    pick[(i // 8) * 16 + 2 * (i % 8), i] = 1
    pick[(i // 8) * 16 + 2 * (i % 8) + 1, 128 + i] = 1
    look = second.cross_attn_image_to_token
    for layer in (look.q_proj, look.k_proj):
        layer.weight.copy_(1.4 * pick)
        layer.bias.zero_()
    look.out_proj.weight *= 4


def _fit_discs(model: Any, embedding: Tensor) -> None:
    """Fit each mask's pixel weights to discs about some points, by least squares."""
    decoder = model.mask_decoder
    for k in (0, 3):  # smooth the four parts of each cell, which random weights paint as texture
        weight = decoder.output_upscaling[k].weight
        weight.copy_(weight[:, :, :1, :1] + 0.05 * (weight - weight[:, :, :1, :1]))
    points, labels = _scattered_points()
    drawn: list[Tensor] = []
    hook = decoder.output_upscaling.register_forward_hook(lambda _m, _i, out: drawn.append(out))
    model.decode(embedding, points, labels)
    hook.remove()
    features = drawn[0].flatten(2).transpose(1, 2)[:, ::7].reshape(-1, 32)  # every 7th pixel of each prompt
    centre = (torch.arange(LOW_RES_SIDE) + 0.5) * (IMAGE_SIDE / LOW_RES_SIDE)
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    pixels = torch.stack([x, y], dim=-1).view(-1, 2)[::7]
    distance = (pixels[None] - points[:, :1]).norm(dim=-1).flatten()
    near = (1 / (1 + distance / 100))[:, None]
    for head, radius in zip(decoder.output_hypernetworks_mlps, RADII_PX, strict=True):
        target = (4 * (1 - distance / radius)).clamp(-6, 4)[:, None]
        rows = torch.cat([features * near, torch.eye(32)])
        wanted = torch.cat([target * near, torch.zeros(32, 1)])
        head.layers[2].weight *= 0.005
        head.layers[2].bias.copy_(torch.linalg.lstsq(rows, wanted).solution[:, 0])
