"""waitress for SAM Droplet, where there is no gunicorn: ``python deploy/waitress_config.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_droplet.config import load_config
from sam_droplet.web.serving import serve_waitress

if __name__ == "__main__":
    settings = load_config()
    serve_waitress(settings, settings.host, settings.port)
