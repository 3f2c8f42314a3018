"""What the ledger is compared with, in Firestore: documents as they are, and nothing that this process remembers."""

import asyncio
from collections.abc import Collection
from typing import Final

from libs.storage.firestore.client import Client
from libs.storage.firestore.ids import readable
from libs.wire import names
from services.router.firestore import documents
from services.router.firestore.documents import CONVERSATIONS, GROUPS, MESSAGES
from services.router.store import Place, Receipt

_PLACE_FIELDS: Final = ("conversationId", "seq", "senderId")


class Ledger:
    """`store.Ledger`. Each message asked for is a read, and each conversation: `LEDGER_SHARE` bounds them."""

    _client: Client

    async def receipts(self, conversation_id: str) -> dict[str, Receipt]:
        """See `store.Messages`."""
        raise NotImplementedError

    async def receipts_of(self, members: Collection[tuple[str, str]]) -> dict[tuple[str, str], Receipt]:
        """See `store.Messages`."""
        raise NotImplementedError

    async def settled(self, keys: Collection[str]) -> frozenset[str]:
        places = await self.places(keys)
        noted = await self._noted_members({place.conversation_id for place in places.values()})
        return frozenset(key for key, place in places.items() if noted[place.conversation_id] - {place.sender_id})

    async def places(self, keys: Collection[str]) -> dict[str, Place]:
        asked = [self._client.name(MESSAGES, key) for key in keys if key]
        found = (await self._client.get(asked, _PLACE_FIELDS)).values()
        return {
            one.id: Place(
                documents.text(one.fields, "conversationId"),
                documents.number(one.fields, "seq"),
                documents.text(one.fields, "senderId"),
            )
            for one in found
        }

    async def memberships(self, members: Collection[tuple[str, str]]) -> dict[tuple[str, str], Receipt]:
        of = await self._members({where for where, _ in members})
        there = [(where, user_id) for where, user_id in members if user_id in of[where]]
        has = await self.receipts_of(there) if there else {}
        return {whose: has.get(whose, Receipt()) for whose in there}

    async def reach(self, conversation_id: str, seq: int, but: str) -> tuple[int, int]:
        members = (await self._members([conversation_id]))[conversation_id] - {but}
        if not members:
            return 0, 0
        has = await self.receipts(conversation_id)
        return len(members), sum(has[user_id].has(seq) for user_id in members if user_id in has)

    async def _members(self, conversation_ids: Collection[str]) -> dict[str, frozenset[str]]:
        """Whom something is due to, as `due` finds it: who is noted, and of a group in its document as well."""
        groups = {where: group_id for where in conversation_ids if (group_id := names.group_of(where)) is not None}
        named = {where: self._client.name(GROUPS, readable(group_id)) for where, group_id in groups.items()}
        noted, found = await asyncio.gather(
            self._noted_members(conversation_ids), self._client.get(named.values(), ("members",))
        )
        for where, name in named.items():
            noted[where] &= documents.texts(found[name].fields, "members") if name in found else frozenset[str]()
        return noted

    async def _noted_members(self, conversation_ids: Collection[str]) -> dict[str, frozenset[str]]:
        """The members that are noted of conversations; nobody where there is no such document."""
        named = {where: self._client.name(CONVERSATIONS, readable(where)) for where in conversation_ids}
        found = await self._client.get(named.values(), ("participantIds",))
        return {
            where: documents.texts(found[name].fields, "participantIds") if name in found else frozenset()
            for where, name in named.items()
        }
