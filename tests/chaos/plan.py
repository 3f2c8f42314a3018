"""The schedule of faults: a pure function of the seed, so that what was found once can be had again."""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

Kind = Literal[
    "kill",
    "kill two",
    "pause",
    "pause two",
    "drain",
    "rolling restart",
    "broker restarted",
    "broker killed",
    "broker stopped",
    "broker paused",
    "broker wiped",
    "broker lost its disk",
    "replica promoted",
    "cut",
    "slow link",
    "lossy link",
    "store full",
    "store slow",
    "clock stepped",
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

GATEWAYS: Final = ("g1", "g2", "g3")
ROUTERS: Final = ("r1", "r2", "r3")
PRESENCES: Final = ("presence", "presence2")
SERVICES: Final = (*GATEWAYS, *ROUTERS, *PRESENCES)
BROKER: Final = "broker"
PHONES: Final = "phones"

STEP_S: Final = 300.0
# How long a fault lasts at most; the others are done at once, and over.
_LASTS_S: Final[dict[Kind, float]] = {
    "pause": 30.0,
    "pause two": 30.0,
    "rolling restart": 60.0,
    "broker stopped": 20.0,
    "broker paused": 15.0,
    "broker lost its disk": 2.0,
    "replica promoted": 15.0,
    "cut": 20.0,
    "slow link": 20.0,
    "lossy link": 20.0,
    "store full": 20.0,
    "store slow": 20.0,
    "clock stepped": 40.0,
}
# These take all of that.
_LASTS_AS_LONG_AS: Final[frozenset[Kind]] = frozenset(
    {"rolling restart", "broker stopped", "broker lost its disk", "replica promoted"}
)
# A fault every few seconds: about 150 in ten minutes.
_EVERY_S: Final = (2.0, 6.0)
# Nothing lasts past the end: the last part of a run is left for what comes back.
_TAIL: Final = 0.1
# Of these, one at a time: two would be one.
_ALONE: Final[tuple[frozenset[Kind], ...]] = (
    frozenset(kind for kind in KINDS if kind.startswith(("broker", "replica"))),
    frozenset({"store full", "store slow"}),
    frozenset({"rolling restart"}),
)

# In each round that has every kind once, these come more often.
_OFTEN: Final[dict[Kind, int]] = {"kill": 3, "pause": 3, "drain": 2, "cut": 2}


@dataclass(frozen=True)
class Fault:
    """One fault: when it begins, what it is, whom it is done to, and for how long. Seconds since the run began.

    `size` says how much, where that can differ: by how many seconds a clock is stepped.
    """

    at_s: float
    kind: Kind
    targets: tuple[str, ...] = ()
    lasts_s: float = 0.0
    size: float = 0.0

    @property
    def over_at_s(self) -> float:
        """When it is undone."""
        return self.at_s + self.lasts_s

    def __str__(self) -> str:
        words = [f"{self.at_s:6.1f} s  {self.kind}", *self.targets]
        if self.size:
            words.append(f"by {self.size:+.0f} s")
        if self.lasts_s:
            words.append(f"for {self.lasts_s:.1f} s")
        return " ".join(words)


def draw(seed: int, seconds: float, kinds: Collection[Kind] = KINDS) -> list[Fault]:
    """The faults of a run, in order. Each is over before the run is; each of `kinds` comes before any comes twice."""
    luck = random.Random(f"talowa chaos {seed}")
    end = seconds * (1 - _TAIL)
    faults: list[Fault] = []
    fresh: list[Kind] = []
    at_s = luck.uniform(*_EVERY_S)
    while at_s < end:
        if not fresh:
            fresh = _hand(luck, kinds)
        # What may not go with what goes on now keeps its turn.
        for kind in fresh:
            fault = _fault(luck, at_s, kind, end - at_s, seconds)
            if _fits(fault, faults):
                fresh.remove(kind)
                faults.append(fault)
                break
        at_s += luck.uniform(*_EVERY_S)
    return faults


def _hand(luck: random.Random, kinds: Collection[Kind]) -> list[Kind]:
    """Every kind at least once, the frequent ones more often, shuffled."""
    hand = [kind for kind in KINDS if kind in kinds for _ in range(_OFTEN.get(kind, 1))]
    luck.shuffle(hand)
    return hand


def _fits(fault: Fault, before: Sequence[Fault]) -> bool:
    going_on = {other.kind for other in before if other.over_at_s > fault.at_s}
    return not any(fault.kind in group and going_on & group for group in _ALONE)


def _fault(luck: random.Random, at_s: float, kind: Kind, left_s: float, seconds: float) -> Fault:
    longest_s = _LASTS_S.get(kind, 0.0)
    if kind in _LASTS_AS_LONG_AS:
        lasts_s = min(longest_s, seconds / 4, left_s)
    elif longest_s:
        # In a short run nothing takes most of it.
        longest_s = min(longest_s, seconds / 4, left_s)
        lasts_s = luck.uniform(longest_s / 10, longest_s)
    else:
        lasts_s = 0.0
    size = luck.choice((-STEP_S, STEP_S)) if kind == "clock stepped" else 0.0
    return Fault(round(at_s, 1), kind, _targets(luck, kind), round(lasts_s, 1), size)


def _targets(luck: random.Random, kind: Kind) -> tuple[str, ...]:  # noqa: PLR0911 - an arm a kind
    match kind:
        case "kill" | "drain" | "pause":
            return (luck.choice(SERVICES),)
        case "kill two" | "pause two":
            return tuple(luck.sample(SERVICES, 2))
        case "rolling restart":
            return (*GATEWAYS, *ROUTERS)
        case "cut" | "slow link" | "lossy link":
            near = luck.choice(SERVICES)
            return near, luck.choice((BROKER, PHONES)) if near in GATEWAYS else BROKER
        case "clock stepped":
            return (luck.choice((*SERVICES, BROKER, BROKER)),)
        case "store full" | "store slow":
            return ()
        case _:
            return (BROKER,)
