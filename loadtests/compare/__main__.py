"""Ours, Socket.IO on Node and python-socketio, in turn, on the same work. `make bench` runs it.

    python -m loadtests.compare                                           all of it, in about 13 minutes
    python -m loadtests.compare --quick                                   a look
    python -m loadtests.compare --only ours-2,node-2 --work direct-800    a part

Results go to `loadtests/results/<date>-compare.md` and `.json`, but those of a part only to the screen.
"""

import argparse
import asyncio
import gc
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from loadtests.compare import goals, machine, plan, report, systems, works
from loadtests.compare.systems import Population, System, Tokens
from loadtests.compare.works import Row, Site
from loadtests.letters import group_letters, pairs
from loadtests.swarm import open_swarm
from services.local.cluster import open_cluster

_RESULTS: Final = Path(__file__).parent.parent / "results"
_READY_S: Final = 60.0
# Compilers and caches are warm after this: messages a second, seconds.
_WARM_UP: Final = (300.0, 2.0)


class Bench:
    """One run: what it was asked, and how far it is."""

    def __init__(self, home: Path, size: plan.Size) -> None:
        self._home = home
        self._size = size
        self._began = time.perf_counter()
        self._tokens = Tokens(home / "keys")

    @property
    def took_s(self) -> float:
        """Seconds since it began."""
        return time.perf_counter() - self._began

    def say(self, text: str) -> None:
        """A line of progress."""
        sys.stderr.write(f"{self.took_s:5.0f} s  {text}\n")

    async def run(self, name: str, wanted: Sequence[str]) -> list[Row]:
        """Have one system do these works."""
        rows: list[Row] = []
        talk = [work for work in wanted if work != "sockets"]
        if talk:
            async with self._open(name, plan.talkers()) as site:
                await self._talk(site, talk, rows)
        if "sockets" in wanted:
            async with self._open(name, plan.sitters(self._size.sockets)) as site:
                site.say("sockets …")
                rows.append(await works.many_sockets(site, self._size.broadcasts))
        return rows

    async def _talk(self, site: Site, wanted: Sequence[str], rows: list[Row]) -> None:
        people, size = site.system.people, self._size
        await site.swarm.connect(people)
        await site.swarm.send(pairs(people), *_WARM_UP)
        await site.rest()
        for work in wanted:
            site.say(f"{work} …")
            if work == "rate":
                rows.append(await works.highest_rate(site, pairs(people), size.rate_seconds))
            elif work in plan.DIRECT:
                rate = plan.DIRECT[work]
                rows.append(await works.messages(site, work, pairs(people), rate, size.seconds))
            else:
                rate, members = plan.GROUP[work]
                rows.append(await works.messages(site, work, group_letters(people, members), rate, size.seconds))

    @asynccontextmanager
    async def _open(self, name: str, population: Population) -> AsyncIterator[Site]:
        """The system, running, and nobody signed in yet."""

        def say(text: str) -> None:
            self.say(f"{name}: {text}")

        with tempfile.TemporaryDirectory(dir=self._home) as folder:
            home = Path(folder)
            system = await self._system(name, home, population)
            async with open_cluster(home, system.processes, say) as cluster:
                for each in cluster.names:
                    await cluster.start(each)
                for each in cluster.names:
                    await cluster.wait_ready(each, _READY_S)
                async with open_swarm(system.greeting) as swarm:
                    yield Site(system, cluster, swarm, say)

    async def _system(self, name: str, home: Path, population: Population) -> System:
        kind, _, count = name.partition("-")
        match kind:
            case "ours":
                return await systems.ours(home, int(count), population, self._tokens)
            case "node":
                return systems.node(home, int(count), population)
            case _:
                return systems.stock(home, population)


async def compare(chosen: dict[str, list[str]], size: plan.Size, command: str) -> report.Results:
    """Have each system do its works, one system after another."""
    with tempfile.TemporaryDirectory(prefix="talowa-") as folder:
        bench = Bench(Path(folder), size)
        rows: list[Row] = []
        for name, wanted in chosen.items():
            rows += await bench.run(name, wanted)
            gc.unfreeze()  # sockets of the last system are gone
        return report.Results(
            date=datetime.now(UTC).date().isoformat(),
            command=command,
            machine=machine.machine(),
            versions=machine.versions(),
            took_s=round(bench.took_s),
            settings=systems.RAISED | {name: value for name, value in os.environ.items() if name in systems.RAISED},
            goals=goals.outcomes(rows),
            rows=rows,
        )


def main() -> None:
    """Read the arguments, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter, with fewer systems and sockets")
    parser.add_argument("--only", metavar="SYSTEM,…", help=f"some of {', '.join(plan.SYSTEMS)}")
    parser.add_argument("--work", metavar="WORK,…", help=f"some of {', '.join(plan.WORKS)}")
    given = parser.parse_args()
    size = plan.QUICK if given.quick else plan.WHOLE
    try:
        chosen = plan.choose(size, _words(given.only), _words(given.work))
    except ValueError as error:
        parser.error(str(error))
    command = " ".join(("python -m loadtests.compare", *sys.argv[1:]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        results = runner.run(compare(chosen, size, command))
    page = report.markdown(results)
    sys.stdout.write(page)
    if given.only is None and given.work is None and not given.quick:
        path = _RESULTS / f"{results.date}-compare.md"
        path.write_text(page, encoding="utf-8")
        path.with_suffix(".json").write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
        sys.stderr.write(f"written: {path} and its .json\n")


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


if __name__ == "__main__":
    main()
