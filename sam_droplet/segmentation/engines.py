"""What multiplies the matrices of a network: eager torch on any device, or OpenVINO on processors.

Both give the same answers within float32 rounding; OpenVINO's do not depend on the number of threads.
"""

from __future__ import annotations

import importlib.util
import logging
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


class Engine(Protocol):
    """Run one network; not safe to call from two threads at once.

    place: where it runs, as results name it: "cuda", "cpu (torch)" or "cpu (openvino)".
    """

    place: str

    def run(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the network's outputs for one input; they may be overwritten by the next call."""
        ...

    def rest(self) -> None:
        """Give back working memory that is larger than is worth keeping; what ``run`` returned ends here."""
        ...


class TorchEngine:
    """Run a network with eager torch, normalizations folded into the convolutions before them."""

    def __init__(self, module: nn.Module, device: str | torch.device) -> None:
        self._device = torch.device(device)
        self.place = "cpu (torch)" if self._device.type == "cpu" else str(device)
        fold_normalizations(module)
        self._module = module.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs for a (B, C, H, W) input, on this engine's device."""
        with torch.inference_mode():
            out = self._module(x.to(self._device).contiguous(memory_format=torch.channels_last))
        return out if isinstance(out, tuple) else (out,)

    def rest(self) -> None:
        """Do nothing: torch keeps no working memory on a processor, and on a GPU it is worth keeping."""


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
        return TorchEngine(module, self.device)


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
