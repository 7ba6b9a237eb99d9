"""Serve the application with the threshold in place of the networks; says its port on the first line."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from discs import ThresholdSegmenter, disc_pixels
from waitress.server import create_server

from sam_droplet.config import load_config
from sam_droplet.pipeline import Segmenter
from sam_droplet.web import create_app, services_of

SECONDS = {"slow": 1.0}  # so long the threshold takes for an image


def stand_in_weights(folder: Path) -> Path:
    """Write weights with which MobileSAM draws a disc about each point."""
    from safetensors.torch import save_file

    from sam_droplet.training.stand_in_sam import draw_discs, random_sam

    model = random_sam()
    model = draw_discs(model, model.encode(np.stack([disc_pixels()] * 3, axis=2)), steepness=20.0)
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, folder / "discs.safetensors"
    )
    return folder / "discs.safetensors"


if __name__ == "__main__":
    data_dir, port, engine = sys.argv[1:4]
    settings = {"data_dir": Path(data_dir), "rate_limit_default": "100000 per hour"}
    if engine == "stand-in":
        settings["sam_model_path"] = stand_in_weights(Path(data_dir))
    config = load_config({}, settings)
    segmenter = (
        Segmenter(config)
        if engine in ("networks", "stand-in")
        else ThresholdSegmenter(SECONDS.get(engine, 0.0))
    )
    app = create_app(config, segmenter)
    services_of(app).jobs.engine.start()
    server = create_server(app, host="127.0.0.1", port=int(port))
    sys.stdout.write(f"{server.effective_port}\n")  # type: ignore[union-attr]
    sys.stdout.flush()
    server.run()
