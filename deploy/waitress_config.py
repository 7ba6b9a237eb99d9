"""waitress for SAM Droplet, where there is no gunicorn: ``python deploy/waitress_config.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_droplet.web.serving import serve_waitress, settings_or_exit

if __name__ == "__main__":
    settings = settings_or_exit()
    serve_waitress(settings, settings.host, settings.port)
