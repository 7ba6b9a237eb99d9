"""The web door: the only code that imports flask. Parses, calls the workbench once, formats."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from sam_droplet.config import Config, load_config
from sam_droplet.imaging.images import Limits
from sam_droplet.pipeline import Segmenter
from sam_droplet.service.access import open_key_ring
from sam_droplet.service.admission import Gate
from sam_droplet.service.analyst import Analyst
from sam_droplet.service.objectives import Objectives
from sam_droplet.service.shares import Shares
from sam_droplet.service.store import Store
from sam_droplet.service.workbench import SegmenterLike, Workbench
from sam_droplet.web import (
    api,
    assays_api,
    guard,
    jobs_api,
    legacy,
    limits,
    metrics,
    objectives_api,
    openapi,
    ops,
    pages,
    responses,
    shared,
    static_files,
)
from sam_droplet.web.job_desk import open_job_desk
from sam_droplet.web.json_pieces import PiecewiseJson
from sam_droplet.web.meter import Meter, Metrics
from sam_droplet.web.services import Engine, Services

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

ROOT = Path(__file__).parents[2]
FORM_TEXT_BYTES = 500_000
FORM_PARTS = 1000
JSON_OVERHEAD_BYTES = 1 << 20
LOGIN_LASTS = timedelta(days=14)


def create_app(config: Config | None = None, segmenter: SegmenterLike | None = None) -> Flask:
    """Make the application of one process; nothing is loaded that a fork would break.

    segmenter: answers instead of the networks that the configuration names.
    Raises ConfigError for a wrong setting and Unavailable where the data folder cannot be used.
    """
    config = config or load_config()
    app = Flask(__name__, template_folder=str(ROOT / "templates"), static_folder=str(ROOT / "static"))
    services = _make_services(config, segmenter)
    app.extensions["sam_droplet"] = services
    _configure(app, config)
    static_files.init_app(app)
    responses.init_app(app)
    guard.init_app(app)
    for blueprint in (
        pages.blueprint,
        api.blueprint,
        assays_api.blueprint,
        shared.blueprint,
        objectives_api.blueprint,
        jobs_api.blueprint,
        legacy.blueprint,
        ops.blueprint,
        openapi.blueprint,
    ):
        app.register_blueprint(blueprint)
    metrics.init_app(app)
    limits.init_app(app, config)
    if config.trusted_proxies:
        app.wsgi_app = _behind_proxies(app.wsgi_app, config.trusted_proxies)  # type: ignore[assignment, method-assign]
    return app


def services_of(app: Flask) -> Services:
    """Return what an application holds, for the servers that start and stop it."""
    found: Services = app.extensions["sam_droplet"]
    return found


def _make_services(config: Config, segmenter: SegmenterLike | None) -> Services:
    store = Store(config.data_dir, quota_bytes=config.quota_mb << 20)
    numbers = Metrics()
    gate = Gate(max_waiting=config.queue_size)
    engine = Engine(lambda: segmenter or Segmenter(config), gate, numbers.observe_stages)
    file_limits = Limits(config.max_upload_bytes, config.max_image_pixels, config.max_pages)
    workbench = Workbench(store, engine, file_limits)
    return Services(
        config=config,
        store=store,
        workbench=workbench,
        analyst=Analyst(workbench),
        objectives=Objectives(store.database),
        engine=engine,
        jobs=open_job_desk(store, workbench),
        key_ring=open_key_ring(config, store),
        shares=Shares(store.database),
        meter=Meter(),
        metrics=numbers,
        started_at=time.time(),
    )


def _configure(app: Flask, config: Config) -> None:
    app.config.update(
        SECRET_KEY=guard.session_secret(config),
        # Base64 makes an image a third larger; the exact limit is checked where images are read.
        MAX_CONTENT_LENGTH=config.max_upload_bytes * 4 // 3 + JSON_OVERHEAD_BYTES,
        MAX_FORM_MEMORY_SIZE=FORM_TEXT_BYTES,
        MAX_FORM_PARTS=FORM_PARTS,
        SESSION_COOKIE_NAME="sam_droplet_session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=LOGIN_LASTS,
        # Only pages renew a login (guard.py).
        SESSION_REFRESH_EACH_REQUEST=False,
    )
    app.json = PiecewiseJson(app)


def _behind_proxies(wsgi_app: WSGIApplication, n_proxies: int) -> WSGIApplication:
    """Believe as many forwarding headers as there are own proxies, and not one more."""
    return ProxyFix(wsgi_app, x_for=n_proxies, x_proto=n_proxies, x_host=n_proxies, x_prefix=n_proxies)
