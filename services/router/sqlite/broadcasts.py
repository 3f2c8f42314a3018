"""Broadcasts in SQLite, and the residences that say whom they are for."""

import sqlite3
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from libs.storage.sqlite import Lane, json_of, read, transaction, write_rows
from libs.wire import names
from libs.wire.events import LEVELS
from libs.wire.frames import DuePosition
from services.router.store import Broadcast, DueBroadcast, Moves, Reached, ReceiptRow, Tally

# Until when someone lives where they live now.
_FOR_NOW: Final = 1 << 62
# Without a cursor, moves are looked for among so many of the newest residences.
_LATEST: Final = 1000

# A residence is an interval, [since, until): at every time a user has one place, or none, of each level. Rows are
# only added and ended, so that a rowid tells who moved after whom; one without a place ends the one before.
TABLES: Final = (
    """
    CREATE TABLE residences (
        user_id TEXT NOT NULL, level TEXT NOT NULL, place_id TEXT NOT NULL,
        since_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL
    )
    """,
    *(
        f"""
        INSERT INTO residences
        SELECT id, '{level}', {level}_id, 0, {_FOR_NOW} FROM users WHERE coalesce({level}_id, '') <> ''
        """  # noqa: S608 - only constants
        for level in LEVELS
    ),
    "CREATE INDEX residences_of_user ON residences (user_id, level, until_ms)",
    "CREATE INDEX residences_in_place ON residences (level, place_id, until_ms, since_ms, user_id)",
    """
    CREATE TABLE broadcasts (
        id TEXT PRIMARY KEY, sender_id TEXT NOT NULL, level TEXT NOT NULL, place_ids TEXT NOT NULL,
        priority TEXT NOT NULL, at_ms INTEGER NOT NULL, body TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE broadcasts_in_place (
        level TEXT NOT NULL, place_id TEXT NOT NULL, at_ms INTEGER NOT NULL, broadcast_id TEXT NOT NULL,
        PRIMARY KEY (level, place_id, at_ms, broadcast_id)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE broadcast_receipts (
        broadcast_id TEXT NOT NULL, user_id TEXT NOT NULL, PRIMARY KEY (broadcast_id, user_id)
    ) WITHOUT ROWID
    """,
)

_END_RESIDENCES: Final = tuple(
    f"""
    UPDATE residences SET until_ms = :now_ms
    WHERE user_id IN (SELECT value FROM json_each(:user_ids)) AND level = '{level}' AND until_ms = {_FOR_NOW}
        AND place_id <> (SELECT coalesce({level}_id, '') FROM users WHERE id = user_id)
    """  # noqa: S608 - only constants
    for level in LEVELS
)
_BEGIN_RESIDENCES: Final = tuple(
    f"""
    INSERT INTO residences
    SELECT users.id, '{level}', coalesce({level}_id, ''), :now_ms, {_FOR_NOW}
    FROM json_each(:user_ids) AS asked CROSS JOIN users ON users.id = asked.value
    WHERE NOT EXISTS (
        SELECT 1 FROM residences WHERE user_id = users.id AND level = '{level}' AND until_ms = {_FOR_NOW}
    ) AND (coalesce({level}_id, '') <> '' OR EXISTS (
        SELECT 1 FROM residences WHERE user_id = users.id AND level = '{level}'
    ))
    """  # noqa: S608 - only constants
    for level in LEVELS
)
_INSERT: Final = "INSERT INTO broadcasts VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_STANDS: Final = "SELECT 1 FROM broadcasts WHERE id = ? AND at_ms = ?"
_INSERT_PLACES: Final = """
    INSERT INTO broadcasts_in_place SELECT ?, value, ?, ? FROM json_each(?) WHERE true ON CONFLICT DO NOTHING
"""
_INSERT_RECEIPTS: Final = "INSERT INTO broadcast_receipts VALUES {} ON CONFLICT DO NOTHING"
_DUE: Final = """
    SELECT json_array(id, broadcasts.at_ms, body) AS shape FROM (
        SELECT there.broadcast_id, there.at_ms
        FROM residences AS home
        CROSS JOIN broadcasts_in_place AS there ON there.level = home.level AND there.place_id = home.place_id
        WHERE home.user_id = :user_id
            AND there.at_ms >= home.since_ms AND there.at_ms < home.until_ms
            AND (there.at_ms, there.broadcast_id) > (:at_ms, :id)
            AND NOT EXISTS (
                SELECT 1 FROM broadcast_receipts AS mine
                WHERE mine.broadcast_id = there.broadcast_id AND mine.user_id = :user_id
            )
        ORDER BY there.at_ms, there.broadcast_id LIMIT :limit
    ) AS due CROSS JOIN broadcasts ON id = due.broadcast_id
"""
_AUDIENCE: Final = f"""
    SELECT count(*) AS shape FROM json_each(?) AS asked
    CROSS JOIN residences ON level = ? AND place_id = asked.value AND until_ms = {_FOR_NOW}
"""  # noqa: S608 - only constants
_TALLY: Final = """
    SELECT json_array(asked.key, asked.value, (
        SELECT count(*) FROM residences WHERE level = :level AND place_id = asked.value
            AND since_ms <= :at_ms AND until_ms > :at_ms
    ), (
        SELECT count(*) FROM residences AS home
        CROSS JOIN broadcast_receipts AS mine ON mine.broadcast_id = :id AND mine.user_id = home.user_id
        WHERE home.level = :level AND home.place_id = asked.value AND home.since_ms <= :at_ms AND home.until_ms > :at_ms
    )) AS shape FROM json_each(:place_ids) AS asked
"""
_MOVES: Final = """
    SELECT json_array(rowid, user_id) AS shape FROM (
        SELECT rowid, user_id FROM residences WHERE rowid > ? ORDER BY rowid LIMIT ?
    )
"""
_NEWEST: Final = "SELECT coalesce(max(rowid), 0) AS shape FROM residences"

