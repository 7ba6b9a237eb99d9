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
