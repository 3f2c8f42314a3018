"""The contract of the record, part by part. SQLite is one implementation, Firestore the other.

    people.py      users, groups
    messages.py    messages and receipts
    broadcasts.py  emergency broadcasts, and who lives where
    keys.py        public keys of devices
    search.py      messages by their words
    retention.py   what leaves the hot log
    ledger.py      what the ledger is compared with

What is promised to callers, and checked by `tests/contracts` on every implementation:

- `save` is idempotent, and durable when it returns. A call that raises wrote nothing, or where the store is far away
  perhaps all; or, of more than fits one of its commits, a part in which no conversation has a gap. Saving the same
  again tells.
- A message's `key` and its (conversation, seq) are each taken once, whoever writes.
- Every method raises `StoreAway` when the store cannot be reached or is busy beyond patience;
  nothing else is raised for the store's own troubles.
"""

from typing import Protocol

from libs.storage import StoreAway
from services.router.store.broadcasts import Broadcast, Broadcasts, DueBroadcast, Moves, Reached, Tally
from services.router.store.keys import Keys, Outcome, Published, TakenKeys
from services.router.store.ledger import Ledger, Place
from services.router.store.messages import End, Message, Messages, Owed, Receipt, ReceiptRow, Saved, position_of
from services.router.store.people import Group, GroupRow, People, Registry, User, UserRow
from services.router.store.retention import Retention
from services.router.store.search import Search

__all__ = [
    "Broadcast",
    "DueBroadcast",
    "End",
    "Group",
    "GroupRow",
    "Message",
    "Moves",
    "Outcome",
    "Owed",
    "Place",
    "Published",
    "Reached",
    "Receipt",
    "ReceiptRow",
    "Registry",
    "Saved",
    "Store",
    "StoreAway",
    "TakenKeys",
    "Tally",
    "User",
    "UserRow",
    "position_of",
]


class Store(Messages, Broadcasts, People, Keys, Search, Retention, Ledger, Protocol):
    """The record."""

    @property
    def busy_s(self) -> float:
        """For how long it has been at one call that batches may wait for; 0 if there is none."""
        ...
