"""Start serving: one process here, or gunicorn with several where there is one. Nothing is loaded early."""

from __future__ import annotations

import argparse
import atexit
import logging
import os
import signal
import sys
import time
from pathlib import Path

from flask import Flask

from sam_droplet.config import Config, load_config
from sam_droplet.errors import SamDropletError
from sam_droplet.service.workbench import SegmenterLike
from sam_droplet.web import create_app, services_of
from sam_droplet.web.guard import check_bind_address
from sam_droplet.web.housekeeping import start_housekeeping
from sam_droplet.web.job_desk import MAX_STREAMS
from sam_droplet.web.logs import configure_logging

log = logging.getLogger(__name__)

SWITCH_S = 0.001
START_AGAIN_S = 5.0
GUNICORN_CONFIG = Path(__file__).parents[2] / "deploy" / "gunicorn.conf.py"


def application(config: Config | None = None, segmenter: SegmenterLike | None = None) -> Flask:
    """Make the application of a server process, with its log, and start loading the network.

    segmenter: answers instead of the networks that the configuration names.
    Exits with one line where a setting or the data folder is wrong.
    """
    # Segmenting is mostly numpy and networks, which let go of the lock; where it is Python, a short request
    # gets its turn after 1 ms instead of 5, several times per request.
    sys.setswitchinterval(SWITCH_S)
    try:
        config = config or load_config()
        configure_logging(config)
        app = create_app(config, segmenter)
    except SamDropletError as error:
        sys.exit(f"SAM Droplet cannot start: {error.message}")
    services = services_of(app)
    # Jobs wait for the network, so that no image loses an attempt where a worker dies while loading it.
    services.engine.warm_up_in_background(services.closing, then=services.jobs.engine.start)
    start_housekeeping(services)
    atexit.register(services.close)
    return app


def worker_application(segmenter: SegmenterLike | None = None) -> Flask:
    """Make the application of a worker process, which its master replaces whenever it ends.

    One that cannot start waits a little before it ends: else its master would start the next at once, and
    so on, until the disk or the database works again.
    """
    try:
        app = application(segmenter=segmenter)
    except SystemExit:
        time.sleep(START_AGAIN_S)
        raise
    services_of(app).engine.on_broken = lambda: os.kill(os.getpid(), signal.SIGTERM)
    return app


def serve_here(config: Config | None = None) -> None:
    """Serve in this process at FLASK_HOST and FLASK_PORT until Ctrl+C; for one person's computer."""
    # Takes no options, and must not start for one that somebody hoped for, such as --help.
    argparse.ArgumentParser(
        description="Serve SAM Droplet at FLASK_HOST and FLASK_PORT.",
        epilog="Settings are environment variables or lines of .env; `sam-droplet settings` lists them all.",
    ).parse_args()
    config = config or settings_or_exit()
    serve_waitress(config, config.flask_host, config.flask_port)


def serve_production(config: Config | None = None) -> None:
    """Serve at HOST and PORT: with gunicorn where it runs, else with waitress; does not return."""
    if os.name == "nt" or not GUNICORN_CONFIG.exists():
        config = config or settings_or_exit()
        serve_waitress(config, config.host, config.port)
        return
    command = [sys.executable, "-m", "gunicorn", "--config", str(GUNICORN_CONFIG), "app:app"]
    os.execv(sys.executable, command)  # noqa: S606 - the very interpreter that runs, with fixed arguments


def serve_waitress(config: Config, host: str, port: int) -> None:
    """Serve with waitress, or with Flask's reloading server where FLASK_DEBUG is on."""
    app = application(config)
    services = services_of(app)
    try:
        check_bind_address(host, config, services.key_ring)
    except SamDropletError as error:
        sys.exit(f"SAM Droplet cannot start: {error.message}")
    opened = f"SAM Droplet: open http://{_shown(host)}:{port} (stop with Ctrl+C)"
    if config.flask_debug:
        print(opened, flush=True)
        app.run(host, port, debug=True, threaded=True)
        return
    from sam_droplet.web.waitress_server import make_waitress_server

    try:
        server = make_waitress_server(app, host, port, config, waitress_options(config))
    except SamDropletError as error:
        sys.exit(f"SAM Droplet cannot start: {error.message}")
    print(opened, flush=True)
    server.run()


def waitress_options(config: Config) -> dict[str, object]:
    """Return how waitress runs: enough threads that light requests never wait for the queue."""
    return {
        "threads": request_threads(config),
        "connection_limit": 500,
        "channel_timeout": 60,
        "max_request_body_size": config.max_upload_bytes * 4 // 3 + (1 << 20),
        "asyncore_use_poll": True,
        "ident": None,
        # Nobody believes them where no proxy is trusted, but the guard looks whether they are there.
        "clear_untrusted_proxy_headers": False,
    }


def request_threads(config: Config) -> int:
    """Return the threads of one worker: THREADS for light requests, one for each segmentation and stream.

    What runs, waits or streams holds its thread, so these must come on top, or /health would wait.
    """
    return config.threads + config.queue_size + 1 + MAX_STREAMS


def settings_or_exit() -> Config:
    """Read the settings; exits with one line where one is wrong."""
    try:
        return load_config()
    except SamDropletError as error:
        sys.exit(f"SAM Droplet cannot start: {error.message}")


def _shown(host: str) -> str:
    if host in ("0.0.0.0", "::", "127.0.0.1"):  # noqa: S104 - only for showing an address to click
        return "localhost"
    return f"[{host}]" if ":" in host else host
