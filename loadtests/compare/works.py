"""What every system is given to do, and what of it is measured: a row of figures for each work.

CPU is that of all server processes and the broker; what they use in the same time when idle, with all sockets
connected, is taken off. It is counted until nothing has moved for a while, so that receipts and saves are in it.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import aiohttp
from msgspec import Struct

from loadtests.compare.systems import VILLAGE, System
from loadtests.letters import Letter
from loadtests.meter import Meter
from loadtests.processes import by_role, rss_kb
from loadtests.swarm import Swarm
from loadtests.tallies import Sent, percentile
from services.local.cluster import Cluster

# Receipts are saved a second after they came.
_AFTERMATH_S: Final = 1.2
_WARM_UP_S: Final = 2.0
# A rate is held if 99 of 100 messages are there in this time, and all arrive.
_HELD_MS: Final = 250.0
_FIRST_RATE: Final = 1000.0
_TRIES: Final = 12
# The share of the rate by which the one held and the one lost may differ at the end.
_CLOSE_ENOUGH: Final = 0.15
_FIRST_SOCKETS: Final = 500
# Who comes at the same time, as after a gateway has died: the next begins when one has signed in.
_AT_ONCE: Final = 200
# When all that follows from closed sockets is over.
_GONE_S: Final = 5.0
_RESUMED: Final = 3000
_WARNING: Final = {
    "title": "వరద హెచ్చరిక",
    "content": "గోదావరి పొంగింది. ఎత్తైన చోటికి వెళ్ళండి.",
    "locationLevel": "village",
    "locationIds": [VILLAGE],
    "priority": "critical",
}
Say = Callable[[str], None]
Done = TypeVar("Done")


class Messages(Struct, frozen=True, kw_only=True, tag_field="kind", tag="messages"):
    """Messages at a set rate. CPU is per delivered message."""

    system: str
    work: str
    rate: float
    sent: int
    answered: int
    refused: dict[str, int]
    due: int
    arrived: int
    missing: int
    doubled: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_us: float
    cpu_us_by_role: dict[str, float]
    client_us: float
    client_late_ms: float


class Rate(Struct, frozen=True, kw_only=True, tag_field="kind", tag="rate"):
    """The highest rate of direct messages that was held, and what was tried: (rate, p99 ms, held)."""

    system: str
    work: str
    held: float
    tried: list[tuple[float, float, bool]]


class Sockets(Struct, frozen=True, kw_only=True, tag_field="kind", tag="sockets"):
    """Many sockets on one process: signing in, sitting there, and a broadcast to all of them."""

    system: str
    work: str
    sockets: int
    failed: dict[str, int]
    sign_in_cpu_ms: float
    sign_in_cpu_ms_by_role: dict[str, float]
    sign_ins_per_s: float
    resume_cpu_ms: float | None
    resume_cpu_ms_by_role: dict[str, float]
    resumes_per_s: float | None
    kb_per_socket: float
    kb_per_socket_all: float
    idle_cpu_percent: float
    broadcast_last_ms: list[float]
    broadcast_reached: list[int]
    broadcast_cpu_us: float
    client_sign_in_cpu_ms: float


Row = Messages | Rate | Sockets


class Site(Meter):
    """One system as it runs: its processes, its people's sockets, what it uses when idle."""

    def __init__(self, system: System, cluster: Cluster, swarm: Swarm, say: Say) -> None:
        super().__init__(cluster)
        self.system = system
        self.swarm = swarm
        self.say = say


async def messages(site: Site, work: str, letters: Sequence[Letter], rate: float, seconds: float) -> Messages:
    """Send at this rate for so long, when compilers and caches are warm for it."""
    await site.swarm.send(letters, rate, _WARM_UP_S)
    sent, used = await site.during(_and_after(site.swarm.send(letters, rate, seconds)))
    row = _row(site.system.name, work, rate, sent, used)
    site.say(
        f"{row.cpu_us:.0f} µs a delivery, p50 {row.p50_ms:.1f} ms, p99 {row.p99_ms:.1f} ms, {row.arrived} of {row.due}"
        f" arrived (client {row.client_us:.0f} µs, late by {row.client_late_ms:.0f} ms)"
    )
    return row


async def highest_rate(site: Site, letters: Sequence[Letter], seconds: float) -> Rate:
    """Double the rate until it is not held, then look between. A rate that is not held has a second try."""
    tried: list[tuple[float, float, bool]] = []
    held, lost, rate = 0.0, math.inf, _FIRST_RATE
    while len(tried) < _TRIES and lost - held > held * _CLOSE_ENOUGH:
        sent = await site.swarm.send(letters, rate, seconds)
        p99_ms = percentile(sent.times_ms, 0.99)
        # A client that was late itself has not sent at this rate.
        is_held = sent.is_whole and max(p99_ms, sent.late_ms) <= _HELD_MS
        is_second = bool(tried) and tried[-1][0] == rate
        tried.append((rate, round(p99_ms, 1), is_held))
        site.say(f"{rate:.0f}/s {'held' if is_held else 'not held'}: p99 {p99_ms:.0f} ms, {sent.arrived} of {sent.due}")
        if is_held:
            held = rate
        elif is_second:
            lost = rate
        else:
            continue
        rate = min(held * 2, (held + lost) / 2) if held else rate / 2
    return Rate(system=site.system.name, work="rate", held=held, tried=tried)


