"""Take out of the hot log what everybody confirmed long ago. The record keeps it.

One router at a time does this: the owner of partition 0. Two would do no harm: every step may be repeated.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from libs.clock import now_ms
from services.router.metrics import RouterMetrics
from services.router.store import Store, StoreAway

log = structlog.get_logger(__name__)

_DAY_MS: Final = 24 * 3600 * 1000
# Small steps with a pause between them: a save never waits for more than one.
_NOTES_A_STEP: Final = 500
_CONVERSATIONS_A_STEP: Final = 200
_PAUSE_S: Final = 0.02
# A store that was away is asked again.
_AGAIN_S: Final = 60.0
# A lease that comes is noticed within this time.
_LOOK_S: Final = 1.0


class Retention:
    """Runs once when this router gets its turn (`is_ours`), and then every `every_s`."""

    def __init__(
        self, store: Store, metrics: RouterMetrics, is_ours: Callable[[], bool], *, days: float, every_s: float
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._is_ours = is_ours
        self._days = days
        self._every_s = every_s

    async def run(self) -> None:
        """Run until cancelled."""
        due_at = time.monotonic()
        while True:
            if not self._is_ours():
                due_at = time.monotonic()  # whoever had it before may not have come to it
            elif time.monotonic() >= due_at:
                due_at = time.monotonic() + self._every_s
                try:
                    await self.turn(now_ms())
                except StoreAway as error:
                    log.warning("retention: the store is away", error=str(error))
                    due_at = time.monotonic() + min(_AGAIN_S, self._every_s)
            await asyncio.sleep(min(_LOOK_S, self._every_s))

    async def turn(self, at_ms: int) -> None:
        """Act upon old notes, then take new ones; stops half-way when it is not ours any more. Raises `StoreAway`."""
        began = time.monotonic()
        before_ms = at_ms - round(self._days * _DAY_MS)
        retired = 0
        while self._is_ours() and (count := await self._store.retire(before_ms, _NOTES_A_STEP)) is not None:
            retired += count
            self._metrics.retired.inc(count)
            await asyncio.sleep(_PAUSE_S)
        after: str | None = ""
        while self._is_ours() and after is not None:
            after = await self._store.notice(at_ms, _CONVERSATIONS_A_STEP, after=after)
            await asyncio.sleep(_PAUSE_S)
        if self._is_ours():
            self._metrics.retention_run_at.set(at_ms / 1000)
            self._metrics.retention_s.set(time.monotonic() - began)
        if retired:
            log.info("messages left the hot log", messages=retired)
