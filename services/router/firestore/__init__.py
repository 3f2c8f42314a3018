"""The record in Firestore: what production runs on.

Owns the collections that `docs/firestore.md` names, and how messages stand in them (`libs.storage.firestore` carries
them there). Each module is one part of the contract (`services.router.store`), or what several of them rest on:
`documents` (ids and fields), `marks` and `closing` (what a conversation's document says of its log), `residences`.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from libs.storage.firestore.bill import Bill
from libs.storage.firestore.client import Client, open_client
from libs.storage.firestore.ids import readable
from libs.storage.firestore.settings import Limits, Place
from services.router.firestore import documents
from services.router.firestore.broadcasts import Broadcasts
from services.router.firestore.closing import Closing
from services.router.firestore.due import Due
from services.router.firestore.keys import Keys
from services.router.firestore.ledger import Ledger
from services.router.firestore.marks import Marks
from services.router.firestore.messages import Messages
from services.router.firestore.people import People
from services.router.firestore.receipts import Receipts
from services.router.firestore.residences import Residences
from services.router.firestore.retention import Retention
from services.router.firestore.search import Search

__all__ = ["FirestoreStore", "Limits", "Place", "open_store"]


# The parts name what they use of each other, so those that have it come first.
class FirestoreStore(Messages, Broadcasts, People, Receipts, Due, Keys, Search, Retention, Ledger):
    """`store.Store` in one Firestore database, and the writes of operators."""

    def __init__(self, client: Client, broadcast_days: float = 0.0) -> None:
        self._client = client
        self._marks = Marks(lambda where: client.name(documents.CONVERSATIONS, readable(where)))
        self._closing = Closing(client, self._marks)
        self._residences = Residences(client, broadcast_days)
        self._broadcast_days = broadcast_days
        self._saving = asyncio.Lock()
        self._turns = WeakValueDictionary()
        self._failed_at = -math.inf
        self._noted = OrderedDict()
        self._receipts = OrderedDict()
        self._known = OrderedDict()
        self._looks = OrderedDict()
        self._pairs = OrderedDict()

    @property
    def bill(self) -> Bill:
        """What was asked of Firestore."""
        return self._client.bill

    @property
    def busy_s(self) -> float:
        """Every call ends by itself, with its patience."""
        return self._client.busy_s

    async def close(self) -> None:
        """Leave the documents of conversations as exact as can be."""
        await self._closing.close_all()


@asynccontextmanager
async def open_store(place: Place, limits: Limits, *, broadcast_days: float = 0.0) -> AsyncIterator[FirestoreStore]:
    """The store in a database, where broadcasts expire after so many days (0: never); raises as `open_client` does."""
    async with open_client(place, limits) as client:
        store = FirestoreStore(client, broadcast_days)
        yield store
        await store.close()