_owed: Final = msgspec.json.Decoder(list[tuple[str, int, str]])
_number: Final = msgspec.json.Decoder(tuple[int])
_reached: Final = msgspec.json.Decoder(list[tuple[int, str, int, int]])
_moved: Final = msgspec.json.Decoder(list[tuple[int, str]])


class Broadcasts:
    """`store.Broadcasts`."""

    _writer: Lane
    _reader: Lane
    _patient: Lane

    async def save_broadcasts(self, broadcasts: Sequence[Broadcast]) -> frozenset[str]:
        return await self._writer.run(lambda db: _save(db, broadcasts)) if broadcasts else frozenset()

    async def due_broadcasts(self, user_id: str, limit: int, *, after: DuePosition | None = None) -> list[DueBroadcast]:
        asked = {
            "user_id": user_id,
            "limit": limit,
            "at_ms": -1 if after is None else after.server_time_ms,
            "id": "" if after is None else after.conversation_id,
        }
        rows = _owed.decode(await self._reader.run(lambda db: read(db, _DUE, asked)))
        return [
            DueBroadcast(id_, at_ms, body.encode()) for id_, at_ms, body in sorted(rows, key=lambda row: row[1::-1])
        ]

    async def audience(self, level: str, place_ids: Collection[str]) -> int:
        text = await self._reader.read(_AUDIENCE, json_of(set(place_ids)), level)
        return _number.decode(text)[0]

    async def tally(self, broadcast_id: str) -> Tally | None:
        return await self._patient.run(lambda db: _tally(db, broadcast_id))

    async def moves(self, after: int | None, limit: int) -> Moves:
        (newest,) = _number.decode(await self._reader.read(_NEWEST))
        # A cursor beyond the newest is of another file.
        after = max(0, newest - _LATEST) if after is None or after > newest else after
        rows = sorted(_moved.decode(await self._reader.read(_MOVES, after, limit)))
        return Moves(rows[-1][0] if rows else after, tuple(dict.fromkeys(user_id for _, user_id in rows)))


def note_residences(db: sqlite3.Connection, user_ids: Collection[str], now_ms: int) -> None:
    """Where these users live from now on, as their rows say. Inside the transaction that wrote those."""
    asked = {"user_ids": json_of(list(user_ids)), "now_ms": now_ms}
    for statement in (*_END_RESIDENCES, *_BEGIN_RESIDENCES):
        db.execute(statement, asked)


def save_receipts(db: sqlite3.Connection, rows: Sequence[ReceiptRow]) -> list[ReceiptRow]:
    """Write those of `rows` that are of broadcasts; the rest is given back."""
    reached = [(id_, row.user_id) for row in rows if (id_ := names.broadcast_of(row.conversation_id)) is not None]
    if reached:
        write_rows(db, _INSERT_RECEIPTS, reached)
    return [row for row in rows if names.broadcast_of(row.conversation_id) is None]


def _save(db: sqlite3.Connection, broadcasts: Sequence[Broadcast]) -> frozenset[str]:
    stand: set[str] = set()
    with transaction(db):
        for one in broadcasts:
            row = (one.id, one.sender_id, one.level, json_of(one.place_ids), one.priority, one.at_ms, one.body.decode())
            if db.execute(_INSERT, row).rowcount:
                db.execute(_INSERT_PLACES, (one.level, one.at_ms, one.id, json_of(one.place_ids)))
            if db.execute(_STANDS, (one.id, one.at_ms)).fetchone():
                stand.add(one.id)
    return frozenset(stand)


def _tally(db: sqlite3.Connection, broadcast_id: str) -> Tally | None:
    row = db.execute(
        "SELECT level, priority, at_ms, place_ids FROM broadcasts WHERE id = ?", (broadcast_id,)
    ).fetchone()
    if row is None:
        return None
    level, priority, at_ms, place_ids = row
    asked = {"id": broadcast_id, "level": level, "at_ms": at_ms, "place_ids": place_ids}
    counted = sorted(_reached.decode(read(db, _TALLY, asked)))
    return Tally(
        level, priority, at_ms, tuple(Reached(place, people, reached) for _, place, people, reached in counted)
    )
