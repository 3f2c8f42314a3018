"""The results as Markdown, with what was to be reached and what was not. Pure.

Over 400 lines: it is a list of tables, one for each part.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from loadtests.scale.figures import Endure, Entry, Failover, Flow, Growth, Hold, Rebalanced, Rolling, Row, trend
from services.gateway import balance

_P99_MS: Final = 100.0
_BACK_S: Final = 20.0
# Memory is flat if the last third of the time is not more than this over the first.
_FLAT: Final = 1.02


class Part(Struct, frozen=True):
    """One work, as it was asked for on a day."""

    command: str
    took_s: float
    row: Row


class Results(Struct, frozen=True):
    """A day's works, as the JSON file holds them. A work that is done again replaces what it found before."""

    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    settings: dict[str, str]
    parts: dict[str, Part]


class Outcome(Struct, frozen=True):
    """A goal, and whether it was reached."""

    what: str
    goal: str
    value: str
    is_met: bool


def outcomes(rows: Iterable[Row]) -> list[Outcome]:
    """What these rows say of the goals that are theirs; growth has none."""
    found: list[Outcome] = []
    for row in rows:
        match row:
            case Hold():
                what, asked = f"{_sockets(row.entry.asked)} on {row.gateways} gateways", row.entry.asked
                found.append(_least(f"{what}, signed in", row.entry.signed_in, asked))
                found.append(_least(f"{what}, still there at the end", row.signed_in_after, asked))
                found.append(_nothing_lost(what, row.flow))
            case Endure():
                what = f"{_sockets(row.entry.asked)} on one gateway, {row.flow.rate:g}/s, {row.minutes:g} min"
                memory = trend(row.samples, "gateway")
                found.append(_most(f"{what}: p99", row.flow.p99_ms, _P99_MS, " ms"))
                found.append(_most(f"{what}: memory of the gateway, last third to first", memory.ratio, _FLAT, ""))
                found.append(_least(f"{what}: still there at the end", row.signed_in_after, row.entry.asked))
                found.append(_nothing_lost(what, row.flow))
            case Failover():
                what = f"a gateway with {_sockets(row.on_it)} killed"
                value = f"{row.back:,} of {row.on_it:,} back" if row.all_back_s is None else f"{row.all_back_s:g} s"
                is_met = row.all_back_s is not None and row.all_back_s <= _BACK_S
                found.append(Outcome(f"{what}: all signed in elsewhere", f"≤ {_BACK_S:g} s", value, is_met))
                found.append(_nothing_lost(what, row.flow))
            case Rolling():
                what = f"{row.gateways} gateways with {_sockets(row.entry.asked)} restarted"
                found.append(_bound(f"{what}: sign-ins in any second", row.per_second, row.bound_per_s))
                found.append(_least(f"{what}: signed in at the end", row.signed_in_after, row.entry.asked))
                found.append(_nothing_lost(what, row.flow))
            case Rebalanced():
                what = f"a gateway added to {row.gateways - 1} with {_sockets(row.entry.asked)}"
                last = row.samples[-1].sockets if row.samples else []
                is_even = balance.is_even({str(number): count for number, count in enumerate(last)}, row.target)
                spread = " · ".join(f"{count:,}" for count in last)
                found.append(
                    Outcome(f"{what}: all near their share", f"{row.target:,} ± 10 %", spread, bool(last) and is_even)
                )
                found.append(_bound(f"{what}: sign-ins in any second", row.per_second, row.bound_per_s))
                found.append(_nothing_lost(what, row.flow))
            case Growth():
                pass
    return sorted(found, key=lambda each: each.is_met)


