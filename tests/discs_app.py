"""WSGI entry of the application with the threshold in place of the networks, for a real server.

DISCS_SECONDS is how long it takes for an image. Run as a program, it serves with waitress.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from discs import ThresholdSegmenter

from sam_droplet.config import load_config
from sam_droplet.web.serving import waitress_options, worker_application
from sam_droplet.web.waitress_server import make_waitress_server

app = worker_application(ThresholdSegmenter(float(os.environ.get("DISCS_SECONDS", "0"))))

if __name__ == "__main__":
    config = load_config()
    make_waitress_server(app, config.host, config.port, config, waitress_options(config)).run()
