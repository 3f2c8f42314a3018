"""Receipts in Firestore: those of a direct conversation in one document, those of a group in four.

A document for each member would be a write for each of a hundred phones that have a message at once; so it is four,
whatever the size of the group. They are merged with what is there, under the condition that nobody wrote it
meanwhile; what this process wrote last it need not read again.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final
from zlib import crc32

from libs.storage.firestore import values
from libs.storage.firestore.client import Client
from libs.storage.firestore.ids import is_name, readable
from libs.storage.firestore.values import Found, Stamp
from libs.wire import names
from services.router.firestore import documents
from services.router.firestore.closing import Closing
from services.router.firestore.documents import RECEIPTS
from services.router.store import Receipt, ReceiptRow, StoreAway

# A receipt takes some 60 bytes, and a document holds a million: members enough for any group whose own document holds
# their ids.
_PARTS: Final = 4
_REMEMBERED: Final = 5_000
_TRIES: Final = 8
# Members that are asked for by name; of more, whole documents are read.
_NAMED: Final = 20


class Receipts:
    """The receipts of `store.Messages`."""

    _client: Client
    _closing: Closing
    # Documents as this process wrote or read them last, by their full names; no version where there was none.
    _receipts: OrderedDict[str, tuple[dict[str, Receipt], Stamp | None]]

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
        found = await self._client.get(parts(self._client, conversation_id))
        return {user: has for one in found.values() for user, has in receipts_in(one).items() if has != Receipt()}

    async def receipts_of(self, members: Collection[tuple[str, str]]) -> dict[tuple[str, str], Receipt]:
        asked = {whose: part_of(self._client, *whose) for whose in members}
        users = {user_id for _, user_id in asked}
        only = [field(user_id) for user_id in users] if len(users) <= _NAMED else ()
        found = {name: receipts_in(one) for name, one in (await self._client.get(asked.values(), only)).items()}
        has = {whose: found.get(name, {}).get(whose[1], Receipt()) for whose, name in asked.items()}
        return {whose: receipt for whose, receipt in has.items() if receipt != Receipt()}

    async def save_receipts(self, rows: Sequence[ReceiptRow]) -> None:
        await self.save_broadcast_receipts([r for r in rows if names.broadcast_of(r.conversation_id) is not None])
        given: dict[str, dict[tuple[str, str], Receipt]] = {}
        for row in rows:
            if await self._is_member(row):
                whose = row.conversation_id, row.user_id
                of_part = given.setdefault(part_of(self._client, *whose), {})
                of_part[whose] = of_part.get(whose, Receipt()).merge(row.receipt)
        for _ in range(_TRIES):
            given = await self._write(given)
            if not given:
                await self._closing.close_idle()
                return
        raise StoreAway("receipts were written by others each time")

    async def _is_member(self, row: ReceiptRow) -> bool:
        """A direct conversation's receipt can come before its first message; one of a stranger is left out.

        So is one of somebody whose id Firestore keeps for itself (`__…__`): what is theirs stays due.
        """
        if not is_name(row.user_id):
            return False
        pair = names.direct_pair(row.conversation_id)
        if pair is not None:
            return row.user_id in pair
        group_id = names.group_of(row.conversation_id)
        return group_id is not None and row.user_id in await self.members(group_id)

    async def _write(
        self, given: Mapping[str, Mapping[tuple[str, str], Receipt]]
    ) -> dict[str, dict[tuple[str, str], Receipt]]:
        """Write what is news; gives what somebody else wrote meanwhile, to be tried again."""
        unknown = [name for name in given if name not in self._receipts]
        found = await self._client.get(unknown) if unknown else {}
        for name in unknown:
            there = found.get(name)
            self._keep(name, receipts_in(there) if there else {}, there.updated if there else None)
        changed: dict[str, tuple[dict[str, Receipt], bytes]] = {}
        for name, rows in given.items():
            before, version = self._receipts[name]
            after = {user: before.get(user, Receipt()).merge(receipt) for (_, user), receipt in rows.items()}
            news = {user: receipt for user, receipt in after.items() if receipt != before.get(user, Receipt())}
            if news:
                where = next(where for where, _ in rows)
                changed[name] = before | news, write(name, where, news, version=version, is_known=True)
        versions: Sequence[Stamp | None] = []
        try:
            versions = await self._client.write_each([each for _, each in changed.values()])
        finally:
            if not versions:  # nobody knows what was written
                for name in changed:
                    self._receipts.pop(name, None)
        again: dict[str, dict[tuple[str, str], Receipt]] = {}
        for (name, (after, _)), version in zip(changed.items(), versions, strict=True):
            if version is None:
                self._receipts.pop(name, None)
                again[name] = dict(given[name])
            else:
                self._keep(name, after, version)
        while len(self._receipts) > _REMEMBERED:
            self._receipts.popitem(last=False)
        return again

    def _keep(self, name: str, receipts: dict[str, Receipt], version: Stamp | None) -> None:
        self._receipts[name] = receipts, version
        self._receipts.move_to_end(name)


def part_of(client: Client, conversation_id: str, user_id: str) -> str:
    """The full name of the document that a member's receipt is in."""
    number = 0 if names.direct_pair(conversation_id) else crc32(user_id.encode()) % _PARTS
    return _part(client, conversation_id, number)


def parts(client: Client, conversation_id: str) -> list[str]:
    """The full names of all documents with receipts of a conversation."""
    count = 1 if names.direct_pair(conversation_id) else _PARTS
    return [_part(client, conversation_id, number) for number in range(count)]


def write(
    name: str,
    conversation_id: str,
    receipts: Mapping[str, Receipt],
    *,
    gone: Iterable[str] = (),
    version: Stamp | None = None,
    is_known: bool = False,
) -> bytes:
    """A write of some members' receipts, and of those of others who are gone.

    If it `is_known` how the document stands: under the condition that it still does.
    """
    fields: dict[str, Any] = {
        "conversationId": conversation_id,
        "members": {u: _fields(r) for u, r in receipts.items()},
    }
    only = ("conversationId", *map(field, receipts), *map(field, gone))
    is_there = False if is_known and version is None else None
    return values.put(name, fields, only=only, if_version=version, if_there=is_there)


def field(user_id: str) -> str:
    """The path of a member's receipt in its document."""
    quoted = user_id.replace("\\", "\\\\").replace("`", "\\`")
    return f"members.`{quoted}`"


def _part(client: Client, conversation_id: str, number: int) -> str:
    return client.name(RECEIPTS, readable(f"{conversation_id}~{number}"))


def _fields(receipt: Receipt) -> dict[str, Any]:
    return {"delivered": receipt.delivered, "read": receipt.read, "ahead": receipt.ahead}


def receipts_in(document: Found) -> dict[str, Receipt]:
    """The receipts that a document holds, by user."""
    members = document.fields.get("members")
    if not isinstance(members, Mapping):
        return {}
    return {user: documents.receipt_of(fields) for user, fields in members.items() if isinstance(fields, Mapping)}
