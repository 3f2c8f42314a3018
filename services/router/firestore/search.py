"""Search in Firestore: by the beginning of one word of what is asked; the rest is compared here.

A message's `words` are the first letters of each of its words, so that its index stays small. Of the words asked
for, the longest is looked up, in thirty conversations at a time, newest first; what it brings is read and compared
with all of them. It costs a read for each message that begins with the same letters.
"""

import asyncio
from collections.abc import Collection, Sequence
from typing import Final

from libs.storage.firestore.client import Client
from libs.storage.firestore.query import Query
from services.router.firestore import documents
from services.router.firestore.documents import MESSAGES
from services.router.firestore.due import Standing
from services.router.store import Message
from services.router.words import words

# Conversations that one query may name.
_NAMED: Final = 30
_PAGE: Final = 50
# A query for a letter could read through years of talk: beyond so many messages read, what was found is all.
_READ_MAX: Final = 2000


class Search:
    """`store.Search`."""

    _client: Client

    async def conversations_of(self, user_id: str) -> list[Standing]:
        """The conversations that a user is noted as a member of."""
        raise NotImplementedError

    async def still_in(self, user_id: str, conversation_ids: Collection[str]) -> set[str]:
        """Those that the user is in by the app's own documents."""
        raise NotImplementedError

    async def search(
        self, user_id: str, query: str, limit: int, *, conversation_id: str | None = None
    ) -> list[Message]:
        asked = list(dict.fromkeys(words(query)))
        mine = [one.id for one in await self.conversations_of(user_id) if conversation_id in (None, one.id)]
        if not asked or not mine:
            return []
        parts = [mine[start : start + _NAMED] for start in range(0, len(mine), _NAMED)]
        found = [one for part in await asyncio.gather(*(self._in(p, asked, limit) for p in parts)) for one in part]
        found.sort(key=lambda one: (one.server_time_ms, one.conversation_id, one.seq), reverse=True)
        still = await self.still_in(user_id, {one.conversation_id for one in found[: limit * 2]})
        return [one for one in found if one.conversation_id in still][:limit]

    async def _in(self, conversation_ids: Sequence[str], asked: Sequence[str], limit: int) -> list[Message]:
        """The newest in these conversations that have all of the words."""
        query = Query(
            collection=MESSAGES,
            where=(
                ("conversationId", "in", conversation_ids),
                ("words", "contains", documents.token(max(asked, key=len))),
            ),
            order=("-serverTimeMs", "-seq"),
            limit=_PAGE,
        )
        found: list[Message] = []
        read = 0
        while True:
            page = [documents.message(document) for document in await self._client.query(query)]
            read += len(page)
            found += [one for one in page if _has(one.content, asked)]
            if len(page) < _PAGE or len(found) >= limit or read >= _READ_MAX:
                return found
            last = page[-1]
            query = query.from_((last.server_time_ms, last.seq))


def _has(content: str, asked: Sequence[str]) -> bool:
    there = words(content)
    return all(any(word.startswith(each) for word in there) for each in asked)
