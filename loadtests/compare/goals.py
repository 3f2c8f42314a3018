"""What our cluster is to reach: ratios to other systems in the same run, and limits of its own. Pure."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

import msgspec
from msgspec import Struct

from loadtests.compare.works import Row

# System, work, and a figure of that row.
Place = tuple[str, str, str]


class Goal(Struct, frozen=True, kw_only=True):
    """A figure of ours, divided by another if there is one, and its limit."""

    what: str
    ours: Place
    theirs: Place | None = None
    at_most: float | None = None
    at_least: float | None = None
    unit: str = ""


class Outcome(Struct, frozen=True):
    """What was found; without a value where the run did not measure it."""

    what: str
    goal: str
    value: str | None
    is_met: bool | None
    of: str


def _cpu(what: str, work: str, ours: str, theirs: str, at_most: float) -> Goal:
    what = f"CPU of {what}: {ours} / {theirs}"
    return Goal(what=what, ours=(ours, work, "cpu_us"), theirs=(theirs, work, "cpu_us"), at_most=at_most)


GOALS: Final = (
    _cpu("a direct message at 800/s", "direct-800", "ours-2", "node-2", 1 / 2),
    _cpu("a direct message at 2,500/s", "direct-2500", "ours-2", "node-2", 1 / 3),
    _cpu("a direct message at 800/s", "direct-800", "ours-8", "ours-2", 1.25),
    _cpu("a direct message at 2,500/s", "direct-2500", "ours-8", "ours-2", 1.25),
    _cpu("a delivery in a group of 500", "group-500", "ours-2", "node-2", 1 / 3),
    Goal(
        what="time to the last socket of a broadcast: ours-1 / node-1",
        ours=("ours-1", "sockets", "broadcast_last_ms"),
        theirs=("node-1", "sockets", "broadcast_last_ms"),
        at_most=1.0,
    ),
    Goal(
        what="memory of an idle socket, signed in: ours-1",
        ours=("ours-1", "sockets", "kb_per_socket"),
        at_most=16.0,
        unit=" KB",
    ),
    Goal(
        what="CPU of a sign-in, token checked: ours-1",
        ours=("ours-1", "sockets", "sign_in_cpu_ms"),
        at_most=0.8,
        unit=" ms",
    ),
    Goal(
        what="CPU of a sign-in with a ticket: ours-1",
        ours=("ours-1", "sockets", "resume_cpu_ms"),
        at_most=0.5,
        unit=" ms",
    ),
    Goal(
        what="highest rate of direct messages, p99 ≤ 250 ms: ours-2 / node-2",
        ours=("ours-2", "rate", "held"),
        theirs=("node-2", "rate", "held"),
        at_least=2.0,
    ),
)


def outcomes(rows: Sequence[Row]) -> list[Outcome]:
    """Each goal, and what these rows say of it."""
    figures = {(row.system, row.work): msgspec.to_builtins(row) for row in rows}
    return [_outcome(goal, figures) for goal in GOALS]


def _outcome(goal: Goal, figures: Mapping[tuple[str, str], Mapping[str, object]]) -> Outcome:
    sign, limit = ("≤", goal.at_most) if goal.at_least is None else ("≥", goal.at_least)
    assert limit is not None  # noqa: S101 - every goal has one
    told = f"{sign} {limit:.3g}{goal.unit}"
    ours = _figure(figures, goal.ours)
    theirs = None if goal.theirs is None else _figure(figures, goal.theirs)
    if ours is None or (goal.theirs is not None and not theirs):
        return Outcome(goal.what, told, None, None, "")
    value = ours / theirs if theirs else ours
    is_met = value <= limit if sign == "≤" else value >= limit
    of = f"{ours:g} / {theirs:g}" if theirs else ""
    return Outcome(goal.what, told, f"{value:.2f}{goal.unit}", is_met, of)


def _figure(figures: Mapping[tuple[str, str], Mapping[str, object]], place: Place) -> float | None:
    """The figure; the median where there are several, none where it was not measured."""
    system, work, name = place
    found = figures.get((system, work), {}).get(name)
    if isinstance(found, list):
        return float(median(found))
    return found if isinstance(found, (int, float)) else None
