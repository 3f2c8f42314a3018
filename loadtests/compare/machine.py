"""What a run ran on: the machine, and the versions of everything."""

import json
import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

from loadtests.compare.systems import NODE
from services.local.broker import find_server


def machine() -> dict[str, str]:
    """CPU, cores, kernel."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in info)}
    model, mhz = facts.get("model name", platform.machine()), facts.get("cpu MHz", "?")
    return {"CPU": f"{model} at {mhz} MHz", "cores": str(os.cpu_count()), "kernel": platform.release()}


def versions() -> dict[str, str]:
    """Python, Node, the broker, and the packages that matter."""
    found = {"Python": platform.python_version(), "Node": _said("node", "--version").lstrip("v")}
    for package in ("socket.io", "@socket.io/redis-streams-adapter", "redis"):
        found[f"{package} (npm)"] = _npm(package)
    found["broker"] = _said(str(find_server()), "--version").partition(" sha=")[0]
    return found | {name: version(name) for name in ("python-socketio", "aiohttp", "uvloop", "msgspec")}


def _npm(package: str) -> str:
    path = NODE / "node_modules" / package / "package.json"
    return str(json.loads(path.read_text(encoding="utf-8"))["version"]) if path.exists() else "not installed"


def _said(program: str, *arguments: str) -> str:
    if (path := shutil.which(program)) is None:
        return "not installed"
    return subprocess.run((path, *arguments), capture_output=True, text=True, check=True).stdout.strip()
