"""What it takes, in pods, memory and money, reckoned from what was measured: the tables under *Sizing* in
`docs/operations.md`. `make docs` writes them.

An input has a value and a source; a step is a formula over inputs and earlier steps, and the page shows the formula
that was reckoned with. To plan for something else, change a value here and run `python -m docs.sizing`.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

PAGE: Final = Path(__file__).with_name("operations.md")
_BILL: Final = Path(__file__).with_name("firestore.md")
_BEGIN, _END = "<!-- by docs/sizing.py -->\n", "<!-- to here -->\n"


class Input(NamedTuple):
    """A figure that is not reckoned. `source` says who measured it, or that somebody chose it."""

    name: str
    value: float
    what: str
    source: str


class Step(NamedTuple):
    """A figure that follows from others."""

    name: str
    formula: str
    what: str


_SCALE: Final = "[scale](../loadtests/results/2026-11-30-scale.md)"
_GROWTH: Final = "[growth](../loadtests/results/2026-11-30-growth.md)"
_COMPARE: Final = "[compare](../loadtests/results/2026-11-30-compare.md)"
_PRESENCE: Final = "[presence](../loadtests/results/2026-11-23-presence-cost.md)"
_REDIS: Final = "[redis.md](redis.md#memory)"
_CHOSEN: Final = "chosen"
_ASSUMED: Final = "assumed, not measured"
_LIST: Final = "list price of 2025, check"
_QUOTA: Final = "published quota of 2025, check"

MEASURED: Final = [
    Input("gateway_mb", 129.6, "MB of a gateway that holds 10,000 sockets, after ten minutes", _SCALE),
    Input("socket_kb", 5.13, "KB of a gateway for each socket", _SCALE),
    Input("most_sockets", 19_600, "sockets on one gateway that were tried, 500 messages a second", _GROWTH),
    Input("router_mb", 132, "MB of a router after ten minutes at 250 messages a second", _SCALE),
    Input("presence_mb", 65.9, "MB of presence", _SCALE),
    Input("idle_us", 11.3, "µs of CPU a second and idle socket: 11.3 % of a core for 10,000", _COMPARE),
    Input("sign_in_gateway_us", 800, "µs of a gateway for a sign-in", _SCALE),
    Input("sign_in_router_us", 150, "µs of a router for it", _SCALE),
    Input("sign_in_broker_us", 150, "µs of the broker for it", _SCALE),
    Input("message_gateway_us", 319, "µs of gateways for a direct message, 40,000 sockets, 500 a second", _SCALE),
    Input(
        "message_router_us",
        572,
        "µs of routers for it, SQLite with fsync (on Firestore 36 to 50 µs more in large batches: ADR 0025)",
        _SCALE,
    ),
    Input("message_broker_us", 176, "µs of the broker for it", _SCALE),
    Input("delivery_gateway_us", 72, "µs of gateways for a delivery in a group of 50", _COMPARE),
    Input("delivery_router_us", 84, "µs of routers for it", _COMPARE),
    Input("delivery_broker_us", 39, "µs of the broker for it", _COMPARE),
    Input(
        "spread",
        1.95,
        "times dearer is a message with 8 gateways than with 1 (1,412 : 725); more were not tried",
        _GROWTH,
    ),
    Input("change_presence_us", 280, "µs of presence for somebody who comes or goes", _PRESENCE),
    Input("change_broker_us", 360, "µs of the broker for it", _PRESENCE),
    Input("online_bytes", 245, "bytes of the broker for somebody who is online: seat and places", _REDIS),
    Input("known_bytes", 86, "bytes for somebody who was here within the week", _REDIS),
    Input("watched_bytes", 124, "bytes for somebody who is watched, a gateway", _REDIS),
    Input("recent_bytes", 136, "bytes for a message of the last half hour", _REDIS),
    Input("ledger_bytes", 162, "bytes for a message of the last 65 minutes, up to LEDGER_MAX_MB", _REDIS),
    Input("queued_bytes", 696, "bytes for a message that waits for the store: place and entry", _REDIS),
]

CHOSEN: Final = [
    Input("users", 5_000_000, "people with an account", _CHOSEN),
    Input("per_gateway", 8_000, "sockets a gateway is to hold", _CHOSEN),
    Input("zones", 3, "zones that pods are spread over; one may be lost", _CHOSEN),
    Input(
        "write_every_s",
        300,
        "seconds from one message of somebody who is online to their next, in the busiest minute",
        _CHOSEN,
    ),
    Input("group_share", 0.1, "of messages go to groups", _CHOSEN),
    Input("group_members", 100, "members of a group", _CHOSEN),
    Input("group_online", 10, "of them that are online", _CHOSEN),
    Input("session_s", 600, "seconds that a phone stays connected", _CHOSEN),
    Input("busy", 0.5, "of a core may be in use; the rest is for those who come back all at once", _CHOSEN),
    Input("margin", 1.5, "times what was measured is what a pod may take", _CHOSEN),
    Input("kernel_kb", 10, "KB of the kernel for a socket, which count against a pod", _ASSUMED),
    Input("patience_s", 900, "seconds without the store that the broker has room for", _CHOSEN),
]

PODS: Final = [
    Step("gateways", "ceil(sockets / per_gateway)", "gateways"),
    Step(
        "sockets_zone_lost",
        "sockets / (gateways * (zones - 1) / zones)",
        "sockets on each, a zone lost: under `most_sockets`",
    ),
    Step("messages_per_s", "sockets / write_every_s", "messages a second"),
    Step("deliveries_per_s", "messages_per_s * group_share * group_online", "deliveries a second in groups"),
    Step("direct_per_s", "messages_per_s * (1 - group_share)", "direct ones"),
    Step("sign_ins_per_s", "sockets / session_s", "sign-ins a second"),
    Step(
        "gateway_cores",
        "(sockets * idle_us + direct_per_s * message_gateway_us * spread + deliveries_per_s * delivery_gateway_us"
        " + sign_ins_per_s * sign_in_gateway_us) / 1e6",
        "cores that all gateways use",
    ),
    Step(
        "gateway_request_m", "1000 * gateway_cores / gateways / busy", "CPU to request for one, thousandths of a core"
    ),
    Step(
        "gateway_limit_mb",
        "margin * (gateway_mb + (sockets_zone_lost - 10000) * socket_kb / 1000 + sockets_zone_lost * kernel_kb / 1000)",
        "memory of one, request and limit, MB",
    ),
    Step(
        "router_cores",
        "(direct_per_s * message_router_us * spread + deliveries_per_s * delivery_router_us"
        " + sign_ins_per_s * sign_in_router_us) / 1e6",
        "cores that all routers use",
    ),
    Step("routers", "max(3, ceil(router_cores / busy))", "routers: one is a core at most"),
    Step("router_limit_mb", "2 * margin * router_mb", "memory of one, MB: its caches grow with what it meets"),
    Step(
        "presence_cores", "2 * sign_ins_per_s * change_presence_us / 1e6", "cores of presence, for who comes and goes"
    ),
    Step("presences", "max(2, ceil(presence_cores / busy))", "copies of presence, of the 8 that can share"),
    Step("presence_limit_mb", "2 * margin * presence_mb", "memory of one, MB"),
    Step(
        "broker_cores",
        "(direct_per_s * message_broker_us * spread + deliveries_per_s * delivery_broker_us"
        " + sign_ins_per_s * (sign_in_broker_us + 2 * change_broker_us)) / 1e6",
        "cores of the broker, which has one thread for commands",
    ),
    Step(
        "primaries",
        "1 if broker_cores <= busy else max(3, ceil(broker_cores / busy))",
        "primaries: 1 under Sentinel, or a cluster",
    ),
    Step(
        "broker_mb",
        "(users * known_bytes + sockets * (online_bytes + watched_bytes) + messages_per_s * 1800 * recent_bytes"
        " + messages_per_s * patience_s * queued_bytes) / 1e6 + min(1024, messages_per_s * 3900 * ledger_bytes / 1e6)",
        "MB in the broker, all primaries",
    ),
    Step("broker_limit_mb", "2 * broker_mb / primaries", "memory of one server, MB: twice, as redis.md says"),
    Step(
        "storm_gateways_s",
        "sockets / gateways * sign_in_gateway_us / 1e6",
        "seconds of each gateway's core until all are back at once",
    ),
    Step("storm_broker_s", "sockets * sign_in_broker_us / 1e6 / primaries", "seconds of each primary's thread for it"),
]

DAILY: Final = [
    Input("active", 1_000_000, "people who are here on a day", _CHOSEN),
    Input("sessions", 6, "times each connects on it", _CHOSEN),
    Input("written", 10, "messages each writes on it", _CHOSEN),
    Input("away_share", 0.75, "of direct messages are for somebody who is away, and pushed", _CHOSEN),
    Input("due_share", 0.3, "of sign-ins find something due: ten messages in two conversations", _CHOSEN),
    Input(
        "replaced_days", 7, "days from one restart of all routers to the next: they forget who has been here", _CHOSEN
    ),
    Input("message_bytes", 2_000, "bytes of a message in Firestore, its place and its indexes", _ASSUMED),
    Input(
        "delivered_bytes", 1_000, "bytes on the network of a delivery, its answer, its ticks and their frames", _ASSUMED
    ),
    Input("signed_in_bytes", 6_000, "bytes of a sign-in, TLS and all", _ASSUMED),
    Input("read_usd", 0.06, "dollars for 100,000 documents read", _LIST),
    Input("write_usd", 0.18, "… written", _LIST),
    Input("stored_usd", 0.18, "… for a GiB kept a month", _LIST),
    Input("core_usd", 23.1, "… for a core a month, on demand, in an American region; elsewhere dearer", _LIST),
    Input("memory_usd", 3.1, "… for a GB of memory a month", _LIST),
    Input("traffic_usd", 0.12, "… for a GB to the internet", _LIST),
    Input("pushes_quota", 600_000, "pushes a minute that FCM takes of a project; it asks to be told of more", _QUOTA),
    Input("partitions", 16, "PARTITIONS", _CHOSEN),
]

# What a thing costs in Firestore: the row in firestore.md.
_ROWS: Final = {
    "direct": "a direct message, now and then",
    "group": "a message to a group of 100, 10 here",
    "first": "a sign-in, nothing due, 50 conversations",
    "again": "the same again, at the same router",
    "due": "a sign-in, 10 messages due in 2 of 50 conversations",
    "receipt": "a receipt by itself",
    "push": "to push a direct message",
    "group_push": "to push a message to the 90 of 100 who are away",
    "seen": "when somebody was last here",
}

MONEY: Final = [
    Step("directs", "active * written * (1 - group_share)", "direct messages a day"),
    Step("groups", "active * written * group_share", "messages to groups a day"),
    Step("sign_ins", "active * sessions", "sign-ins a day"),
    Step("peak", "messages_per_s * 86400 / (directs + groups)", "times the mean is the busiest minute"),
    Step(
        "reads",
        "directs * direct_reads + groups * group_reads + "
        "sign_ins * (due_share * due_reads + (1 - due_share) * again_reads)"
        " + active * first_reads / replaced_days + sign_ins * seen_reads",
        "documents read a day, but for pushes",
    ),
    Step(
        "all_push_reads",
        "directs * away_share * push_reads + groups * group_push_reads",
        "… for pushes: nearly all of it for groups",
    ),
    Step(
        "writes",
        "directs * (direct_writes + receipt_writes) + groups * (group_writes + 4 * receipt_writes)"
        " + sign_ins * (due_share * due_writes + seen_writes)",
        "documents written a day; who has read a message is a write, or four",
    ),
    Step("reads_per_s", "(reads + all_push_reads) * peak / 86400", "reads a second in the busiest minute"),
    Step("writes_per_s", "writes * peak / 86400", "writes a second then"),
    Step(
        "ramp_min",
        "max(0, 5 * log(writes_per_s / routers / 500) / log(1.5))",
        "minutes until new routers may write so fast: FIRESTORE_WRITES_PER_S",
    ),
    Step(
        "pushes",
        "directs * away_share + groups * (group_members - group_online)",
        "pushes a day at most: those of one conversation go together",
    ),
    Step("pushes_per_min", "pushes * peak / 1440", "pushes a minute in the busiest: under `pushes_quota`"),
    Step("pushes_setting", "pushes_per_min / 60 / partitions", "PUSHES_PER_S that lets them pass (100 is the default)"),
    Step("gib_a_month", "(directs + groups) * 30 * message_bytes / 2**30", "GiB that Firestore grows by in a month"),
    Step(
        "traffic_gb",
        "30 * ((directs + groups * group_online) * delivered_bytes + sign_ins * signed_in_bytes) / 1e9",
        "GB to phones in a month",
    ),
    Step("reads_usd", "reads * 30 / 1e5 * read_usd", "**$ a month**: reads"),
    Step("push_reads_usd", "all_push_reads * 30 / 1e5 * read_usd", "reads for pushes"),
    Step("writes_usd", "writes * 30 / 1e5 * write_usd", "writes"),
    Step("storage_usd", "6 * gib_a_month * stored_usd", "storage after half a year, and on it goes"),
    Step(
        "pods_usd",
        "(gateways * gateway_request_m / 1000 + routers + presences) * core_usd"
        " + (gateways * gateway_limit_mb + routers * router_limit_mb + presences * presence_limit_mb)"
        " / 1000 * memory_usd",
        "pods, as for the sockets above, all day",
    ),
    Step(
        "broker_usd",
        "(primaries + max(2, primaries)) * (2 * core_usd + max(4, broker_limit_mb / 1000) * memory_usd)",
        "the broker, on two cores a server, and its replicas: two, or one each",
    ),
    Step("network_usd", "traffic_gb * traffic_usd", "to the internet"),
    Step(
        "month_usd",
        "reads_usd + push_reads_usd + writes_usd + storage_usd + pods_usd + broker_usd + network_usd",
        "**all**",
    ),
]

# An evening of five million users; and an emergency, when a fifth of them look at once.
SOCKETS: Final = (250_000, 1_000_000)


def reckoned(inputs: Sequence[Input], steps: Sequence[Step], known: Mapping[str, float]) -> dict[str, float]:
    """Every step's value, and the inputs'. Raises `NameError` for a formula over what there is not."""
    values = dict(known) | {one.name: one.value for one in inputs}
    means = {"__builtins__": {}, "ceil": math.ceil, "log": math.log, "max": max, "min": min}
    for step in steps:
        values[step.name] = float(eval(step.formula, means, values))  # noqa: S307 - the formulas above
    return values


def bill(page: str) -> dict[str, float]:
    """What things cost in Firestore, by its page, in documents. Raises `KeyError` for a row that is gone."""
    rows: dict[str, tuple[float, float]] = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) > 2 and cells[1].replace(",", "").replace(".", "").isdigit():
            rows[cells[0]] = (float(cells[1].replace(",", "")), float(cells[2].replace(",", "")))
    found: dict[str, float] = {}
    for name, row in _ROWS.items():
        found[f"{name}_reads"], found[f"{name}_writes"] = rows[row]
    return found


def section() -> str:
    """The tables."""
    inputs = [*MEASURED, *CHOSEN]
    plans = [reckoned(inputs, PODS, {"sockets": float(sockets)}) for sockets in SOCKETS]
    of_firestore = bill(_BILL.read_text(encoding="utf-8"))
    money = reckoned(DAILY, MONEY, plans[0] | of_firestore)
    bill_rows = "".join(
        f"| `{name}_reads` · `{name}_writes` "
        f"| {of_firestore[f'{name}_reads']:g} · {of_firestore[f'{name}_writes']:g} | {row} |\n"
        for name, row in _ROWS.items()
    )
    heads = " | ".join(f"{sockets:,} sockets" for sockets in SOCKETS)
    return (
        f"**What was measured**, on two cores of an Intel Xeon at 2.60 GHz (presence: 2.80):\n\n{_inputs(MEASURED)}\n"
        f"**What was chosen**:\n\n{_inputs(CHOSEN)}\n"
        f"**What follows**:\n\n| | | how | {heads} |\n|---|---|---|{'---|' * len(SOCKETS)}\n{_steps(PODS, plans)}\n"
        f"### Five million users: a month on paper\n\n{_inputs(DAILY)}\n"
        "Documents of Firestore, from [its table](firestore.md#what-it-costs):\n\n"
        f"| | | |\n|---|---|---|\n{bill_rows}\n"
        f"| | | how | |\n|---|---|---|---|\n{_steps(MONEY, [money])}"
    )


def written(page: str) -> str:
    """The page with the tables as they are reckoned now. Raises `ValueError` where its marks are missing."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"operations.md has no {_BEGIN.strip()} … {_END.strip()}")
    return f"{before}{_BEGIN}\n{section()}\n{_END}{after}"


def _inputs(inputs: Sequence[Input]) -> str:
    rows = "".join(f"| `{one.name}` | {one.value:,} | {one.what} | {one.source} |\n" for one in inputs)
    return f"| | | | source |\n|---|---|---|---|\n{rows}"


def _steps(steps: Sequence[Step], plans: Sequence[Mapping[str, float]]) -> str:
    return "".join(
        f"| {step.what} | `{step.name}` | `{step.formula}` | "
        f"{' | '.join(_shown(plan[step.name]) for plan in plans)} |\n"
        for step in steps
    )


def _shown(value: float) -> str:
    if value == int(value) or abs(value) >= 100:
        return f"{round(value):,}"
    return f"{value:.3g}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
