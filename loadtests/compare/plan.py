"""Which systems do which work, who lives there, and who writes to whom."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from loadtests.compare.systems import Population

DIRECT: Final = {"direct-800": 800.0, "direct-2500": 2500.0}
# Messages a second, and members of the group.
GROUP: Final = {"group-50": (40.0, 50), "group-500": (8.0, 500)}
WORKS: Final = (*DIRECT, *GROUP, "rate", "sockets")
_TALK: Final = (*DIRECT, *GROUP)
# Those that are compared with each other stand next to each other: the machine's mood changes.
SYSTEMS: Final[dict[str, tuple[str, ...]]] = {
    "node-2": (*_TALK, "rate"),
    "ours-2": (*_TALK, "rate"),
    "ours-8": tuple(DIRECT),
    "node-4": _TALK,
    "stock": (*_TALK, "sockets"),
    "node-1": (*_TALK, "sockets"),
    "ours-1": ("sockets",),
}
_TALKERS: Final = 500


class Size(Struct, frozen=True):
    """How long each work takes, how many sockets there are, and which systems are in it."""

    seconds: float
    rate_seconds: float
    sockets: int
    broadcasts: int
    systems: Sequence[str]


WHOLE: Final = Size(seconds=8, rate_seconds=6, sockets=10_000, broadcasts=3, systems=tuple(SYSTEMS))
QUICK: Final = Size(
    seconds=4, rate_seconds=3, sockets=3_000, broadcasts=1, systems=("node-2", "ours-2", "node-1", "ours-1")
)


def talkers() -> Population:
    """Those who write: all in one large group, and each in one of 50."""
    users = [f"u{number}" for number in range(_TALKERS)]
    small = {f"g50-{start // 50}": frozenset(users[start : start + 50]) for start in range(0, _TALKERS, 50)}
    return Population(users, {"g500-0": frozenset(users), **small})


def sitters(count: int) -> Population:
    """Those who only sit there."""
    return Population([f"u{number}" for number in range(count)], {})


def choose(size: Size, only: Sequence[str] | None, asked: Sequence[str] | None) -> dict[str, list[str]]:
    """Which systems do which works; what is asked for by name is done. Raises `ValueError` for unknown names."""
    for word, known in ((only or (), SYSTEMS), (asked or (), WORKS)):
        if unknown := [name for name in word if name not in known]:
            raise ValueError(f"there is no {', '.join(unknown)}: choose of {', '.join(known)}")
    chosen = {
        name: [work for work in asked or SYSTEMS[name] if only or work in SYSTEMS[name]]
        for name in only or size.systems
    }
    return {name: wanted for name, wanted in chosen.items() if wanted}
