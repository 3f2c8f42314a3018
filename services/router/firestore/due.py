"""What is owed, in Firestore: the user's conversations, their receipts, and a look into the logs that have news.

Nothing is copied for a recipient. A conversation whose document is closed at a seq that the user has is not looked
into; all others are (see `marks`). Their logs are read side by side, a few messages at a time and in order, as far
as the page goes.

As of when it was read what changed, by Firestore's clock, a walk goes: a document that was created later is left out.

A user is asked about by one router mostly, which remembers when it looked last and what had news then. The next look is
at those, and at what changed since: a document tells of a message within `BELIEF_S`, so a minute more is ample.
"""

import asyncio
import heapq
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from libs.storage.firestore.client import Client
from libs.storage.firestore.ids import readable
from libs.storage.firestore.query import Query
from libs.storage.firestore.values import Found, Stamp
from libs.wire import names
from libs.wire.frames import DuePosition
from services.router.firestore import documents
from services.router.firestore.documents import CONVERSATIONS, GROUPS, MESSAGES, VOID
from services.router.store import Message, Owed, Receipt, position_of

_CONVERSATION_FIELDS: Final = ("conversationId", "lastSeq", "isOpen", "retiredUpTo")
# A log is read so many messages at a time, at least; small pieces of many logs make a page.
_PIECE: Final = 8
# Users about whom is asked at once.
_SIDE_BY_SIDE: Final = 16
# A document tells of a message a few seconds late at most, and its commit may take a few more.
_LATE_S: Final = 60
_REMEMBERED: Final = 50_000


class Standing(Struct, frozen=True):
    """A conversation as one of its members finds it."""

    id: str
    last_seq: int
    is_open: bool
    retired_up_to: int


class Look(Struct, frozen=True):
    """When it was looked what is due to a user, by Firestore's clock, and where there was something."""

    at: Stamp
    news: frozenset[str]


