"""Prometheus's own checks of rules."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def promtool(folder: Path, *arguments: str) -> str:
    """What it says, run in `folder`; fails the test if it is not content. Skips where there is none, but in CI."""
    found = shutil.which("promtool")
    if found is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("promtool is not installed")
    done = subprocess.run([found, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
