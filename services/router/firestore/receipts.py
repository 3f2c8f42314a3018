"""Receipts in Firestore: a document for each member of a conversation who has any.

They are merged with what is there, each under the condition that nobody wrote it meanwhile. What this process wrote
last it need not read again, so that a receipt costs one write and nothing else.
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from libs.storage.firestore import values
from libs.storage.firestore.client import Client
from libs.storage.firestore.query import Query
from libs.storage.firestore.values import Stamp
from libs.wire import names
from services.router.firestore import documents
from services.router.firestore.closing import Closing
from services.router.firestore.documents import RECEIPTS
from services.router.store import Receipt, ReceiptRow, StoreAway

_REMEMBERED: Final = 100_000
_TRIES: Final = 8


class Receipts:
    """The receipts of `store.Messages`."""

    _client: Client
    _closing: Closing
    # As this process wrote or read them last; None where there was none.
    _receipts: OrderedDict[tuple[str, str], tuple[Receipt, Stamp | None]]

    async def members(self, group_id: str) -> frozenset[str]:
        """A group's members."""
        raise NotImplementedError

    async def save_broadcast_receipts(self, rows: Sequence[ReceiptRow]) -> None:
        """Write those of broadcasts."""
        raise NotImplementedError

    async def receipts(self, conversation_id: str, user_ids: Collection[str] | None = None) -> dict[str, Receipt]:
        if user_ids is not None:
            asked = await self.receipts_of([(conversation_id, user_id) for user_id in user_ids])
            return {user_id: receipt for (_, user_id), receipt in asked.items()}
        query = Query(collection=RECEIPTS, where=(("conversationId", "==", conversation_id),))
        found = {
            documents.text(one.fields, "userId"): documents.receipt_of(one) for one in await self._client.query(query)
        }
        return {user_id: receipt for user_id, receipt in found.items() if receipt != Receipt()}

    async def receipts_of(self, members: Collection[tuple[str, str]]) -> dict[tuple[str, str], Receipt]:
        named = {self._client.name(RECEIPTS, documents.receipt(*whose)): whose for whose in members}
        found = await self._client.get(named)
        receipts = {named[name]: documents.receipt_of(document) for name, document in found.items()}
        return {whose: receipt for whose, receipt in receipts.items() if receipt != Receipt()}

    async def save_receipts(self, rows: Sequence[ReceiptRow]) -> None:
        await self.save_broadcast_receipts([r for r in rows if names.broadcast_of(r.conversation_id) is not None])
        merged: dict[tuple[str, str], Receipt] = {}
        for row in rows:
            if await self._is_member(row):
                whose = row.conversation_id, row.user_id
                merged[whose] = merged.get(whose, Receipt()).merge(row.receipt)
        for _ in range(_TRIES):
            merged = await self._write(merged)
            if not merged:
                await self._closing.close_idle()
                return
        raise StoreAway("receipts were written by others each time")

    async def _is_member(self, row: ReceiptRow) -> bool:
        """A direct conversation's receipt can come before its first message; one of a stranger is left out."""
        pair = names.direct_pair(row.conversation_id)
        if pair is not None:
            return row.user_id in pair
        group_id = names.group_of(row.conversation_id)
        return group_id is not None and row.user_id in await self.members(group_id)

    async def _write(self, rows: Mapping[tuple[str, str], Receipt]) -> dict[tuple[str, str], Receipt]:
        """Write what is news; gives what somebody else wrote meanwhile, to be tried again."""
        named = {whose: self._client.name(RECEIPTS, documents.receipt(*whose)) for whose in rows}
        unknown = [name for whose, name in named.items() if whose not in self._receipts]
        found = await self._client.get(unknown) if unknown else {}
        changed: dict[tuple[str, str], tuple[Receipt, bytes]] = {}
        for whose, receipt in rows.items():
            if whose not in self._receipts:
                there = found.get(named[whose])
                known = (documents.receipt_of(there), there.updated) if there else (Receipt(), None)
                self._keep(whose, *known)
            before, version = self._receipts[whose]
            after = before.merge(receipt)
            if after != before:
                fields = documents.receipt_fields(*whose, after)
                is_there = None if version else False
                changed[whose] = after, values.put(named[whose], fields, if_version=version, if_there=is_there)
        versions: Sequence[Stamp | None] = []
        try:
            versions = await self._client.write_each([write for _, write in changed.values()])
        finally:
            if not versions:
                for whose in changed:
                    self._receipts.pop(whose, None)
        again: dict[tuple[str, str], Receipt] = {}
        for (whose, (after, _)), version in zip(changed.items(), versions, strict=True):
            if version is None:
                self._receipts.pop(whose, None)
                again[whose] = rows[whose]
            else:
                self._keep(whose, after, version)
        return again

    def _keep(self, whose: tuple[str, str], receipt: Receipt, version: Stamp | None) -> None:
        self._receipts[whose] = receipt, version
        self._receipts.move_to_end(whose)
        if len(self._receipts) > _REMEMBERED:
            self._receipts.popitem(last=False)
