"""What presence costs: CPU of its process and of the broker while people come and go.

    python -m loadtests.presence_cost --users 5000 --rate 50 --seconds 20

Starts an embedded broker and one presence in a folder that it removes. Users are seated on four gateways,
which exist by name only; each user is watched from two of them. Three phases: nobody, everyone online and
quiet, then changes at the given rate (half of them come, half of them go, without a grace period). Prints the
CPU of each process, in percent of one core, and how long after a change the downlinks had it.
"""

import argparse
import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Awaitable
from pathlib import Path
from typing import Final, NamedTuple

from libs import broker as brokers
from libs import keys, membership
from libs.broker import Broker
from libs.directory import Directory, Seat, Watchers
from libs.streams import consumer
from libs.wire import codec
from libs.wire.frames import PresenceChanges
from loadtests.processes import cpu_s
from services.local.cluster import Cluster, open_cluster
from services.local.plan import make_plan
from services.local.settings import LocalSettings

_GATEWAYS: Final = ("g1", "g2", "g3", "g4")
_QUIET_S: Final = 8.0
_TTL_MS: Final = 120_000


class Cost(NamedTuple):
    """Percent of one core."""

    phase: str
    presence: float
    broker: float


async def measure(users: int, rate: int, seconds: float, home: Path) -> tuple[list[Cost], list[float]]:
    """What each phase cost, and milliseconds from each change to a downlink."""
    plan = make_plan(LocalSettings(gateways=1, routers=1, data_dir=str(home)), dict(os.environ), first_port=26_000)
    processes = [process for process in plan.processes if process.role in ("broker", "presence")]
    names = [f"user{number:023d}" for number in range(users)]
    costs: list[Cost] = []
    async with open_cluster(home, processes) as cluster:
        for name in cluster.names:
            await cluster.start(name)
            await cluster.wait_ready(name, 10)
        async with (
            brokers.connect(plan.redis_url) as commands,
            brokers.connect(plan.redis_url, blocking_s=1.0) as reader,
        ):
            costs.append(await _during(cluster, "nobody online", asyncio.sleep(_QUIET_S)))
            await _fill(commands, names)
            costs.append(await _during(cluster, f"{users:,} online, quiet", asyncio.sleep(_QUIET_S)))
            downlinks = Downlinks(reader)
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(downlinks.run())
                changing = _change(Directory(commands), names, rate, seconds, downlinks)
                costs.append(await _during(cluster, f"{users:,} online, {rate} changes/s", changing))
                await asyncio.sleep(1.0)
                reading.cancel()
    return costs, downlinks.waits_ms


class Downlinks:
    """Reads what the gateways are told, and how long after the change it came."""

    def __init__(self, reader: Broker) -> None:
        self._reader = reader
        self._positions = {keys.downlink(gateway): "$" for gateway in _GATEWAYS}
        self.changed_at: dict[str, float] = {}
        self.waits_ms: list[float] = []

    async def run(self) -> None:
        """Read until cancelled."""
        for stream in self._positions:
            last = await self._reader.command("XREVRANGE", stream, "+", "-", "COUNT", 1)
            self._positions[stream] = last[0][0].decode()
        while True:
            read = await consumer.read(self._reader, self._positions, count=1000, block_ms=500)
            for stream, entries in read.items():
                for entry in entries:
                    self._take(entry)
                    self._positions[stream] = entry.id

    def _take(self, entry: consumer.Entry) -> None:
        for section in codec.unpack_downlink(entry.frames or b"\x90"):
            for frame in section.frames:
                if isinstance(frame, PresenceChanges):
                    for change in frame.changes:
                        began = self.changed_at.pop(change.user_id, None)
                        if began is not None:
                            self.waits_ms.append((time.monotonic() - began) * 1000)


async def _fill(commands: Broker, names: list[str]) -> None:
    directory, watchers = Directory(commands), Watchers(commands)
    for number, gateway in enumerate(_GATEWAYS):
        await commands.script(membership.beat(keys.gateways(), gateway, _TTL_MS))
        await commands.command("XADD", keys.downlink(gateway), "*", "hello", "")
        await directory.touch(gateway, names[number :: len(_GATEWAYS)])
        for other in (1, 2):
            await watchers.change(gateway, dict.fromkeys(names[(number + other) % 4 :: len(_GATEWAYS)], True))
    await asyncio.sleep(2.0)


async def _change(directory: Directory, names: list[str], rate: int, seconds: float, downlinks: Downlinks) -> None:
    """One change after another, at their times: somebody goes, or comes back."""
    here = list(range(len(names)))
    random.shuffle(here)
    # Who comes back has been away for two seconds: a change that is over before presence looks is none.
    gone = deque(here.pop() for _ in range(rate))
    for user in gone:
        await directory.drop(_GATEWAYS[user % len(_GATEWAYS)], [names[user]])
    began = time.monotonic()
    for number in range(round(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        is_coming = number % 2 == 1
        user = gone.popleft() if is_coming else here.pop()
        downlinks.changed_at[names[user]] = time.monotonic()
        await directory.change(
            _GATEWAYS[user % len(_GATEWAYS)], {names[user]: Seat.SHOWN if is_coming else Seat.DROPPED}
        )
        if not is_coming:
            gone.append(user)


async def _during(cluster: Cluster, phase: str, work: Awaitable[None]) -> Cost:
    before, began = cpu_s(cluster), time.monotonic()
    await work
    took_s = time.monotonic() - began
    spent = {name: (now - before[name]) / took_s * 100 for name, now in cpu_s(cluster).items()}
    return Cost(phase, spent["presence"], spent["broker"])


def main() -> None:
    """Read the arguments, measure, print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=5000, help="people online (default 5000)")
    parser.add_argument("--rate", type=int, default=50, help="changes a second (default 50)")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long changes go on (default 20)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="talowa-") as folder:
        costs, waits_ms = asyncio.run(measure(given.users, given.rate, given.seconds, Path(folder)))
    lines = ["| % of one core | presence | broker |", "|---|---|---|"]
    lines += [f"| {cost.phase} | {cost.presence:.1f} | {cost.broker:.1f} |" for cost in costs]
    hundredths = statistics.quantiles(waits_ms, n=100)
    lines.append(
        f"\n{len(waits_ms)} changes; ms from a change to a downlink: p50 {hundredths[49]:.0f}, p99 {hundredths[98]:.0f}"
    )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
