"""The stock MobileSAM (PyPI mobilesam-mirror), to compare with: its own code on weights that we share."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

import torch
from PIL import Image as PillowImage
from torch import Tensor, nn

from sam_droplet.errors import InputError
from sam_droplet.segmentation.mobile_sam import MobileSam

PACKAGE = "mobile_sam"


def is_installed() -> bool:
    """Tell whether the stock package can be imported."""
    return importlib.util.find_spec(PACKAGE) is not None


def stock_package() -> ModuleType:
    """Import the stock package, with stand-ins for what it needs of timm and torchvision."""
    if not is_installed():
        raise InputError("The stock MobileSAM is not installed: run `pip install mobilesam-mirror==1.0.0`.")
    complete = importlib.util.find_spec("timm") and importlib.util.find_spec("torchvision")
    stand_ins = {} if complete else {module.__name__: module for module in _stand_ins()}
    sys.modules.update(stand_ins)
    try:
        return importlib.import_module(PACKAGE)
    finally:  # nobody else is to take them for the real ones
        for name in stand_ins:
            del sys.modules[name]


def load_stock(model: MobileSam) -> tuple[ModuleType, Any]:
    """Return the stock package and its network with the weights of ours, in evaluation mode."""
    package = stock_package()
    network = package.sam_model_registry["vit_t"]()
    network.load_state_dict(model.state_dict(), strict=True)
    return package, network.eval()


class _DropPath(nn.Module):
    """What timm's DropPath does in evaluation mode."""

    def __init__(self, drop_prob: float | None = None) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


def _stand_ins() -> list[ModuleType]:
    """Make the few functions that the stock package needs of timm and torchvision."""
    return [
        _module("timm"),
        _module("timm.models"),
        _module("timm.models.registry", register_model=lambda function: function),
        _module(
            "timm.models.layers",
            DropPath=_DropPath,
            to_2tuple=lambda value: (value, value),
            trunc_normal_=nn.init.trunc_normal_,
        ),
        _module("torchvision"),
        _module("torchvision.transforms"),
        _module("torchvision.transforms.functional", resize=_resize, to_pil_image=PillowImage.fromarray),
        _module("torchvision.ops"),
        _module("torchvision.ops.boxes", batched_nms=_batched_nms, box_area=_box_area),
    ]


def _module(name: str, **contents: Any) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(contents)
    return module


def _resize(image: PillowImage.Image, hw: tuple[int, int]) -> PillowImage.Image:
    return image.resize((hw[1], hw[0]), PillowImage.Resampling.BILINEAR)


def _batched_nms(boxes: Tensor, scores: Tensor, categories: Tensor, iou_threshold: float) -> Tensor:
    """Suppress greedily within one category, which is all that the stock package uses."""
    order = scores.argsort(descending=True, stable=True).tolist()
    areas = _box_area(boxes)
    kept: list[int] = []
    for i in order:
        top_left = torch.maximum(boxes[i, :2], boxes[kept, :2])
        bottom_right = torch.minimum(boxes[i, 2:], boxes[kept, 2:])
        shared = (bottom_right - top_left).clamp(min=0).prod(dim=1)
        if not (shared / (areas[i] + areas[kept] - shared) > iou_threshold).any():
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)


def _box_area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
