"""Run it: a cluster, people, faults, and the table at the end. Exit 1 says that a promise was not kept."""

import argparse
import asyncio
import logging
import math
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from services.router.sqlite import open_store
from tests.chaos import network, verdict
from tests.chaos.faults import Faults, left_out
from tests.chaos.people import PEOPLE, People, expected, people
from tests.chaos.plan import GATEWAYS, KINDS, ROUTERS, Fault, draw
from tests.chaos.verdict import Verdict
from tests.chaos.world import World, open_world
from tests.support.history import Expected, History, check, promised
from tests.support.waiting import until

_EVERY_S: Final = 0.7
# What is left to come back once all faults are over.
_ANSWERED_S: Final = 90.0
_HERE_S: Final = 60.0
_ARRIVED_S: Final = 30.0
# What was said last is in the ledgers, and was looked at.
_SETTLED_S: Final = 4.0
_GAUGE: Final = "talowa_unaccounted_messages"


def main() -> None:
    """Read the arguments, run, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long faults come (default 60)")
    parser.add_argument("--seed", type=int, default=1, help="which faults, and when (default 1)")
    parser.add_argument("--out", type=Path, help="a file for the table, as Markdown")
    parser.add_argument("--only", nargs="+", choices=KINDS, metavar="KIND", help="only these kinds of fault")
    parser.add_argument("--every", type=float, default=_EVERY_S, help="seconds between two messages of a writer")
    parser.add_argument("--proxy", action="store_true", help="a proxy for the network, also where namespaces could be")
    parser.add_argument("--keep", type=Path, help="where to leave the cluster's files and logs")
    parser.add_argument("--plan", action="store_true", help="print which faults would come, and no more")
    parser.add_argument("--mutant", nargs="+", default=[], metavar="NAME=MUTANT", help="processes that run broken")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    # python-socketio leaves HTTP sessions open where it is closed as it connects, and aiohttp tells of each.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    missing = left_out()
    faults = draw(given.seed, given.seconds, [kind for kind in given.only or KINDS if kind not in missing])
    if given.plan:
        _say("\n".join(map(str, faults)))
        return
    if not given.inside and not given.proxy and network.can_have_namespaces():
        network.enter(["tests.chaos", *sys.argv[1:], "--inside"])
    notes = [f"{kind} is left out: {why}." for kind, why in missing.items()]
    if not given.inside:
        notes.append("The network is a proxy's: there are no network namespaces here (not root, or not wanted).")
    _say("\n".join(map(str, [*faults, *notes])))
    home = given.keep or Path(tempfile.mkdtemp(prefix="talowa-chaos-"))
    if given.keep:
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
    links = network.Namespaces() if given.inside else network.Proxies()
    mutants = dict(pair.split("=", 1) for pair in given.mutant)
    try:
        found = asyncio.run(run(home, links, faults, given.seconds, given.seed, given.every, mutants, notes))
    finally:
        if not given.keep:
            shutil.rmtree(home, ignore_errors=True)
    again = f"make chaos SECONDS={given.seconds:g} SEED={given.seed}"
    _say(f"\n{found.markdown()}")
    if given.out:
        given.out.write_text(_page(found, again, given.seed), encoding="utf-8")
    if not found.is_kept:
        _say("\n".join(["", *found.findings(), "", f"Promises were broken. Again: {again}"]))
        sys.exit(1)


async def run(
    home: Path,
    links: network.Network,
    faults: Sequence[Fault],
    seconds: float,
    seed: int,
    every_s: float,
    mutants: dict[str, str],
    notes: Sequence[str] = (),
    *,
    are_calm: bool = False,
    environment: Mapping[str, str] | None = None,
    patience_s: float = _ARRIVED_S,
) -> Verdict:
    """Everything, from a cluster that is whole to one that is whole again."""
    history = History()
    clocked = {name for fault in faults if fault.kind == "clock stepped" for name in fault.targets}
    async with (
        open_world(home, links, mutants=mutants, environment=environment, clocked=clocked) as world,
        people(world.cluster, history, seed, every_s, are_calm=are_calm) as all_,
    ):
        doing = Faults(world)
        await all_.come()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(all_.run())
            began, began_ms = time.monotonic(), int(time.time() * 1000)
            await doing.run(list(faults))
            await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
            all_.stop()
            await world.wait_whole()
            with suppress(AssertionError):
                await until(
                    lambda: all(letter.answered_ms is not None for letter in all_.letters), _ANSWERED_S, "all answers"
                )
            all_.be_quiet()
        owed_to = expected(are_calm=are_calm)
        stuck = await _stuck(world, all_, history, owed_to, patience_s)
        unaccounted = await _unaccounted(world)
        (home / "story.txt").write_text("\n".join([*doing.story(began_ms), *all_.story(began_ms)]))
        return verdict.judge(
            history,
            all_.letters,
            doing.happened,
            expected=owed_to,
            losses=world.brokers.losses_ms,
            stuck=stuck,
            turned_away=all_.turned_away,
            unaccounted=unaccounted,
            notes=notes,
        )


async def _stuck(world: World, all_: People, history: History, owed_to: Expected, patience_s: float) -> list[str]:
    """What has not reached a device, though all are back and nothing goes on; then everyone signs in once more."""
    losses = world.brokers.losses_ms

    async def are_here() -> bool:
        for phone in all_.phones.values():
            await phone.mind()
        return all(phone.is_here for phone in all_.phones.values())

    def missing() -> tuple[str, ...]:
        return check(promised(history, losses)[0], owed_to).lost

    with suppress(AssertionError):
        await until(are_here, _HERE_S, "everyone to be signed in")
    with suppress(AssertionError):
        await until(lambda: not missing(), patience_s, "everything to arrive")
    stuck = [f"not there until the next sign-in: {one}" for one in missing()]
    for device, phone in all_.phones.items():
        if not phone.is_here:
            stuck.append(f"{device} does not get in")
    owed: list[str] = []

    async def is_nothing_owed() -> bool:
        owed[:] = await _owed(world)
        return not owed

    with suppress(AssertionError):
        await until(is_nothing_owed, patience_s, "nothing to be due")
    stuck += [f"due in the store: {one}" for one in owed]
    if stuck:
        for phone in all_.phones.values():
            await phone.go()
        with suppress(AssertionError):
            await until(are_here, _HERE_S, "everyone to be signed in anew")
            await until(lambda: not missing(), patience_s, "everything to arrive")
    return stuck


async def _owed(world: World) -> list[str]:
    async with open_store(world.cluster.database, patience_s=10.0) as store:
        found = []
        for person in PEOPLE:
            for message, receipt in (await store.due(person, 50)).rows:
                if message.seq not in receipt.ahead:
                    found.append(f"{message.conversation_id} #{message.seq} to {person}")
        return found


async def _unaccounted(world: World) -> float:
    """What the cluster cannot account for, by its own ledger and by its routers' gauges, once it has had time to rest.

    What is in flight for good counts as well: nobody knows where it is. Infinite, if the ledger never answers.
    """
    counted = math.inf

    async def is_zero() -> bool:
        nonlocal counted
        told = [await world.cluster.metric(name, _GAUGE) for name in ROUTERS]
        sums = await world.cluster.get(GATEWAYS[0], "/ledger")
        counted = max(sum(told), float(sums["unaccounted"] + sums["inFlight"]))
        return counted == 0

    await asyncio.sleep(_SETTLED_S)
    with suppress(AssertionError):
        await until(is_zero, _ARRIVED_S, "the ledger to come out at zero", despite=(KeyError,))
    return counted


def _page(found: Verdict, again: str, seed: int) -> str:
    machine = f"{platform.machine()}, {len(_cpus())} CPUs ({_cpus()[0] if _cpus() else 'unknown'}), {platform.system()}"
    lines = [
        f"# Under fire, seed {seed}",
        "",
        f"{datetime.now(UTC):%Y-%m-%d} · {machine} · `{again}`",
        "",
        found.markdown(),
        "",
        *(f"- {finding}" for finding in found.findings()),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _cpus() -> list[str]:
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return []


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
