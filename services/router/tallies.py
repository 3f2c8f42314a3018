"""How far a broadcast has come: counted apart and one at a time, so that no broadcast waits for a count.

Who asks about one that is being counted is answered with it.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from libs.broker import AWAY, Broker
from libs.wire import payloads
from libs.wire.codes import Code, Refusal
from libs.wire.frames import Tally as Asked
from services.router import answers, outbound, routing
from services.router.metrics import RouterMetrics
from services.router.partition import Partition
from services.router.routing import Saying
from services.router.store import Store, StoreAway, Tally

log = structlog.get_logger(__name__)

# Operators who wait for a count; an answer lost with its router is asked for again.
_WAITING_MAX: Final = 16


class Tallies:
    """Answers operators."""

    def __init__(self, store: Store, broker: Broker, metrics: RouterMetrics) -> None:
        self._store = store
        self._broker = broker
        self._metrics = metrics
        self._asked: asyncio.Queue[tuple[Partition, Asked]] = asyncio.Queue(_WAITING_MAX)

    def ask(self, partition: Partition, asked: Asked) -> Sequence[Saying]:
        """Take a question; what is said at once is that there are too many."""
        try:
            self._asked.put_nowait((partition, asked))
        except asyncio.QueueFull:
            return [answers.refused(partition.number, asked.origin, Refusal(Code.OVERLOADED))]
        return []

    async def run(self) -> None:
        """Count until cancelled."""
        while True:
            partition, asked = await self._asked.get()
            found = await self._count(asked.broadcast_id)
            together = [(partition, asked), *self._about(asked.broadcast_id)]
            tokens = {partition.number: partition.token for partition, _ in together}
            plan = routing.plan([_said(partition.number, one, found) for partition, one in together], {}, tokens)
            try:
                await outbound.publish(self._broker, plan, self._metrics)
            except AWAY as error:
                log.warning("broker is away", error=type(error).__name__)

    def _about(self, broadcast_id: str) -> list[tuple[Partition, Asked]]:
        """Who asked about the same meanwhile: a count that takes longer than they wait would never end."""
        waiting = [self._asked.get_nowait() for _ in range(self._asked.qsize())]
        for one in waiting:
            if one[1].broadcast_id != broadcast_id:
                self._asked.put_nowait(one)
        return [one for one in waiting if one[1].broadcast_id == broadcast_id]

    async def _count(self, broadcast_id: str) -> Tally | Refusal:
        try:
            tally = await self._store.tally(broadcast_id)
        except StoreAway:
            return Refusal(Code.UNAVAILABLE)
        return Refusal(Code.NOT_FOUND) if tally is None else tally


def _said(number: int, asked: Asked, found: Tally | Refusal) -> Saying:
    if isinstance(found, Refusal):
        return answers.refused(number, asked.origin, found)
    return answers.accepted(number, asked.origin, _body(asked.broadcast_id, found))


def _body(broadcast_id: str, tally: Tally) -> payloads.BroadcastTally:
    recipients = sum(place.recipients for place in tally.reached)
    delivered = sum(place.delivered for place in tally.reached)
    return payloads.BroadcastTally(
        broadcast_id=broadcast_id,
        timestamp=tally.at_ms,
        location_level=tally.level,
        priority=tally.priority,
        recipients=recipients,
        delivered=delivered,
        due=recipients - delivered,
        locations=[
            payloads.PlaceTally(place.place_id, place.recipients, place.delivered, place.recipients - place.delivered)
            for place in tally.reached
        ],
    )
