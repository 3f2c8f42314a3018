"""`docs/life-of-a-message.md` follows a message by names, and the names exist.

The rule, for what stands between backticks: what looks like a path is a file of the repository (a bare file
name, one somewhere under `services/` or `libs/`); `Owner.name`, `name()` and `CamelCase` are found in the code;
and names that follow a file (`` `file.py`: `name` ``) are found in that file.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "life-of-a-message.md"

_CODE = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"(?:[\w.-]+/)*[\w-]+\.(?:py|lua|md|toml|mjs)|(?:[\w.-]+/)+")
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_CALL = re.compile(r"([A-Za-z_][\w.]*)\([^`]*\)")
_CAMEL = re.compile(r"[A-Z][a-z]+\w*")
_IN_FILE = re.compile(r"`([\w/.-]+\.py)`:((?:\s+(?:and\s+)?`[A-Za-z_][\w.]*`,?)+)")


class Names:
    """What the code defines: every name, and who has which attribute."""

    def __init__(self, files: Iterable[Path], root: Path) -> None:
        self.names: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()
        self.by_file: dict[str, Names] = {}
        for file in files:
            path = file.relative_to(root)
            module = ast.parse(file.read_text(encoding="utf-8"))
            # `routing.plan` is a name of a module; a package's own names stand in its `__init__.py`.
            own = Names((), root)
            own._read(path.stem if path.stem != "__init__" else path.parent.name, module)
            self.by_file[path.as_posix()] = own
            self.names |= own.names
            self.attributes |= own.attributes
            self._note_packages(path)

    def has(self, name: str) -> bool:
        """Whether a name, perhaps dotted, is defined: its last two parts are an owner and what it has."""
        *_, owner, attribute = ("", *name.split("."))
        return (owner, attribute) in self.attributes if owner else attribute in self.names

    def _note_packages(self, path: Path) -> None:
        parts = path.with_suffix("").parts
        self.attributes |= set(pairwise(parts))
        self.names |= set(parts)

    def _read(self, owner: str, node: ast.AST) -> None:
        for name, inner in _defined(node):
            self.names.add(name)
            self.attributes.add((owner, name))
            if isinstance(inner, ast.ClassDef):
                self._read(name, inner)


def _defined(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """The names that a module or a class defines, and what a class gives itself in its methods."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.ClassDef(name=name):
                yield name, child
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name, child
                if isinstance(node, ast.ClassDef):
                    yield from _given_to_self(child)
            case ast.Assign(targets=targets):
                yield from ((target.id, child) for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name, child


def _given_to_self(method: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for inner in ast.walk(method):
        match inner:
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield name, inner


def missing(text: str, root: Path) -> list[str]:
    """What a page names and the tree at `root` does not have."""
    sources = [file for folder in ("services", "libs") for file in (root / folder).rglob("*") if file.is_file()]
    names = Names([file for file in sources if file.suffix == ".py"], root)
    absent = [token for token in _CODE.findall(text) if not _is_there(token, root, sources, names)]
    for path, listed in _IN_FILE.findall(text):
        own = names.by_file.get(path)
        if own is not None:
            listed_names = (name for name in _CODE.findall(listed) if not _PATH.fullmatch(name))
            absent += [f"{path}: {name}" for name in listed_names if not own.has(name)]
    return absent


def _is_there(token: str, root: Path, sources: Iterable[Path], names: Names) -> bool:
    if _PATH.fullmatch(token):
        is_bare = "/" not in token
        return (root / token).exists() or (is_bare and any(file.name == token for file in sources))
    if call := _CALL.fullmatch(token):
        return names.has(call[1])
    if _DOTTED.fullmatch(token) or _CAMEL.fullmatch(token):
        return names.has(token)
    return True


def test_every_name_on_the_page_exists() -> None:
    """A page that names what is gone sends its reader astray."""
    assert missing(PAGE.read_text(encoding="utf-8"), ROOT) == []


def test_the_page_names_the_way_of_a_message() -> None:
    """The check above has something to check."""
    tokens = set(_CODE.findall(PAGE.read_text(encoding="utf-8")))
    assert tokens >= {"Delivery.decide", "Delivery.complete", "order.lua", "services/router/delivery.py"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small repository."""
    for path, text in {
        "services/router/__init__.py": "",
        "services/router/delivery.py": (
            "LIMIT: int = 3\n"
            "class Delivery:\n"
            "    kind = 1\n"
            "    size: int\n"
            "    def __init__(self):\n"
            "        self.unsaved = {}\n"
            "    async def decide(self): ...\n"
            "def plan(): ...\n"
        ),
        "libs/keys.py": "def lease(): ...\n",
        "services/router/lua/order.lua": "",
        "docs/redis.md": "",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    "token",
    [
        "services/router/delivery.py",
        "services/router/",
        "docs/redis.md",
        "order.lua",
        "Delivery",
        "Delivery.decide",
        "Delivery.decide()",
        "Delivery.decide(works)",
        "Delivery.kind",
        "Delivery.size",
        "Delivery.unsaved",
        "delivery.plan",
        "delivery.LIMIT",
        "services.router.delivery.Delivery.decide",
        "services.router.delivery",
        "plan()",
        "keys.lease",
        # No names of ours, and nothing that looks like one.
        "sent",
        "421[…]",
        "{messageId}",
        "XTRIM … MINID =",
    ],
)
def test_what_exists_is_found(tree: Path, token: str) -> None:
    """In every way in which a page may write it."""
    assert missing(f"Look at `{token}` here.", tree) == []


@pytest.mark.parametrize(
    "token",
    [
        "services/router/routing.py",
        "services/gateway/",
        "docs/order.lua",
        "lease.lua",
        "redis.md",
        "Courier",
        "Delivery.deliver",
        "Delivery.decided()",
        "Delivery.lease",
        "delivery.route",
        "services.router.routing",
        "route()",
    ],
)
def test_what_does_not_exist_is_named(tree: Path, token: str) -> None:
    """A file that moved, a method that was renamed, an attribute of something else."""
    assert missing(f"Look at `{token}` here.", tree) == [token]


def test_a_name_that_follows_a_file_is_in_that_file(tree: Path) -> None:
    """And not somewhere else: `file`: `name`."""
    assert missing("1. `services/router/delivery.py`: `plan` (pure) and more", tree) == []
    assert missing("1. `services/router/delivery.py`: `Delivery.decide`, `plan`", tree) == []
    assert missing("1. (`libs/keys.py`: `plan`)", tree) == ["libs/keys.py: plan"]
    assert missing("1. `libs/keys.py`: `lease` and `Delivery.decide`", tree) == ["libs/keys.py: Delivery.decide"]
