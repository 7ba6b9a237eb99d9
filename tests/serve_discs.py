"""Serve the application with the threshold in place of the networks; says its port on the first line."""

from __future__ import annotations

import sys
from pathlib import Path

from discs import ThresholdSegmenter
from waitress.server import create_server

from sam_droplet.config import load_config
from sam_droplet.pipeline import Segmenter
from sam_droplet.web import create_app, services_of

SECONDS = {"slow": 1.0}  # so long the threshold takes for an image

if __name__ == "__main__":
    data_dir, port, engine = sys.argv[1:4]
    config = load_config({}, {"data_dir": Path(data_dir), "rate_limit_default": "100000 per hour"})
    segmenter = Segmenter(config) if engine == "networks" else ThresholdSegmenter(SECONDS.get(engine, 0.0))
    app = create_app(config, segmenter)
    services_of(app).jobs.engine.start()
    server = create_server(app, host="127.0.0.1", port=int(port))
    sys.stdout.write(f"{server.effective_port}\n")  # type: ignore[union-attr]
    sys.stdout.flush()
    server.run()
