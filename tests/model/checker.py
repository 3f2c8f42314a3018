"""Looks at every order of events, the shortest first, until a promise is broken or there is no more to look at."""

import gc
from collections import deque
from typing import NamedTuple

from tests.model import promises
from tests.model.steps import steps
from tests.model.world import Bounds, State, Without, beginning


class Verdict(NamedTuple):
    """What was found: how much there was to look at; and if a promise is broken, which, and the way there."""

    states: int
    depth: int
    broken: str = ""
    trace: tuple[str, ...] = ()
    is_whole: bool = True

    def __str__(self) -> str:
        seen = f"{self.states:,} states, {self.depth} steps deep" + ("" if self.is_whole else ", not all of them")
        if not self.broken:
            return f"{seen}: every promise is kept"
        return "\n".join(
            (f"{seen}: BROKEN: {self.broken}", *(f"  {n}. {what}" for n, what in enumerate(self.trace, 1)))
        )


def check(
    bounds: Bounds,
    without: Without = Without.NOTHING,
    *,
    states_max: int = 10_000_000,
    traps: bool = True,
    start: State | None = None,
) -> Verdict:
    """Every state that can be reached within `bounds`; breadth first, so what is broken is shown by a shortest way."""
    gc.disable()  # nothing here is a cycle, and looking for one among millions of tuples takes half the time
    try:
        return _check(start or beginning(bounds), without, states_max, traps=traps)
    finally:
        gc.enable()


def _check(start: State, without: Without, states_max: int, *, traps: bool) -> Verdict:
    number = {start: 0}
    came_from: list[tuple[int, str]] = [(-1, "")]
    depths = [0]
    before: list[list[int]] = [[]]  # by steps that are no faults, for `_trapped`
    good: list[int] = []
    waiting = deque([start])
    while waiting:
        state = waiting.popleft()
        at = number[state]
        if promises.has_ended_well(state):
            good.append(at)
        for what, following in steps(state, without):
            there = number.get(following)
            if there is None:
                there = number[following] = len(came_from)
                came_from.append((at, what))
                depths.append(depths[at] + 1)
                before.append([])
                why = promises.broken(following)
                if why:
                    return Verdict(len(number), depths[there], why, _trace(came_from, there))
                if len(number) >= states_max:
                    return Verdict(len(number), depths[there], is_whole=False)
                waiting.append(following)
            if traps and what[-1] != "!":
                before[there].append(at)
    trapped = _trapped(before, good) if traps else None
    if trapped is not None:
        why = f"{promises.TRAP}: from here on, it cannot, even if nothing else goes wrong"
        return Verdict(len(number), max(depths), why, _trace(came_from, trapped))
    return Verdict(len(number), max(depths))


def follow(state: State, *way: str, without: Without = Without.NOTHING) -> State:
    """Where a way leads, told as a trace tells it."""
    for name in way:
        state = next(following for what, following in steps(state, without) if what == name)
    return state


def _trapped(before: list[list[int]], good: list[int]) -> int | None:
    """The first state from which no way without faults leads to one where all has ended well."""
    is_free = bytearray(len(before))
    waiting = list(good)
    for at in good:
        is_free[at] = 1
    while waiting:
        for at in before[waiting.pop()]:
            if not is_free[at]:
                is_free[at] = 1
                waiting.append(at)
    at = is_free.find(0)
    return None if at < 0 else at


def _trace(came_from: list[tuple[int, str]], at: int) -> tuple[str, ...]:
    trace = []
    while at:
        at, what = came_from[at]
        trace.append(what)
    return tuple(reversed(trace))
