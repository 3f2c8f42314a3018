"""What contracts are held against: every implementation of the store, and every broker there is.

A store stands behind what a test needs of it: to open it, to take it away, to fill it.
"""

import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
import pytest
import pytest_asyncio

from libs.broker import Broker, connect
from services.router.sqlite import UserRow, open_store
from services.router.store import Group, Store, User
from tests.support.broker import RunningBroker, RunningNodes, live_broker, servers

PATIENCE_S = 10.0


class Record(Protocol):
    """One record, empty at first. It is handed to other processes, so it can be pickled."""

    def open(self, patience_s: float = PATIENCE_S) -> AbstractAsyncContextManager[Store]:
        """A store of its own on this record, as another process would have."""
        ...

    def away(self) -> AbstractContextManager[None]:
        """While inside, whoever writes finds the store away."""
        ...

    async def put_users(self, users: Sequence[User]) -> None:
        """Write user documents."""
        ...

    async def put_groups(self, groups: Sequence[Group]) -> None:
        """Write group documents: a group that is there gets exactly these members."""
        ...


@dataclass(frozen=True)
class SqliteRecord:
    """A file that does not exist yet, in a folder that does not either."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "new" / "store.sqlite"

    def open(self, patience_s: float = PATIENCE_S) -> AbstractAsyncContextManager[Store]:
        return open_store(self.path, patience_s=patience_s)

    @contextmanager
    def away(self) -> Iterator[None]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as db:
            db.execute("BEGIN EXCLUSIVE")
            yield

    async def put_users(self, users: Sequence[User]) -> None:
        async with open_store(self.path) as store:
            rows = [
                UserRow(
                    u.id, u.name, u.role, u.disabled, u.blocked, u.valid_after_ms, *msgspec.structs.astuple(u.places)
                )
                for u in users
            ]
            await store.put_users(rows)

    async def put_groups(self, groups: Sequence[Group]) -> None:
        async with open_store(self.path) as store:
            await store.put_groups(groups)


@pytest.fixture(params=[SqliteRecord])
def record(request: pytest.FixtureRequest, tmp_path: Path) -> Record:
    """An empty record of each implementation in turn."""
    made: Record = request.param(tmp_path)
    return made


_KINDS: dict[str, tuple[type[RunningBroker], Path]] = {name: (RunningBroker, path) for name, path in servers().items()}
_KINDS["cluster"] = (RunningNodes, servers()["embedded"])


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=_KINDS.values(), ids=_KINDS.keys())
async def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningBroker]:
    """Each broker in turn: the embedded one, `redis-server` where it is on the path, and a cluster of the first."""
    make, path = request.param
    async with live_broker(tmp_path_factory.mktemp("broker"), path, make) as running:
        yield running


@pytest_asyncio.fixture
async def empty_server(server: RunningBroker) -> RunningBroker:
    """A broker that runs and holds nothing, not even scripts, whatever the last test did to it."""
    await server.start()
    server.empty()
    return server


@pytest_asyncio.fixture
async def broker(empty_server: RunningBroker) -> AsyncIterator[Broker]:
    """A client of an empty broker."""
    async with connect(empty_server.url, blocking_s=1.0) as commands:
        yield commands
