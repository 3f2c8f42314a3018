"""What the ledger is compared with, in SQLite."""

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from libs.storage.sqlite import Lane, json_of, read
from services.router.sqlite.messages import RECEIPTS_OF, receipts_in
from services.router.store import Place, Receipt

_SETTLED: Final = """
    SELECT json_quote(key) AS shape FROM messages
    WHERE key IN (SELECT value FROM json_each(?)) AND NOT is_void AND (
        conversation_id NOT LIKE 'direct:%' OR EXISTS (
            SELECT 1 FROM members WHERE members.conversation_id = messages.conversation_id AND user_id <> sender_id
        )
    )
"""
_PLACES: Final = """
    SELECT json_array(key, conversation_id, seq, sender_id) AS shape
    FROM messages WHERE key IN (SELECT value FROM json_each(?)) AND NOT is_void
"""
_REACH: Final = """
    SELECT json_array(count(*), coalesce(sum(
        delivered >= :seq OR EXISTS (SELECT 1 FROM json_each(ahead) WHERE value = :seq)
    ), 0)) AS shape FROM members WHERE conversation_id = :conversation_id AND user_id <> :but
"""

_keys: Final = msgspec.json.Decoder(frozenset[str])
_places: Final = msgspec.json.Decoder(list[tuple[str, str, int, str]])
_reach: Final = msgspec.json.Decoder(tuple[tuple[int, int]])


class Ledger:
    """`store.Ledger`. No message waits for it: it has the lane of what takes its time."""

    _patient: Lane

    async def settled(self, wanted: Mapping[str, str]) -> frozenset[str]:
        return _keys.decode(await self._patient.read(_SETTLED, json_of(list(wanted)))) if wanted else frozenset()

    async def places(self, keys: Collection[str]) -> dict[str, Place]:
        found = _places.decode(await self._patient.read(_PLACES, json_of(list(keys)))) if keys else []
        return {key: Place(conversation_id, seq, sender_id) for key, conversation_id, seq, sender_id in found}

    async def memberships(self, members: Collection[tuple[str, str]]) -> dict[tuple[str, str], Receipt]:
        return receipts_in(await self._patient.read(RECEIPTS_OF, json_of(list(members)))) if members else {}

    async def reach(self, conversation_id: str, seq: int, but: str) -> tuple[int, int]:
        asked = {"conversation_id": conversation_id, "seq": seq, "but": but}
        return _reach.decode(await self._patient.run(lambda db: read(db, _REACH, asked)))[0]
