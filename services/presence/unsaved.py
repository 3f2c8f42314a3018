"""Last-seen times on their way from the broker to the store: written together, every second.

While the store is away they stay where they are, one a user.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import Final

import structlog

from libs import keys
from libs.broker import AWAY, Broker
from libs.storage import StoreAway
from services.presence.lastseen import LastSeen
from services.presence.metrics import PresenceMetrics
from services.presence.settling import settle

log = structlog.get_logger(__name__)

_TURN_S: Final = 1.0
# Of one shard, in one turn: 8,000 changes a second in all.
_BATCH: Final = 1000


class Unsaved:
    """Saves. `shards` are those that this copy of presence announces."""

    def __init__(
        self, broker: Broker, store: LastSeen, metrics: PresenceMetrics, shards: Callable[[], Collection[int]]
    ) -> None:
        self._broker = broker
        self._store = store
        self._metrics = metrics
        self._shards = shards

    async def run(self) -> None:
        """Save until cancelled."""
        while True:
            await asyncio.sleep(_TURN_S)
            try:
                await self.turn()
            except AWAY as error:
                log.warning("last seen: the broker is away", error=type(error).__name__)
            except StoreAway as error:
                self._metrics.store_away.set(1)
                log.warning("last seen: the store is away", error=str(error))

    async def turn(self) -> None:
        """Save what there is. Raises `AWAY` and `StoreAway`."""
        shards = sorted(self._shards())
        replies = await self._broker.batch(
            [("HRANDFIELD", keys.unsaved(shard), _BATCH, "WITHVALUES") for shard in shards]
        )
        found: dict[int, dict[str, int]] = {}
        for shard, reply in zip(shards, replies, strict=True):
            if isinstance(reply, Exception):
                raise reply
            if reply:
                found[shard] = {user.decode(): int(seen_ms) for user, seen_ms in _pairs(reply)}
        if found:
            await self._store.save({user: ms for seen in found.values() for user, ms in seen.items()})
            await self._broker.scripts([settle(keys.unsaved(shard), seen.items()) for shard, seen in found.items()])
            self._metrics.saved.inc(sum(map(len, found.values())))
            self._metrics.store_away.set(0)


def _pairs(reply: list[bytes] | list[list[bytes]]) -> list[tuple[bytes, bytes]]:
    """RESP3 gives pairs, RESP2 one flat list."""
    flat = [part for item in reply for part in (item if isinstance(item, list) else [item])]
    return list(zip(flat[::2], flat[1::2], strict=True))
