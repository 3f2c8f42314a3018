"""How many sockets, gateways and seconds; what fits this machine; and who writes. Pure."""

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from loadtests.letters import Letter, pairs
from loadtests.phone import Person

WORKS: Final = ("hold", "growth", "failover", "endure", "rolling", "rebalance")
# Which works share a page of results.
PAGES: Final[dict[str, tuple[str, ...]]] = {"scale": WORKS[:4], "rolling": WORKS[4:]}
# What a process opens besides its sockets.
_OTHER_FILES: Final = 400
# So many sockets a client process: it has a core to itself for a fraction of the time only.
_A_PROCESS: Final = 10_000


class Size(Struct, frozen=True, kw_only=True):
    """Sockets, gateways and seconds of each work, and messages a second in all of them."""

    rate: float = 500.0
    at_once: int = 100
    hold: int = 40_000
    hold_gateways: int = 4
    hold_seconds: float = 60.0
    growth: Sequence[int] = (500, 5_000, 20_000)
    growth_gateways: Sequence[int] = (1, 2, 4, 8)
    growth_seconds: float = 8.0
    writers: int = 500
    endure: int = 10_000
    endure_minutes: float = 2.0
    sample_s: float = 10.0
    failover: int = 10_000
    failover_others: int = 2_000
    before_s: float = 5.0
    after_s: float = 30.0
    rolling: int = 10_000
    rolling_gateways: int = 3
    rolling_before_s: float = 10.0
    drain_sign_ins_per_s: int = 500
    rebalance: int = 10_000
    rebalance_gateways: int = 4
    rebalance_rest_s: float = 20.0
    rebalance_sign_ins_per_s: int = 100
    rebalance_sample_s: float = 5.0
    rebalance_most_s: float = 150.0
    # Phones that come back when `reconnect` says so; the others are clients that know nothing of it.
    heeds: float = 0.5


WHOLE: Final = Size()
QUICK: Final = Size(
    rate=100.0,
    hold=400,
    hold_seconds=4.0,
    growth=(100, 200),
    growth_gateways=(1, 2),
    growth_seconds=2.0,
    writers=100,
    endure=100,
    endure_minutes=0.1,
    sample_s=1.0,
    failover=100,
    failover_others=40,
    before_s=2.0,
    after_s=8.0,
    rolling=200,
    rolling_before_s=2.0,
    drain_sign_ins_per_s=50,
    rebalance=200,
    rebalance_rest_s=2.0,
    rebalance_sign_ins_per_s=40,
    rebalance_sample_s=1.0,
    rebalance_most_s=30.0,
)


def fit(sockets: int, gateways: int, files: int) -> int:
    """As many of these sockets as so many gateways may hold, if each process may open so many files."""
    return min(sockets, gateways * (files - _OTHER_FILES)) // 2 * 2


def client_processes(sockets: int, files: int) -> int:
    """How many processes hold the other ends."""
    return max(1, -(-sockets // min(_A_PROCESS, files - _OTHER_FILES)))


def some_letters(people: Sequence[Person], writers: int) -> list[Letter]:
    """Pairs from all over the list write, so many people in all; or everyone, if there are no more."""
    letters = pairs(people)
    count = max(1, writers // 2)
    step = max(1, len(letters) // 2 // count)
    return [each for start in range(0, len(letters), 2 * step) for each in letters[start : start + 2]][: 2 * count]


def seat(people: Sequence[Person], crowded: str, count: int) -> list[Person]:
    """`count` people on the gateway `crowded`, all others where they are: pairs across gateways come first."""
    there = sum(person.url == crowded for person in people)
    seated = list(people)
    for number in reversed(range(len(seated))):
        if there >= count:
            break
        if seated[number].url != crowded:
            seated[number] = msgspec.structs.replace(seated[number], url=crowded)
            there += 1
    return seated
