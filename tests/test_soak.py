"""A few seconds of what ``python tests/soak.py`` does for a minute (SOAK_SECONDS sets how long here)."""

from __future__ import annotations

import os

import pytest
from soak import kills, overload

pytestmark = pytest.mark.skipif(os.name == "nt", reason="gunicorn does not run on Windows")
SECONDS = float(os.environ.get("SOAK_SECONDS", "6"))


def test_killed_workers_lose_and_repeat_nothing(tmp_path):
    report = kills(SECONDS, tmp_path, pause_s=min(3.0, SECONDS / 4))
    assert report.broken == [], report.seen


def test_ten_times_the_load_uses_the_capacity_and_refuses_the_rest(tmp_path):
    report = overload(SECONDS, tmp_path)
    assert report.broken == [], report.seen
