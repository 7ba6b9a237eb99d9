"""WSGI entry of the application with the threshold in place of the networks, for a real server."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from discs import ThresholdSegmenter

from sam_droplet.web.serving import worker_application

app = worker_application(ThresholdSegmenter())
