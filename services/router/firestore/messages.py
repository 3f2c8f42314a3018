"""Messages in Firestore: one document each, named by its key, under the condition that there is none.

So a key is taken once. A place is, because each commit is conditional on the version of the conversation's document,
under which this process knows what is free (see `marks`). A commit that fails is followed by a look at who stands
where; what can still be written is written.
"""

import asyncio
import random
import time
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from libs.storage import StoreAway
from libs.storage.firestore.client import COMMIT_BYTES, COMMIT_WRITES, Client, Conflict
from libs.storage.firestore.ids import readable
from libs.storage.firestore.query import Condition, Query
from libs.storage.firestore.values import Found
from services.router.firestore import documents
from services.router.firestore.closing import Closing
from services.router.firestore.documents import CONVERSATIONS, MESSAGES
from services.router.firestore.marks import Marks
from services.router.store import End, Message, Saved

# A message and its conversation's document, at most.
_CHUNK: Final = COMMIT_WRITES // 2
# Who keeps meeting others at the same places comes back later, and pauses between.
_TRIES: Final = 8
_FIRST_PAUSE_S: Final = 0.02
# Places that one query may name.
_NAMED: Final = 30
_PLACE_FIELDS: Final = ("conversationId", "seq")
# Voids are rare: a page that has some is filled with a second query.
_MORE: Final = 2

# A conversation and a seq in it.
_Place = tuple[str, int]


class _Draft(Struct, frozen=True):
    """A message as it is to be written."""

    message: Message
    id: str
    place: _Place
    write: bytes

    @property
    def size(self) -> int:
        return len(self.write)


class _Standing(NamedTuple):
    """Who stands where: by id of the message, and by place."""

    places: dict[str, _Place]
    ids: dict[_Place, str]


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
        found = map(documents.message, await self._standing_at(conversation_id, seqs))
        return sorted((message for message in found if not message.is_void), key=lambda message: message.seq)

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
        id_ = documents.message_id(message)
        write = documents.message_write(self._client.name(MESSAGES, id_), message)
        return _Draft(message, id_, (message.conversation_id, message.seq), write)

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
        conversations = list(dict.fromkeys(draft.message.conversation_id for draft in drafts))
        try:
            for turn in range(_TRIES):
                if turn > 1:
                    await asyncio.sleep(random.uniform(0, _FIRST_PAUSE_S * 2**turn))  # noqa: S311 - so that they part
                try:
                    await self._meet(conversations, again=turn > 0)
                    there = await self._standing(drafts, has_failed=turn > 0)
                    outcomes, fresh = _judge(drafts, there)
                    await self._commit(fresh)
                except Conflict:
                    continue
                self._marks.release(conversations)
                return outcomes
            raise StoreAway("others wrote at the same places each time")
        except BaseException:
            self._marks.forget(conversations)  # perhaps it was written, or will be
            raise

    async def _meet(self, conversations: Sequence[str], *, again: bool) -> None:
        """Know how the documents of these conversations stand, and the last places of their logs. Raises `Conflict`.

        One that is closed says it. One that is open is taken first, so that nobody saves while the log is looked at.
        """
        asked = conversations if again else self._marks.unknown(conversations)
        if not asked:
            return
        named = {where: self._client.name(CONVERSATIONS, readable(where)) for where in asked}
        found = await self._client.get(named.values(), ("lastSeq", "isOpen"))
        opened: dict[str, Found] = {}
        for where, name in named.items():
            document = found.get(name)
            if self._marks.stands(where, document.updated if document else None):
                continue
            self._marks.forget([where])
            if document is None:
                self._marks.met(where, None, 0)
            elif document.fields.get("isOpen") is False:
                self._marks.met(where, document.updated, documents.number(document.fields, "lastSeq"))
            else:
                opened[where] = document
        if not opened:
            return
        takes = [self._marks.take(where, document.updated) for where, document in opened.items()]
        versions = dict(zip(opened, await self._client.write_each(takes), strict=True))
        taken = {where: version for where, version in versions.items() if version is not None}
        for where, end in (await self.ends(taken)).items():
            self._marks.met(where, taken[where], end.seq, is_open=True)
        if len(taken) < len(opened):
            raise Conflict("others took them")

    async def _commit(self, fresh: Sequence[_Draft]) -> None:
        if not fresh:
            return
        last_seqs: dict[str, int] = {}
        for draft in fresh:
            where, seq = draft.message.conversation_id, draft.message.seq
            last_seqs[where] = max(seq, last_seqs.get(where, 0))
        if self._marks.unknown(last_seqs):
            raise Conflict("they were closed meanwhile")
        unchanged, marks = self._marks.writes(last_seqs)
        marked = [write for write, _ in marks.values()]
        writes = [*(draft.write for draft in fresh), *marked]
        versions = await self._client.commit(writes, unchanged=unchanged, versions_of_last=len(marked))
        written = {
            where: (is_open, version) for (where, (_, is_open)), version in zip(marks.items(), versions, strict=True)
        }
        self._marks.wrote(last_seqs, written)

    async def _standing(self, drafts: Sequence[_Draft], *, has_failed: bool) -> _Standing:
        """Who stands where, as far as it may matter.

        Places beyond the last are free. Keys are asked about once a commit failed, which may be for one of them.
        """
        client = self._client
        asked: dict[str, list[int]] = {}
        for draft in drafts:
            where, seq = draft.message.conversation_id, draft.message.seq
            if seq <= self._marks.last_seq(where):
                asked.setdefault(where, []).append(seq)
        ids = [client.name(MESSAGES, draft.id) for draft in drafts] if has_failed or asked else []
        by_id, by_place = await asyncio.gather(
            client.get(ids, _PLACE_FIELDS),
            asyncio.gather(*(self._standing_at(where, seqs, _PLACE_FIELDS) for where, seqs in asked.items())),
        )
        there = _Standing({}, {})
        for one in by_id.values():
            where, seq = documents.text(one.fields, "conversationId"), documents.number(one.fields, "seq")
            there.places[one.id] = where, seq
            self._marks.saw(where, seq)
        for where, standing in zip(asked, by_place, strict=True):
            there.ids.update(((where, documents.number(one.fields, "seq")), one.id) for one in standing)
        return there

    async def _standing_at(
        self, conversation_id: str, seqs: Collection[int], only: tuple[str, ...] = ()
    ) -> list[Found]:
        """The messages at these places, void ones too."""
        asked = sorted(set(seqs))
        parts = [asked[start : start + _NAMED] for start in range(0, len(asked), _NAMED)]
        queries = [
            Query(
                collection=MESSAGES, where=(("conversationId", "==", conversation_id), ("seq", "in", part)), only=only
            )
            for part in parts
        ]
        return [one for page in await asyncio.gather(*map(self._client.query, queries)) for one in page]


def _judge(drafts: Sequence[_Draft], there: _Standing) -> tuple[list[Saved], list[_Draft]]:
    """What becomes of each, in their order, and which of them are to be written."""
    places, ids = there
    outcomes: list[Saved] = []
    fresh: list[_Draft] = []
    for draft in drafts:
        at_place, place = ids.get(draft.place), places.get(draft.id)
        if draft.message.is_void and at_place is not None:
            outcomes.append(Saved.SAVED if at_place.startswith("void-") else Saved.TAKEN)
        elif place is not None:
            outcomes.append(Saved.SAVED if place == draft.place else Saved.REPEAT)
        elif at_place is not None:
            outcomes.append(Saved.TAKEN)
        else:
            places[draft.id], ids[draft.place] = draft.place, draft.id
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
