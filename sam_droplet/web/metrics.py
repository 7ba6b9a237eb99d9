"""Numbers for Prometheus, of all workers together where PROMETHEUS_MULTIPROC_DIR names a shared folder.

That folder is the library's own switch; deploy/gunicorn.conf.py sets it and clears it at start.
"""

from __future__ import annotations

import time

from flask import Blueprint, Flask, Response, g, request
from flask.typing import ResponseReturnValue
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

from sam_droplet.web.meter import Metrics
from sam_droplet.web.ops import require_admin
from sam_droplet.web.services import services

blueprint = Blueprint("metrics", __name__)


def init_app(app: Flask) -> None:
    """Count every request of an application."""
    app.register_blueprint(blueprint)
    app.after_request(_count)


@blueprint.get("/metrics")
def metrics() -> ResponseReturnValue:
    """Give all numbers in the text format of Prometheus; for administrators."""
    require_admin()
    found = services().metrics
    _look_at_engine(found)
    for state, n in services().jobs.queue.counts().items():
        found.jobs.labels(state).set(n)
    if (cache := services().engine.cache) is not None:
        found.cache_disk.set(cache.disk_bytes())
    registry = found.registry
    if _is_shared():
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _is_shared() -> bool:
    """Whether the library writes its numbers to files that all workers share."""
    return str(values.ValueClass.__name__) == "MmapedValue"


def _look_at_engine(found: Metrics) -> None:
    engine = services().engine
    state = engine.gate.state()
    found.queue.labels("running").set(state.running)
    found.queue.labels("waiting").set(state.waiting)
    found.loaded.set(int(engine.loaded))
    if (cache := engine.cache) is not None:
        found.observe_cache_answers(cache.answers())
        found.cache_memory.set(cache.memory_bytes)
    for kind, n_bytes in (engine.gpu_memory_bytes() or {}).items():
        found.gpu_memory.labels(kind).set(n_bytes)


def _count(response: Response) -> Response:
    found = services().metrics
    # The rule, not the path: an id in a label would make one time series per image.
    route = request.url_rule.rule if request.url_rule else "unknown"
    found.requests.labels(route, str(response.status_code)).inc()
    found.durations.labels(route).observe(time.monotonic() - g.get("started", time.monotonic()))
    if request.content_length:
        found.uploaded.inc(request.content_length)
    if response.status_code in (429, 503):
        found.rejected.labels("quota" if response.status_code == 429 else "busy").inc()
    if request.url_rule and request.url_rule.endpoint not in ("ops.livez", "metrics.metrics"):
        _look_at_engine(found)
    return response
