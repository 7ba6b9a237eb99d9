"""The embedded weights: DropletNet and RimNet in one safetensors file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sam_droplet.segmentation.droplet_net import DropletNet
from sam_droplet.segmentation.rim_net import RimNet

_FORMAT = "sam-droplet.droplet-net"
_RIM = "rim_net."


@dataclass(frozen=True, eq=False)
class Networks:
    """Hold the two networks that find droplets; without RimNet, first looks stand as they are."""

    droplet_net: DropletNet
    rim_net: RimNet | None = None


def save_weights(networks: Networks, path: Path, metadata: dict[str, str]) -> None:
    """Write the weights as fp16 safetensors, with the networks' own shapes in the metadata."""
    net, rims = networks.droplet_net, networks.rim_net
    tensors = _halves(net, "")
    shape = {"channels": json.dumps(net.channels), "n_rays": str(net.n_rays)}
    if rims is not None:
        tensors |= _halves(rims, _RIM)
        shape["rim_width"] = str(rims.width)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={**metadata, **shape, "format": _FORMAT})


def load_weights(path: Path) -> Networks:
    """Read the networks from safetensors, in evaluation mode, fp32, on the CPU."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: _whole(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    net = DropletNet(tuple(json.loads(metadata["channels"])), int(metadata["n_rays"]))
    net.load_state_dict({k: v for k, v in tensors.items() if not k.startswith(_RIM)})
    rims = None
    if "rim_width" in metadata:
        rims = RimNet(int(metadata["rim_width"])).eval()
        rims.load_state_dict({k.removeprefix(_RIM): v for k, v in tensors.items() if k.startswith(_RIM)})
    return Networks(net.eval(), rims)


def _halves(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {
        prefix + name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in module.state_dict().items()
    }


def _whole(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
