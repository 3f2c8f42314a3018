"""When people were last seen, in an SQLite file of its own: several copies of presence may share it."""

import sqlite3
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from libs.storage.sqlite import Lane, Schema, json_of, open_lane, transaction, write_rows

_SCHEMA: Final = Schema((("CREATE TABLE last_seen (user_id TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) WITHOUT ROWID",),))
_SEEN: Final = """
    SELECT json_array(user_id, at_ms) AS shape FROM last_seen WHERE user_id IN (SELECT value FROM json_each(?))
"""
_SAVE: Final = """
    INSERT INTO last_seen VALUES {}
    ON CONFLICT DO UPDATE SET at_ms = excluded.at_ms WHERE excluded.at_ms > at_ms
"""
_rows: Final = msgspec.json.Decoder(list[tuple[str, int]])


class SqliteLastSeen:
    """`lastseen.LastSeen` on one file."""

    def __init__(self, writer: Lane, reader: Lane) -> None:
        self._writer = writer
        self._reader = reader

    async def seen(self, users: Collection[str]) -> dict[str, int]:
        return dict(_rows.decode(await self._reader.read(_SEEN, json_of(list(users)))))

    async def save(self, seen: Mapping[str, int]) -> None:
        await self._writer.run(lambda db: _save(db, seen))


@asynccontextmanager
async def open_last_seen(path: Path, *, patience_s: float = 2.0) -> AsyncIterator[SqliteLastSeen]:
    """The record in the file at `path`; see `open_lane` for what it raises."""
    async with open_lane(path, _SCHEMA, patience_s) as writer, open_lane(path, _SCHEMA, patience_s) as reader:
        yield SqliteLastSeen(writer, reader)


def _save(db: sqlite3.Connection, seen: Mapping[str, int]) -> None:
    with transaction(db):
        write_rows(db, _SAVE, list(seen.items()))
