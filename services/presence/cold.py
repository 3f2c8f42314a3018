"""People of whom the broker holds nothing: the store says when they were last seen.

Somebody asks about a person who has been away for long, or the broker was wiped. Looking up takes as long as
the store takes, so that it is done beside the announcer, which is told what was found.
"""

import asyncio
from collections.abc import Collection
from typing import Final

from libs.directory.shards import shard_of
from libs.storage import StoreAway
from services.presence.lastseen import LastSeen
from services.presence.metrics import PresenceMetrics

# Users a look-up; the rest waits for the next.
_BATCH: Final = 500
# Users who wait; more are asked for again a second later, by who announces (announce.lua).
_WAITING_MAX: Final = 10_000


class Cold:
    """Looks people up."""

    def __init__(self, store: LastSeen, metrics: PresenceMetrics) -> None:
        self._store = store
        self._metrics = metrics
        self._waiting: dict[str, None] = {}
        self._found: dict[int, dict[str, int]] = {}
        self._wake = asyncio.Event()

    def ask(self, users: Collection[str]) -> None:
        """Look these up. While the store is away nothing is found, and they are asked for again."""
        for user in users:
            if len(self._waiting) < _WAITING_MAX:
                self._waiting[user] = None
                self._wake.set()

    def take(self, shard: int) -> dict[str, int]:
        """When those of a shard who were found since the last time were last seen; 0 for never."""
        return self._found.pop(shard, {})

    async def run(self) -> None:
        """Look up until cancelled."""
        while True:
            await self._wake.wait()
            await self.look_up()

    async def look_up(self) -> None:
        """One look-up."""
        users = list(self._waiting)[:_BATCH]
        try:
            seen = await self._store.seen(users)
        except StoreAway:
            self._metrics.store_away.set(1)
            self._waiting.clear()
        else:
            for user in users:
                del self._waiting[user]
                self._found.setdefault(shard_of(user), {})[user] = seen.get(user, 0)
            self._metrics.looked_up.inc(len(users))
            self._metrics.store_away.set(0)
        if not self._waiting:
            self._wake.clear()
