"""WSGI entry of the application with the threshold in place of the networks, for a real server.

DISCS_SECONDS is how long it takes for an image. Run as a program, it serves with waitress.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import waitress
from discs import ThresholdSegmenter

from sam_droplet.config import load_config
from sam_droplet.web.serving import waitress_options, worker_application

app = worker_application(ThresholdSegmenter(float(os.environ.get("DISCS_SECONDS", "0"))))

if __name__ == "__main__":
    config = load_config()
    waitress.serve(app, host=config.host, port=config.port, **waitress_options(config))
