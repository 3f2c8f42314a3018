"""Messages in Firestore: one document each, named by its key, and one for its place.

Both are created under the condition that neither is there, in one commit: so a key and a place are each taken once,
whoever writes. A commit that fails is followed by a look at who stands where; what can still be written is written.
"""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from msgspec import Struct

from libs.storage import StoreAway
from libs.storage.firestore import values
from libs.storage.firestore.client import COMMIT_BYTES, COMMIT_WRITES, Client, Conflict
from libs.storage.firestore.query import Condition, Query
from services.router.firestore import documents
from services.router.firestore.closing import Closing
from services.router.firestore.documents import MESSAGES, PLACES
from services.router.firestore.marks import Marks
from services.router.store import End, Message, Saved

# Two documents a message and one a conversation, at most.
_CHUNK: Final = COMMIT_WRITES // 3
# Who keeps meeting others at the same places comes back later.
_TRIES: Final = 8
# Voids are rare: a page that has some is filled with a second query.
_MORE: Final = 2


class _Draft(Struct, frozen=True):
    """A message as it is to be written."""

    message: Message
    id: str
    place: str
    writes: tuple[bytes, bytes]

    @property
    def size(self) -> int:
        return len(self.writes[0]) + len(self.writes[1])


class Messages:
    """The log of `store.Messages`."""

    _client: Client
    _marks: Marks
    _closing: Closing
    _saving: asyncio.Lock
    _failed_at: float

    async def find(self, keys: Collection[str]) -> dict[str, Message]:
        found = await self._client.get([self._client.name(MESSAGES, key) for key in keys if key])
        return {document.id: documents.message(document) for document in found.values()}

    async def ends(self, conversation_ids: Collection[str]) -> dict[str, End]:
        asked = list(dict.fromkeys(conversation_ids))
        ends = await asyncio.gather(*map(self._end, asked))
        return dict(zip(asked, ends, strict=True))

    async def save(self, messages: Sequence[Message]) -> list[Saved]:
        if not messages:
            return []
        drafts = [self._draft(message) for message in messages]  # what cannot be written raises before any is
        asked_at = time.monotonic()
        async with self._saving:
            if self._failed_at > asked_at:
                raise StoreAway("the store was away for as long as this call waited")
            try:
                outcomes = await self._save(drafts)
                await self._closing.close_idle()
            except StoreAway:
                self._failed_at = time.monotonic()
                raise
        return outcomes

    async def history(
        self,
        conversation_id: str,
        limit: int,
        *,
        before_seq: int | None = None,
        before_ms: int | None = None,
        after_seq: int | None = None,
    ) -> list[Message]:
        where: list[Condition] = [("conversationId", "==", conversation_id)]
        if before_seq is not None:
            where.append(("seq", "<", before_seq))
        if before_ms is not None:
            where.append(("serverTimeMs", "<", before_ms))
        if after_seq is not None:
            where.append(("seq", ">", after_seq))
        order = ("-seq" if after_seq is None else "seq", *(["-serverTimeMs"] if before_ms is not None else []))
        query = Query(collection=MESSAGES, where=tuple(where), order=order)
        found: list[Message] = []
        wanted, after = limit, None
        while wanted > 0:
            page = await self._client.query(_page(query, after, wanted + (_MORE if found else 0)))
            messages = [documents.message(document) for document in page]
            found += [message for message in messages if not message.is_void]
            if len(page) < wanted:
                break
            last = messages[-1]
            after = (last.seq, last.server_time_ms) if before_ms is not None else (last.seq,)
            wanted = limit - len(found)
        return sorted(found[:limit], key=lambda message: message.seq)

    async def at(self, conversation_id: str, seqs: Collection[int]) -> list[Message]:
        places = await self._client.get(
            [self._client.name(PLACES, documents.place(conversation_id, seq)) for seq in seqs]
        )
        found = await self.find([documents.text(place.fields, "key") for place in places.values()])
        return sorted(found.values(), key=lambda message: message.seq)

    async def _end(self, conversation_id: str) -> End:
        query = Query(
            collection=MESSAGES,
            where=(("conversationId", "==", conversation_id),),
            order=("-seq",),
            limit=1,
            only=("seq", "serverTimeMs"),
        )
        for one in await self._client.query(query):
            return End(documents.number(one.fields, "seq"), documents.number(one.fields, "serverTimeMs"))
        return End()

    def _draft(self, message: Message) -> _Draft:
        id_, place = documents.message_id(message), documents.place(message.conversation_id, message.seq)
        writes = (
            documents.message_write(self._client.name(MESSAGES, id_), message),
            values.create(self._client.name(PLACES, place), {"key": "" if message.is_void else id_}),
        )
        return _Draft(message, id_, place, writes)

    async def _save(self, drafts: Sequence[_Draft]) -> list[Saved]:
        """Conversations side by side, each in its order: a commit that fails leaves no gap before a later one."""
        outcomes: dict[int, Saved] = {}
        done = await asyncio.gather(
            *(self._save_lane([(at, drafts[at]) for at in lane], outcomes) for lane in _lanes(drafts)),
            return_exceptions=True,
        )
        for error in done:
            if error is not None:
                raise error
        return [outcomes[at] for at in range(len(drafts))]

    async def _save_lane(self, lane: Sequence[tuple[int, _Draft]], outcomes: dict[int, Saved]) -> None:
        for chunk in _chunks(lane):
            saved = await self._save_chunk([draft for _, draft in chunk])
            outcomes |= {at: outcome for (at, _), outcome in zip(chunk, saved, strict=True)}

    async def _save_chunk(self, drafts: Sequence[_Draft]) -> list[Saved]:
        """In one commit, as far as keys and places are free."""
        there: Mapping[str, str] = {}
        for _ in range(_TRIES):
            outcomes, fresh = _judge(drafts, there)
            try:
                await self._commit(fresh)
            except Conflict:
                there = await self._standing(drafts)
            else:
                return outcomes
        raise StoreAway("others wrote at the same places each time")

    async def _commit(self, fresh: Sequence[_Draft]) -> None:
        if not fresh:
            return
        last_seqs: dict[str, int] = {}
        for draft in fresh:
            where, seq = draft.message.conversation_id, draft.message.seq
            last_seqs[where] = max(seq, last_seqs.get(where, 0))
        marks = self._marks.writes(last_seqs)
        writes = [write for draft in fresh for write in draft.writes]
        try:
            marked = [write for write, _ in marks.values()]
            versions = await self._client.commit(writes + marked, versions_of_last=len(marked))
        except StoreAway:
            self._marks.forget(last_seqs)  # perhaps it was written
            raise
        written = {
            where: (is_open, version) for (where, (_, is_open)), version in zip(marks.items(), versions, strict=True)
        }
        self._marks.wrote(last_seqs, written)

    async def _standing(self, drafts: Sequence[_Draft]) -> dict[str, str]:
        """Who stands where: message id → place, and place → message id."""
        client = self._client
        messages, places = await asyncio.gather(
            client.get([client.name(MESSAGES, draft.id) for draft in drafts], ("conversationId", "seq")),
            client.get([client.name(PLACES, draft.place) for draft in drafts]),
        )
        there = {
            one.id: documents.place(documents.text(one.fields, "conversationId"), documents.number(one.fields, "seq"))
            for one in messages.values()
        }
        return there | {one.id: documents.text(one.fields, "key") or f"void-{one.id}" for one in places.values()}


