"""Gateways go and come under thousands of sockets: rolling, rebalance.

Clients know the addresses of all gateways that are ready, as an ingress does, and come back to any of them by
chance, much as one does that deals in turn. A proxy for 10,000 sockets opens 20,000 files, more than a process may
on the machine this was made for, and takes its share of the cores.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from loadtests.letters import pairs
from loadtests.scale.complaints import complaints
from loadtests.scale.figures import Flow, Rebalanced, Restart, Rolling, Spread, per_second
from loadtests.scale.stage import PATIENCE_S, Site, Stage
from loadtests.tallies import Sent
from services.gateway import balance
from services.gateway.operations import Rebalancing

# Longer than anything here takes: it ends when it is told to.
_AS_LONG_AS_IT_TAKES_S: Final = 900.0
_GONE_S: Final = 120.0
_READY_S: Final = 60.0
_AHEAD_S: Final = 1.0


async def rolling(stage: Stage) -> Rolling:
    """Every gateway is told to leave and started again, one after another, while everyone writes in turn."""
    size = stage.size
    # While one is gone the others hold all; nobody kills them meanwhile.
    environment = {"DRAIN_DEADLINE_S": f"{_GONE_S:g}", "DRAIN_SIGN_INS_PER_S": str(size.drain_sign_ins_per_s)}
    sockets = stage.fit(size.rolling, size.rolling_gateways - 1)
    async with stage.open(size.rolling_gateways, sockets, environment) as site:
        await site.rest()
        entry = await site.sign_in(size.rolling)
        before = await site.write(pairs(site.people), size.rolling_before_s)
        restarts: list[Restart] = []
        async with _writing(site) as (began, sending):
            for name in site.gateways:
                restarts.append(await _restart(site, name))
                site.say(f"{restarts[-1]}")
            await site.fleet.come_back_to(list(site.gateways.values()), size.heeds)
            ended = await site.all_back(0, entry.signed_in)
            took_s = time.perf_counter() - began
        returned = [at - began for at in await site.fleet.returned()]
        return Rolling(
            gateways=size.rolling_gateways,
            entry=entry,
            heeds=size.heeds,
            bound_per_s=size.drain_sign_ins_per_s,
            restarts=restarts,
            took_s=round(took_s, 1),
            back=len(returned),
            signed_in_after=ended.signed_in,
            per_second=per_second(0.0, returned),
            turned_away=ended.turned_away,
            closed=ended.closed,
            before=before,
            flow=_flow(site, sending),
            complaints=complaints(site.cluster),
        )


async def _restart(site: Site, name: str) -> Restart:
    sockets = (await site.sockets()).get(name, 0)
    await site.fleet.come_back_to([url for other, url in site.gateways.items() if other != name], site.size.heeds)
    began = time.perf_counter()
    site.cluster.set_restarts(name, False)
    site.cluster.kill(name, signal.SIGTERM)
    await site.cluster.wait_exit(name, _GONE_S)
    gone_s = time.perf_counter() - began
    await site.cluster.start(name)
    site.cluster.set_restarts(name, True)
    await site.cluster.wait_ready(name, _READY_S)
    return Restart(name, sockets, round(gone_s, 1), round(time.perf_counter() - began, 1))


async def rebalance(stage: Stage) -> Rebalanced:
    """A gateway is added to those that hold all; then sockets are spread evenly, while everyone writes in turn.

    It runs from the beginning, stopped: a port that is kept for later is not there when somebody else takes it.
    """
    size = stage.size
    new = f"g{size.rebalance_gateways}"
    environment = {
        "REBALANCE_REST_S": f"{size.rebalance_rest_s:g}",
        "REBALANCE_SIGN_INS_PER_S": str(size.rebalance_sign_ins_per_s),
    }
    sockets = stage.fit(size.rebalance, size.rebalance_gateways - 1)
    async with stage.open(size.rebalance_gateways, sockets, environment) as site:
        await site.ask("POST", "/stop", new)
        old = [url for name, url in site.gateways.items() if name != new]
        site.people = [
            msgspec.structs.replace(person, url=old[number % len(old)]) for number, person in enumerate(site.people)
        ]
        await site.rest()
        entry = await site.sign_in(size.rebalance)
        before = await site.write(pairs(site.people), size.rebalance_rest_s)
        await site.ask("POST", "/start", new)
        while (await site.figures())[new].state != "accepting":  # noqa: ASYNC110 - another process says so
            await asyncio.sleep(_AHEAD_S)
        await site.fleet.come_back_to(list(site.gateways.values()), size.heeds)
        async with _writing(site) as (began, sending):
            ordered = msgspec.json.decode(await site.ask("POST", "/rebalance"), type=Rebalancing)
            samples, even_s = await _watch(site, began, ordered.target)
            ended = await site.all_back(0, entry.signed_in)
        returned = [at - began for at in await site.fleet.returned()]
        return Rebalanced(
            gateways=size.rebalance_gateways,
            entry=entry,
            heeds=size.heeds,
            bound_per_s=size.rebalance_sign_ins_per_s,
            rest_s=size.rebalance_rest_s,
            target=ordered.target,
            excess=[ordered.gateways[gateway] for gateway in sorted(ordered.gateways)],
            moved=sum(ended.closed.values()),
            even_s=even_s,
            samples=samples,
            per_second=per_second(0.0, returned),
            turned_away=ended.turned_away,
            closed=ended.closed,
            before=before,
            flow=_flow(site, sending),
            complaints=complaints(site.cluster),
        )


async def _watch(site: Site, began: float, target: int) -> tuple[list[Spread], float | None]:
    """Sockets per gateway until all are near the target and nobody moves any more, or until that takes too long."""
    samples: list[Spread] = []
    even_s: float | None = None
    moved_before = -1
    while (at_s := time.perf_counter() - began) < site.size.rebalance_most_s:
        sockets, moved = await site.sockets(), (await site.fleet.figures()).came_back
        samples.append(Spread(round(at_s, 1), [sockets[name] for name in sorted(sockets)]))
        site.say(f"sockets: {samples[-1].sockets}")
        if balance.is_even(sockets, target):
            even_s = even_s or round(at_s, 1)
            if moved == moved_before:
                break
        moved_before = moved
        await asyncio.sleep(site.size.rebalance_sample_s)
    return samples, even_s


@asynccontextmanager
async def _writing(site: Site) -> AsyncIterator[tuple[float, "asyncio.Task[Sent]"]]:
    """Everyone writes in turn while the block runs; gives when it began. After it, all has arrived or is missing."""
    letters = pairs(site.people)
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(site.fleet.send(letters, site.size.rate, _AS_LONG_AS_IT_TAKES_S, PATIENCE_S))
        await asyncio.sleep(_AHEAD_S)
        yield time.perf_counter(), sending
        await site.fleet.enough()


def _flow(site: Site, sending: "asyncio.Task[Sent]") -> Flow:
    site.say(sending.result().summary)
    return Flow.of(sending.result(), site.size.rate, {})
