"""What is done with many sockets, each on a cluster of its own: hold, growth, endure, failover.

The cluster is the comparison's: what `make up` starts, with limits raised so that one address and few people may
do what thousands do. Clients are a fleet, in processes of their own.
"""

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from libs.lifecycle import raise_file_limit
from loadtests.compare import systems
from loadtests.compare.plan import sitters
from loadtests.fleet import Figures, Fleet, open_fleet
from loadtests.letters import Letter, pairs
from loadtests.meter import Meter
from loadtests.phone import Person
from loadtests.processes import by_role, cpu_s, rss_kb
from loadtests.scale import plan
from loadtests.scale.complaints import complaints
from loadtests.scale.figures import Cell, Endure, Entry, Failover, Flow, Growth, Hold, Row, Sample, per_second
from loadtests.scale.plan import Size
from loadtests.tallies import Sent, percentile
from services.local.cluster import Cluster, open_cluster

_READY_S: Final = 60.0
# Receipts are saved a second after they came.
_AFTERMATH_S: Final = 1.2
_WARM_UP_S: Final = 2.0
_LOOK_S: Final = 0.2
# Who is not back by then does not come back.
_BACK_S: Final = 90.0
# Nothing can come to a phone that is still on its way back: it may wait half a minute in vain, and then once more.
_PATIENCE_S: Final = 45.0
Say = Callable[[str], None]


class Stage:
    """Where clusters run, one at a time, each in a folder of its own below `home`."""

    def __init__(self, home: Path, size: Size, say: Say) -> None:
        self.size = size
        self.say = say
        raise_file_limit()
        self.files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._home = home
        self._opened = 0
        self._tokens = systems.Tokens(home / "keys")

    def fit(self, sockets: int, gateways: int) -> int:
        """As many of these as this machine holds; says so if that is not all."""
        count = plan.fit(sockets, gateways, self.files)
        if count < sockets:
            self.say(f"{sockets:,} sockets do not fit {gateways} gateways of {self.files:,} files each: {count:,} do")
        return count

    @asynccontextmanager
    async def open(self, gateways: int, sockets: int) -> AsyncIterator["Site"]:
        """A cluster that is ready, clients that are not signed in."""
        self._opened += 1
        home = self._home / str(self._opened)
        self.say(f"{gateways} gateways, {sockets:,} people …")
        system = await systems.ours(home, gateways, sitters(sockets), self._tokens)
        async with open_cluster(home, system.processes, self.say) as cluster:
            for each in cluster.names:
                await cluster.start(each)
            for each in cluster.names:
                await cluster.wait_ready(each, _READY_S)
            async with open_fleet(plan.client_processes(sockets, self.files)) as fleet:
                yield Site(cluster, fleet, system.people, self.size, self.say)


class Site(Meter):
    """A cluster, its people, and their phones."""

    def __init__(self, cluster: Cluster, fleet: Fleet, people: list[Person], size: Size, say: Say) -> None:
        super().__init__(cluster)
        self.fleet = fleet
        self.people = people
        self.size = size
        self.say = say

    async def sign_in(self, asked: int) -> Entry:
        """Everyone, as fast as it goes; `asked` were to be here."""
        found, used = await self.during(self.fleet.connect(self.people, at_once=self.size.at_once))
        entry = Entry.of(asked, len(self.people), found, used)
        self.say(
            f"{entry.signed_in:,} of {entry.wanted:,} signed in, {entry.signed_in / found.took_s:.0f} a second, "
            f"{sum(entry.cpu_ms.values()):.2f} ms of CPU each {entry.failed or ''}"
        )
        return entry

    async def write(self, letters: list[Letter], seconds: float) -> Flow:
        """Messages at the set rate, and what follows from them."""
        sent, used = await self.during(self._send(letters, seconds))
        flow = Flow.of(sent, self.size.rate, used)
        self.say(f"{sum(flow.cpu_us.values()):.0f} µs a message; {sent.summary}")
        return flow

    def rss_kb(self) -> dict[str, int]:
        """Memory in RAM, by role."""
        return {role: round(kilobytes) for role, kilobytes in by_role(self.cluster, dict(rss_kb(self.cluster))).items()}

    def kb_a_socket(self, before: dict[str, int], sockets: int) -> dict[str, float]:
        """What each socket has added since, by role."""
        return {role: round((now - before[role]) / max(1, sockets), 2) for role, now in self.rss_kb().items()}

    async def _send(self, letters: list[Letter], seconds: float) -> Sent:
        sent = await self.fleet.send(letters, self.size.rate, seconds)
        await asyncio.sleep(_AFTERMATH_S)
        return sent


async def hold(stage: Stage) -> Hold:
    """As many sockets as were asked for; they sit there; then everyone writes in turn."""
    size = stage.size
    async with stage.open(size.hold_gateways, stage.fit(size.hold, size.hold_gateways)) as site:
        await site.rest()
        before = site.rss_kb()
        entry = await site.sign_in(size.hold)
        await site.rest()
        kb = site.kb_a_socket(before, entry.signed_in)
        idle = {role: round(share * 100, 1) for role, share in site.idle_per_s.items()}
        site.say(f"KB a socket: {kb}; idle, percent of a core: {idle}")
        flow = await site.write(pairs(site.people), size.hold_seconds)
        figures = await site.fleet.figures()
        return Hold(
            gateways=size.hold_gateways,
            entry=entry,
            kb=kb,
            kb_after=site.kb_a_socket(before, entry.signed_in),
            idle_percent=idle,
            flow=flow,
            signed_in_after=figures.signed_in,
            closed=figures.closed,
            complaints=complaints(site.cluster),
        )


