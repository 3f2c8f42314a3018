"""Whether this router still hears: if one of its loops hangs, it says so, leaves and is started again.

A hanging loop keeps its leases, as another one renews them: nobody else would read these partitions. Canaries from the
gateways see to it that there is always something to read; that their paths are silent is how others notice.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from libs import cluster, keys
from libs.broker import AWAY, Broker
from libs.deafness import Deafness, Sight
from libs.lifecycle import Surrender

log = structlog.get_logger(__name__)

_SERVICE: Final = "router"


class Watch:
    """Looks every period; never, if that is 0."""

    def __init__(
        self,
        broker: Broker,
        router: str,
        surrender: Surrender,
        sights: Callable[[], Mapping[str, Sight]],
        store_busy_s: Callable[[], float],
        *,
        period_s: float,
    ) -> None:
        self._broker = broker
        self._router = router
        self._surrender = surrender
        self._sights = sights
        self._store_busy_s = store_busy_s
        self._period_s = period_s
        self._deafness = Deafness(period_s)
        self.problem: str | None = None

    async def run(self) -> None:
        """Look until cancelled."""
        if not self._period_s:
            return
        while True:
            await asyncio.sleep(self._period_s)
            await self.look()

    async def look(self) -> None:
        """One look; without a broker it proves nothing, as loops that wait for it do not hang."""
        try:
            await self._look()
        except AWAY:
            self._deafness.forget()
            self.problem = None

    async def _look(self) -> None:
        await self._broker.command("EXISTS", keys.given_up(_SERVICE))
        if self._store_busy_s() > self._period_s:
            self._deafness.forget()  # so may be who waits for a disk: starting again would not mend it
        still = self._deafness.look(time.monotonic(), self._sights())
        if not still:
            self.problem = None
            return
        self.problem = f"{still[0]} has stood still for three periods of CANARY_S"
        if not self._surrender.is_stopping and await cluster.may_give_up(self._broker, _SERVICE, self._router):
            log.error("this router hangs: it leaves, to be started again", what=still)
            self._surrender.begin(self.problem)
