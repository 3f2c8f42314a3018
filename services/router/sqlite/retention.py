"""How far each conversation was retired, in SQLite: a mark, beyond which its log is hot.

What all confirmed is the beginning of a log, so a mark says it; `due` begins to walk beyond it. A column and an
index of what is hot would have every save write half as many pages more (docs/adr/0014).
"""

import sqlite3
from typing import Final

import msgspec

from libs.storage.sqlite import Lane, json_of, read, transaction, write_rows

# A few looks at the index for each conversation, and one for each of its members.
_CONFIRMED: Final = """
    WITH RECURSIVE some (conversation_id) AS (
        SELECT min(conversation_id) FROM messages WHERE conversation_id > :after
        UNION ALL
        SELECT (SELECT min(conversation_id) FROM messages WHERE conversation_id > some.conversation_id)
        FROM some WHERE conversation_id IS NOT NULL LIMIT :limit
    ), logs AS MATERIALIZED (
        SELECT conversation_id, coalesce(retired_up_to, 0) AS retired,
            (SELECT max(seq) FROM messages WHERE conversation_id = some.conversation_id) AS last,
            noticed_at_ms IS NOT NULL AS is_noted
        FROM some LEFT JOIN retention USING (conversation_id) WHERE conversation_id IS NOT NULL
    )
    SELECT json_array(conversation_id, iif(is_noted OR last <= retired, 0, coalesce((
        SELECT min(coalesce((
            SELECT seq FROM messages AS log
            WHERE log.conversation_id = member.conversation_id AND log.seq > max(member.delivered, logs.retired)
                AND log.sender_id <> member.user_id AND NOT log.is_void
            ORDER BY seq LIMIT 1
        ) - 1, logs.last)) FROM members AS member WHERE member.conversation_id = logs.conversation_id
    ), 0))) AS shape FROM logs
"""
_NOTE: Final = """
    INSERT INTO retention (conversation_id, confirmed_up_to, noticed_at_ms) VALUES {}
    ON CONFLICT DO UPDATE SET confirmed_up_to = excluded.confirmed_up_to, noticed_at_ms = excluded.noticed_at_ms
    WHERE noticed_at_ms IS NULL AND excluded.confirmed_up_to > retired_up_to
"""
_OLD_NOTES: Final = """
    SELECT json_array(conversation_id, confirmed_up_to - retired_up_to) AS shape
    FROM (SELECT * FROM retention WHERE noticed_at_ms <= ? LIMIT ?)
"""
_RETIRE: Final = """
    UPDATE retention SET retired_up_to = confirmed_up_to, noticed_at_ms = NULL
    WHERE conversation_id IN (SELECT value FROM json_each(?))
"""

_marks: Final = msgspec.json.Decoder(list[tuple[str, int]])


class Retention:
    """`store.Retention`."""

    _writer: Lane
    _reader: Lane

    async def notice(self, now_ms: int, limit: int, *, after: str = "") -> str | None:
        asked = {"after": after, "limit": limit}
        marks = _marks.decode(await self._reader.run(lambda db: read(db, _CONFIRMED, asked)))
        rows = [(conversation_id, up_to, now_ms) for conversation_id, up_to in marks if up_to]
        if rows:
            await self._writer.run(lambda db: _note(db, rows))
        return max((conversation_id for conversation_id, _ in marks), default=None)

    async def retire(self, noticed_before_ms: int, limit: int) -> int | None:
        return await self._writer.run(lambda db: _retire(db, noticed_before_ms, limit))


def _note(db: sqlite3.Connection, rows: list[tuple[str, int, int]]) -> None:
    with transaction(db):
        write_rows(db, _NOTE, rows)


def _retire(db: sqlite3.Connection, noticed_before_ms: int, limit: int) -> int | None:
    with transaction(db):
        notes = _marks.decode(read(db, _OLD_NOTES, (noticed_before_ms, limit)))
        if not notes:
            return None
        db.execute(_RETIRE, (json_of([conversation_id for conversation_id, _ in notes]),))
        return sum(messages for _, messages in notes)
