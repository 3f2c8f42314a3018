"""Messages and receipts in SQLite."""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import msgspec

from libs.storage.sqlite import Lane, json_of, read, transaction, write_rows
from libs.wire import names
from libs.wire.frames import DuePosition
from services.router.sqlite import broadcasts
from services.router.sqlite.words import index
from services.router.store import End, Message, Owed, Receipt, ReceiptRow, Saved, position_of

_FIND: Final = "SELECT shape FROM shown WHERE key IN (SELECT value FROM json_each(?))"
_AT: Final = "SELECT shape FROM shown WHERE conversation_id = ? AND seq IN (SELECT value FROM json_each(?))"
_BEFORE: Final = """
    SELECT shape FROM shown WHERE conversation_id = ? AND seq > ? AND seq < ? AND server_time_ms < ?
    ORDER BY seq DESC LIMIT ?
"""
_AFTER: Final = _BEFORE.replace("DESC", "ASC")
_ENDS: Final = """
    SELECT json_array(asked.value, json_array(coalesce(log.seq, 0), coalesce(log.server_time_ms, 0))) AS shape
    FROM json_each(?) AS asked LEFT JOIN messages AS log ON log.conversation_id = asked.value
        AND log.seq = (SELECT max(seq) FROM messages WHERE conversation_id = asked.value)
"""
_RECEIPTS: Final = """
    SELECT json_array(conversation_id, user_id, json(receipt)) AS shape FROM marks WHERE conversation_id = ?
"""
RECEIPTS_OF: Final = """
    SELECT json_array(conversation_id, user_id, json(receipt)) AS shape FROM json_each(?) AS asked
    CROSS JOIN marks ON conversation_id = asked.value ->> 0 AND user_id = asked.value ->> 1
"""
# The order of the joins is the plan (CROSS keeps it): few memberships, then each one's log past its mark.
# What is owed is ranked without its content, which is fetched for the page alone.
_DUE: Final = """
    WITH cursors (conversation_id, seq) AS MATERIALIZED (
        SELECT key, max(value, coalesce((SELECT retired_up_to FROM retention WHERE conversation_id = key), 0))
        FROM json_each(:cursors)
    ),
    owed AS (
        SELECT log.conversation_id, log.seq, log.rank, log.server_time_ms, mine.receipt
        FROM marks AS mine
        LEFT JOIN cursors ON cursors.conversation_id = mine.conversation_id
        CROSS JOIN shown AS log ON log.conversation_id = mine.conversation_id
        WHERE mine.user_id = :user_id
            AND log.seq > coalesce(cursors.seq, mine.delivered)
            AND log.sender_id <> :user_id
            AND log.number <= :as_of
            AND (log.rank, log.server_time_ms, log.conversation_id, log.seq)
                > (:rank, :server_time_ms, :conversation_id, :seq)
        ORDER BY log.rank, log.server_time_ms, log.conversation_id, log.seq LIMIT :limit
    )
    SELECT '[' || shown.shape || ',' || owed.receipt || ']' AS shape
    FROM owed CROSS JOIN shown USING (conversation_id, seq)
"""
# As above, of many: whether there is anything at all.
_DUE_TO: Final = """
    SELECT json_quote(asked.value) AS shape FROM json_each(?) AS asked
    WHERE EXISTS (
        SELECT 1 FROM members AS mine
        CROSS JOIN messages AS log ON log.conversation_id = mine.conversation_id AND log.seq > mine.delivered
        WHERE mine.user_id = asked.value AND log.sender_id <> asked.value AND NOT log.is_void
    ) OR EXISTS (
        SELECT 1 FROM residences AS home
        CROSS JOIN broadcasts_in_place AS there ON there.level = home.level AND there.place_id = home.place_id
        WHERE home.user_id = asked.value AND there.at_ms >= home.since_ms AND there.at_ms < home.until_ms
            AND NOT EXISTS (
                SELECT 1 FROM broadcast_receipts AS mine
                WHERE mine.broadcast_id = there.broadcast_id AND mine.user_id = asked.value
            )
    )
"""
_NEWEST: Final = "SELECT coalesce(max(rowid), 0) FROM messages"
_BEFORE_ALL: Final = DuePosition(-1, 0, "", 0)
_BEYOND_ALL: Final = (1 << 63) - 1

