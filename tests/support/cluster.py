"""A whole cluster for one test or one module: real processes, on free ports, in a folder of its own."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import pytest

from libs import broker, keys
from libs.broker import Broker
from libs.storage.firestore.settings import Limits
from libs.streams import leases
from services.local.cluster import Cluster, open_cluster
from services.local.issuer import Issuer
from services.local.keyring import Keyring
from services.local.plan import Plan, make_plan, socket_url
from services.local.ports import free
from services.local.process import Process
from services.local.settings import LocalSettings
from services.router.sqlite import open_store
from services.router.store import GroupRow, Registry, UserRow
from tests.support import auth, topologies
from tests.support.firestore import Kept, kept_in, stored_in
from tests.support.topologies import Topology
from tests.support.waiting import until

_READY_S: Final = 30.0
_HOST: Final = "127.0.0.1"
# Tests send faster than people do, all from one address. To set a limit again: its name and a number, or "" for the
# default.
UNLIMITED: Final = {
    f"{limit}_PER_MINUTE": "0" for limit in ("TEXT", "IMAGE", "DOCUMENT", "VOICE", "EMERGENCY", "CONNECTS", "SIGN_INS")
}
# What a test waits for should come soon; production's patience is longer.
IMPATIENT: Final = {"DRAIN_WINDOW_S": "0.3", "STORE_PATIENCE_S": "0.5", "PEOPLE_CACHE_S": "0.5"}


class LiveCluster:
    """A running cluster, and what a test needs of it."""

    def __init__(
        self,
        processes: Cluster,
        plan: Plan,
        settings: LocalSettings,
        commands: Broker,
        servers: Topology,
        kept: Kept | None = None,
    ) -> None:
        self.processes = processes
        self.broker = commands
        # What a test does to the broker, it does through this: then it means the same for every kind of broker.
        self.servers = servers
        self._database = settings.database
        # Where the record is, if it is in Firestore.
        self._kept = kept
        self.home = settings.home
        self.urls = [socket_url(_HOST, port) for port in settings.websocket_ports]
        self.redis_url = plan.redis_url
        self._internal = {
            process.name: f"{process.host}:{process.ports['internal']}"
            for process in plan.processes
            if "internal" in process.ports
        }
        self._keyring = Keyring(settings.home)
        self._issuer = Issuer(self._keyring.signing_key())

    @property
    def database(self) -> Path:
        """The file of the record. Who looks into it has nothing to look at in Firestore: skips."""
        if self._kept is not None:
            pytest.skip("it looks into SQLite's file")
        return self._database

    def token(self, user_id: str, role: str | None = None, ttl_s: int = 3600) -> str:
        """An ID token of the local issuer."""
        return self._issuer.token(user_id, role, ttl_s)

    @property
    def issuer(self) -> Issuer:
        """The local issuer, for tokens that should not pass."""
        return self._issuer

    async def people(self, users: Iterable[str | UserRow], groups: Mapping[str, Iterable[str]] | None = None) -> None:
        """Create or update users (by id, or as rows) and groups (id → members)."""
        rows = [UserRow(id=user, name=user.title()) if isinstance(user, str) else user for user in users]
        async with self._registry() as store:
            await store.put_users(rows)
            await store.put_groups(
                [GroupRow(id=group, name=group, members=frozenset(of)) for group, of in (groups or {}).items()]
            )

    @contextmanager
    def store_away(self) -> Iterator[bool]:
        """While inside, nobody can write to the store, nor read what is new; whether what is old can be read."""
        if self._kept is not None:
            with self._kept.line.cut_off():
                yield False
            return
        with closing(sqlite3.connect(self._database, isolation_level=None, timeout=10.0)) as db:
            db.execute("BEGIN EXCLUSIVE")  # somebody else holds its lock
            try:
                yield True
            finally:
                db.execute("ROLLBACK")

    async def stored(self) -> dict[tuple[str, int], str]:
        """Which message the store has at each place of each conversation."""
        if self._kept is None:
            with closing(sqlite3.connect(self._database)) as db:
                rows = db.execute("SELECT conversation_id, seq, id FROM messages WHERE NOT is_void").fetchall()
            return {(conversation_id, seq): message_id for conversation_id, seq, message_id in rows}
        return await stored_in(self._kept.place)

    def _registry(self) -> AbstractAsyncContextManager[Registry]:
        if self._kept is None:
            return open_store(self._database, patience_s=10.0)
        # Here, for Google's libraries take a second, which tests of other stores should not wait for.
        from services.router import firestore  # noqa: PLC0415

        return firestore.open_store(self._kept.place, Limits(patience_s=30.0, writes_per_s=0))

    async def status(self, gateway: str = "g1") -> dict[str, Any]:
        """`GET /status` of a gateway."""
        found: dict[str, Any] = await self.get(gateway, "/status")
        return found

    def internal_url(self, name: str, path: str) -> str:
        """A path of a process's internal port."""
        return f"http://{self._internal[name]}{path}"

    async def get(self, name: str, path: str) -> Any:
        """A path of a process's internal port, as JSON or text, with the admin token."""
        headers = {"Authorization": f"Bearer {self._keyring.admin_token()}"}
        url = self.internal_url(name, path)
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
            if response.content_type == "application/json":
                return await response.json()
            return await response.text()

    async def post(self, name: str, path: str) -> tuple[int, Any]:
        """An operator's call to a gateway: the status, and what it answers."""
        headers = {"Authorization": f"Bearer {self._keyring.admin_token()}"}
        url = self.internal_url(name, path)
        async with aiohttp.ClientSession() as session, session.post(url, headers=headers) as response:
            return response.status, await response.json()

    async def metric(self, name: str, series: str) -> float:
        """The sum of a process's samples whose name (and labels, if given) begin with `series`."""
        text = str(await self.get(name, "/metrics"))
        lines = [line for line in text.splitlines() if line.startswith(series)]
        assert lines, f"{name} has no series that begins with {series}"
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    async def wait_ready(self, *names: str) -> None:
        """Wait until these processes (or all) are ready."""
        for name in names or self.processes.names:
            await self.processes.wait_ready(name, auth.READY_S if name == "auth" else _READY_S)

    def logs(self) -> str:
        """Everything every process has said."""
        return "\n".join(
            self.processes.log(name).read_text(errors="replace")
            for name in self.processes.names
            if self.processes.log(name).exists()
        )


