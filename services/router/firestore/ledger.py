"""What the ledger is compared with, in Firestore: documents as they are, and nothing of what this process wrote."""

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from libs.storage.firestore.client import Client
from libs.storage.firestore.ids import readable
from libs.storage.firestore.query import Query
from libs.storage.firestore.values import Reference
from libs.wire import names
from services.router.firestore import documents
from services.router.firestore.documents import CONVERSATIONS, GROUPS, MESSAGES
from services.router.store import Place, Receipt

_PLACE_FIELDS: Final = ("conversationId", "seq", "senderId")
# As many as one `in` may name.
_COUNTED: Final = 30
_REMEMBERED: Final = 100_000


class Ledger:
    """`store.Ledger`. Thirty that are as they should be cost a read to count; what is amiss is read by itself."""

    _client: Client
    _pairs: OrderedDict[str, None]

    async def receipts(self, conversation_id: str) -> dict[str, Receipt]:
        """See `store.Messages`."""
        raise NotImplementedError

    async def receipts_of(self, members: Collection[tuple[str, str]]) -> dict[tuple[str, str], Receipt]:
        """See `store.Messages`."""
        raise NotImplementedError

    async def settled(self, wanted: Mapping[str, str]) -> frozenset[str]:
        written, whole = await asyncio.gather(self._written(list(wanted)), self._whole(wanted.values()))
        settled = {key for key in written if wanted[key] in whole}
        places = await self.places(wanted.keys() - settled)
        whole = await self._whole({place.conversation_id for place in places.values()})
        return frozenset(settled | {key for key, place in places.items() if place.conversation_id in whole})

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

    async def _written(self, keys: Sequence[str]) -> set[str]:
        """The keys of those thirty that are all there, and of the next thirty … A void message has another id."""
        parts = [keys[start : start + _COUNTED] for start in range(0, len(keys), _COUNTED)]
        named = [tuple(Reference(self._client.name(MESSAGES, key)) for key in part) for part in parts]
        asked = [Query(collection=MESSAGES, where=(("__name__", "in", each),)) for each in named]
        counts = await asyncio.gather(*map(self._client.count, asked))
        return {key for part, count in zip(parts, counts, strict=True) if count == len(part) for key in part}

    async def _whole(self, conversation_ids: Collection[str]) -> set[str]:
        """Groups, whose messages are owed to who is a member, be it nobody; of the others those that have their two.

        Nothing takes one of two out, so of those that had them it is remembered.
        """
        pairs = {where: pair for where in conversation_ids if (pair := names.direct_pair(where)) is not None}
        unread = await self._noted_members([where for where in pairs if where not in self._pairs])
        self._pairs.update((where, None) for where, members in unread.items() if members.issuperset(pairs[where]))
        whole = {where for where in conversation_ids if where not in pairs or where in self._pairs}
        while len(self._pairs) > _REMEMBERED:
            self._pairs.popitem(last=False)
        return whole

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
