"""When people were last seen, in Firestore: `user_presence`, as the app has it.

A time is written under the condition that the document is as it was read, or has none: times never go back, whatever
several copies of presence do at once. `status` is not written: who is here is said on sockets, and a document that
says so would be wrong as soon as somebody came back.
"""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Final

from libs.storage import StoreAway
from libs.storage.firestore import values
from libs.storage.firestore.bill import Bill
from libs.storage.firestore.client import Client, open_client
from libs.storage.firestore.ids import readable
from libs.storage.firestore.settings import Limits, Place
from libs.storage.firestore.values import Instant, Stamp

_COLLECTION: Final = "user_presence"
_LAST_SEEN: Final = "lastSeen"
_TRIES: Final = 8


class FirestoreLastSeen:
    """`lastseen.LastSeen` in one database. What else stands in a document is the app's."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def bill(self) -> Bill:
        """What was asked so far."""
        return self._client.bill

    async def seen(self, users: Collection[str]) -> dict[str, int]:
        """See `lastseen`."""
        return {user: at_ms for user, (at_ms, _) in (await self._documents(users)).items() if at_ms is not None}

    async def save(self, seen: Mapping[str, int]) -> None:
        """See `lastseen`; not all or nothing: what raises may have saved some, and saving again is harmless."""
        left = dict(seen)
        for _ in range(_TRIES):
            there = await self._documents(left)
            writes: dict[str, bytes] = {}
            for user, at_ms in left.items():
                before_ms, version = there.get(user, (None, None))
                if before_ms is None or before_ms < at_ms:
                    writes[user] = self._write(user, at_ms, version)
            versions = await self._client.write_each(list(writes.values()))
            left = {user: left[user] for user, version in zip(writes, versions, strict=True) if version is None}
            if not left:
                return
        raise StoreAway("times were written by others each time")

    def _write(self, user: str, at_ms: int, version: Stamp | None) -> bytes:
        fields = {"userId": user, _LAST_SEEN: Instant(at_ms)}
        is_there = None if version else False
        return values.put(
            self._client.name(_COLLECTION, readable(user)),
            fields,
            only=tuple(fields),
            stamped=("updatedAt",),
            if_version=version,
            if_there=is_there,
        )

    async def _documents(self, users: Collection[str]) -> dict[str, tuple[int | None, Stamp]]:
        """When each was seen, as far as it is known, and the version of what says so."""
        names = {self._client.name(_COLLECTION, readable(user)): user for user in users}
        found = await self._client.get(names, (_LAST_SEEN,))
        return {names[name]: (_ms(one.fields.get(_LAST_SEEN)), one.updated) for name, one in found.items()}


@asynccontextmanager
async def open_last_seen(place: Place, limits: Limits) -> AsyncIterator[FirestoreLastSeen]:
    """The record in a database; see `open_client` for what it raises."""
    async with open_client(place, limits) as client:
        yield FirestoreLastSeen(client)


def _ms(given: object) -> int | None:
    return given.seconds * 1000 + given.nanos // 1_000_000 if isinstance(given, Stamp) else None
