"""For those who run the server: health, readiness and the administrator's view. Never waits for a network."""

from __future__ import annotations

import os
import shutil
import time
from typing import Any

import psutil
from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from sam_droplet import __version__
from sam_droplet.errors import PermissionDenied, Unavailable
from sam_droplet.web.services import caller, services

blueprint = Blueprint("ops", __name__)


@blueprint.get("/livez")
def livez() -> ResponseReturnValue:
    """Say that the process answers; depends on nothing else."""
    return jsonify({"status": "alive"})


@blueprint.get("/health")
def health() -> ResponseReturnValue:
    """Say how the process is doing; 200 as long as it answers at all."""
    engine, meter = services().engine, services().meter
    gpu_memory, queue = engine.gpu_memory_bytes(), engine.gate.state()
    memory = psutil.virtual_memory()
    body: dict[str, Any] = {
        "status": "unhealthy" if engine.failure else "healthy",
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "version": __version__,
        "model_loaded": engine.loaded,
        "runs_on": engine.runs_on(),
        "gpu_available": gpu_memory is not None,
        "memory_usage": memory.percent,
        "process_memory_mb": round(meter.process_memory_bytes() / 2**20, 1),
        "cpu_percent": meter.cpu_percent(),
        "queue": {"running": queue.running, "waiting": queue.waiting, "capacity": queue.capacity},
        "uptime_s": round(time.time() - services().started_at, 1),
    }
    if gpu_memory is not None:
        body["gpu_memory"] = {f"{name}_mb": round(n / 2**20, 1) for name, n in gpu_memory.items()}
    if engine.failure:
        body["message"] = engine.failure
    return jsonify(body)


@blueprint.get("/readyz")
def readyz() -> ResponseReturnValue:
    """Say whether requests should be sent here: network warm, room in the queue, disk writable."""
    problems = _problems()
    if problems:
        raise Unavailable(" ".join(problems), retry_after_s=5)
    return jsonify({"status": "ready"})


@blueprint.get("/admin/stats")
def admin_stats() -> ResponseReturnValue:
    """Show what each key used and keeps."""
    require_admin()
    services().key_ring.flush_usage()
    n_images, n_bytes = services().store.usage()
    keys = []
    for record in services().key_ring.list():
        images, stored = services().store.usage(f"key_{record.id}")
        keys.append(
            {
                "id": record.id,
                "name": record.name,
                "scope": record.scope,
                "n_requests": record.n_requests,
                "last_used_at": record.last_used_at,
                "revoked": record.revoked_at is not None,
                "n_images": images,
                "stored_bytes": stored,
            }
        )
    return jsonify({"keys": keys, "n_images": n_images, "stored_bytes": n_bytes})


@blueprint.get("/admin/health")
def admin_health() -> ResponseReturnValue:
    """Show what the public health answer leaves out."""
    require_admin()
    engine = services().engine
    disk = shutil.disk_usage(services().store.data_dir)
    state = engine.gate.state()
    return jsonify(
        {
            "version": __version__,
            "process_id": os.getpid(),
            "models": engine.models(),
            "model_loaded": engine.loaded,
            "gpu_memory": engine.gpu_memory_bytes(),
            "queue": {
                "running": state.running,
                "waiting": state.waiting,
                "capacity": state.capacity,
                "rejected": state.rejected,
                "mean_service_s": round(state.mean_service_s, 3),
            },
            "disk": {"free_bytes": disk.free, "total_bytes": disk.total},
            "problems": _problems(),
        }
    )


def require_admin() -> None:
    """Raise PermissionDenied unless the caller may see the whole installation."""
    if not caller().is_admin:
        raise PermissionDenied("This needs the administrator's key.")


def _problems() -> list[str]:
    """Return, in sentences, what keeps this process from serving."""
    engine, store = services().engine, services().store
    problems = []
    if engine.failure:
        problems.append(engine.failure)
    elif not engine.loaded:
        problems.append("The network is still being loaded.")
    state = engine.gate.state()
    if state.is_full:
        problems.append(f"The queue is full with {state.waiting} requests.")
    try:
        store.check()
    except Unavailable as error:
        problems.append(error.message)
    return problems
