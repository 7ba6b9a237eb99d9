"""Load the networks that a configuration names, on the device it names."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import torch
from safetensors import SafetensorError

from sam_droplet.config import Config
from sam_droplet.errors import ConfigError, ModelUnavailable
from sam_droplet.segmentation import checkpoints
from sam_droplet.segmentation.embedding_cache import EmbeddingCache
from sam_droplet.segmentation.engines import Engines, choose_engines
from sam_droplet.segmentation.predictor import DropletPredictor
from sam_droplet.segmentation.prompts import ModelInfo
from sam_droplet.segmentation.runtime import DropletRuntime
from sam_droplet.segmentation.weights import load_weights

if TYPE_CHECKING:
    from sam_droplet.segmentation.mobile_sam_predictor import CachedMobileSam

MIB = 1 << 20


class Models:
    """Hold the predictors of one process; MobileSAM is loaded on its first use."""

    def __init__(
        self,
        droplet_net: DropletPredictor,
        device: str,
        load_mobile_sam: Callable[[], CachedMobileSam] | None,
        cache: EmbeddingCache,
    ) -> None:
        self.droplet_net, self.device, self.cache = droplet_net, device, cache
        self._load_mobile_sam = load_mobile_sam
        self._mobile_sam: CachedMobileSam | None = None
        self._lock = threading.Lock()

    @property
    def mobile_sam(self) -> CachedMobileSam | None:
        """MobileSAM, None where its weights are not here; ModelUnavailable where they are damaged."""
        if self._load_mobile_sam is None:
            return None
        with self._lock:
            if self._mobile_sam is None:
                self._mobile_sam = self._load_mobile_sam()
            return self._mobile_sam

    def load_all(self) -> None:
        """Load what would else be loaded on first use."""
        _ = self.mobile_sam

    def runs_on(self) -> dict[str, str]:
        """Name what runs each network that is in memory, such as "cpu (openvino)"."""
        # Without the lock: whoever asks how the process is doing must not wait until weights are loaded.
        loaded = [self.droplet_net.info, *([self._mobile_sam.info] if self._mobile_sam else [])]
        return {info.name: info.device for info in loaded}

    def gpu_memory_bytes(self) -> dict[str, int] | None:
        """Return used and total bytes of the GPU; None on the CPU."""
        if self.device != "cuda":
            return None
        free, total = torch.cuda.mem_get_info()
        return {"used": total - free, "total": total, "allocated": torch.cuda.memory_allocated()}


def load_models(config: Config, threads: int) -> Models:
    """Load DropletNet, and see where MobileSAM's weights are; ModelUnavailable says what is missing."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)  # or else each of several workers would use every core for pixels
    device = chosen_device(config.device)
    engines = choose_engines(config.runtime, device, threads, config.data_dir / "runtime")
    cache = EmbeddingCache(
        config.data_dir / "embeddings",
        memory_bytes=config.embedding_memory_mb * MIB,
        disk_bytes=config.embedding_cache_mb * MIB,
    )
    return Models(_droplet_net(config, engines, cache), device, _mobile_sam(config, engines, cache), cache)


def chosen_device(wanted: str) -> str:
    """Return "cpu" or "cuda"; ConfigError where CUDA is asked for and not there."""
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ConfigError("DEVICE is cuda, but torch sees no CUDA device here; set it to auto or cpu.")
    return "cuda" if available and wanted != "cpu" else "cpu"


def _droplet_net(config: Config, engines: Engines, cache: EmbeddingCache) -> DropletPredictor:
    path = _present(checkpoints.DROPLET_NET, config)
    try:
        networks = load_weights(path)
    except (SafetensorError, KeyError, RuntimeError, OSError) as error:
        raise ModelUnavailable(f"The weights in {path} cannot be read: {error}") from error
    runtime = DropletRuntime(networks, engines.device, engines)
    info = ModelInfo("droplet-net", checkpoints.file_sha256(path), runtime.device)
    return DropletPredictor(runtime, cache, info)


def _mobile_sam(
    config: Config, engines: Engines, cache: EmbeddingCache
) -> Callable[[], CachedMobileSam] | None:
    """Return how to load MobileSAM, None where its weights are not."""
    found = checkpoints.find_prompted(config)
    if not found.available:
        if config.sam_model_path is not None:
            raise ModelUnavailable(
                f"SAM_MODEL_PATH names {found.path}, but there is no such file. "
                "Run `sam-droplet model fetch`, or unset it to use DropletNet alone."
            )
        return None

    def load() -> CachedMobileSam:
        from sam_droplet.segmentation.mobile_sam_predictor import load_mobile_sam_predictor

        return load_mobile_sam_predictor(
            found.path, engines.device, cache, engines, name=found.checkpoint.name
        )

    return load


def _present(checkpoint: checkpoints.Checkpoint, config: Config) -> Path:
    found = checkpoints.find(checkpoint, config)
    if not found.available:
        raise ModelUnavailable(
            f"The {checkpoint.name} weights are missing: expected {found.path}. "
            f"They come with the product; restore the file, or set {checkpoint.setting}."
        )
    return found.path
