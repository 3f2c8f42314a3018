"""Every implementation of the store, behind what a test needs of it: to open it, to take it away, to fill it."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from services.router.sqlite import UserRow, open_store
from services.router.store import Group, Store, User

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
            rows = [UserRow(u.id, u.name, u.role, u.disabled, u.blocked, u.valid_after_ms) for u in users]
            await store.put_users(rows)

    async def put_groups(self, groups: Sequence[Group]) -> None:
        async with open_store(self.path) as store:
            await store.put_groups(groups)


@pytest.fixture(params=[SqliteRecord])
def record(request: pytest.FixtureRequest, tmp_path: Path) -> Record:
    """An empty record of each implementation in turn."""
    made: Record = request.param(tmp_path)
    return made
