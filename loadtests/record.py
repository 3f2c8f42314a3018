"""What the record costs a router: CPU for each message written. `make bench STORE=firestore` runs it.

    python -m loadtests.record                            all of it, in about three minutes
    python -m loadtests.record --rounds 1 --seconds 0     a look, at the stores alone

First the stores alone: messages are saved in batches, by the code that a router runs, in SQLite and in Firestore in
turn. Then a cluster on each, and people who write to each other. Firestore is Google's emulator: what it uses itself
says nothing of the service, and is told apart. The page goes to `loadtests/results/<date>-record.md`.
"""

import argparse
import asyncio
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import uvloop

from libs.storage.firestore.settings import Limits, Place
from libs.wire import names
from loadtests.compare import machine, systems, works
from loadtests.compare.systems import Population, Tokens
from loadtests.compare.works import Messages, Site
from loadtests.letters import pairs
from loadtests.processes import process_cpu_s
from loadtests.swarm import open_swarm
from services.local import firestore as emulator
from services.local.cluster import open_cluster
from services.local.ports import free
from services.router import sqlite
from services.router.store import Message, Store

if TYPE_CHECKING:
    from services.router.firestore import FirestoreStore

_RESULTS: Final = Path(__file__).parent / "results"
_HOST: Final = "127.0.0.1"
_READY_S: Final = 60.0
_GOAL_US: Final = 40.0
# Messages to a batch, and batches to a round: a router's, when it is busy and when it is not.
_BATCHES: Final = {100: 60, 10: 100}
# The first batches find the compilers cold: the emulator's above all.
_COLD: Final = 20
_SENDERS: Final = 20
_PEOPLE: Final = 100
_CONTENT: Final = "భూమి హక్కు మనది: the survey of plot 12/3 is on Monday, bring the papers and come early"
Kind = Literal["sqlite", "firestore"]


class Cost(NamedTuple):
    """Microseconds of CPU for each message: of this process, all threads, and of the emulator."""

    own: float
    emulator: float


class Bench:
    """Both stores, open, and messages that nobody has written yet."""

    def __init__(self, stores: dict[Kind, Store], emulator_pid: int) -> None:
        self._stores = stores
        self._pid = emulator_pid
        self._rounds = count()

    async def rounds(self, times: int) -> dict[tuple[Kind, int], list[Cost]]:
        """What a message cost in each store by the size of batches, once a round."""
        found: dict[tuple[Kind, int], list[Cost]] = {}
        for kind in self._stores:
            await self._round(kind, 100, _COLD)
        for number in range(times):
            for size, batches in _BATCHES.items():
                for kind in self._stores:
                    cost = await self._round(kind, size, batches)
                    found.setdefault((kind, size), []).append(cost)
                    _say(f"round {number + 1}: {kind}, batches of {size}: {cost.own:.1f} µs")
        return found

    async def _round(self, kind: Kind, size: int, batches: int) -> Cost:
        """One batch to warm up, then so many."""
        saying = _said(next(self._rounds))
        written = [[next(saying) for _ in range(size)] for _ in range(batches + 1)]
        await self._stores[kind].save(written[0])
        own, other = time.process_time(), process_cpu_s(self._pid)
        for batch in written[1:]:
            await self._stores[kind].save(batch)
        own, other = time.process_time() - own, process_cpu_s(self._pid) - other
        return Cost(own / (size * batches) * 1e6, other / (size * batches) * 1e6 if kind == "firestore" else 0.0)


def _said(number: int) -> Iterator[Message]:
    """Messages of one round: some people to one, each in their conversation, in its order."""
    for seq in count(1):
        for sender in range(_SENDERS):
            one, client_id = f"user{number}-{sender}", f"c{seq}"
            where, key = names.direct(one, "sita"), names.message_key(one, client_id)
            content, at = f"{_CONTENT} {seq}", 1_800_000_000_000 + seq * 50 + sender
            id_, kind = names.message_id_of(key, where), (one, "Someone", "member", "text")
            yield Message(id_, key, where, seq, *kind, content, client_id, client_id, at, at)


@asynccontextmanager
async def _open(home: Path) -> AsyncIterator[Bench]:
    port = free(1, _HOST, start=25_000)[0]
    process = emulator.firestore(port, dict(os.environ))
    async with open_cluster(home, [process]) as running:
        pid = await running.start(process.name)
        await running.wait_ready(process.name, _READY_S)
        async with sqlite.open_store(home / "store.db", patience_s=30) as small, _firestore(port) as large:
            yield Bench({"sqlite": small, "firestore": large}, pid)


