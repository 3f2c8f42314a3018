"""Broadcasts in Firestore: a document each, and for each user one that says which of them they have."""

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Sequence
from itertools import chain
from typing import Any, Final

from msgspec.structs import astuple

from libs.clock import now_ms
from libs.storage.firestore import values
from libs.storage.firestore.client import Client, Conflict
from libs.storage.firestore.ids import readable
from libs.storage.firestore.query import Condition, Query
from libs.storage.firestore.values import Found, Stamp
from libs.wire import names
from libs.wire.frames import DuePosition
from services.router.firestore import documents
from services.router.firestore.documents import BROADCAST_RECEIPTS, BROADCASTS, RESIDENCES, USERS
from services.router.firestore.residences import FOR_NOW, Residence, Residences, token
from services.router.store import Broadcast, DueBroadcast, Moves, Reached, ReceiptRow, Tally

# Values that one query may name.
_NAMED: Final = 30
# Without a cursor, moves are looked for among so many of the newest.
_LATEST: Final = 1000
# A cursor below it is of another kind of store: microseconds since 1970 are beyond.
_LEAST_CURSOR: Final = 10**15
_REMEMBERED: Final = 1000
_SIDE_BY_SIDE: Final = 32


class Broadcasts:
    """`store.Broadcasts`."""

    _client: Client
    _residences: Residences
    _broadcast_days: float
    # Those that receipts come for: their times and places.
    _known: OrderedDict[str, Found]

    async def save_broadcasts(self, broadcasts: Sequence[Broadcast]) -> frozenset[str]:
        stand = [broadcast.id for broadcast in broadcasts if await self._save_broadcast(broadcast)]
        return frozenset(stand)

    async def due_broadcasts(self, user_id: str, limit: int, *, after: DuePosition | None = None) -> list[DueBroadcast]:
        intervals, has = await asyncio.gather(self._residences.of(user_id), self._has(user_id))
        found: dict[str, DueBroadcast] = {}
        for interval in intervals:
            for one in await self._there(interval, limit, after, has):
                found[one.id] = one
        return sorted(found.values(), key=lambda one: (one.at_ms, one.id))[:limit]

    async def audience(self, level: str, place_ids: Collection[str]) -> int:
        asked = sorted(set(place_ids))
        parts = [tuple(asked[start : start + _NAMED]) for start in range(0, len(asked), _NAMED)]
        queries = [Query(collection=USERS, where=((f"location.{level}Id", "in", part),)) for part in parts]
        return sum(await asyncio.gather(*map(self._client.count, queries)))

    async def tally(self, broadcast_id: str) -> Tally | None:
        document = await self._broadcast(broadcast_id)
        if document is None:
            return None
        fields = document.fields
        level, at_ms = documents.text(fields, "level"), documents.number(fields, "atMs")
        place_ids = [each for each in documents.items(fields, "placeIds") if isinstance(each, str)]
        parts = [place_ids[start : start + _NAMED] for start in range(0, len(place_ids), _NAMED)]
        reached = await asyncio.gather(*(self._reached(broadcast_id, level, part, at_ms) for part in parts))
        return Tally(level, documents.text(fields, "priority"), at_ms, tuple(chain.from_iterable(reached)))

    async def moves(self, after: int | None, limit: int) -> Moves:
        if after is None or after < _LEAST_CURSOR:
            newest = Query(collection=RESIDENCES, order=("-notedAt",), limit=min(limit, _LATEST))
            found = (await self._client.query(newest))[::-1]
        else:
            since = Stamp(after // 1_000_000, after % 1_000_000 * 1000)
            query = Query(collection=RESIDENCES, where=(("notedAt", ">", since),), order=("notedAt",), limit=limit)
            found = await self._client.query(query)
            if len(found) == limit:  # those of one commit have one time: a cursor cannot stand between them
                same = Query(collection=RESIDENCES, where=(("notedAt", "==", found[-1].fields["notedAt"]),))
                found += await self._client.query(same)
        users = tuple(dict.fromkeys(documents.text(one.fields, "userId") for one in found))
        return Moves(found[-1].fields["notedAt"].us if found else after or 0, users)

    async def save_broadcast_receipts(self, rows: Sequence[ReceiptRow]) -> None:
        """Note who has which broadcasts, and for which of their places they count."""
        reached: dict[str, list[str]] = {}
        for row in rows:
            reached.setdefault(row.user_id, []).append(names.broadcast_of(row.conversation_id) or "")
        for id_ in {id_ for ids in reached.values() for id_ in ids}:
            await self._broadcast(id_)  # once, and not once for each who has it
        side_by_side = asyncio.Semaphore(_SIDE_BY_SIDE)

        async def write(user_id: str, ids: Sequence[str]) -> bytes:
            async with side_by_side:
                intervals = await self._residences.of(user_id)
                tokens = [each for id_ in ids for each in await self._counted_as(id_, intervals)]
            name = self._client.name(BROADCAST_RECEIPTS, readable(user_id))
            return values.put(name, {"userId": user_id}, only=("userId",), union={"has": tokens})

        await self._client.write_each(await asyncio.gather(*(write(*each) for each in reached.items())))

    async def _save_broadcast(self, one: Broadcast) -> bool:
        name = self._client.name(BROADCASTS, one.id)
        fields: dict[str, Any] = {
            "broadcastId": one.id,
            "senderId": one.sender_id,
            "level": one.level,
            "placeIds": one.place_ids,
            "places": [token(one.level, place) for place in dict.fromkeys(one.place_ids)],
            "priority": one.priority,
            "atMs": one.at_ms,
            "body": one.body.decode(),
        }
        fields |= documents.expiry(one.at_ms, self._broadcast_days)
        try:
            await self._client.commit([values.create(name, fields)])
        except Conflict:
            there = (await self._client.get([name], ("atMs",))).get(name)
            return there is not None and documents.number(there.fields, "atMs") == one.at_ms
        return True

    async def _broadcast(self, broadcast_id: str) -> Found | None:
        """One never changes, so what was read once is remembered."""
        if broadcast_id not in self._known:
            name = self._client.name(BROADCASTS, broadcast_id)
            found = (await self._client.get([name], ("level", "placeIds", "priority", "atMs"))).get(name)
            if found is None:
                return None
            self._known[broadcast_id] = found
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return self._known[broadcast_id]

    async def _counted_as(self, broadcast_id: str, intervals: Sequence[Residence]) -> list[str]:
        """What a receipt of a broadcast adds to its user's: the id, and the id with each place it counts for.

        One that was heard while the store was away may be saved after its receipts, by another router: then each place
        where the user lives may be one that it names.
        """
        document = await self._broadcast(broadcast_id)
        if document is None:
            lives = {place for one in intervals if one.holds(now_ms()) for place in astuple(one.places) if place}
            return [broadcast_id, *(_delivered(broadcast_id, place) for place in sorted(lives))]
        level, at_ms = documents.text(document.fields, "level"), documents.number(document.fields, "atMs")
        lived = {getattr(one.places, level, "") for one in intervals if one.holds(at_ms)}
        places = [each for each in documents.items(document.fields, "placeIds") if each in lived]
        return [broadcast_id, *(_delivered(broadcast_id, place) for place in dict.fromkeys(places))]

    async def _has(self, user_id: str) -> frozenset[str]:
        name = self._client.name(BROADCAST_RECEIPTS, readable(user_id))
        found = (await self._client.get([name], ("has",))).get(name)
        return frozenset() if found is None else documents.texts(found.fields, "has")

    async def _there(
        self, interval: Residence, limit: int, after: DuePosition | None, has: Collection[str]
    ) -> list[DueBroadcast]:
        """Up to `limit` that are for who lived so, then."""
        tokens = interval.tokens
        if not tokens:
            return []
        where: list[Condition] = [("places", "contains any", tokens), ("atMs", ">=", interval.since_ms)]
        if interval.until_ms < FOR_NOW:
            where.append(("atMs", "<", interval.until_ms))
        query = Query(
            collection=BROADCASTS,
            where=tuple(where),
            order=("atMs", "broadcastId"),
            after=None if after is None else (after.server_time_ms, after.conversation_id),
            limit=limit + 1,
        )
        found: list[DueBroadcast] = []
        while True:
            page = await self._client.query(query)
            there = [_due(document) for document in page]
            found += [one for one in there if one.id not in has]
            if len(page) <= limit or len(found) >= limit:
                return found[:limit]
            query = query.from_((there[-1].at_ms, there[-1].id))

    async def _reached(self, broadcast_id: str, level: str, places: Sequence[str], at_ms: int) -> list[Reached]:
        """How far it came in each of these places, which are asked about together as long as there is nobody."""
        lived = Query(
            collection=RESIDENCES,
            where=((level, "in", tuple(places)), ("sinceMs", "<=", at_ms), ("untilMs", ">", at_ms)),
        )
        recipients = await self._client.count(lived)
        if not recipients:  # then nobody has it there either: a receipt counts for where its user lived then
            return [Reached(place, 0, 0) for place in places]
        if len(places) == 1:
            token_ = _delivered(broadcast_id, places[0])
            has = Query(collection=BROADCAST_RECEIPTS, where=(("has", "contains", token_),))
            return [Reached(places[0], recipients, await self._client.count(has))]
        each = await asyncio.gather(*(self._reached(broadcast_id, level, [place], at_ms) for place in places))
        return list(chain.from_iterable(each))


def _delivered(broadcast_id: str, place: str) -> str:
    return f"{broadcast_id}~{place}"


def _due(document: Found) -> DueBroadcast:
    fields = document.fields
    return DueBroadcast(document.id, documents.number(fields, "atMs"), documents.text(fields, "body").encode())