async def many_sockets(site: Site, broadcasts: int) -> Sockets:
    """Sign everyone in, let them sit, have some sign in again, and warn them all."""
    swarm, people = site.swarm, site.system.people
    # The first ones fill caches and pools; the memory of a socket is what each further one takes.
    await swarm.connect(people[:_FIRST_SOCKETS])
    await site.rest()
    before = rss_kb(site.cluster)
    signed_in, used = await site.during(_and_after(swarm.connect(people[_FIRST_SOCKETS:], at_once=_AT_ONCE)))
    count = signed_in.signed_in
    sign_in_ms = _ms_each(used, count)
    site.say(f"{count} signed in at {count / signed_in.took_s:.0f}/s: {sum(sign_in_ms.values()):.2f} ms each")
    await site.rest()
    after = rss_kb(site.cluster)
    grown = by_role(site.cluster, {name: kilobytes - before[name] for name, kilobytes in after.items()})
    site.say(f"{grown['gateway'] / count:.1f} KB a socket; idle {sum(site.idle_per_s.values()):.1%} of a core")
    resumed = await _resume(site) if site.system.has_tickets else None
    (last_ms, reached), warned = await site.during(_broadcasts(site, broadcasts))
    return Sockets(
        system=site.system.name,
        work="sockets",
        sockets=swarm.signed_in,
        failed=signed_in.failed,
        sign_in_cpu_ms=round(sum(sign_in_ms.values()), 3),
        sign_in_cpu_ms_by_role=sign_in_ms,
        sign_ins_per_s=round(count / signed_in.took_s),
        resume_cpu_ms=None if resumed is None else round(sum(resumed[0].values()), 3),
        resume_cpu_ms_by_role={} if resumed is None else resumed[0],
        resumes_per_s=None if resumed is None else round(resumed[1]),
        kb_per_socket=round(grown["gateway"] / count, 1),
        kb_per_socket_all=round(sum(grown.values()) / count, 1),
        idle_cpu_percent=round(sum(site.idle_per_s.values()) * 100, 2),
        broadcast_last_ms=[round(each, 1) for each in last_ms],
        broadcast_reached=reached,
        broadcast_cpu_us=round(sum(warned.values()) / max(1, sum(reached)) * 1e6, 1),
        client_sign_in_cpu_ms=round(signed_in.own_cpu_s / count * 1e3, 3),
    )


async def _broadcasts(site: Site, count: int) -> tuple[list[float], list[int]]:
    """From the POST to the last socket, in ms, and how many sockets heard each; if not all, to when it was given up."""
    last_ms, reached = [], []
    async with aiohttp.ClientSession(headers=site.system.headers) as http:
        for number in range(count):
            site.swarm.expect()
            said = {**_WARNING, "content": f"{_WARNING['content']} {number}"}
            began = time.perf_counter()
            async with http.post(site.system.broadcast_url, json=said) as response:
                response.raise_for_status()
            heard = await site.swarm.wait_heard()
            last = heard[-1] if len(heard) == site.swarm.signed_in else time.perf_counter()
            last_ms.append((last - began) * 1e3)
            reached.append(len(heard))
            site.say(f"broadcast to {len(heard)} sockets, the last after {last_ms[-1]:.0f} ms")
            await asyncio.sleep(_AFTERMATH_S)
    return last_ms, reached


async def _resume(site: Site) -> tuple[dict[str, float], float]:
    """CPU ms of a sign-in with a ticket, by role, and how many there were a second."""
    swarm = site.swarm
    await swarm.sign_out(swarm.phones[:: max(1, len(swarm.phones) // _RESUMED)])
    await asyncio.sleep(_GONE_S)
    resumed, used = await site.during(_and_after(swarm.resume(at_once=_AT_ONCE)))
    cpu_ms, per_s = _ms_each(used, resumed.signed_in), resumed.signed_in / resumed.took_s
    site.say(f"{resumed.signed_in} signed in again at {per_s:.0f}/s: {sum(cpu_ms.values()):.2f} ms each")
    return cpu_ms, per_s


def _ms_each(used: dict[str, float], count: int) -> dict[str, float]:
    return {role: round(seconds / max(1, count) * 1e3, 3) for role, seconds in used.items()}


async def _and_after(work: Awaitable[Done]) -> Done:
    """What follows from some work belongs to it."""
    done = await work
    await asyncio.sleep(_AFTERMATH_S)
    return done


def _row(system: str, work: str, rate: float, sent: Sent, used: dict[str, float]) -> Messages:
    delivered = max(1, sent.arrived)
    return Messages(
        system=system,
        work=work,
        rate=rate,
        sent=sent.sent,
        answered=sent.answered,
        refused=sent.refused,
        due=sent.due,
        arrived=sent.arrived,
        missing=sent.missing,
        doubled=sent.doubled,
        p50_ms=round(percentile(sent.times_ms, 0.5), 2),
        p99_ms=round(percentile(sent.times_ms, 0.99), 2),
        max_ms=round(max(sent.times_ms, default=0.0), 2),
        cpu_us=round(sum(used.values()) / delivered * 1e6, 1),
        cpu_us_by_role={role: round(seconds / delivered * 1e6, 1) for role, seconds in used.items()},
        client_us=round(sent.own_cpu_s / delivered * 1e6, 1),
        client_late_ms=round(sent.late_ms, 1),
    )
