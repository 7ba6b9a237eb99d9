"""Tidying up goes on, whatever it meets in the data folder."""

from __future__ import annotations

import os
import time

import pytest

from sam_droplet.web import housekeeping, services_of


@pytest.mark.skipif(os.name == "nt", reason="file names are Unicode there")
def test_a_file_with_a_strange_name_does_not_end_tidying_up(app, monkeypatch):
    services = services_of(app)
    stray = services.store.files.path_of(services.store.files.put(b"left by a crash"))
    strange = services.store.files.folder / "00" / os.fsdecode(b"\xff\xfe")
    strange.parent.mkdir(exist_ok=True)
    strange.write_bytes(b"copied here by somebody")
    for path in (stray, strange):
        os.utime(path, (1, 1))
    monkeypatch.setattr(housekeeping, "FIRST_AFTER_S", 0.01)
    thread = housekeeping.start_housekeeping(services)
    deadline = time.monotonic() + 30
    while stray.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (stray.exists(), strange.exists(), thread.is_alive()) == (False, True, True)
    services.closing.set()
    thread.join(30)
