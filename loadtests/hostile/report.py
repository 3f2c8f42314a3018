"""What others noticed of each attack, as Markdown. Pure."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from loadtests.tallies import Sent, percentile

GOAL: Final = 2.0


class Row(Struct, frozen=True):
    """Others' messages and the gateways, alone (`name` is empty) or during an attack.

    `cpu_percent` are of a core: of both gateways, and of the attacker. `grown_kb` is how far the gateway that grew
    most was above what it had when the attack began.
    """

    name: str
    what: str
    p50_ms: float
    p99_ms: float
    sent: int
    missing: int
    refused: int
    gateway_percent: float
    attacker_percent: float
    grown_kb: int
    seconds: float
    did: dict[str, int]

    @classmethod
    def of(cls, name: str, what: str, sent: Sent, **figures: float) -> "Row":
        """A row, from what a swarm tells."""
        return cls(
            name=name,
            what=what,
            p50_ms=round(percentile(sent.times_ms, 0.5), 1),
            p99_ms=round(percentile(sent.times_ms, 0.99), 1),
            sent=sent.sent,
            missing=sent.missing,
            refused=sum(sent.refused.values()),
            gateway_percent=round(figures["gateway_percent"]),
            attacker_percent=round(figures["attacker_percent"]),
            grown_kb=round(figures["grown_kb"]),
            seconds=figures["seconds"],
            did={},
        )


def before(rows: Sequence[Row], number: int) -> Row:
    """The run alone that was the last one before this row."""
    return next(row for row in reversed(rows[:number]) if not row.name)


def misses(rows: Sequence[Row]) -> list[str]:
    """Where others noticed more than they may, the worst first."""
    found = []
    for number, row in enumerate(rows):
        if row.name:
            ratio = row.p99_ms / max(0.1, before(rows, number).p99_ms)
            if ratio > GOAL:
                found.append((ratio, f"{row.name}: p99 {row.p99_ms:g} ms, {ratio:.1f} times that before"))
            if row.missing or row.refused:
                found.append((ratio, f"{row.name}: {row.missing} messages missing, {row.refused} refused"))
    return [text for _, text in sorted(found, reverse=True)]


_INTRODUCTION: Final = """\
Two gateways, two routers, presence, Valkey, SQLite with fsync. 200 people write {rate:g} messages a second to each
other, each to somebody on the other gateway. Limits of addresses, sockets and frames are the defaults. Each attack
comes from a process of its own with a lower priority (cluster and phones at nice {nice}, attackers at {attackers}), for
the machine's cores are the attacker's as well: what he managed is in the last column, and is not what a botnet would.
Before every second attack the same messages are measured with nobody attacking. The machine's load was {load} when
this began.
"""
_HEAD: Final = (
    "| attack | p50 ms | p99 ms | to before | missing | refused | gateways' CPU % | attacker's CPU % | gateway grew KB "
    "| what came of it |"
)


def markdown(
    rows: Sequence[Row],
    *,
    date: str,
    command: str,
    machine: dict[str, str],
    versions: dict[str, str],
    rate: float,
    nice: tuple[int, int],
    load: float,
) -> str:
    """The page."""
    found = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines = [
        f"# Others, while somebody attacks: {date}",
        "",
        f"`{command}`, on {machine['CPU']}, {machine['cores']} cores, Linux {machine['kernel']}; {found}.",
        "",
        _INTRODUCTION.format(rate=rate, nice=nice[0], attackers=nice[1], load=round(load, 1)),
        *_outcome(misses(rows)),
        "",
        _HEAD,
        "|---|---|---|---|---|---|---|---|---|---|",
        *(_line(rows, number) for number in range(len(rows))),
        "",
        "Counts are of the seconds of the attack; CPU is a share of one core, that of both gateways together.",
        "",
        "| attack | |",
        "|---|---|",
        *(f"| {row.name} | {row.what} |" for row in rows if row.name),
        "",
    ]
    return "\n".join(lines)


def _outcome(missed: Sequence[str]) -> list[str]:
    goal = f"Goal: p99 within {GOAL:g} times that before, nothing missing."
    if not missed:
        return [f"{goal} Met by all."]
    return [f"{goal} **Missed by {len(missed)}:**", "", *(f"- {each}" for each in missed)]


def _line(rows: Sequence[Row], number: int) -> str:
    row = rows[number]
    ratio = f"{row.p99_ms / max(0.1, before(rows, number).p99_ms):.2f}" if row.name else ""
    did = ", ".join(f"{count:,} {what}" for what, count in sorted(row.did.items(), key=lambda each: -each[1]))
    return (
        f"| {row.name or '*nobody*'} | {row.p50_ms:g} | {row.p99_ms:g} | {ratio} | {row.missing} | {row.refused} "
        f"| {row.gateway_percent:g} | {row.attacker_percent:g} | {row.grown_kb:,} | {did} |"
    )
