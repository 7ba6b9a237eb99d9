"""Which process holds a lease, and whether it is still there: a killed one need not be waited for."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil

_PROC = Path("/proc")
_STARTED_FIELD = 19  # of /proc/PID/stat, counted after the name, which may hold anything


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
        return _since_boot(pid) or f"{process.create_time():.2f}"
    except psutil.Error:
        return "gone"


def _since_boot(pid: int) -> str | None:
    """Return the boot and the start after it in ticks; None where the system does not say.

    Linux counts a start from its boot, and what psutil makes of it moves whenever the clock is set: each
    living worker would look like another process, and lose what it works on.
    """
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text()[:8]
        return f"{boot}+{(_PROC / str(pid) / 'stat').read_text().rpartition(')')[2].split()[_STARTED_FIELD]}"
    except (OSError, IndexError):
        return None
