"""What multiplies the matrices of a network: eager torch on any device, or OpenVINO on processors.

Both give the same answers within float32 rounding; OpenVINO's do not depend on the number of threads.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sam_droplet.errors import ConfigError

log = logging.getLogger(__name__)

TORCH, OPENVINO = "torch", "openvino"
FP32, BF16 = "fp32", "bf16"
# How far bfloat16 may move an output, root mean square in standard deviations of the output. (DropletNet's
# log radii move by 0.01, which is 1 % of a radius: too much to measure with.)
BF16_TOLERANCE = 0.005


class Engine(Protocol):
    """Run one network; not safe to call from two threads at once.

    place: where it runs, as results name it: "cuda (bf16)", "cpu (torch)" or "cpu (openvino)".
    """

    place: str

    def run(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the network's outputs for one input; they may be overwritten by the next call."""
        ...

    def rest(self) -> None:
        """Give back working memory that is larger than is worth keeping; what ``run`` returned ends here."""
        ...


class Graph(Protocol):
    """Run one network that has several inputs of fixed shape; not safe to call from two threads at once."""

    def run(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs; the next call overwrites them."""
        ...

    def run_many(self, inputs: Iterable[tuple[Tensor, ...]]) -> Iterator[tuple[Tensor, ...]]:
        """Yield the outputs for each of many inputs, in order; asking for the next overwrites them."""
        ...


class TorchEngine:
    """Run a network with eager torch, normalizations folded into the convolutions before them.

    precision: FP32, or BF16 for matrix products in bfloat16; outputs are float32 either way.
    """

    def __init__(self, module: nn.Module, device: str | torch.device, precision: str = FP32) -> None:
        self._device, self._precision = torch.device(device), precision
        self.place = "cpu (torch)" if self._device.type == "cpu" else f"{device} ({precision})"
        fold_normalizations(module)
        self._module = module.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs for a (B, C, H, W) input, on this engine's device."""
        pixels = x.to(self._device).contiguous(memory_format=torch.channels_last)
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, torch.bfloat16, enabled=self._precision == BF16),
        ):
            out = self._module(pixels)
        return tuple(part.float() for part in (out if isinstance(out, tuple) else (out,)))

    def rest(self) -> None:
        """Do nothing: torch keeps no working memory on a processor, and on a GPU it is worth keeping."""


def accurate_precision(module: nn.Module, device: str | torch.device, example: Tensor) -> str:
    """Return BF16 where a network's outputs stay within BF16_TOLERANCE of float32's, else FP32.

    Both look at rings, edges of every direction, in the shape and range of the example.
    """
    module = module.to(device)
    x = _rings(example).to(device)
    with torch.inference_mode():
        exact = module(x)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            rounded = module(x)
    pairs = zip(*(out if isinstance(out, tuple) else (out,) for out in (exact, rounded)), strict=True)
    return BF16 if all(_close(a.float().flatten(), b.float().flatten()) for a, b in pairs) else FP32


def _rings(example: Tensor) -> Tensor:
    height, width = example.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height) - height / 2, torch.arange(width) - width / 3, indexing="ij")
    share = 0.5 + 0.5 * torch.sin(torch.hypot(x, y) / 5)  # rings 31 px apart
    return (example.min() + share * (example.max() - example.min())).expand_as(example)


def _close(exact: Tensor, rounded: Tensor) -> bool:
    return bool((exact - rounded).square().mean().sqrt() <= BF16_TOLERANCE * exact.std())


@dataclass(frozen=True)
class Engines:
    """Make engines as a configuration asks: which runtime, on which device, with how many threads.

    folder: where converted networks are kept, so that only the first start converts them.
    """

    runtime: str
    device: str
    threads: int
    folder: Path | None = None

    def make(self, name: str, module: nn.Module, example: Tensor, *, sides_vary: bool) -> Engine:
        """Return an engine for a network in evaluation mode, which becomes the engine's own.

        example: an input that shows the layout. sides_vary: height and width differ between calls.
        """
        if self.runtime == OPENVINO:
            from sam_droplet.segmentation.openvino_engine import OpenVinoEngine

            try:
                return OpenVinoEngine(name, module, example, sides_vary, self.threads, self.folder)
            except RuntimeError as error:
                log.warning("%s runs with torch, because OpenVINO cannot run it: %s", name, error)
        if torch.device(self.device).type == "cpu":
            return TorchEngine(module, self.device)
        precision = accurate_precision(module, self.device, example)
        log.info("%s runs on %s in %s.", name, self.device, precision)
        return TorchEngine(module, self.device, precision)

    def compiled(self, name: str, module: nn.Module, examples: tuple[Tensor, ...]) -> Graph | None:
        """Return a network of several inputs of fixed shape, compiled; None where torch has to run it."""
        if self.runtime != OPENVINO:
            return None
        from sam_droplet.segmentation.openvino_engine import OpenVinoGraph

        try:
            return OpenVinoGraph(name, module, examples, self.threads, self.folder)
        except RuntimeError as error:
            log.warning("%s runs with torch, because OpenVINO cannot run it: %s", name, error)
            return None


def choose_engines(wanted: str, device: str, threads: int, folder: Path | None = None) -> Engines:
    """Resolve the setting RUNTIME; ConfigError where OpenVINO is asked for and cannot be had.

    On the processors measured (docs/speed.md) OpenVINO is as fast as torch for DropletNet, about twice
    as fast for MobileSAM's encoder, and its answers do not depend on the number of threads.
    """
    if device != "cpu":
        if wanted == OPENVINO:
            raise ConfigError(
                f"RUNTIME is openvino, which runs on processors only, but the device is {device}."
            )
        return Engines(TORCH, device, threads)
    reason = None if wanted == TORCH else why_no_openvino()
    if reason is not None and wanted == OPENVINO:
        raise ConfigError(f"RUNTIME is openvino, but {reason}. Install it, or set RUNTIME to auto or torch.")
    if reason is not None:
        log.warning("The networks run with torch, because %s.", reason)
    runtime = TORCH if wanted == TORCH or reason is not None else OPENVINO
    return Engines(runtime, device, threads, folder)


def why_no_openvino() -> str | None:
    """Return why OpenVINO cannot be used here, None where it can."""
    if importlib.util.find_spec("openvino") is None:
        return "OpenVINO is not installed"
    from sam_droplet.segmentation.openvino_engine import import_openvino

    try:
        import_openvino()
    except (ImportError, OSError, RuntimeError) as error:  # no build for this system, or a damaged one
        return f"OpenVINO cannot be loaded ({' '.join(str(error).split())[:200]})"
    return None


def fold_normalizations(module: nn.Module) -> None:
    """Merge each batch normalization into the convolution that stands before it in a Sequential."""
    for part in module.modules():
        if not isinstance(part, nn.Sequential):
            continue
        children = list(part.named_children())
        for (name, layer), (following, norm) in pairwise(children):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(part, name, fuse_conv_bn_eval(layer, norm))
                setattr(part, following, nn.Identity())
