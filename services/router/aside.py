"""What is answered beside the batches, one after the other: requests that may take long hold up no message.

The batch is acknowledged meanwhile, so a question that waits here does not survive its router: the client hears
nothing and asks again. A partition is not handed over before its questions are answered.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import structlog

from libs.broker import AWAY, Broker
from libs.wire.frames import Search
from services.router import outbound, routing
from services.router.metrics import RouterMetrics
from services.router.partition import Partition
from services.router.requests import Requests
from services.router.routing import Saying

log = structlog.get_logger(__name__)

# A search takes milliseconds: so many do not wait unless something is wrong.
_WAITING_MAX: Final = 200
# By then the client has given up, or is about to.
_PATIENCE_S: Final = 5.0


class Aside:
    """A bounded line of questions; beyond the bound they are refused as `overloaded`."""

    def __init__(
        self, requests: Requests, broker: Broker, metrics: RouterMetrics, seal: routing.Seal = routing.no_seal
    ) -> None:
        self._requests = requests
        self._broker = broker
        self._metrics = metrics
        self._seal = seal
        self._waiting: asyncio.Queue[tuple[Partition, Search, float]] = asyncio.Queue(_WAITING_MAX)

    def ask_nowait(self, partition: Partition, frame: Search) -> Sequence[Saying]:
        """Have it answered later; what is to be said now, if it cannot be."""
        if self._waiting.full():
            return self._requests.overloaded(partition, frame)
        self._waiting.put_nowait((partition, frame, time.monotonic()))
        partition.under_way += 1
        return ()

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            partition, frame, asked_at = await self._waiting.get()
            try:
                if not partition.is_lost:  # else its owner answers, or the client asks again
                    await self._answer(partition, frame, is_late=time.monotonic() > asked_at + _PATIENCE_S)
            except AWAY as error:
                log.warning("an answer could not be published", error=type(error).__name__)
            finally:
                partition.under_way -= 1
                self._metrics.search_s.observe(time.monotonic() - asked_at)

    async def _answer(self, partition: Partition, frame: Search, *, is_late: bool) -> None:
        refused = self._requests.overloaded(partition, frame) if is_late else None
        said = refused or await self._requests.answer(partition, frame)
        if isinstance(said, Sequence):
            plan = routing.plan(said, {}, {partition.number: partition.token}, self._seal)
            await outbound.publish(self._broker, plan, self._metrics)
