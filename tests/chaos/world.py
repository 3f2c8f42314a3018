"""World: the cluster, and all that can be done to it.

Three gateways, three routers, two copies of presence, each behind a link of its own; a primary, its replica and
Sentinel; a store on a small disk; a clock for each process.
"""

import asyncio
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Final, cast

import msgspec

from libs import broker
from services.local import ports
from services.local.cluster import open_cluster
from services.local.plan import make_plan, socket_url
from services.local.settings import LocalSettings
from tests.chaos import network
from tests.chaos.brokers import DATA, Brokers
from tests.chaos.network import Network
from tests.chaos.plan import BROKER, GATEWAYS, PRESENCES, ROUTERS, SERVICES
from tests.support.cluster import IMPATIENT, UNLIMITED, LiveCluster, mutated, owned
from tests.support.topologies import Topology
from tests.support.waiting import until

_READY_S: Final = 60.0
_BACK_S: Final = 30.0
_EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - in namespaces of our own
_DISK_MB: Final = 64
_BALLOON_BYTES: Final = 1 << 20
# Phones notice a dead link sooner than in production, and ledgers what is missing, for ten minutes are short.
_BRISK: Final = {"PING_INTERVAL_S": "4", "PING_TIMEOUT_S": "8", "LEDGER_SETTLE_S": "1"}
_FAKETIME: Final = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")
_CLOCKWORK: Final = Path(__file__).parent / "clockwork"
_ALL: Final = (*SERVICES, "broker", "broker2", "sentinel1", "sentinel2", "sentinel3")


class World:
    """A running cluster, and what a fault may do to it."""

    def __init__(self, cluster: LiveCluster, brokers: Brokers, network: Network, home: Path, *, has_disk: bool) -> None:
        self.cluster = cluster
        self.processes = cluster.processes
        self.brokers = brokers
        self.network = network
        self._home = home
        self._has_disk = has_disk
        self._paused: Counter[str] = Counter()

    def strike(self, name: str, number: signal.Signals) -> bool:
        """Send a signal; False if the process is down."""
        with suppress(ValueError, ProcessLookupError):
            self.processes.kill(name, number)
            return True
        return False

    @asynccontextmanager
    async def paused(self, *names: str) -> AsyncIterator[None]:
        """They stand still as long as the block lasts. Blocks may overlap."""
        for name in names:
            self._paused[name] += 1
            self.strike(name, signal.SIGSTOP)
        try:
            yield
        finally:
            for name in names:
                self._paused[name] -= 1
                if not self._paused[name]:
                    self.strike(name, signal.SIGCONT)

    @asynccontextmanager
    async def down(self, *names: str, number: signal.Signals = signal.SIGKILL) -> AsyncIterator[None]:
        """They are ended, and stay down as long as the block lasts."""
        pids = {name: self.processes.pid(name) for name in names}
        for name in names:
            self.processes.set_restarts(name, False)
            self.strike(name, number)
        try:
            for name in names:
                with suppress(TimeoutError):
                    await self.processes.wait_exit(name, _BACK_S)
            yield
        finally:
            for name, pid in pids.items():
                self.processes.set_restarts(name, True)
                if self.processes.pid(name) != pid or pid is None:
                    with suppress(ValueError):  # it is back already
                        await self.processes.start(name)

    async def restart(self, name: str) -> None:
        """Drain a process and wait until it is back. One that is in other trouble is left to it."""
        pid = self.processes.pid(name)
        if self.strike(name, signal.SIGTERM):
            with suppress(AssertionError):
                await until(lambda: self.processes.pid(name) not in (None, pid), _BACK_S, f"{name} to be started again")
                await until(lambda: self._is_ready(name), _BACK_S, f"{name} to be ready")

    def step_clock(self, name: str, by_s: float) -> None:
        """This process's clock shows another time from now on; its monotonic clock does not. `broker`: all servers."""
        for each in self.brokers.data if name == BROKER else (name,):
            _write(clock_file(self._home, each), f"{by_s:+.0f}")

    @asynccontextmanager
    async def store_full(self) -> AsyncIterator[None]:
        """No byte more fits on the store's disk. Without a disk of its own, somebody holds its lock meanwhile."""
        if not self._has_disk:
            with closing(sqlite3.connect(self.cluster.database, isolation_level=None, timeout=10.0)) as db:
                db.execute("BEGIN EXCLUSIVE")
                yield
            return
        balloon = self._home / "disk" / "balloon"
        try:
            await asyncio.to_thread(_blow_up, balloon)
            yield
        finally:
            balloon.unlink(missing_ok=True)

    async def wait_whole(self) -> None:
        """Until every process is ready and every partition has an owner."""
        for name in _ALL:
            self.processes.set_restarts(name, True)
        await until(self._is_whole, 2 * _READY_S, "the cluster to be whole", despite=(KeyError, OSError))

    async def _is_whole(self) -> bool:
        for name in self.processes.names:
            if await self.processes.lacks(name) is not None:
                return False
        return all(partition["owner"] is not None for partition in (await self.cluster.status())["partitions"])

    async def _is_ready(self, name: str) -> bool:
        return await self.processes.lacks(name) is None


