"""The Dockerfile: linted, and good for any builder, any base with Python, and no network but PyPI."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

_ROOT: Final = Path(__file__).parents[2]
_TEXT: Final = (_ROOT / "Dockerfile").read_text(encoding="utf-8")
# Instructions with what continues them, without comments.
_LINES: Final = [
    line
    for line in re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", _TEXT, flags=re.MULTILINE)).splitlines()
    if line.strip()
]


def _instructions(word: str) -> list[str]:
    return [line.partition(" ")[2].strip() for line in _LINES if line.startswith(f"{word} ")]


def test_hadolint_is_content() -> None:
    """Without a rule left out."""
    binary = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    assert binary is not None, "hadolint comes with the requirements of `dev`"
    done = subprocess.run(
        [binary, "--no-color", "--config", "/dev/null", str(_ROOT / "Dockerfile")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hadolint ignore" not in _TEXT


def test_old_builders_can_read_it() -> None:
    """buildah 1.28 knows no heredocs and no linked copies, and no front end is to be fetched."""
    assert "<<" not in _TEXT
    assert "--link" not in _TEXT
    assert "--mount" not in _TEXT
    assert not re.search(r"#\s*syntax\s*=", _TEXT)


def test_all_of_it_comes_from_the_base_the_tree_and_pypi() -> None:
    """No packages of a distribution, nothing fetched by address."""
    assert _instructions("FROM") == ["${BASE} AS build", "${BASE}"]
    assert "BASE=python:3.12-slim-bookworm" in _instructions("ARG")
    assert not _instructions("ADD")
    assert not re.search(r"\b(apt|apt-get|apk|dnf|yum|curl|wget|git)\b", " ".join(_instructions("RUN")))
    installs = re.findall(r"pip (?:--python \S+ )?install[^&]*", " ".join(_instructions("RUN")))
    assert len(installs) == 3
    for install in installs:
        assert "--require-hashes --only-binary :all:" in install or "--no-deps --no-index" in install
        assert not re.search(r"(^|\s)(-e|--editable)\s", install)


def test_it_runs_as_nobody_in_particular_and_needs_no_shell() -> None:
    """By number, so that Kubernetes can see that it is not root; SIGTERM drains."""
    assert _instructions("USER") == ["10001:10001"]
    assert _instructions("ENTRYPOINT") == ['["/app/bin/python", "-m", "service"]']
    assert not _instructions("CMD")
    assert _instructions("STOPSIGNAL") == ["SIGTERM"]
    last = _TEXT.rpartition("\nFROM ")[2]
    assert "\nRUN " not in last
    assert "PYTHONDONTWRITEBYTECODE=1" in last


@pytest.mark.parametrize("name", ["gateway", "router", "presence", "tracing", "build"])
def test_what_an_image_holds_is_pinned_with_hashes(name: str) -> None:
    """Each requirement, exactly."""
    text = (_ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    entries = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    assert entries
    assert all(re.match(r"^[a-z0-9.\[\],_-]+==\S+.* --hash=sha256:[0-9a-f]{64}", entry) for entry in entries)


def test_the_context_is_what_is_copied_and_no_more() -> None:
    """No secret that lies in the tree reaches a builder."""
    lines = [line for line in (_ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {
        part.split("/")[0]
        for line in _instructions("COPY")
        if not line.startswith("--from")
        for part in line.split()[:-1]
    }
    assert allowed == copied