def markdown(results: Results) -> str:
    """The page under `loadtests/results/`."""
    about = " · ".join(f"{name} {value}" for name, value in (results.machine | results.versions).items())
    lifted = ", ".join(f"`{name}={value}`" for name, value in results.settings.items())
    commands = {part.command: 0.0 for part in results.parts.values()}
    for part in results.parts.values():
        commands[part.command] += part.took_s
    parts = [
        _title(results),
        f"{results.date} · {about}",
        " · ".join(f"`{command}`, {took_s / 60:.0f} min" for command, took_s in commands.items())
        + ". All on one machine, the clients too, from 128 addresses of it. Valkey with an append-only file, SQLite "
        f"with fsync, 2 routers, presence. Limits are on, raised: {lifted}. CPU is that of all server processes and "
        "the broker; of a message or a sign-in it is what they take beyond idling with all sockets there.",
        "## Goals",
        _table(
            ("goal", "limit", "found", "met"),
            [
                (each.what, each.goal, each.value, "yes" if each.is_met else "**no**")
                for each in outcomes(part.row for part in results.parts.values())
            ],
        ),
    ]
    for part in results.parts.values():
        match part.row:
            case Hold() as row:
                parts += _hold(row)
            case Growth() as row:
                parts += _growth(row)
            case Endure() as row:
                parts += _endure(row)
            case Failover() as row:
                parts += _failover(row)
            case Rolling() as row:
                parts += _rolling(row)
            case Rebalanced() as row:
                parts += _rebalanced(row)
    return "\n\n".join(parts) + "\n"


def _title(results: Results) -> str:
    if all(isinstance(part.row, Rolling | Rebalanced) for part in results.parts.values()):
        return "# Gateways that go and come under many sockets"
    return "# Many sockets, and a gateway that dies"


def _hold(row: Hold) -> list[str]:
    roles = list(row.kb)
    return [
        f"## hold: {_sockets(row.entry.wanted)} on {row.gateways} gateways",
        _entry(row.entry),
        _table(
            ("", *roles, "all"),
            [
                ("KB a socket, signed in", *_by_role(row.kb, roles, 2)),
                ("KB a socket, after the messages", *_by_role(row.kb_after, roles, 2)),
                ("idle, % of a core", *_by_role(row.idle_percent, roles, 1)),
                ("CPU ms a sign-in", *_by_role(row.entry.cpu_ms, roles, 2)),
                ("CPU µs a message", *_by_role(row.flow.cpu_us, roles, 0)),
            ],
        ),
        "Everyone writes in turn, to a neighbour on another gateway:",
        _flow(row.flow),
        _after(row.closed, row.complaints),
    ]


def _growth(row: Growth) -> list[str]:
    first = {cell.entry.asked: cell.some for cell in reversed(row.cells)}
    lines = [
        (
            f"{cell.entry.signed_in:,}",
            f"{cell.gateways}",
            f"{_sum(cell.some):.0f}",
            f"{_sum(cell.some) / max(1.0, _sum(first[cell.entry.asked])):.2f}",
            _roles(cell.some.cpu_us),
            f"{_sum(cell.everyone):.0f}",
            f"{cell.some.p50_ms:.0f} / {cell.some.p99_ms:.0f}",
            f"{cell.everyone.p50_ms:.0f} / {cell.everyone.p99_ms:.0f}",
            f"{cell.idle_percent:.1f}",
            f"{cell.entry.signed_in / cell.entry.took_s:.0f}",
            _trouble(cell.some, cell.everyone) or "none",
        )
        for cell in row.cells
    ]
    head = (
        "sockets",
        "gateways",
        f"CPU µs a message, {row.writers} write",
        "to one gateway",
        "of it",
        "everyone writes",
        "p50 / p99 ms",
        "everyone",
        "idle, % of a core",
        "sign-ins a second",
        "lost, missing, refused",
    )
    complaints = dict[str, int]()
    for cell in row.cells:
        for what, count in cell.complaints.items():
            complaints[what] = complaints.get(what, 0) + count
    title = (
        f"## growth: {row.cells[0].some.rate:g} messages a second in larger and larger clusters" if row.cells else ""
    )
    return [
        title,
        (
            f"{row.writers} people write, spread over all, so that the same is done in every row; then everyone in "
            "turn, most of them the first message of their conversation."
            + "".join(dict.fromkeys(f" {_room(cell.entry)}".rstrip() for cell in row.cells))
        ),
        _table(head, lines),
        _after({}, complaints),
    ]


