"""A short run of the fuzzer of the image reader; CI runs it for a minute as well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_damaged_files_raise_only_our_errors():
    fuzzer = Path(__file__).with_name("fuzz_images.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", fuzzer, "--seconds", "5"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    assert "nothing found" in done.stdout
