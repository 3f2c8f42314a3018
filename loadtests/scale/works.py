"""What is done with many sockets, each on a cluster of its own: hold, growth, endure, failover."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from loadtests.letters import pairs
from loadtests.processes import cpu_s
from loadtests.scale import moves, plan
from loadtests.scale.complaints import complaints
from loadtests.scale.figures import Cell, Endure, Failover, Flow, Growth, Hold, Row, Sample, per_second
from loadtests.scale.stage import PATIENCE_S, Site, Stage
from loadtests.tallies import percentile

_WARM_UP_S: Final = 2.0


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
                site.fleet.send(pairs(site.people), size.rate, size.before_s + size.after_s, PATIENCE_S)
            )
            await asyncio.sleep(size.before_s)
            own = (await site.fleet.figures()).own_cpu_s
            before, killed_at = cpu_s(site.cluster), time.perf_counter()
            _kill_first_gateway(site)
            figures = await site.all_back(on_it, entry.signed_in)
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


WORKS: Final[dict[str, Callable[[Stage], Awaitable[Row]]]] = {
    "hold": hold,
    "growth": growth,
    "failover": failover,
    "endure": endure,
    "rolling": moves.rolling,
    "rebalance": moves.rebalance,
}