def _endure(row: Endure) -> list[str]:
    roles = list(row.samples[0].rss_kb)
    trends = {role: trend(row.samples, role) for role in roles}
    step = max(1, len(row.samples) // 20)
    return [
        f"## endure: {_sockets(row.entry.wanted)} on one gateway for {row.minutes:g} minutes",
        _entry(row.entry),
        _flow(row.flow),
        f"Memory in RAM, every {row.samples[1].at_s - row.samples[0].at_s:.0f} s:",
        _table(
            ("MB", *roles),
            [
                ("first third", *(f"{each.first_mb:.1f}" for each in trends.values())),
                ("last third", *(f"{each.last_mb:.1f}" for each in trends.values())),
                ("growth an hour, at that pace", *(f"{each.mb_an_hour:+.0f}" for each in trends.values())),
            ],
        ),
        _table(
            ("after s", *roles),
            [
                (f"{sample.at_s:.0f}", *(f"{sample.rss_kb[role] / 1024:.1f}" for role in roles))
                for sample in row.samples[::step]
            ],
        ),
        _after(row.closed, row.complaints),
    ]


def _failover(row: Failover) -> list[str]:
    others = row.entry.wanted - row.on_it
    all_back = "never" if row.all_back_s is None else f"{row.all_back_s:g}"
    return [
        f"## failover: a gateway with {_sockets(row.on_it)} killed with -9, {others:,} on the other",
        (
            "It stays down. Phones come back as `socket.io-client` does (after 1 s ± half, doubled each time, to 5 s), "
            "with their tickets, to the one that lives. Times of messages are from the first try to write, on a phone "
            "that is out too."
        ),
        _table(
            ("back", "half after s", "99 of 100 after s", "all after s", "tries that failed", "closed by servers"),
            [
                (
                    f"{row.back:,} of {row.on_it:,}",
                    f"{row.back_p50_s:g}",
                    f"{row.back_p99_s:g}",
                    all_back,
                    _counts(row.turned_away),
                    _closed(row.closed),
                )
            ],
        ),
        f"Sign-ins in each second: {' · '.join(f'{count:,}' for count in row.per_second)}",
        "CPU seconds until all were back: "
        + " · ".join(f"{name} {seconds:.1f}" for name, seconds in row.cpu_s.items())
        + f" · clients {row.client_cpu_s:.1f}",
        _flow(row.flow),
        _after({}, row.complaints),
    ]


def _rolling(row: Rolling) -> list[str]:
    return [
        f"## rolling: {row.gateways} gateways with {_sockets(row.entry.wanted)} restarted, one after another",
        (
            "SIGTERM, wait until it is gone, start it, wait until it is ready, the next. The bound is "
            f"`DRAIN_SIGN_INS_PER_S={row.bound_per_s}`. {_who_comes_back(row.heeds)}"
        ),
        _entry(row.entry),
        _table(
            ("gateway", "sockets when it was told to leave", "gone after s", "ready again after s"),
            [(each.gateway, f"{each.sockets:,}", f"{each.gone_s:g}", f"{each.ready_s:g}") for each in row.restarts],
        ),
        (
            f"All was over after {row.took_s:g} s: {row.back:,} sockets closed and back, "
            f"{row.signed_in_after:,} signed in. Tries that failed: {_counts(row.turned_away)}."
        ),
        f"Sign-ins in each second, {max(row.per_second, default=0):,} at most: {_each(row.per_second)}",
        (
            "Before, and from the first SIGTERM until all were back; times are from the first try to write, on a phone "
            "that is out too, to the arrival:"
        ),
        _flow(row.before, row.flow),
        _after(row.closed, row.complaints),
    ]


def _rebalanced(row: Rebalanced) -> list[str]:
    even = "not in time" if row.even_s is None else f"after {row.even_s:g} s"
    excess = " · ".join(f"{count:,}" for count in row.excess)
    names = [f"g{number}" for number in range(1, row.gateways + 1)]
    return [
        f"## rebalance: a gateway added to {row.gateways - 1} with {_sockets(row.entry.wanted)}",
        (
            f"`POST /rebalance` answers a target of {row.target:,} and an excess of {excess}. The bound is "
            f"`REBALANCE_SIGN_INS_PER_S={row.bound_per_s}`; nobody moves who has been there for less than "
            f"`REBALANCE_REST_S={row.rest_s:g}`. {_who_comes_back(row.heeds)} So of those who leave a gateway one in "
            f"{row.gateways} comes back to it. An ingress that deals to who has the fewest moves the excess only."
        ),
        _entry(row.entry),
        (
            f"All were near their share {even}; {row.moved:,} sockets were closed. Tries that failed: "
            f"{_counts(row.turned_away)}."
        ),
        _table(
            ("after s", *names),
            [(f"{each.at_s:.0f}", *(f"{count:,}" for count in each.sockets)) for each in row.samples],
        ),
        f"Sign-ins in each second, {max(row.per_second, default=0):,} at most: {_each(row.per_second)}",
        "Messages before, and meanwhile:",
        _flow(row.before, row.flow),
        _after(row.closed, row.complaints),
    ]


def _who_comes_back(heeds: float) -> str:
    return (
        f"{heeds:.0%} of the phones come back when `reconnect` says so, with its ticket; the others know nothing of it "
        "and come back as `socket.io-client` does (after 1 s ± half), with the ticket they had. Each goes to one of "
        "the gateways that are ready, by chance, as an ingress deals in turn."
    )


def _each(per_second: Sequence[int]) -> str:
    return " · ".join(f"{count:,}" for count in per_second)


def _bound(what: str, per_second: Sequence[int], at_most: int) -> Outcome:
    most = max(per_second, default=0)
    return Outcome(what, f"≤ {at_most:,}", f"{most:,}", most <= at_most)


def _entry(entry: Entry) -> str:
    return _room(entry) + (
        f"{entry.signed_in:,} of {entry.wanted:,} signed in with tokens in {entry.took_s:g} s, "
        f"{entry.signed_in / max(0.1, entry.took_s):,.0f} a second, {sum(entry.cpu_ms.values()):.2f} ms of CPU each "
        f"(the client {entry.client_cpu_ms:.2f} ms); failed: {_counts(entry.failed)}."
    )


def _room(entry: Entry) -> str:
    if entry.wanted == entry.asked:
        return ""
    return f"{entry.wanted:,} of {entry.asked:,} sockets fit: a process may open no more files on this machine. "


def _flow(*flows: Flow) -> str:
    head = (
        "messages a second",
        "sent",
        "answered",
        "arrived",
        "missing",
        "of them lost",
        "doubled",
        "p50 ms",
        "p99 ms",
        "max ms",
        "CPU µs a message",
        "client µs",
        "client late ms",
    )
    return _table(
        head,
        [
            (
                f"{flow.rate:g}",
                f"{flow.sent:,}",
                f"{flow.answered:,}" + "".join(f", {count} {code}" for code, count in flow.refused.items()),
                f"{flow.arrived:,} of {flow.due:,}",
                f"{flow.missing:,}",
                f"{flow.lost:,}",
                f"{flow.doubled:,}",
                f"{flow.p50_ms:.1f}",
                f"{flow.p99_ms:.1f}",
                f"{flow.max_ms:.0f}",
                f"{_sum(flow):.0f}" if flow.cpu_us else "",
                f"{flow.client_us:.0f}",
                f"{flow.client_late_ms:.0f}",
            )
            for flow in flows
        ],
    )


def _after(closed: Mapping[int, int], complaints: Mapping[str, int]) -> str:
    return f"Closed by servers: {_closed(closed)}. In the logs: {_counts(complaints)}."


def _trouble(*flows: Flow) -> str:
    parts = [
        f"{flow.lost} lost, {flow.missing} missing, {_counts(flow.refused)} refused"
        for flow in flows
        if not flow.is_whole
    ]
    return "; ".join(parts)


def _closed(closed: Mapping[int, int]) -> str:
    return _counts({"without a code" if code == 0 else str(code): count for code, count in closed.items()})


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.items()) or "none"


def _by_role(figures: Mapping[str, float], roles: Sequence[str], digits: int) -> list[str]:
    found = [figures.get(role, 0.0) for role in roles]
    return [f"{round(figure, digits) + 0.0:.{digits}f}" for figure in (*found, sum(found))]


def _roles(figures: Mapping[str, float]) -> str:
    return " · ".join(f"{role} {round(figure)}" for role, figure in figures.items())


def _sum(flow: Flow) -> float:
    return sum(flow.cpu_us.values())


def _sockets(count: int) -> str:
    return f"{count:,} sockets"


def _least(what: str, value: int, at_least: int) -> Outcome:
    return Outcome(what, f"≥ {at_least:,}", f"{value:,}", value >= at_least)


def _most(what: str, value: float, at_most: float, unit: str) -> Outcome:
    return Outcome(what, f"≤ {at_most:g}{unit}", f"{value:.2f}{unit}", value <= at_most)


def _nothing_lost(what: str, flow: Flow) -> Outcome:
    value = f"{flow.lost:,} lost; {flow.missing:,} missing, {sum(flow.refused.values()):,} refused, of {flow.sent:,}"
    return Outcome(f"{what}: what was answered arrived", "0 lost", value, flow.lost == 0)


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines))
