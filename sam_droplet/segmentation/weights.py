"""The embedded weights: DropletNet, RimNet and ContextNet in one safetensors file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sam_droplet.segmentation.context_net import ContextNet
from sam_droplet.segmentation.droplet_net import DropletNet
from sam_droplet.segmentation.rim_net import RimNet

_FORMAT = "sam-droplet.droplet-net"
_RIM, _CONTEXT = "rim_net.", "context_net."


@dataclass(frozen=True, eq=False)
class Networks:
    """Hold the networks that find droplets.

    Without RimNet, first looks stand as they are; without ContextNet, scores do.
    """

    droplet_net: DropletNet
    rim_net: RimNet | None = None
    context_net: ContextNet | None = None


def save_weights(networks: Networks, path: Path, metadata: dict[str, str]) -> None:
    """Write the weights as fp16 safetensors, with the networks' own shapes in the metadata."""
    net, rims, context = networks.droplet_net, networks.rim_net, networks.context_net
    tensors = _halves(net, "")
    shape = {"channels": json.dumps(net.channels), "n_rays": str(net.n_rays)}
    if rims is not None:
        tensors |= _halves(rims, _RIM)
        shape["rim_width"] = str(rims.width)
    if context is not None:
        tensors |= _halves(context, _CONTEXT)
        shape["context_width"] = str(context.width)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={**metadata, **shape, "format": _FORMAT})


def load_weights(path: Path) -> Networks:
    """Read the networks from safetensors, in evaluation mode, fp32, on the CPU."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: _whole(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    net = DropletNet(tuple(json.loads(metadata["channels"])), int(metadata["n_rays"]))
    rims = RimNet(int(metadata["rim_width"])) if "rim_width" in metadata else None
    context = ContextNet(int(metadata["context_width"])) if "context_width" in metadata else None
    for module, prefix in ((rims, _RIM), (context, _CONTEXT)):
        own = {name: tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}
        if module is not None:
            module.load_state_dict({name.removeprefix(prefix): value for name, value in own.items()})
            module.eval()
    net.load_state_dict(tensors)
    return Networks(net.eval(), rims, context)


def _halves(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {
        prefix + name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in module.state_dict().items()
    }


def _whole(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
