"""The record in one SQLite file: the embedded default, for one machine.

Owns the file, its tables and its threads (`libs.storage.sqlite`). Each module is one part of the contract
(`services.router.store`), its SQL beside its only callers.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from libs.storage.sqlite import Lane, open_lane
from services.router.sqlite.broadcasts import Broadcasts
from services.router.sqlite.keys import Keys
from services.router.sqlite.ledger import Ledger
from services.router.sqlite.messages import Messages
from services.router.sqlite.people import People
from services.router.sqlite.retention import Retention
from services.router.sqlite.schema import SCHEMA
from services.router.sqlite.search import Search
from services.router.sqlite.words import check
from services.router.store import GroupRow, UserRow

__all__ = ["GroupRow", "SqliteStore", "UserRow", "open_store"]


class SqliteStore(Messages, Broadcasts, People, Keys, Search, Retention, Ledger):
    """`store.Store` on one SQLite file, and the writes of operators. `patient` is for what takes its time."""

    def __init__(self, writer: Lane, reader: Lane, patient: Lane) -> None:
        self._writer = writer
        self._reader = reader
        self._patient = patient

    @property
    def busy_s(self) -> float:
        """Searches take their time, and no batch waits for them."""
        return max(self._writer.busy_s, self._reader.busy_s)


@asynccontextmanager
async def open_store(path: Path, *, patience_s: float = 2.0) -> AsyncIterator[SqliteStore]:
    """The store in the file at `path`; see `open_lane` for what it raises."""
    check()
    async with (
        open_lane(path, SCHEMA, patience_s) as writer,
        open_lane(path, SCHEMA, patience_s) as reader,
        open_lane(path, SCHEMA, patience_s) as patient,
    ):
        yield SqliteStore(writer, reader, patient)
