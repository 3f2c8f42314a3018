"""What the ledger is compared with: which messages there are, and who is to have them. Many at once."""

from collections.abc import Collection, Mapping
from typing import Protocol

from msgspec import Struct

from services.router.store.messages import Receipt


class Place(Struct, frozen=True):
    """Where a message stands in the record, and the name it is written under."""

    conversation_id: str
    seq: int
    sender_id: str


class Ledger(Protocol):
    """The record as an auditor reads it: what was written, not what a router remembers."""

    async def settled(self, wanted: Mapping[str, str]) -> frozenset[str]:
        """Those among these keys, each with its conversation, whose message is written and has whom to wait for.

        That is whoever is a member of the group, be it nobody, or both of a direct conversation. Of them there is
        nothing to find out: `due` brings it to who has not confirmed it. Others may be looked at by `places`.
        """
        ...

    async def places(self, keys: Collection[str]) -> dict[str, Place]:
        """Where the messages stand that exist among `keys`; as with `find`, void ones have no key."""
        ...

    async def memberships(self, members: Collection[tuple[str, str]]) -> dict[tuple[str, str], Receipt]:
        """The receipts of these (conversation, user), of those who are members: others are owed nothing.

        Unlike `receipts_of` it names members who have confirmed nothing. What is past the receipt of a member, and
        was written by another, is what `due` finds.
        """
        ...

    async def reach(self, conversation_id: str, seq: int, but: str) -> tuple[int, int]:
        """How many members a conversation has besides `but`, and how many of them have the message at `seq`."""
        ...