_INSERT_MESSAGES: Final = """
    INSERT INTO messages (
        id, key, conversation_id, seq, sender_id, sender_name, sender_role, type, content, client_id,
        client_message_id, timestamp_ms, server_time_ms, media_url, media_metadata, encryption_level,
        is_anonymous, sealed, is_void
    ) VALUES {} ON CONFLICT DO NOTHING
"""
_INSERT_MEMBERS: Final = "INSERT INTO members (conversation_id, user_id) VALUES {} ON CONFLICT DO NOTHING"
_WRITE_RECEIPTS: Final = """
    INSERT INTO members (conversation_id, user_id, delivered, read, ahead) VALUES {}
    ON CONFLICT DO UPDATE SET delivered = excluded.delivered, read = excluded.read, ahead = excluded.ahead
"""
_PLACES: Final = """
    SELECT json_array(key, conversation_id, seq) AS shape
    FROM messages WHERE key IN (SELECT value FROM json_each(?)) AND NOT is_void
"""
_VOIDS: Final = """
    SELECT json_array(conversation_id, seq) AS shape FROM json_each(?) AS asked
    CROSS JOIN messages ON conversation_id = asked.value ->> 0 AND seq = asked.value ->> 1 WHERE is_void
"""

_METADATA: Final = Message.__struct_fields__.index("media_metadata")
_shapes: Final = msgspec.json.Decoder(list[list[Any]])
_owed: Final = msgspec.json.Decoder(list[tuple[list[Any], Receipt]])
_seqs: Final = msgspec.json.Decoder(list[tuple[str, int]])
_ends: Final = msgspec.json.Decoder(list[tuple[str, tuple[int, int]]])
_places: Final = msgspec.json.Decoder(list[tuple[str, str, int]])
_users: Final = msgspec.json.Decoder(frozenset[str])
_receipts: Final = msgspec.json.Decoder(list[tuple[str, str, Receipt]])


class Messages:
    """`store.Messages`."""

    _writer: Lane
    _reader: Lane

    async def find(self, keys: Collection[str]) -> dict[str, Message]:
        found = _shapes.decode(await self._reader.read(_FIND, json_of(keys)))
        return {message.key: message for message in map(_message, found)}

    async def ends(self, conversation_ids: Collection[str]) -> dict[str, End]:
        found = _ends.decode(await self._reader.read(_ENDS, json_of(conversation_ids)))
        return {conversation_id: End(*end) for conversation_id, end in found}

    async def save(self, messages: Sequence[Message]) -> list[Saved]:
        return await self._writer.run(lambda db: _save(db, messages)) if messages else []

    async def history(
        self,
        conversation_id: str,
        limit: int,
        *,
        before_seq: int | None = None,
        before_ms: int | None = None,
        after_seq: int | None = None,
    ) -> list[Message]:
        bounds = (
            0 if after_seq is None else after_seq,
            _BEYOND_ALL if before_seq is None else before_seq,
            _BEYOND_ALL if before_ms is None else before_ms,
        )
        query = _BEFORE if after_seq is None else _AFTER
        return _in_order(await self._reader.read(query, conversation_id, *bounds, limit))

    async def at(self, conversation_id: str, seqs: Collection[int]) -> list[Message]:
        return _in_order(await self._reader.read(_AT, conversation_id, json_of(seqs)))

    async def receipts(self, conversation_id: str, user_ids: Collection[str] | None = None) -> dict[str, Receipt]:
        if user_ids is not None:
            found = await self.receipts_of([(conversation_id, user_id) for user_id in user_ids])
            return {user_id: receipt for (_, user_id), receipt in found.items()}
        text = await self._reader.read(_RECEIPTS, conversation_id)
        return {user_id: receipt for _, user_id, receipt in _receipts.decode(text) if receipt != Receipt()}

    async def receipts_of(self, members: Collection[tuple[str, str]]) -> dict[tuple[str, str], Receipt]:
        text = await self._reader.read(RECEIPTS_OF, json_of(members))
        return {whose: receipt for whose, receipt in receipts_in(text).items() if receipt != Receipt()}

    async def save_receipts(self, rows: Sequence[ReceiptRow]) -> None:
        if rows:
            await self._writer.run(lambda db: _save_receipts(db, rows))

    async def due(
        self,
        user_id: str,
        limit: int,
        *,
        after: DuePosition | None = None,
        cursors: Mapping[str, int] | None = None,
    ) -> Owed:
        asked = {
            "user_id": user_id,
            "limit": limit,
            "cursors": json_of(cursors or {}),
            **msgspec.structs.asdict(after or _BEFORE_ALL),
        }
        text, as_of = await self._reader.run(lambda db: _due(db, asked))
        found = [(_message(shape), receipt) for shape, receipt in _owed.decode(text)]
        return Owed(sorted(found, key=lambda one: msgspec.structs.astuple(position_of(one[0]))), as_of)

    async def due_to(self, user_ids: Collection[str]) -> frozenset[str]:
        return _users.decode(await self._reader.read(_DUE_TO, json_of(list(user_ids))))


