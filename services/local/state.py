"""`DATA_DIR/cluster.json`: what runs where, for `talowa status` and for tests. Gone when nothing runs."""

from pathlib import Path

import msgspec
from msgspec import Struct

from services.local.process import Role


class Running(Struct, frozen=True):
    """A process as it runs now; without a pid it is down."""

    name: str
    role: Role
    host: str
    pid: int | None
    ports: dict[str, int]
    log: str


class State(Struct, frozen=True):
    """The cluster as it runs now."""

    supervisor: int
    processes: list[Running]


_decoder = msgspec.json.Decoder(State)


def path_in(home: Path) -> Path:
    """Where the state of the cluster on `home` is."""
    return home / "cluster.json"


def write(home: Path, state: State) -> None:
    """Replace the state in one step: a reader sees the old or the new one."""
    draft = path_in(home).with_suffix(".json.new")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(state), indent=2))
    draft.replace(path_in(home))


def read(home: Path) -> State | None:
    """The state, or None when no cluster has left one."""
    try:
        return _decoder.decode(path_in(home).read_bytes())
    except FileNotFoundError:
        return None


def remove(home: Path) -> None:
    """Forget the state: nothing runs any more."""
    path_in(home).unlink(missing_ok=True)
