"""Who lives where, and since when: noted when a user's document, which the app writes, is read and says otherwise.

One document an interval, with all levels; a broadcast is for those whose interval holds its time. An interval begins
when the document was created, or with the change that was noticed: no later than the reading, no earlier than the
last write of the document.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from libs.storage.firestore import values
from libs.storage.firestore.client import Client, Conflict
from libs.storage.firestore.ids import derived
from libs.storage.firestore.query import Query
from libs.storage.firestore.values import Found
from libs.wire.events import LEVELS
from libs.wire.frames import Places
from services.router.firestore import documents
from services.router.firestore.documents import RESIDENCES

# Until when someone lives where they live now.
FOR_NOW: Final = 1 << 62
_NOWHERE: Final = Places()
_REMEMBERED: Final = 200_000


class Residence(Struct, frozen=True):
    """Where somebody lives, from `since_ms` until before `until_ms`."""

    places: Places
    since_ms: int
    until_ms: int

    @property
    def tokens(self) -> list[str]:
        """Their places as broadcasts name them."""
        return [token(level, id_) for level in LEVELS if (id_ := getattr(self.places, level))]

    def holds(self, at_ms: int) -> bool:
        """Whether they lived there then."""
        return self.since_ms <= at_ms < self.until_ms


class Residences:
    """Notes and knows them."""

    def __init__(self, client: Client, broadcast_days: float) -> None:
        self._client = client
        # An interval that ended is asked about for as long as the broadcasts of its time.
        self._days = broadcast_days
        # Where people live by what this process noted.
        self._homes: OrderedDict[str, Places] = OrderedDict()

    async def note(self, users: Mapping[str, tuple[Places, Found]]) -> None:
        """Compare these user documents with what is noted."""
        moved = [(user, *of) for user, of in users.items() if self._homes.get(user) != of[0]]
        await asyncio.gather(*(self._note(user_id, places, document) for user_id, places, document in moved))

    async def of(self, user_id: str) -> list[Residence]:
        """All intervals of a user, the oldest first."""
        found = [_residence(one) for one in await self._intervals(user_id)]
        return sorted(found, key=lambda one: one.since_ms)

    async def _note(self, user_id: str, places: Places, document: Found) -> None:
        intervals = await self._intervals(user_id)
        current = [one for one in intervals if documents.number(one.fields, "untilMs") == FOR_NOW]
        if (current and _places(current[0].fields) != places) or (not current and places != _NOWHERE):
            since_us = document.updated.us if intervals else document.created.us
            since_ms = -(-since_us // 1000)
            ended: dict[str, Any] = {"untilMs": since_ms} | documents.expiry(since_ms, self._days)
            writes = [
                values.put(self._client.name(RESIDENCES, one.id), ended, only=tuple(ended), if_version=one.updated)
                for one in current
            ]
            fields: dict[str, Any] = {"userId": user_id, "sinceMs": since_ms, "untilMs": FOR_NOW}
            fields |= {level: id_ for level in LEVELS if (id_ := getattr(places, level))}
            id_ = derived(user_id, since_ms, *(getattr(places, level) for level in LEVELS))
            name = self._client.name(RESIDENCES, id_)
            try:
                await self._client.commit([*writes, values.put(name, fields, stamped=("notedAt",), if_there=False)])
            except Conflict:
                return  # somebody else notes it; whoever reads next looks again
        self._homes[user_id] = places
        self._homes.move_to_end(user_id)
        if len(self._homes) > _REMEMBERED:
            self._homes.popitem(last=False)

    async def _intervals(self, user_id: str) -> list[Found]:
        return await self._client.query(Query(collection=RESIDENCES, where=(("userId", "==", user_id),)))


def token(level: str, place_id: str) -> str:
    """A place as one text: a village is not a mandal of the same id."""
    return f"{level}:{place_id}"


def _residence(document: Found) -> Residence:
    fields = document.fields
    return Residence(_places(fields), documents.number(fields, "sinceMs"), documents.number(fields, "untilMs"))


def _places(fields: Mapping[str, Any]) -> Places:
    return Places(*(documents.text(fields, level) for level in LEVELS))
