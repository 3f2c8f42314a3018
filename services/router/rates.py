"""How many messages of each kind a user may send in a sliding minute, over all devices and gateways.

Messages are counted by their keys, so that a replay or a repeat is the same message and counts once.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from msgspec import Struct

from libs.limits import Limiter, Take
from libs.wire.codes import Code, Refusal
from services.router.settings import RouterSettings

# The limit that each type of message counts under; a location is a text of sorts.
_LIMIT_OF: Final = {
    "text": "text",
    "location": "text",
    "image": "image",
    "document": "document",
    "voice": "voice",
    "emergency": "emergency",
}


class Counted(Struct, frozen=True):
    """A message (or a broadcast) to count: whose, of which type, and the key that makes it one."""

    user_id: str
    type: str
    key: str


class Rates:
    """Counts messages. Methods raise `libs.broker.AWAY`."""

    def __init__(self, limiter: Limiter, per_minute: Mapping[str, int]) -> None:
        self._limiter = limiter
        self._per_minute = per_minute

    async def check(self, counted: Counted) -> None:
        """Count one. Raises `Refusal` with `rate_limited`."""
        refused, _ = await self.count([counted])
        for refusal in refused.values():
            raise refusal

    async def count(self, batch: Sequence[Counted]) -> tuple[dict[str, Refusal], frozenset[str]]:
        """Count a batch, in one round trip: the refusals by key, and the keys that were not counted before."""
        takes = [self._take(one) for one in batch]
        waits = await self._limiter.take(takes)
        refused = {
            one.key: Refusal(Code.RATE_LIMITED, retry_after_ms=wait_ms)
            for one, wait_ms in zip(batch, waits, strict=True)
            if wait_ms > 0
        }
        counted = zip(batch, takes, waits, strict=True)
        return refused, frozenset(one.key for one, take, wait_ms in counted if wait_ms == 0 and take.most)

    async def give_back(self, batch: Collection[Counted]) -> None:
        """These turned out to be messages of long ago, sent again."""
        if batch:
            await self._limiter.give_back([self._take(one) for one in batch])

    def _take(self, one: Counted) -> Take:
        limit = _LIMIT_OF.get(one.type, "text")
        return Take(limit, one.user_id, one.key, self._per_minute[limit])


def per_minute(s: RouterSettings) -> dict[str, int]:
    """The limits of messages, by name."""
    return {
        "text": s.text_per_minute,
        "image": s.image_per_minute,
        "document": s.document_per_minute,
        "voice": s.voice_per_minute,
        "emergency": s.emergency_per_minute,
    }
