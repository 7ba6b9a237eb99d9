"""bfloat16 is used where a network bears it, and nowhere else; on a processor here, the code is the GPU's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sam_droplet.segmentation.engines import BF16, FP32, TorchEngine, accurate_precision

EXAMPLE = torch.linspace(0, 1, 3 * 64 * 96).view(1, 3, 64, 96)


class Edges(nn.Module):
    """Answer with one convolution, whose outputs are as large as its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out = self.layer(x - 0.5)
        return out, -out


class Differences(Edges):
    """Subtract nearly equal numbers, of which bfloat16 keeps nothing."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out = self.layer(x + 1000) - self.layer(torch.full_like(x, 1000.0))
        return out, out


@pytest.mark.parametrize(("network", "expected"), [(Edges, BF16), (Differences, FP32)])
def test_the_precision_is_what_the_network_bears(network: type[nn.Module], expected: str) -> None:
    torch.manual_seed(0)
    assert accurate_precision(network().eval(), "cpu", EXAMPLE) == expected


def test_an_engine_in_bfloat16_answers_in_float32_nearly_the_same() -> None:
    torch.manual_seed(0)
    network = Edges().eval()
    with torch.inference_mode():
        expected = network(EXAMPLE)
    rounded, exact = (TorchEngine(network, "cpu", precision).run(EXAMPLE) for precision in (BF16, FP32))
    for a, b, c in zip(expected, rounded, exact, strict=True):
        assert b.dtype == c.dtype == torch.float32
        assert torch.allclose(a, c, atol=1e-6)
        assert 0 < (a - b).abs().max() < 0.05
