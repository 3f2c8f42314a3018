"""Search in SQLite, by the index of words."""

import sqlite3
from collections.abc import Collection
from typing import Final

import msgspec

from libs.storage.sqlite import Lane, json_of, read
from services.router.sqlite.messages import messages_of
from services.router.sqlite.words import expression
from services.router.store import Message
from services.router.words import words

_MINE: Final = """
    SELECT json_quote(conversation_id) AS shape
    FROM members WHERE user_id = ?1 AND conversation_id = coalesce(?2, conversation_id)
"""
_FOUND: Final = """
    SELECT shown.shape
    FROM words CROSS JOIN searchable ON searchable.number = words.rowid CROSS JOIN shown USING (conversation_id, seq)
    WHERE words MATCH ?1 AND conversation_id IN (SELECT value FROM json_each(?2))
    ORDER BY words.rowid DESC LIMIT ?3
"""


_mine: Final = msgspec.json.Decoder(list[str])


class Search:
    """`store.Search`, in a lane of its own: a long search holds up no other read."""

    _patient: Lane

    async def search(
        self, user_id: str, query: str, limit: int, *, conversation_id: str | None = None
    ) -> list[Message]:
        found = await self._patient.run(lambda db: _search(db, user_id, words(query), limit, conversation_id))
        return sorted(found, key=lambda one: (one.server_time_ms, one.conversation_id, one.seq), reverse=True)


def _search(
    db: sqlite3.Connection, user_id: str, asked: Collection[str], limit: int, conversation_id: str | None
) -> list[Message]:
    mine = _mine.decode(read(db, _MINE, (user_id, conversation_id)))
    if not asked or not mine:
        return []
    text = read(db, _FOUND, (expression(asked, mine), json_of(mine), limit))
    return messages_of(text)
