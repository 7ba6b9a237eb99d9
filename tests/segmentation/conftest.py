"""The reference implementation of MobileSAM (PyPI mobilesam-mirror), and ours, on the same random weights."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sam_droplet.segmentation.mobile_sam import MobileSam
from sam_droplet.training.stand_in_sam import draw_discs
from sam_droplet.training.stock_sam import is_installed, stock_package


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """The module mobile_sam."""
    if not is_installed():
        pytest.skip("the dev dependency mobilesam-mirror is not installed")
    return stock_package()


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
    return draw_discs(our_sam, embedding)


@pytest.fixture(scope="session")
def blob_reference(reference: ModuleType, blob_sam: MobileSam) -> Any:
    """The reference network with the weights of ``blob_sam``."""
    model = reference.sam_model_registry["vit_t"]()
    model.load_state_dict(blob_sam.state_dict(), strict=True)
    return model.eval()
