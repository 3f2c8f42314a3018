"""What every record of last-seen times promises (see `services.presence.lastseen`), by effect."""

import asyncio
import secrets
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from libs.lifecycle import Unstartable
from libs.storage import StoreAway
from libs.storage.firestore.settings import Limits, Place
from services.presence import firestore
from services.presence.lastseen import LastSeen
from services.presence.sqlite import open_last_seen
from tests.support.firestore import Emulator, Line, cuttable


class Record(Protocol):
    """One record, empty at first."""

    def open(self, patience_s: float = 10.0) -> AbstractAsyncContextManager[LastSeen]:
        """The record, as another copy of presence would open it."""
        ...

    def away(self) -> AbstractContextManager[None]:
        """While inside, whoever writes finds the record away."""
        ...


@dataclass(frozen=True)
class SqliteRecord:
    """A file that does not exist yet, in a folder that does not either."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "new" / "presence.db"

    def open(self, patience_s: float = 10.0) -> AbstractAsyncContextManager[LastSeen]:
        return open_last_seen(self.path, patience_s=patience_s)

    @contextmanager
    def away(self) -> Iterator[None]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as db:
            db.execute("BEGIN EXCLUSIVE")
            yield


@dataclass(frozen=True)
class FirestoreRecord:
    """A project of its own on the emulator, over a line that can be cut."""

    project_id: str
    line: Line

    def open(self, patience_s: float = 10.0) -> AbstractAsyncContextManager[LastSeen]:
        limits = Limits(patience_s=max(patience_s, 3.0), grace_s=max(patience_s, 3.0), writes_per_s=0)
        return firestore.open_last_seen(Place(self.project_id, emulator=self.line.address), limits)

    @contextmanager
    def away(self) -> Iterator[None]:
        self.line.cut()
        yield
        self.line.mend()


@pytest.fixture(params=["sqlite", "firestore"])
def record(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Record]:
    """An empty record of each implementation in turn."""
    if request.param == "sqlite":
        yield SqliteRecord(tmp_path)
        return
    emulator: Emulator = request.getfixturevalue("firestore_emulator")
    with cuttable(emulator.address) as line:
        yield FirestoreRecord(f"demo-{secrets.token_hex(6)}", line)


@pytest.fixture
async def store(record: Record) -> AsyncIterator[LastSeen]:
    """One opening of the record."""
    async with record.open() as opened:
        yield opened


async def test_what_was_saved_is_there_after_a_restart(record: Record) -> None:
    """Only of those who were seen; whatever letters their ids have."""
    async with record.open() as store:
        await store.save({"rama": 1000, "లక్ష్మి": 2000})
    async with record.open() as store:
        assert await store.seen(["rama", "లక్ష్మి", "nobody", "o'hara"]) == {"rama": 1000, "లక్ష్మి": 2000}


async def test_a_time_never_goes_back(store: LastSeen) -> None:
    """A late or repeated save changes nothing."""
    for at_ms in (2000, 1000, 2000, 3000):
        await store.save({"rama": at_ms, f"other{at_ms}": 1})
    assert await store.seen(["rama"]) == {"rama": 3000}


async def test_nothing_is_saved_and_asked_for_free(store: LastSeen) -> None:
    """An empty batch is no mistake."""
    await store.save({})
    assert await store.seen([]) == {}


async def test_ten_thousand_are_saved_and_found_at_once(store: LastSeen) -> None:
    """A gateway that dies takes that many with it."""
    seen = {f"user{number}": number + 1 for number in range(10_000)}
    await store.save(seen)
    assert await store.seen(seen) == seen


async def test_two_copies_share_one_record(record: Record) -> None:
    """At once, and with the same people."""
    async with record.open() as one, record.open() as other:
        await asyncio.gather(*(each.save({"rama": at_ms}) for at_ms in range(1, 21) for each in (one, other)))
        assert await one.seen(["rama"]) == await other.seen(["rama"]) == {"rama": 20}


async def test_a_record_that_is_away_says_so_and_comes_back(record: Record) -> None:
    """Nothing of what could not be saved is half there."""
    async with record.open(patience_s=0.1) as store:
        await store.save({"rama": 1})
        with record.away(), pytest.raises(StoreAway):
            await store.save({"rama": 2, "sita": 2})
        assert await store.seen(["rama", "sita"]) == {"rama": 1}
        await store.save({"rama": 2})


async def test_a_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    """By name, and with what to do."""
    path = tmp_path / "presence.db"
    path.write_bytes(b"no database, but long enough to be looked at" * 100)
    with pytest.raises(Unstartable, match="name another file"):
        async with open_last_seen(path):
            pass