def _due(db: sqlite3.Connection, asked: dict[str, Any]) -> tuple[str, int]:
    as_of: int = asked["as_of"] or db.execute(_NEWEST).fetchone()[0]
    return read(db, _DUE, asked | {"as_of": as_of}), as_of


def _save(db: sqlite3.Connection, messages: Sequence[Message]) -> list[Saved]:
    with transaction(db):
        written = write_rows(db, _INSERT_MESSAGES, [msgspec.structs.astuple(message) for message in messages])
        index(db, messages, written)
        outcomes = [Saved.SAVED] * len(messages) if written == len(messages) else _outcomes(db, messages)
        saved = {m.conversation_id for m, outcome in zip(messages, outcomes, strict=True) if outcome is Saved.SAVED}
        pairs = [(id_, user_id) for id_ in saved for user_id in names.direct_pair(id_) or ()]
        if pairs:
            write_rows(db, _INSERT_MEMBERS, pairs)
    return outcomes


def _outcomes(db: sqlite3.Connection, messages: Sequence[Message]) -> list[Saved]:
    """What became of messages of which some were not written: told by who stands where afterwards."""
    found = _places.decode(read(db, _PLACES, (json_of([m.key for m in messages if not m.is_void]),)))
    place_of = {key: (conversation_id, seq) for key, conversation_id, seq in found}
    asked = json_of([(m.conversation_id, m.seq) for m in messages if m.is_void])
    voids = set(_seqs.decode(read(db, _VOIDS, (asked,))))
    return [_outcome(message, place_of, voids) for message in messages]


def _outcome(message: Message, place_of: Mapping[str, tuple[str, int]], voids: Collection[tuple[str, int]]) -> Saved:
    place = (message.conversation_id, message.seq)
    if message.is_void:
        return Saved.SAVED if place in voids else Saved.TAKEN
    if message.key not in place_of:
        return Saved.TAKEN
    return Saved.SAVED if place_of[message.key] == place else Saved.REPEAT


def _save_receipts(db: sqlite3.Connection, rows: Sequence[ReceiptRow]) -> None:
    with transaction(db):
        rows = broadcasts.save_receipts(db, rows)
        asked = json_of([(row.conversation_id, row.user_id) for row in rows])
        there = {(id_, user): receipt for id_, user, receipt in _receipts.decode(read(db, RECEIPTS_OF, (asked,)))}
        merged: dict[tuple[str, str], Receipt] = {}
        for row in rows:
            whose = (row.conversation_id, row.user_id)
            # A direct conversation's receipt can come before its first message is saved. In a group a
            # missing row is someone who was removed: writing it would make them a member again.
            if whose in there or row.user_id in (names.direct_pair(row.conversation_id) or ()):
                merged[whose] = merged.get(whose, there.get(whose, Receipt())).merge(row.receipt)
        changed = [
            (*whose, r.delivered, r.read, json_of(r.ahead)) for whose, r in merged.items() if there.get(whose) != r
        ]
        if changed:
            write_rows(db, _WRITE_RECEIPTS, changed)


def receipts_in(text: str) -> dict[tuple[str, str], Receipt]:
    """What `RECEIPTS_OF` gathered: those of every member asked about, also where they have nothing."""
    return {(conversation_id, user_id): receipt for conversation_id, user_id, receipt in _receipts.decode(text)}


def _in_order(text: str) -> list[Message]:
    return sorted(messages_of(text), key=lambda message: message.seq)


def messages_of(text: str) -> list[Message]:
    """The messages whose shapes a query gathered."""
    return list(map(_message, _shapes.decode(text)))


def _message(shape: list[Any]) -> Message:
    metadata = shape[_METADATA]
    if metadata is not None:
        shape[_METADATA] = metadata.encode()
    return Message(*shape)
