"""Who holds a lease is told from everybody else, whatever happens to the clock."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from sam_droplet.service.holders import is_gone, this_process


def test_a_living_process_is_there_and_one_that_ended_is_gone():
    assert not is_gone(this_process())
    host, _, started = this_process().rsplit("/", 2)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        # A process of that number, but one that started at another time.
        assert is_gone(f"{host}/{other.pid}/{started}")
    assert is_gone(f"{host}/{other.pid}/{started}")
    assert not is_gone(f"another-{host}/{os.getpid()}/1")


@pytest.mark.skipif(not psutil.LINUX, reason="elsewhere the system itself keeps the start as a time")
def test_a_clock_that_is_set_while_a_worker_runs_does_not_end_it(monkeypatch):
    """What psutil takes for the boot moves with the clock: /proc/stat counts it back from now."""
    holder, boot = this_process(), psutil.boot_time()
    for hours in (-5, 1 / 3600, 24 * 365):
        monkeypatch.setattr("psutil._pslinux.boot_time", lambda hours=hours: boot + 3600 * hours)
        assert not is_gone(holder)