def _judge(drafts: Sequence[_Draft], there: Mapping[str, str]) -> tuple[list[Saved], list[_Draft]]:
    """What becomes of each, in their order, and which of them are to be written."""
    stands = dict(there)
    outcomes: list[Saved] = []
    fresh: list[_Draft] = []
    for draft in drafts:
        if draft.message.is_void and draft.place in stands:
            is_void = stands[draft.place].startswith("void-")
            outcomes.append(Saved.SAVED if is_void else Saved.TAKEN)
        elif draft.id in stands:
            outcomes.append(Saved.SAVED if stands[draft.id] == draft.place else Saved.REPEAT)
        elif draft.place in stands:
            outcomes.append(Saved.TAKEN)
        else:
            stands[draft.id], stands[draft.place] = draft.place, draft.id
            outcomes.append(Saved.SAVED)
            fresh.append(draft)
    return outcomes, fresh


def _lanes(drafts: Sequence[_Draft]) -> list[list[int]]:
    """Commits that may go side by side: those of a conversation are in one lane, and so are those of a key."""
    lanes: list[list[int]] = []
    lane_of: dict[str, int] = {}
    keys: set[str] = set()
    for at, draft in enumerate(drafts):
        where = draft.message.conversation_id
        if draft.id in keys:
            return [list(range(len(drafts)))]  # a repeat within the batch: rare, and judged in order
        keys.add(draft.id)
        number = lane_of.get(where)
        if number is None:
            if not lanes or len(lanes[-1]) >= _CHUNK:
                lanes.append([])
            number = lane_of[where] = len(lanes) - 1
        lanes[number].append(at)
    return lanes


def _chunks(lane: Sequence[tuple[int, _Draft]]) -> list[list[tuple[int, _Draft]]]:
    """Parts that fit a commit."""
    chunks: list[list[tuple[int, _Draft]]] = []
    size = 0
    for at, draft in lane:
        if not chunks or len(chunks[-1]) >= _CHUNK or size + draft.size > COMMIT_BYTES:
            chunks.append([])
            size = 0
        chunks[-1].append((at, draft))
        size += draft.size
    return chunks


def _page(query: Query, after: tuple[int, ...] | None, limit: int) -> Query:
    return Query(collection=query.collection, where=query.where, order=query.order, after=after, limit=limit)