async def _cluster(kind: Kind, home: Path, tokens: Tokens, rate: float, seconds: float) -> Messages:
    """Direct messages at this rate through a cluster on one of the stores."""
    people = Population([f"u{number}" for number in range(_PEOPLE)], {})
    system = await systems.ours(home, 2, people, tokens, store=kind)
    async with open_cluster(home, system.processes) as running:
        for process in system.processes:
            await running.start(process.name)
            if process.name == emulator.NAME:
                await running.wait_ready(process.name, _READY_S)
                async with _firestore(process.ports["store"]) as store:
                    await systems.put(store, people)
        for name in running.names:
            await running.wait_ready(name, _READY_S)
        async with open_swarm(system.greeting) as swarm:
            site = Site(system, running, swarm, lambda text: _say(f"a cluster on {kind}: {text}"))
            await swarm.connect(system.people)
            await swarm.send(pairs(system.people), rate, seconds)
            await site.rest()
            return await works.messages(site, kind, pairs(system.people), rate, seconds)


@asynccontextmanager
async def _firestore(port: int) -> "AsyncIterator[FirestoreStore]":
    # Not before gRPC is told, as it is loaded, that nobody will call it in a process that was forked.
    from services.router import firestore  # noqa: PLC0415

    place = Place(emulator.PROJECT, emulator=f"{_HOST}:{port}")
    async with firestore.open_store(place, Limits(patience_s=30.0, writes_per_s=0)) as store:
        yield store


def page(found: dict[tuple[Kind, int], list[Cost]], rows: Sequence[Messages], command: str) -> str:
    """What was measured, in Markdown, misses first."""
    packages = " · ".join(f"{name} {version(name)}" for name in ("grpcio", "google-cloud-firestore", "uvloop"))
    about = " · ".join(f"{name} {value}" for name, value in machine.machine().items())
    goal = statistics.median(cost.own for cost in found["firestore", 100])
    lines = [
        f"# What the record costs a router, {datetime.now(UTC).date().isoformat()}",
        "",
        f"{about} · Python {platform.python_version()} · {packages}",
        "",
        f"`{command}`. Goal: {_GOAL_US:g} µs of a router's CPU for a message written to Firestore, in batches of 100.",
        f"**{'Met' if goal <= _GOAL_US else 'Missed'}**: {goal:.1f}.",
        "",
        "The store alone, µs of CPU a message (median, and lowest to highest, of the rounds; all threads):",
        "",
        "| store | messages a batch | router | the emulator itself |",
        "|---|---|---|---|",
    ]
    for (kind, size), costs in found.items():
        own = [cost.own for cost in costs]
        apart = f"{statistics.median(cost.emulator for cost in costs):.0f}" if kind == "firestore" else ""
        lines.append(f"| {kind} | {size} | {statistics.median(own):.1f} ({min(own):.1f} to {max(own):.1f}) | {apart} |")
    if rows:
        roles = ("router", "gateway", "broker", "presence", "store")
        lines += [
            "",
            f"A cluster of 2 gateways and 2 routers, {_PEOPLE} people, {rows[0].rate:g} direct messages a second.",
            "µs of CPU a message; `store` is the emulator itself:",
            "",
            f"| store | {' | '.join(roles)} | p50 ms | arrived |",
            "|---" * (len(roles) + 3) + "|",
        ]
        for row in rows:
            used = " | ".join(f"{row.cpu_us_by_role.get(role, 0):.0f}" for role in roles)
            lines.append(f"| {row.work} | {used} | {row.p50_ms:.0f} | {row.arrived} of {row.due} |")
    return "\n".join(lines) + "\n"


async def measure(rounds: int, rate: float, seconds: float, command: str) -> str:
    """The page."""
    with tempfile.TemporaryDirectory(prefix="talowa-") as folder:
        home = Path(folder)
        async with _open(_made(home / "alone")) as bench:
            found = await bench.rounds(rounds)
        tokens = Tokens(home / "keys")
        kinds: tuple[Kind, ...] = ("sqlite", "firestore") if seconds else ()
        rows = [await _cluster(kind, home / kind, tokens, rate, seconds) for kind in kinds]
        return page(found, rows, command)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def main() -> None:
    """Read the arguments, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds with the stores alone (default 5)")
    parser.add_argument("--rate", type=float, default=100.0, help="messages a second through a cluster (default 100)")
    parser.add_argument("--seconds", type=float, default=8.0, help="for how long, on each (default 8; 0: not at all)")
    given = parser.parse_args()
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    command = " ".join(("python -m loadtests.record", *sys.argv[1:]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        text = runner.run(measure(given.rounds, given.rate, given.seconds, command))
    sys.stdout.write(text)
    if len(sys.argv) == 1:
        path = _RESULTS / f"{datetime.now(UTC).date().isoformat()}-record.md"
        path.write_text(text, encoding="utf-8")
        _say(f"written: {path}")


if __name__ == "__main__":
    main()
