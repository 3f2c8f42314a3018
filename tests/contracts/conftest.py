"""What contracts are held against: every implementation of the store, and every broker there is.

A store stands behind what a test needs of it: to open it, to take it away, to fill it.
"""

import secrets
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import pytest
import pytest_asyncio

from libs.broker import Broker, connect
from libs.storage.firestore.settings import Limits, Place
from libs.wire.frames import Places
from services.router import firestore
from services.router.sqlite import open_store
from services.router.store import Group, Store, User, UserRow
from tests.support.broker import RunningBroker, RunningNodes, live_broker, servers
from tests.support.firestore import Emulator, Line, cuttable

PATIENCE_S = 10.0


class Record(Protocol):
    """One record, empty at first. It is handed to other processes, so it can be pickled."""

    # The patience of a store that a test takes away: long enough to open it and to be sure that it is away.
    hurried_s: ClassVar[float]

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


def rows(users: Sequence[User]) -> list[UserRow]:
    """All of these users, as operators write them."""
    return [_row(user, user.places) for user in users]


def _row(user: User, lives: Places) -> UserRow:
    return UserRow(
        user.id,
        user.name,
        user.role,
        user.disabled,
        user.blocked,
        user.valid_after_ms,
        lives.state,
        lives.district,
        lives.mandal,
        lives.village,
        user.push_tokens,
    )


@dataclass(frozen=True)
class SqliteRecord:
    """A file that does not exist yet, in a folder that does not either."""

    folder: Path
    hurried_s: ClassVar[float] = 0.05

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
            await store.put_users(rows(users))

    async def put_groups(self, groups: Sequence[Group]) -> None:
        async with open_store(self.path) as store:
            await store.put_groups(groups)


# The ways to the emulator, by port: a record in another process has only the port.
_lines: dict[int, Line] = {}


@dataclass(frozen=True)
class FirestoreRecord:
    """A project of its own on the emulator, over a line that can be cut."""

    project_id: str
    port: int
    hurried_s: ClassVar[float] = 3.0

    def open(self, patience_s: float = PATIENCE_S) -> AbstractAsyncContextManager[Store]:
        place = Place(self.project_id, emulator=f"127.0.0.1:{self.port}")
        # Whoever comes first after it was away finds that out with all of the patience.
        return firestore.open_store(place, Limits(patience_s=patience_s, grace_s=patience_s, writes_per_s=0))

    @contextmanager
    def away(self) -> Iterator[None]:
        line = _lines[self.port]
        line.cut()
        yield
        line.mend()

    async def put_users(self, users: Sequence[User]) -> None:
        async with firestore.open_store(Place(self.project_id, emulator=f"127.0.0.1:{self.port}"), QUIET) as store:
            await store.put_users(rows(users))

    async def put_groups(self, groups: Sequence[Group]) -> None:
        async with firestore.open_store(Place(self.project_id, emulator=f"127.0.0.1:{self.port}"), QUIET) as store:
            await store.put_groups(groups)


QUIET = Limits(patience_s=PATIENCE_S, writes_per_s=0)


@pytest.fixture
def firestore_record(firestore_emulator: Emulator) -> Iterator[FirestoreRecord]:
    """An empty project of the emulator."""
    with cuttable(firestore_emulator.address) as line:
        _lines[line.port] = line
        yield FirestoreRecord(f"demo-{secrets.token_hex(6)}", line.port)
        del _lines[line.port]


@pytest.fixture(params=["sqlite", "firestore"])
def record(request: pytest.FixtureRequest, tmp_path: Path) -> Record:
    """An empty record of each implementation in turn."""
    if request.param == "sqlite":
        return SqliteRecord(tmp_path)
    found: FirestoreRecord = request.getfixturevalue("firestore_record")
    return found


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
