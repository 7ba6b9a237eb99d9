"""The reference implementation of MobileSAM (PyPI mobilesam-mirror), and ours, on the same random weights."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torch import Tensor, nn

from sam_droplet.segmentation.mobile_sam import MobileSam


class DropPath(nn.Module):
    """What timm's DropPath does when nothing is dropped."""

    def __init__(self, drop_prob: float | None = None) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


def batched_nms(boxes: Tensor, scores: Tensor, categories: Tensor, iou_threshold: float) -> Tensor:
    """Greedy box suppression as in torchvision; one category is all that the reference uses."""
    order = scores.argsort(descending=True, stable=True).tolist()
    areas = box_area(boxes)
    kept: list[int] = []
    for i in order:
        top_left = torch.maximum(boxes[i, :2], boxes[kept, :2])
        bottom_right = torch.minimum(boxes[i, 2:], boxes[kept, 2:])
        shared = (bottom_right - top_left).clamp(min=0).prod(dim=1)
        if not (shared / (areas[i] + areas[kept] - shared) > iou_threshold).any():
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)


def box_area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _stand_in(name: str, **contents: Any) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(contents)
    return module


@pytest.fixture(scope="session")
def reference() -> Iterator[ModuleType]:
    """The module mobile_sam, given the few functions that it needs of timm and torchvision."""

    def resize(image: PillowImage.Image, hw: tuple[int, int]) -> PillowImage.Image:
        return image.resize((hw[1], hw[0]), PillowImage.Resampling.BILINEAR)

    stand_ins = [
        _stand_in("timm"),
        _stand_in("timm.models"),
        _stand_in("timm.models.registry", register_model=lambda function: function),
        _stand_in(
            "timm.models.layers",
            DropPath=DropPath,
            to_2tuple=lambda value: (value, value),
            trunc_normal_=nn.init.trunc_normal_,
        ),
        _stand_in("torchvision"),
        _stand_in("torchvision.transforms"),
        _stand_in("torchvision.transforms.functional", resize=resize, to_pil_image=PillowImage.fromarray),
        _stand_in("torchvision.ops"),
        _stand_in("torchvision.ops.boxes", batched_nms=batched_nms, box_area=box_area),
    ]
    with pytest.MonkeyPatch.context() as patch:
        for module in stand_ins:
            patch.setitem(sys.modules, module.__name__, module)
        yield pytest.importorskip("mobile_sam", reason="the dev dependency mobilesam-mirror is not installed")


@pytest.fixture(scope="session")
def reference_sam(reference: ModuleType) -> Any:
    """The reference network with random weights, in which every parameter and statistic matters."""
    torch.manual_seed(20_240_601)
    model = reference.sam_model_registry["vit_t"]()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim == 1 or "attention_biases" in name:
                value += 0.2 * torch.randn_like(value)
        for name, value in model.named_buffers():
            if name.endswith("running_mean"):
                value.normal_(0, 0.2)
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
        # Fresh hypernetworks draw masks that hardly leave zero; real ones reach ±20.
        for head in model.mask_decoder.output_hypernetworks_mlps:
            head.layers[-1].weight *= 8
    return model.eval()


@pytest.fixture(scope="session")
def our_sam(reference_sam: Any) -> MobileSam:
    """Our network with the reference's weights, loaded strictly."""
    model = MobileSam()
    model.load_state_dict(reference_sam.state_dict(), strict=True)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def view() -> np.ndarray:
    """A small RGB view of round blobs: (300, 420, 3) uint8."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:300, 0:420]
    image = np.full((300, 420, 3), 90.0) + rng.normal(0, 6, (300, 420, 3))
    for _ in range(24):
        centre_y, centre_x, radius = rng.uniform(20, 280), rng.uniform(20, 400), rng.uniform(12, 30)
        inside = np.hypot(y - centre_y, x - centre_x) < radius
        image[inside] += rng.uniform(-60, 120, 3)
    return image.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def embedding(our_sam: MobileSam, view: np.ndarray) -> Tensor:
    """The view encoded once for all tests: (1, 256, 64, 64)."""
    return our_sam.encode(view)


@pytest.fixture(scope="session")
def blob_sam(our_sam: MobileSam, embedding: Tensor) -> MobileSam:
    """Our network made to draw a round mask about each point: 60 to 120 model px for masks 0 to 3.

    Masks of random weights cover the image in texture, whatever the prompt; filters, boxes and
    suppression need some that are local. Everything not touched here stays random.
    """
    model = MobileSam()
    model.load_state_dict(our_sam.state_dict())
    with torch.no_grad():
        _look_where_the_point_is(model)
        _draw_discs(model, embedding, radii_px=(80.0, 60.0, 75.0, 120.0))
        head: Any = model.mask_decoder.iou_prediction_head.layers[2]
        head.weight *= 6
        points, labels = _scattered_points()
        _, iou = model.decode(embedding, points, labels)
        head.bias += 0.9 - iou.mean(dim=0)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def blob_reference(reference: ModuleType, blob_sam: MobileSam) -> Any:
    """The reference network with the weights of ``blob_sam``."""
    model = reference.sam_model_registry["vit_t"]()
    model.load_state_dict(blob_sam.state_dict(), strict=True)
    return model.eval()


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


def _draw_discs(model: Any, embedding: Tensor, radii_px: tuple[float, ...]) -> None:
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
    centre = torch.arange(256) * 4 + 2.0
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    pixels = torch.stack([x, y], dim=-1).view(-1, 2)[::7]
    distance = (pixels[None] - points[:, :1]).norm(dim=-1).flatten()
    near = (1 / (1 + distance / 100))[:, None]
    for head, radius in zip(decoder.output_hypernetworks_mlps, radii_px, strict=True):
        target = (4 * (1 - distance / radius)).clamp(-6, 4)[:, None]
        rows = torch.cat([features * near, torch.eye(32)])
        wanted = torch.cat([target * near, torch.zeros(32, 1)])
        head.layers[2].weight *= 0.005
        head.layers[2].bias.copy_(torch.linalg.lstsq(rows, wanted).solution[:, 0])
