"""WSGI entry of the application with the threshold in place of the networks, for a real server.

DISCS_SECONDS is how long it takes for an image.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from discs import ThresholdSegmenter

from sam_droplet.web.serving import worker_application

app = worker_application(ThresholdSegmenter(float(os.environ.get("DISCS_SECONDS", "0"))))
