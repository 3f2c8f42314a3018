"""How far each conversation was retired, in Firestore: fields of its document.

Only conversations with something new since all of it was confirmed are looked at (`isUnsettled`).
"""

from typing import Any, Final

from libs.storage.firestore import values
from libs.storage.firestore.client import Client, Conflict
from libs.storage.firestore.query import Query
from libs.storage.firestore.values import Found
from services.router.firestore import documents
from services.router.firestore.documents import CONVERSATIONS, MESSAGES, VOID
from services.router.store import Receipt

_PIECE: Final = 50


class Retention:
    """`store.Retention`."""

    _client: Client

    async def receipts(self, conversation_id: str) -> dict[str, Receipt]:
        """See `store.Messages`."""
        raise NotImplementedError

    async def notice(self, now_ms: int, limit: int, *, after: str = "") -> str | None:
        query = Query(
            collection=CONVERSATIONS,
            where=(("isUnsettled", "==", True), ("conversationId", ">", after)),
            order=("conversationId",),
            limit=limit,
        )
        last: str | None = None
        for document in await self._client.query(query):
            last = documents.text(document.fields, "conversationId")
            if "notedAtMs" not in document.fields:
                await self._note(document, now_ms)
        return last

    async def retire(self, noticed_before_ms: int, limit: int) -> int | None:
        query = Query(
            collection=CONVERSATIONS,
            where=(("notedAtMs", "<=", noticed_before_ms),),
            order=("notedAtMs",),
            limit=limit,
        )
        noted = await self._client.query(query)
        if not noted:
            return None
        writes: list[bytes] = []
        counts: list[int] = []
        for document in noted:
            up_to = documents.number(document.fields, "notedUpTo")
            counts.append(up_to - documents.number(document.fields, "retiredUpTo"))
            fields = {"retiredUpTo": up_to}
            name = self._client.name(CONVERSATIONS, document.id)
            # Fields that are named and not given are removed.
            removed = ("retiredUpTo", "notedUpTo", "notedAtMs")
            writes.append(values.put(name, fields, only=removed, if_version=document.updated))
        versions = await self._client.write_each(writes)
        return sum(count for count, version in zip(counts, versions, strict=True) if version is not None)

    async def _note(self, document: Found, now_ms: int) -> None:
        fields = document.fields
        retired, is_open = documents.number(fields, "retiredUpTo"), fields.get("isOpen") is not False
        up_to, is_all = await self._confirmed(fields, retired)
        given: dict[str, Any] = {"notedUpTo": up_to, "notedAtMs": now_ms} if up_to > retired else {}
        if is_all and not is_open:
            given["isUnsettled"] = False
        if not given:
            return
        name = self._client.name(CONVERSATIONS, document.id)
        try:
            await self._client.commit([values.put(name, given, only=tuple(given), if_version=document.updated)])
        except Conflict:
            return  # it goes on: the next look is soon enough

    async def _confirmed(self, fields: dict[str, Any], retired: int) -> tuple[int, bool]:
        """Up to where everybody has all that others wrote, and whether that is all there is."""
        where, members = documents.text(fields, "conversationId"), documents.texts(fields, "participantIds")
        receipts = await self.receipts(where)
        marks = {user: max(receipts.get(user, Receipt()).delivered, retired) for user in members}
        if not marks:
            return 0, False
        last = min(marks.values())
        query = Query(
            collection=MESSAGES,
            where=(("conversationId", "==", where), ("seq", ">", last)),
            order=("seq",),
            only=("seq", "senderId", "rank"),
            limit=_PIECE,
        )
        while True:
            page = await self._client.query(query)
            for message in page:
                seq, sender = documents.number(message.fields, "seq"), documents.text(message.fields, "senderId")
                is_void = documents.number(message.fields, "rank") == VOID
                if not is_void and any(mark < seq for user, mark in marks.items() if user != sender):
                    return seq - 1, False
                last = seq
            if len(page) < _PIECE:
                return last, True
            query = query.from_((last,))