class Due:
    """What is due, of `store.Messages`."""

    _client: Client
    _looks: OrderedDict[str, Look]

    async def receipts_of(self, members: Collection[tuple[str, str]]) -> dict[tuple[str, str], Receipt]:
        """See `store.Messages`."""
        raise NotImplementedError

    async def due_broadcasts(self, user_id: str, limit: int) -> Sequence[object]:
        """See `store.Broadcasts`."""
        raise NotImplementedError

    async def due(
        self,
        user_id: str,
        limit: int,
        *,
        after: DuePosition | None = None,
        cursors: Mapping[str, int] | None = None,
    ) -> Owed:
        receipts, marks, at = await self._news(user_id, cursors or {})
        as_of = after.as_of if after is not None and after.as_of else at.us
        piece = max(_PIECE, -(-2 * limit // max(len(marks), 1)))
        logs = [self._log(user_id, where, mark, after, as_of, min(piece, limit + 1)) for where, mark in marks.items()]
        found: list[tuple[Message, Receipt]] = []
        async for message in _merged(logs):
            found.append((message, receipts.get(message.conversation_id, Receipt())))
            if len(found) == limit:
                break
        return Owed(found, as_of)

    async def due_to(self, user_ids: Collection[str]) -> frozenset[str]:
        asked = list(dict.fromkeys(user_ids))
        side_by_side = asyncio.Semaphore(_SIDE_BY_SIDE)

        async def is_owed(user_id: str) -> bool:
            async with side_by_side:
                return bool((await self.due(user_id, 1)).rows or await self.due_broadcasts(user_id, 1))

        owed = await asyncio.gather(*map(is_owed, asked))
        return frozenset(user_id for user_id, is_ in zip(asked, owed, strict=True) if is_)

    async def conversations_of(self, user_id: str) -> list[Standing]:
        """The conversations that a user is noted as a member of."""
        query = Query(
            collection=CONVERSATIONS,
            where=(("participantIds", "contains", user_id),),
            only=_CONVERSATION_FIELDS,
        )
        return [_standing(one) for one in await self._client.query(query)]

    async def _changed(self, user_id: str, look: Look | None) -> tuple[dict[str, Standing], Stamp]:
        """The user's conversations in which there may be something since a look, and as of when that is."""
        query = Query(
            collection=CONVERSATIONS, where=(("participantIds", "contains", user_id),), only=_CONVERSATION_FIELDS
        )
        if look is None:
            found, at = await self._client.query_at(query)
            return {one.id: one for one in map(_standing, found)}, at
        since = Stamp(look.at.seconds - _LATE_S, look.at.nanos)
        query = msgspec.structs.replace(query, where=(*query.where, ("lastAt", ">", since)), order=("lastAt",))
        named = [self._client.name(CONVERSATIONS, readable(where)) for where in look.news]
        (found, at), before = await asyncio.gather(
            self._client.query_at(query), self._client.get(named, _CONVERSATION_FIELDS)
        )
        return {one.id: one for one in map(_standing, [*before.values(), *found])}, at

    async def still_in(self, user_id: str, conversation_ids: Collection[str]) -> set[str]:
        """Those of these conversations that the user is in by the app's own documents."""
        groups = {id_: group_id for id_ in conversation_ids if (group_id := names.group_of(id_)) is not None}
        found = await self._client.get([self._client.name(GROUPS, id_) for id_ in groups.values()], ("members",))
        members = {one.id: documents.texts(one.fields, "members") for one in found.values()}
        return {
            id_ for id_ in conversation_ids if id_ not in groups or user_id in members.get(groups[id_], frozenset())
        }

    async def _news(self, user_id: str, cursors: Mapping[str, int]) -> tuple[dict[str, Receipt], dict[str, int], Stamp]:
        """The user's receipts, from where each conversation that may have something is to be read, and as of when."""
        # A device that says what it has may lack what others of the user's confirmed: all is looked at.
        look = self._looks.get(user_id) if not cursors else None
        mine, at = await self._changed(user_id, look)
        known = await self.receipts_of([(where, user_id) for where in mine])
        receipts = {where: receipt for (where, _), receipt in known.items()}
        marks: dict[str, int] = {}
        for one in mine.values():
            mark = max(cursors.get(one.id, receipts.get(one.id, Receipt()).delivered), one.retired_up_to)
            if one.is_open or one.last_seq > mark:
                marks[one.id] = mark
        if not cursors:
            self._looks[user_id] = Look(at, frozenset(marks))
            self._looks.move_to_end(user_id)
            if len(self._looks) > _REMEMBERED:
                self._looks.popitem(last=False)
        still = await self.still_in(user_id, marks)
        return receipts, {where: mark for where, mark in marks.items() if where in still}, at

    async def _log(
        self, user_id: str, where: str, mark: int, after: DuePosition | None, as_of: int, piece: int
    ) -> AsyncIterator[Message]:
        """What others wrote in one conversation past a mark, in the order in which it is due.

        Who writes to somebody silent has a mark far back: their own messages are not read, each time, to be left out.
        """
        query = Query(
            collection=MESSAGES,
            where=(("conversationId", "==", where), ("seq", ">", mark), ("senderId", "!=", user_id)),
            order=("rank", "serverTimeMs", "seq"),
            after=None if after is None else _from(after, where),
            limit=piece,
        )
        while True:
            page = await self._client.query(query)
            for document in page:
                message = documents.message(document)
                if message.is_void:
                    return
                if document.created.us <= as_of or not as_of:  # no time was told: better out of order than not at all
                    yield message
            if len(page) < piece:
                return
            last = documents.message(page[-1])
            query = query.from_((documents.rank(last), last.server_time_ms, last.seq))


def _from(after: DuePosition, where: str) -> tuple[int, int, int]:
    """Where a log goes on after a position that may be in another conversation."""
    if after.rank < 0:
        return -1, 0, 0
    if where.encode() < after.conversation_id.encode():
        return after.rank, after.server_time_ms, VOID << 60  # all of that moment came before
    if where == after.conversation_id:
        return after.rank, after.server_time_ms, after.seq
    return after.rank, after.server_time_ms, 0


async def _merged(logs: Sequence[AsyncIterator[Message]]) -> AsyncIterator[Message]:
    """Several logs as one, each read only as far as it is needed."""
    firsts = await asyncio.gather(*(anext(log, None) for log in logs))
    heads = [(_order(message), number, message) for number, message in enumerate(firsts) if message is not None]
    heapq.heapify(heads)
    while heads:
        _, number, message = heads[0]
        yield message
        following = await anext(logs[number], None)
        if following is None:
            heapq.heappop(heads)
        else:
            heapq.heapreplace(heads, (_order(following), number, following))


def _order(message: Message) -> tuple[int, int, bytes, int]:
    at = position_of(message)
    return at.rank, at.server_time_ms, at.conversation_id.encode(), at.seq


def _standing(document: Found) -> Standing:
    fields = document.fields
    return Standing(
        documents.text(fields, "conversationId", document.id),
        documents.number(fields, "lastSeq"),
        fields.get("isOpen") is not False,
        documents.number(fields, "retiredUpTo"),
    )
