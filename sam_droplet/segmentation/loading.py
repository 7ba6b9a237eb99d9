"""Load the networks that a configuration names, on the device it names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError

from sam_droplet.config import Config
from sam_droplet.errors import ConfigError, ModelUnavailable
from sam_droplet.segmentation import checkpoints
from sam_droplet.segmentation.droplet_net import load_weights
from sam_droplet.segmentation.embedding_cache import EmbeddingCache
from sam_droplet.segmentation.predictor import DropletPredictor
from sam_droplet.segmentation.prompts import ModelInfo, Predictor
from sam_droplet.segmentation.runtime import DropletRuntime

MIB = 1 << 20


@dataclass(frozen=True, eq=False)
class Models:
    """Hold the predictors of one process; mobile_sam is None where its weights are not."""

    droplet_net: DropletPredictor
    mobile_sam: Predictor | None
    device: str

    def gpu_memory_bytes(self) -> dict[str, int] | None:
        """Return used and total bytes of the GPU; None on the CPU."""
        if self.device != "cuda":
            return None
        free, total = torch.cuda.mem_get_info()
        return {"used": total - free, "total": total, "allocated": torch.cuda.memory_allocated()}


def load_models(config: Config, threads: int) -> Models:
    """Load DropletNet, and MobileSAM where its weights are; ModelUnavailable says what is missing."""
    torch.set_num_threads(threads)
    device = chosen_device(config.device)
    cache = EmbeddingCache(
        config.data_dir / "embeddings",
        memory_bytes=config.embedding_memory_mb * MIB,
        disk_bytes=config.embedding_cache_mb * MIB,
    )
    return Models(_droplet_net(config, device, cache), _mobile_sam(config, device, cache), device)


def chosen_device(wanted: str) -> str:
    """Return "cpu" or "cuda"; ConfigError where CUDA is asked for and not there."""
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ConfigError("DEVICE is cuda, but torch sees no CUDA device here; set it to auto or cpu.")
    return "cuda" if available and wanted != "cpu" else "cpu"


def _droplet_net(config: Config, device: str, cache: EmbeddingCache) -> DropletPredictor:
    path = _present(checkpoints.DROPLET_NET, config)
    try:
        network = load_weights(path)
    except (SafetensorError, KeyError, RuntimeError, OSError) as error:
        raise ModelUnavailable(f"The weights in {path} cannot be read: {error}") from error
    info = ModelInfo("droplet-net", checkpoints.file_sha256(path), device)
    return DropletPredictor(DropletRuntime(network, device), cache, info)


def _mobile_sam(config: Config, device: str, cache: EmbeddingCache) -> Predictor | None:
    found = checkpoints.find(checkpoints.MOBILE_SAM, config)
    if not found.available:
        if config.sam_model_path is not None:
            raise ModelUnavailable(
                f"SAM_MODEL_PATH names {found.path}, but there is no such file. "
                "Run `sam-droplet model fetch`, or unset it to use DropletNet alone."
            )
        return None
    from sam_droplet.segmentation.mobile_sam_predictor import load_mobile_sam_predictor

    return load_mobile_sam_predictor(found.path, device, cache)


def _present(checkpoint: checkpoints.Checkpoint, config: Config) -> Path:
    found = checkpoints.find(checkpoint, config)
    if not found.available:
        raise ModelUnavailable(
            f"The {checkpoint.name} weights are missing: expected {found.path}. "
            f"They come with the product; restore the file, or set {checkpoint.setting}."
        )
    return found.path