def faketime() -> Path | None:
    """The library that shows processes another time, where it is installed."""
    for pattern in _FAKETIME:
        for found in Path("/").glob(pattern[1:]):
            return found
    return None


def clock_file(home: Path, name: str) -> Path:
    """By how many seconds a process's clock is off."""
    return home / "clocks" / name


@asynccontextmanager
async def open_world(
    home: Path,
    links: Network,
    *,
    mutants: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    clocked: Collection[str] = (),
) -> AsyncIterator[World]:
    """A cluster that is ready, its files below `home`. The clocks of those in `clocked` can be stepped."""
    _lay_out(home, is_private=links.is_private)
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    shared = {**inherited, **IMPATIENT, **UNLIMITED, **_BRISK, **(environment or {})}
    clocks = {
        name: _clock(home, name) if name in clocked or (name in DATA and BROKER in clocked) else {} for name in _ALL
    }
    first = 20_000 + os.getpid() % 120 * 100
    taken = ports.free(6 + len(GATEWAYS), "127.0.0.1", start=first)
    way, sockets = taken[0], taken[-1] - len(GATEWAYS) + 1
    brokers = Brokers(home, links.here, taken[1:6], {name: {**inherited, **clocks[name]} for name in _ALL})
    settings = LocalSettings(
        gateways=len(GATEWAYS),
        routers=len(ROUTERS),
        presences=len(PRESENCES),
        data_dir=str(home),
        websocket_host=_EVERYWHERE,
        websocket_port=sockets,
        redis_url=brokers.url,
    )
    plan = make_plan(settings, shared, first_port=taken[-1] + 1)
    services = []
    for process in plan.processes:
        own = {
            "REDIS_URL": links.broker(process.name, brokers.url, way),
            "INTERNAL_HOST": _EVERYWHERE,
            "RELAY_ADDRESS": f"{links.host(process.name)}:{process.ports['internal']}",
            **clocks[process.name],
        }
        broken = mutated(process, (mutants or {}).get(process.name))
        services.append(links.place(msgspec.structs.replace(broken, environment=process.environment | own)))
    said: list[str] = []
    async with (
        open_cluster(home, [*brokers.processes(), *services], said.append) as processes,
        links.open(services, brokers.ports, brokers.address, way),
        broker.connect(brokers.url) as commands,
        asyncio.TaskGroup() as tasks,
    ):
        for name in processes.names:
            await processes.start(name)
        watching = tasks.create_task(brokers.watch())
        # What is done to the broker, `Brokers` does.
        placed = msgspec.structs.replace(plan, processes=services)
        cluster = LiveCluster(processes, placed, settings, commands, cast(Topology, brokers))
        cluster.urls = [
            socket_url(links.door(gateway), port)
            for gateway, port in zip(GATEWAYS, settings.websocket_ports, strict=True)
        ]
        for name in processes.names:
            await processes.wait_ready(name, _READY_S)
        await owned(cluster)
        yield World(cluster, brokers, links, home, has_disk=links.is_private)
        watching.cancel()


def _lay_out(home: Path, *, is_private: bool) -> None:
    """The folders, and the store on a small disk, where what is mounted is our own matter."""
    disk = home / "disk"
    for folder in (disk, home / "clocks"):
        folder.mkdir(parents=True, exist_ok=True)
    for name in _ALL:
        _write(clock_file(home, name), "+0")
    (home / "talowa.db").symlink_to(disk / "talowa.db")
    if is_private:
        network.run("mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m", "chaos", str(disk))


def _clock(home: Path, name: str) -> dict[str, str]:
    library = faketime()
    if library is None:
        return {}
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock_file(home, name)),
        "FAKETIME_CACHE_DURATION": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(_CLOCKWORK), os.environ.get("PYTHONPATH")))),
    }


def _write(file: Path, text: str) -> None:
    """Whole or not at all: a process may read it at any moment."""
    fresh = file.with_suffix(".new")
    fresh.write_text(f"{text}\n")
    fresh.replace(file)


def _blow_up(balloon: Path) -> None:
    with suppress(OSError), balloon.open("wb", buffering=0) as file:
        size = _BALLOON_BYTES
        while size:
            try:
                file.write(b"\0" * size)
            except OSError:
                size //= 2
