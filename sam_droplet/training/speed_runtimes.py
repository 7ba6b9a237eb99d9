"""What the speed benchmark measures of the runtimes: the same networks with eager torch and with OpenVINO."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from sam_droplet.imaging.images import load_image
from sam_droplet.segmentation import checkpoints
from sam_droplet.segmentation.droplet_net import network_input
from sam_droplet.segmentation.engines import OPENVINO, TORCH, Engine, Engines
from sam_droplet.segmentation.sam_masks import decoder_for
from sam_droplet.segmentation.weights import load_weights
from sam_droplet.training.process_meter import Pair, in_turns, use_cores
from sam_droplet.training.speed_tasks import Task, configuration
from sam_droplet.training.stand_in_sam import random_sam


def compare_runtimes(task: Task) -> dict[str, Pair]:
    """Time each network with eager torch and with OpenVINO in turns, on the picture of the task."""
    use_cores(task.threads)
    torch.set_num_threads(task.threads)
    image = load_image(task.png, "picture.png")
    with tempfile.TemporaryDirectory() as folder:
        both = [Engines(runtime, "cpu", task.threads, Path(folder)) for runtime in (TORCH, OPENVINO)]
        weights = checkpoints.find(checkpoints.DROPLET_NET, configuration(Path(folder), task)).path
        pixels = torch.from_numpy(network_input(image.pixels)).permute(2, 0, 1)[None]
        nets = [load_weights(weights).droplet_net for _ in both]
        finders = [e.make("droplet-net", n, pixels, sides_vary=True) for e, n in zip(both, nets, strict=True)]
        view = random_sam().preprocess(image.view())
        encoders = [e.make("encoder", random_sam().image_encoder, view, sides_vary=False) for e in both]
        return {
            "droplet-net": _engines_in_turns(finders, pixels, task.repeats),
            "encoder": _engines_in_turns(encoders, view, task.repeats),
            "decoder": _decoders_in_turns(both, task.repeats),
        }


def _engines_in_turns(engines: list[Engine], x: torch.Tensor, repeats: int) -> Pair:
    torch_run, openvino_run = (partial(engine.run, x) for engine in engines)
    return in_turns(torch_run, openvino_run, repeats)


def _decoders_in_turns(both: list[Engines], repeats: int) -> Pair:
    """Decode a point to four masks; what an image shares is ready."""
    model = random_sam()
    decoders = [decoder_for(model, engines) for engines in both]
    embedding = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 256, 64, 64)).astype(np.float32))
    shared = decoders[0].share(embedding)
    with torch.inference_mode():
        prompt = model.prompt_encoder(torch.tensor([[[400.0, 500.0], [0, 0]]]), torch.tensor([[1, -1]]))
    torch_run, openvino_run = (partial(decoder.decode, shared, prompt) for decoder in decoders)
    return in_turns(torch_run, openvino_run, repeats)
