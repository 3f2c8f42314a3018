"""A circuit breaker: while the store is away, one call at a time finds out whether it still is."""

import asyncio
import time
from typing import Final

from libs.storage import StoreAway

# Of the time while a store is away, callers spend at most a third waiting for it.
_PAUSES: Final = 2.0


class Breaker:
    """Closed, calls pass with all of their patience. Open, they are told, but for one that tries.

    Who comes within `grace_s` of its opening waits so long for it to pass; later nobody does, for a message makes
    several calls, and those behind it wait for each. With a grace of all the patience everybody waits, each time.
    Tries begin short and grow to the full patience, so that a store that is slow is not taken for away for ever.
    """

    def __init__(self, patience_s: float, grace_s: float) -> None:
        self._patience_s = patience_s
        self._grace_s = grace_s
        # Who waits with all of their patience need not be spared.
        self._spares = grace_s < patience_s
        self._why = ""
        self._try_s = self._first_s = min(patience_s, max(patience_s / 8, grace_s))
        self._try_at = 0.0
        self._grace_until = 0.0
        self._is_trying = False
        self._back = asyncio.Event()
        self._back.set()

    @property
    def is_open(self) -> bool:
        """Whether the store counts as away."""
        return not self._back.is_set()

    async def enter(self) -> float:
        """How long a call may take now. Raises `StoreAway`."""
        until = self._grace_until if self._spares else time.monotonic() + self._grace_s
        while self.is_open:
            now = time.monotonic()
            if now >= self._try_at and not self._is_trying:
                self._is_trying = True
                return self._try_s
            if now >= until:
                raise StoreAway(self._why)
            pause_s = until - now if self._is_trying else min(until, self._try_at) - now
            try:
                async with asyncio.timeout(max(pause_s, 0.001)):
                    await self._back.wait()
            except TimeoutError:
                continue
        return self._patience_s

    def passed(self) -> None:
        """A call was answered, in whatever way."""
        self._is_trying = False
        self._try_s = self._first_s
        self._back.set()

    def failed(self, why: str) -> None:
        """A call had no answer in its time."""
        self._why = why
        if not self.is_open:
            self._grace_until = time.monotonic() + self._grace_s
        if self._is_trying:
            pause_s = self._try_s * _PAUSES if self._spares else 0.0
            self._try_at = time.monotonic() + pause_s
            self._try_s = min(self._try_s * 2, self._patience_s)
        self._is_trying = False
        self._back.clear()

    def left(self) -> None:
        """A call was cancelled: nothing was learned."""
        self._is_trying = False
