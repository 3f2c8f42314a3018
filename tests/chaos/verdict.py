"""Verdict: from what everyone sent and saw to one table. Pure, but for the clock of its date."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from tests.chaos.faults import Happening
from tests.chaos.people import Letter
from tests.chaos.plan import KINDS
from tests.support.history import Expected, History, Report, check, promised

# After a fault it takes a while until what it did is over: leases lapse, phones come back.
_AFTERMATH_MS: Final = 10_000
_SHOWN: Final = 12


@dataclass(frozen=True)
class Wait:
    """The longest that something was not to be had, while a kind of fault went on."""

    nobody_s: float
    """No message of anybody was answered."""
    somebody_s: float
    """One message was not."""


@dataclass(frozen=True)
class Verdict:
    """What the table says."""

    report: Report
    faults: Mapping[str, int]
    waits: Mapping[str, Wait]
    letters: int
    acknowledged: int
    outside: int
    unanswered: Sequence[str]
    refused: Sequence[str]
    stuck: Sequence[str]
    turned_away: Sequence[str]
    unaccounted: float | None
    notes: Sequence[str] = ()

    @property
    def promises(self) -> dict[str, Sequence[str]]:
        """What must be zero."""
        found = {
            "lost": self.report.lost,
            "doubled": self.report.doubled,
            "reordered": self.report.out_of_order,
            "gaps": self.report.gaps,
            "went back": self.report.went_back,
            "strays": self.report.strays,
            "malformed": self.report.malformed,
            "stuck due": self.stuck,
            "never answered": self.unanswered,
            "refused": self.refused,
            "turned away": self.turned_away,
        }
        return {name: tuple(those) for name, those in found.items()}

    @property
    def is_kept(self) -> bool:
        """Whether every promise was."""
        return not any(self.promises.values()) and not self.unaccounted

    def rows(self) -> list[tuple[str, str]]:
        """The table's first part."""
        counted = "not counted" if self.unaccounted is None else f"{self.unaccounted:g}"
        return [
            ("faults", str(sum(self.faults.values()))),
            ("messages", str(self.letters)),
            ("acknowledged", str(self.acknowledged)),
            *((name, str(len(those))) for name, those in self.promises.items()),
            ("unaccounted", counted),
            ("only queued when the broker lost its memory", str(self.outside)),
            ("raw redeliveries", str(self.report.redeliveries)),
        ]

    def findings(self) -> list[str]:
        """What broke a promise, a line each."""
        lines = []
        for name, those in self.promises.items():
            lines += [f"{name}: {one}" for one in those[:_SHOWN]]
            if len(those) > _SHOWN:
                lines.append(f"{name}: … and {len(those) - _SHOWN} more")
        return lines

    def markdown(self) -> str:
        """Both tables."""
        lines = ["| | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in self.rows()), ""]
        lines += ["| fault | times | longest without an answer to anybody | to one message |", "|---|---:|---:|---:|"]
        for kind in KINDS:
            if self.faults.get(kind):
                wait = self.waits[kind]
                lines.append(f"| {kind} | {self.faults[kind]} | {wait.nobody_s:.1f} s | {wait.somebody_s:.1f} s |")
        if (calm := self.waits.get("none")) is not None:
            lines.append(f"| (none) | | {calm.nobody_s:.1f} s | {calm.somebody_s:.1f} s |")
        return "\n".join([*lines, *(f"\n{note}" for note in self.notes)])


def judge(
    history: History,
    letters: Sequence[Letter],
    happened: Sequence[Happening],
    *,
    expected: Expected,
    losses: Sequence[int],
    stuck: Sequence[str],
    turned_away: Sequence[str],
    unaccounted: float | None,
    notes: Sequence[str] = (),
) -> Verdict:
    """What all of it comes to. `losses`: when (ms) the broker had lost what it held, at the latest."""
    kept, outside = promised(history, losses)
    # A place that was only queued, and not given again, is no gap.
    report = replace(check(kept, expected), gaps=check(history, expected).gaps)
    return Verdict(
        report=report,
        faults=Counter(happening.fault.kind for happening in happened),
        waits=waits(letters, happened),
        letters=len(letters),
        acknowledged=sum(1 for one in letters if one.answered_ms is not None and one.refusal is None),
        outside=len(outside),
        unanswered=[f"{one.lane} {one.client_id}" for one in letters if one.answered_ms is None],
        refused=[f"{one.lane} {one.client_id}: {one.refusal}" for one in letters if one.refusal is not None],
        stuck=stuck,
        turned_away=turned_away,
        unaccounted=unaccounted,
        notes=notes,
    )


def waits(letters: Sequence[Letter], happened: Sequence[Happening]) -> dict[str, Wait]:
    """For each kind of fault the longest waits that it had a part in; `none` for when nothing went on.

    Faults overlap by design: a wait is put down to all that went on meanwhile, or shortly before.
    """
    answered = sorted((one.since_ms, one.answered_ms) for one in letters if one.answered_ms is not None)
    somebody = _longest(answered, happened)
    nobody = _longest(_silences(answered), happened)
    return {kind: Wait(nobody.get(kind, 0) / 1000, somebody.get(kind, 0) / 1000) for kind in {*somebody, *nobody}}


def _silences(answered: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """From one answer to the next, of anybody, as far as somebody waited for one."""
    silences = []
    for before, after in pairwise(sorted(answer for _, answer in answered)):
        waiting = [written for written, answer in answered if written < after <= answer]
        if waiting:
            silences.append((max(before, min(waiting)), after))
    return silences


def _longest(spans: Iterable[tuple[int, int]], happened: Sequence[Happening]) -> dict[str, int]:
    longest: dict[str, int] = {}
    for began, ended in spans:
        kinds: set[str] = {
            one.fault.kind
            for one in happened
            if one.began_ms <= ended and (one.over_ms or ended) + _AFTERMATH_MS >= began
        }
        for kind in kinds or {"none"}:
            longest[kind] = max(longest.get(kind, 0), ended - began)
    return longest
