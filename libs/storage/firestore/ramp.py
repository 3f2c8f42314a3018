"""The 500/50/5 rule: new traffic begins at 500 writes a second and may grow by half every five minutes.

Firestore splits what it keeps while traffic grows; what grows faster is refused by the collections it hits.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from libs.storage import StoreAway

_GROWTH: Final = 1.5
_EVERY_S: Final = 300.0


class Ramp:
    """How fast writes may go now. 0 for `begin_at_per_s`: at any speed."""

    def __init__(self, begin_at_per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = begin_at_per_s
        self._clock = clock
        self._since = clock()
        self._free_at = self._since - 1.0
        self._is_used = False

    @property
    def per_s(self) -> float:
        """The rate now, which grows with what it is used for: an hour of silence earns nothing."""
        return self._per_s

    def delay_s(self, writes: int) -> float:
        """How long these writes, which count from now on, have to wait."""
        now = self._clock()
        if not self._per_s:
            return 0.0
        if now - self._since >= _EVERY_S and self._is_used:
            self._per_s *= _GROWTH
            self._since, self._is_used = now, False
        self._is_used = True
        # A second's worth may go at once.
        self._free_at = max(self._free_at, now - 1.0) + writes / self._per_s
        return max(0.0, self._free_at - now)

    async def pace(self, writes: int, patience_s: float) -> None:
        """Wait for the turn of these writes. Raises `StoreAway` where it is too far off; then they do not count."""
        delay_s = self.delay_s(writes)
        if delay_s > patience_s:
            self._free_at -= writes / self._per_s
            raise StoreAway(
                f"new traffic begins slowly: the next write is {delay_s:.1f} s off. See FIRESTORE_WRITES_PER_S."
            )
        if delay_s:
            await asyncio.sleep(delay_s)
