"""Which process holds a lease, and whether it is still there: a killed one need not be waited for."""

from __future__ import annotations

import os
import socket

import psutil


def this_process() -> str:
    """Return a name of this process that no later one gets: host, process id and start time."""
    pid = os.getpid()
    return f"{socket.gethostname()[:64]}/{pid}/{_started(pid)}"


def is_gone(holder: str) -> bool:
    """Whether a process of this machine has ended; False for those of other machines, which are not seen."""
    host, pid, started = holder.rsplit("/", 2)
    if host != socket.gethostname()[:64]:
        return False
    return _started(int(pid)) != started


def _started(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        # A killed process whose parent has not asked for its end is still listed.
        if process.status() == psutil.STATUS_ZOMBIE:
            return "gone"
        return f"{process.create_time():.2f}"
    except psutil.Error:
        return "gone"
