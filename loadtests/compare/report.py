"""The results of a run as Markdown. Pure."""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from loadtests.compare.goals import Outcome
from loadtests.compare.works import Messages, Rate, Row, Sockets


class Results(Struct, frozen=True):
    """All of a run, as its JSON file holds it."""

    date: str
    command: str
    machine: dict[str, str]
    versions: dict[str, str]
    took_s: float
    settings: dict[str, str]
    goals: list[Outcome]
    rows: list[Row]


def markdown(results: Results) -> str:
    """The page under `loadtests/results/`."""
    about = " · ".join(f"{name} {value}" for name, value in (results.machine | results.versions).items())
    parts = [
        "# Compared with other servers",
        f"{results.date} · {about}",
        f"`{results.command}`, {results.took_s / 60:.0f} min. All on one machine, the client too; each "
        "system alone, in turn, on the same work. CPU is that of all server processes and the broker, with "
        "what they use when idle taken off. "
        "Ours stores, counts receipts and presence, and has its limits on, raised: "
        + ", ".join(f"`{name}={value}`" for name, value in results.settings.items())
        + ". The others keep nothing.",
        "## Goals",
        _goals(results.goals),
        *_messages([row for row in results.rows if isinstance(row, Messages)]),
        *_rates([row for row in results.rows if isinstance(row, Rate)]),
        *_sockets([row for row in results.rows if isinstance(row, Sockets)]),
    ]
    return "\n\n".join(parts) + "\n"


def _goals(found: Sequence[Outcome]) -> str:
    met = {True: "yes", False: "**no**", None: "not measured"}
    return _table(
        ("goal", "limit", "value", "of", "met"),
        [(each.what, each.goal, each.value or "", each.of, met[each.is_met]) for each in found],
    )


def _messages(rows: Sequence[Messages]) -> list[str]:
    works = dict.fromkeys(row.work for row in rows)
    return [part for work in works for part in _message_table([row for row in rows if row.work == work])]


def _message_table(rows: Sequence[Messages]) -> tuple[str, str]:
    title = f"## {rows[0].work}: {rows[0].rate:g} messages a second, {rows[0].due} deliveries"
    head = (
        "system",
        "CPU µs a delivery",
        "of it",
        "p50 ms",
        "p99 ms",
        "max ms",
        "sent",
        "answered",
        "arrived",
        "client µs",
    )
    lines = [
        (
            row.system,
            f"{row.cpu_us:.0f}",
            _roles(row.cpu_us_by_role, 0),
            f"{row.p50_ms:.1f}",
            f"{row.p99_ms:.1f}",
            f"{row.max_ms:.0f}",
            f"{row.sent:,}",
            f"{row.answered:,}" + "".join(f", {count} {code}" for code, count in row.refused.items()),
            f"{row.arrived:,}"
            + (f", {row.missing} missing" if row.missing else "")
            + (f", {row.doubled} doubled" if row.doubled else ""),
            f"{row.client_us:.0f}",
        )
        for row in rows
    ]
    return title, _table(head, lines)


def _rates(rows: Sequence[Rate]) -> list[str]:
    lines = [
        (
            row.system,
            f"{row.held:,.0f}",
            " · ".join(f"{rate:,.0f}{'' if held else '!'} ({p99:.0f})" for rate, p99, held in row.tried),
        )
        for row in rows
    ]
    title = "## rate: the highest rate of direct messages that is held, p99 ≤ 250 ms and all there"
    return [title, _table(("system", "messages a second", "tried (p99 ms; ! not held)"), lines)] if rows else []


def _sockets(rows: Sequence[Sockets]) -> list[str]:
    head = (
        "system",
        "sockets",
        "sign-in CPU ms",
        "of it",
        "a second",
        "with a ticket CPU ms",
        "of it",
        "a second",
        "KB a socket",
        "all processes KB",
        "idle % of a core",
        "broadcast, last after ms",
        "CPU µs a delivery",
        "client: CPU ms a sign-in",
    )
    lines = [
        (
            row.system,
            f"{row.sockets:,}" + "".join(f", {count} {why}" for why, count in row.failed.items()),
            f"{row.sign_in_cpu_ms:.2f}",
            _roles(row.sign_in_cpu_ms_by_role, 2),
            f"{row.sign_ins_per_s:,.0f}",
            "" if row.resume_cpu_ms is None else f"{row.resume_cpu_ms:.2f}",
            _roles(row.resume_cpu_ms_by_role, 2),
            "" if row.resumes_per_s is None else f"{row.resumes_per_s:,.0f}",
            f"{row.kb_per_socket:.1f}",
            f"{row.kb_per_socket_all:.1f}",
            f"{row.idle_cpu_percent:.1f}",
            " · ".join(
                f"{last:.0f}" + ("" if reached == row.sockets else f" ({reached:,} reached)")
                for last, reached in zip(row.broadcast_last_ms, row.broadcast_reached, strict=True)
            ),
            f"{row.broadcast_cpu_us:.0f}",
            f"{row.client_sign_in_cpu_ms:.2f}",
        )
        for row in rows
    ]
    return ["## sockets: many on one process", _table(head, lines)] if rows else []


def _roles(figures: dict[str, float], digits: int) -> str:
    return " · ".join(f"{role} {figure:.{digits}f}" for role, figure in figures.items()) if len(figures) > 1 else ""


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines))
