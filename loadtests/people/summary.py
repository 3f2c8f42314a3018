"""What a load test found, for a person to read. Pure."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from loadtests.people.ledger import Verdict

# In the order in which a person asks.
_ORDER: Final = ("send", "deliver", "late", "sync", "sign-in", "read", "typing", "presence", "connection")


class Row(Struct, frozen=True):
    """All of one kind: how many, how many of them failed, and how long they took, in milliseconds."""

    what: str
    name: str
    count: int
    failed: int
    p50: float
    p99: float
    longest: float


class Failure(Struct, frozen=True):
    """How often something was refused with a code, or lost."""

    what: str
    name: str
    code: str
    count: int


class Worker(Struct, frozen=True):
    """What a worker process used, and how many people it played."""

    people: int
    cpu_s: float


def summary(
    rows: Sequence[Row], failures: Sequence[Failure], verdict: Verdict | None, workers: Sequence[Worker], seconds: float
) -> str:
    """The whole of it; without a verdict the test was stopped before its end."""
    return "\n".join([*_table(rows), *_failures(failures), "", *_judgement(verdict), *_workers(workers, seconds), ""])


def _table(rows: Sequence[Row]) -> list[str]:
    heading = ("", "", "count", "failed", "p50 ms", "p99 ms", "max ms")
    lines = [heading] + [
        (row.what, row.name, f"{row.count:,}", f"{row.failed:,}", *(f"{ms:,.0f}" for ms in _times(row)))
        for row in sorted(rows, key=_place)
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]
    return [_line(line, widths) for line in lines]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    words = [cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True)]
    figures = [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True)]
    return "  ".join([*words, *figures])


def _times(row: Row) -> tuple[float, float, float]:
    # Locust keeps two digits of each time, so a percentile may come out above the longest.
    return min(row.p50, row.longest), min(row.p99, row.longest), row.longest


def _place(row: Row) -> tuple[int, str]:
    return (_ORDER.index(row.what) if row.what in _ORDER else len(_ORDER)), row.name


def _failures(failures: Sequence[Failure]) -> list[str]:
    if not failures:
        return ["", "nothing failed"]
    most_first = sorted(failures, key=lambda failure: -failure.count)
    return ["", "failures by code"] + [f"  {each.count:,} {each.code} ({each.what} {each.name})" for each in most_first]


def _judgement(verdict: Verdict | None) -> list[str]:
    if verdict is None:
        return ["stopped before its end: what was on its way is not judged"]
    figures = {
        "sent": verdict.sent,
        "owed to recipients": verdict.owed,
        "lost": verdict.lost,
        "came again": verdict.again,
        "unanswered": verdict.unanswered,
        "people not here in the end": verdict.absent,
    }
    lines = [" · ".join(f"{name} {figure:,}" for name, figure in figures.items())]
    if not verdict.sent:
        lines.append("FAILED: nothing was sent")
    if verdict.lost:
        lines.append(f"FAILED: answered as sent, and not come to who is here: {', '.join(verdict.examples)}")
    if verdict.absent:
        lines.append("FAILED: some could not sign in, or come back")
    return lines


def _workers(workers: Sequence[Worker], seconds: float) -> list[str]:
    people = sum(worker.people for worker in workers)
    if not people or not seconds:
        return []
    cpu_s = sum(worker.cpu_s for worker in workers)
    shares = " and ".join(f"{worker.cpu_s / seconds:.0%}" for worker in workers)
    each = f"{cpu_s / people / seconds * 1000:.2f} ms a person and second"
    return [f"workers: {shares} of a core in {seconds:.0f} s, {each}"]