async def growth(stage: Stage) -> Growth:
    """The same messages in larger and larger clusters and crowds, each from nothing."""
    size = stage.size
    cells = [await _cell(stage, gateways, sockets) for sockets in size.growth for gateways in size.growth_gateways]
    return Growth(writers=size.writers, cells=cells)


async def _cell(stage: Stage, gateways: int, sockets: int) -> Cell:
    size = stage.size
    async with stage.open(gateways, stage.fit(sockets, gateways)) as site:
        await site.rest()
        entry = await site.sign_in(sockets)
        letters = plan.some_letters(site.people, size.writers)
        await site.fleet.send(letters, size.rate, max(_WARM_UP_S, len(letters) / size.rate))
        await site.rest()
        idle_percent = round(sum(site.idle_per_s.values()) * 100, 1)
        some = await site.write(letters, size.growth_seconds)
        return Cell(
            gateways=gateways,
            entry=entry,
            idle_percent=idle_percent,
            some=some,
            everyone=await site.write(pairs(site.people), size.growth_seconds),
            complaints=complaints(site.cluster),
        )


async def endure(stage: Stage) -> Endure:
    """One gateway, everyone writes in turn, for minutes; memory is looked at all the while."""
    size = stage.size
    samples: list[Sample] = []
    async with stage.open(1, stage.fit(size.endure, 1)) as site:
        await site.rest()
        entry = await site.sign_in(size.endure)
        letters = pairs(site.people)
        await site.fleet.send(letters, size.rate, min(len(letters) / size.rate, size.endure_minutes * 60))
        await site.rest()
        async with asyncio.TaskGroup() as tasks:
            sampling = tasks.create_task(_sample(site, samples))
            flow = await site.write(letters, size.endure_minutes * 60)
            sampling.cancel()
        figures = await site.fleet.figures()
        return Endure(
            minutes=size.endure_minutes,
            entry=entry,
            flow=flow,
            samples=samples,
            signed_in_after=figures.signed_in,
            closed=figures.closed,
            complaints=complaints(site.cluster),
        )


async def _sample(site: Site, samples: list[Sample]) -> None:
    began = time.perf_counter()
    while True:
        samples.append(Sample(round(time.perf_counter() - began, 1), site.rss_kb()))
        site.say("MB: " + ", ".join(f"{role} {kb / 1024:.1f}" for role, kb in samples[-1].rss_kb.items()))
        await asyncio.sleep(site.size.sample_s - (time.perf_counter() - began) % site.size.sample_s)


async def failover(stage: Stage) -> Failover:
    """Two gateways, most people on the first, which is killed and stays down while everyone writes.

    Phones come back as `socket.io-client` does, with their tickets, to the one that lives, as an ingress would have it.
    """
    size = stage.size
    wanted = size.failover + size.failover_others
    everyone = stage.fit(wanted, 1)
    on_it = everyone * size.failover // wanted
    async with stage.open(2, everyone) as site:
        doomed, living = site.people[0].url, site.people[1].url
        site.people = plan.seat(site.people, doomed, on_it)
        entry = await site.sign_in(wanted)
        await site.fleet.come_back_to([living])
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(
                site.fleet.send(pairs(site.people), size.rate, size.before_s + size.after_s, _PATIENCE_S)
            )
            await asyncio.sleep(size.before_s)
            own = (await site.fleet.figures()).own_cpu_s
            before, killed_at = cpu_s(site.cluster), time.perf_counter()
            _kill_first_gateway(site)
            figures = await _all_back(site, on_it, entry.signed_in)
            after = cpu_s(site.cluster)
        returned = [at - killed_at for at in await site.fleet.returned()]
        site.say(f"{len(returned):,} of {on_it:,} back, the last after {max(returned, default=0):.1f} s")
        flow = Flow.of(sending.result(), size.rate, {})
        site.say(sending.result().summary)
        ended = await site.fleet.figures()
        is_done = figures.signed_in == entry.signed_in and figures.came_back >= on_it
        return Failover(
            gateways=2,
            entry=entry,
            on_it=on_it,
            back=min(on_it, len(returned)),
            back_p50_s=round(percentile(returned, 0.5), 2),
            back_p99_s=round(percentile(returned, 0.99), 2),
            all_back_s=round(max(returned), 2) if is_done else None,
            per_second=per_second(0.0, returned),
            turned_away=ended.turned_away,
            closed=ended.closed,
            cpu_s={name: round(after[name] - before[name], 2) for name in after},
            client_cpu_s=round(figures.own_cpu_s - own, 2),
            flow=flow,
            complaints=complaints(site.cluster),
        )


def _kill_first_gateway(site: Site) -> None:
    name = next(running.name for running in site.cluster.state().processes if running.role == "gateway")
    site.cluster.set_restarts(name, False)
    site.cluster.kill(name)


async def _all_back(site: Site, on_it: int, signed_in: int) -> Figures:
    """How the clients are when everyone is signed in again, or when that takes too long."""
    deadline = time.perf_counter() + _BACK_S
    while True:
        figures = await site.fleet.figures()
        if (figures.came_back >= on_it and figures.signed_in == signed_in) or time.perf_counter() > deadline:
            return figures
        await asyncio.sleep(_LOOK_S)


WORKS: Final[dict[str, Callable[[Stage], Awaitable[Row]]]] = {
    "hold": hold,
    "growth": growth,
    "failover": failover,
    "endure": endure,
}
