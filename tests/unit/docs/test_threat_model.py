"""`THREAT_MODEL.md` names the tests that show what it claims, and the files that hold it: they exist."""

import ast
import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
PAGE: Final = (ROOT / "THREAT_MODEL.md").read_text(encoding="utf-8")
_TEST: Final = re.compile(r"`(test_\w+)`")
_PATH: Final = re.compile(r"`((?:[\w.-]+/)+[\w.-]*)`")
_LINK: Final = re.compile(r"\]\(([^)#]+)(?:#([\w-]+))?\)")
_ATTACKERS: Final = 10


def _tests() -> set[str]:
    return {
        node.name
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_test_that_is_named_exists() -> None:
    """A claim whose test was renamed or is gone is no claim."""
    named = set(_TEST.findall(PAGE))
    assert len(named) > 40
    assert sorted(named - _tests()) == []


def test_every_file_that_is_named_exists() -> None:
    """In the text and behind its links, with the headings that they lead to."""
    paths = {*_PATH.findall(PAGE), *(path for path, _ in _LINK.findall(PAGE))}
    assert len(paths) > 20
    assert sorted(path for path in paths if not (ROOT / path).exists()) == []
    for path, heading in _LINK.findall(PAGE):
        if heading:
            lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
            headings = {line.lstrip("# ").lower().replace(" ", "-") for line in lines if line.startswith("#")}
            assert heading in headings


def test_every_attacker_leaves_something_that_is_said() -> None:
    """What remains is said of each, or it is no threat model."""
    sections = PAGE.split("\n## ")[1:-1]
    assert len(sections) >= _ATTACKERS
    for section in sections:
        assert "remains" in section or "there is not" in section, section.splitlines()[0]