@asynccontextmanager
async def live_cluster(
    home: Path,
    *,
    gateways: int = 2,
    routers: int = 2,
    presences: int = 1,
    environment: Mapping[str, str] | None = None,
    mutants: Mapping[str, str] | None = None,
    topology: str | None = None,
    **servers: Any,
) -> AsyncIterator[LiveCluster]:
    """A cluster that is ready; `environment` overrides settings of the services.

    With STORE=firestore in this process's environment its record is on Google's emulator, which all clusters share.
    `mutants` names processes that run broken, and how (`tests.support.mutants`). Its broker is what the environment
    asks for (`tests.support.topologies`), or of the kind `topology`, made with the options `servers`.
    """
    with kept_in(environment or {}) as kept:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        port = in_a_row(gateways)
        told = kept.told if kept is not None else {}
        environment = {**inherited, **IMPATIENT, **UNLIMITED, **told, **(environment or {})}
        made = topologies.chosen(home, port + gateways, environment, topology, **servers)
        settings = LocalSettings(
            gateways=gateways,
            routers=routers,
            presences=presences,
            data_dir=str(home),
            websocket_port=port,
            redis_url=made.url,
        )
        plan = make_plan(settings, environment, first_port=max(made.taken) + 1)
        said: list[str] = []
        planned = [mutated(process, (mutants or {}).get(process.name)) for process in plan.processes]
        async with open_cluster(home, [*made.processes, *planned], said.append) as processes:
            await made.start(processes)
            for process in planned:
                await processes.start(process.name)
            async with broker.connect(plan.redis_url) as commands:
                cluster = LiveCluster(processes, plan, settings, commands, made, kept)
                await cluster.wait_ready()
                await owned(cluster)
                yield cluster


def mutated(process: Process, mutant: str | None) -> Process:
    """The process, broken in this way if in any."""
    if mutant is None:
        return process
    python, option, service = process.command
    return msgspec.structs.replace(process, command=(python, option, "tests.support.mutants", service, mutant))


@asynccontextmanager
async def lasting_cluster(home: Path, **options: Any) -> AsyncIterator[LiveCluster]:
    """`live_cluster`, for a fixture of a module: it lives in a task of its own, as task groups must.

    Setup and teardown of a fixture are different tasks.
    """
    started: asyncio.Future[LiveCluster] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def live() -> None:
        async with live_cluster(home, **options) as running:
            started.set_result(running)
            await over.wait()

    def ended(task: asyncio.Task[None]) -> None:
        if not started.done():
            started.set_exception(task.exception() or RuntimeError("the cluster did not start"))

    living = asyncio.create_task(live())  # noqa: TID251 - no task group outlives the setup
    living.add_done_callback(ended)
    yield await started
    over.set()
    await living


async def owned(cluster: LiveCluster) -> None:
    """Wait until every partition is where it stays.

    So that a test's first message does not wait for an owner; and what a router learns of people is its own to know.
    """
    expected = sum(name[0] == "r" and name[1:].isdigit() for name in cluster.processes.names)

    async def is_owned() -> bool:
        routers = {name.decode() for name in await cluster.broker.command("ZRANGE", keys.routers(), 0, -1)}
        partitions = (await cluster.status())["partitions"]
        rightful = (leases.rightful_owner(partition["partition"], routers) for partition in partitions)
        return len(routers) == expected and [partition["owner"] for partition in partitions] == list(rightful)

    await until(is_owned, _READY_S, "the rightful owner for every partition", despite=(KeyError,))


def in_a_row(count: int) -> int:
    """The first of so many free ports that follow each other: another cluster of this test may hold some."""
    port = _first_port()
    while (found := free(count, _HOST, start=port)) != list(range(port, port + count)):
        port = max(found[0], port + 1)
    return port


def _first_port() -> int:
    """Clusters of tests that run side by side begin apart."""
    return 20_000 + os.getpid() % 120 * 100
