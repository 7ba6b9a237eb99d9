"""What watches the service sees the truth: counts outlive the workers that counted."""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from discs import ThresholdSegmenter
from servers import START_S, Server, serving, start

from sam_droplet.segmentation.embedding_cache import EmbeddingCache
from sam_droplet.web.server_settings import metrics_folder

pytestmark = pytest.mark.skipif(os.name == "nt", reason="gunicorn does not run on Windows")


def counted(server: Server, path: str) -> float:
    found = re.search(
        rf'samdroplet_requests_total\{{code="200",route="{path}"\}} (\S+)', server.get("/metrics").text
    )
    return float(found[1]) if found else 0.0


def kill_all_workers(server: Server) -> None:
    before = set(server.workers())
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 120
    while set(server.workers()) & before or len(server.workers()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    server.wait_until_ready()


def test_counts_outlive_killed_workers_in_as_many_files_as_there_are_workers(tmp_path):
    data_dir = tmp_path / "data"
    with serving("gunicorn of discs", data_dir) as server:
        for _ in range(10):
            server.get("/livez").raise_for_status()
        folder = metrics_folder(data_dir.absolute())
        assert counted(server, "/livez") == 10
        kill_all_workers(server)
        assert counted(server, "/livez") == 10
        for _ in range(10):
            server.get("/livez").raise_for_status()
        assert counted(server, "/livez") == 20
        numbers = {re.search(r"_(\d+)\.db$", path.name)[1] for path in folder.glob("*.db")}
        assert numbers <= {"0", "1"}
    assert not folder.exists() or folder.parent == data_dir


@pytest.mark.skipif(not hasattr(socket, "SO_PASSCRED"), reason="only Linux tells who sent a datagram")
def test_systemd_is_told_by_the_master_as_soon_as_it_listens(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        notified.settimeout(START_S)
        notified.bind(str(tmp_path / "notify"))
        server = start("gunicorn of discs", tmp_path / "data", notify_socket=tmp_path / "notify")
        try:
            message, ((_, _, credentials),), _, _ = notified.recvmsg(4096, socket.CMSG_SPACE(12))
            assert b"READY=1" in message.splitlines()
            # With NotifyAccess=main nobody else is believed.
            assert struct.unpack("3i", credentials)[0] == server.process.pid
            assert server.get("/livez").status_code == 200
        finally:
            server.stop()


def test_a_folder_of_somebody_else_in_shared_memory_is_not_used(tmp_path):
    memory, data_dir = tmp_path / "shm", tmp_path / "data"
    memory.mkdir()
    mine = metrics_folder(data_dir, memory)
    assert (mine.parent, mine.stat().st_mode & 0o777) == (memory, 0o700)
    assert metrics_folder(data_dir, memory) == mine
    assert metrics_folder(tmp_path / "other", memory) != mine
    mine.chmod(0o777)
    assert metrics_folder(data_dir, memory) == data_dir / "metrics"
    mine.rmdir()
    mine.symlink_to(tmp_path)
    assert metrics_folder(data_dir, memory) == data_dir / "metrics"
    assert metrics_folder(data_dir, Path("/nowhere")) == data_dir / "metrics"


def test_metrics_tell_what_the_embedding_cache_answered_and_holds(make_app, tmp_path):
    segmenter = ThresholdSegmenter()
    segmenter.cache = EmbeddingCache(tmp_path / "kept", memory_bytes=1 << 20, disk_bytes=1 << 20)
    app = make_app(segmenter)
    app.extensions["sam_droplet"].engine.warm_up()
    for key in "aab":
        segmenter.cache.get_or_compute(key, lambda: {"x": np.zeros(1000, np.float32)})
    for _ in range(2):  # looking twice counts nothing twice
        text = app.test_client().get("/metrics").text
    assert 'samdroplet_embedding_cache_total{result="computed"} 2.0' in text
    assert 'samdroplet_embedding_cache_total{result="memory"} 1.0' in text
    assert "samdroplet_embedding_cache_memory_bytes 8000.0" in text
    assert f"samdroplet_embedding_cache_disk_bytes {float(segmenter.cache.disk_bytes())}" in text
