"""A frame of no meaning through every partition and back, so that a path that is silent is noticed.

The frames go the way of messages and with them: up with the uplink, through both stages of the router that owns the
partition, down with what it says to this gateway; that of broadcasts comes back among the alarms. A silent path may be
anybody's fault, and restarting the wrong process mends nothing: this gateway gives itself up only when something in it
stands still, while the broker answers it.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import structlog

from libs import cluster
from libs.broker import AWAY, Broker
from libs.deafness import Deafness, Sight
from libs.lifecycle import Surrender
from libs.wire import names
from libs.wire.frames import Canary, CanaryReply, Origin
from services.gateway.metrics import GatewayMetrics
from services.gateway.uplink import Uplink

log = structlog.get_logger(__name__)

_SERVICE: Final = "gateway"
_MS: Final = 1000
# A beat is several calls, each of which may take the 5 s after which the broker is away.
_A_BEAT_S: Final = 30.0


class Canaries:
    """Sends one round each period, and looks what stands still; neither, if the period is 0."""

    def __init__(
        self,
        broker: Broker,
        gateway: str,
        uplink: Uplink,
        metrics: GatewayMetrics,
        surrender: Surrender,
        *,
        partitions: int,
        period_s: float,
        read_up_to: Callable[[], Mapping[str, str]],
        read_failures: Callable[[], int],
        beats: Callable[[], int],
    ) -> None:
        self._broker = broker
        self._gateway = gateway
        self._origin = Origin(gateway, "")
        self._uplink = uplink
        self._surrender = surrender
        self._period_s = period_s
        self._read_up_to = read_up_to
        self._read_failures = read_failures
        self._beats = beats
        self._round_trip_s = metrics.canary_s
        self._deafness = Deafness(period_s)
        now = time.monotonic()
        # When each partition was heard of last.
        self._heard_at = dict.fromkeys(range(names.alarm_partition(partitions) + 1), now)
        self.problem: str | None = None
        if period_s:
            for partition in self._heard_at:
                metrics.canary_silent_s.labels(partition).set_function(partial(self.silent_s, partition))

    def silent_s(self, partition: int) -> float:
        """How long ago the last canary came back from a partition, or this gateway began."""
        return time.monotonic() - self._heard_at[partition]

    def heard(self, reply: CanaryReply) -> None:
        """One came back."""
        now = time.monotonic()
        if reply.partition in self._heard_at:
            self._heard_at[reply.partition] = now
            self._round_trip_s.observe(max(0.0, now - reply.sent_ms / _MS))

    async def run(self) -> None:
        """Send and look until cancelled."""
        if not self._period_s:
            return
        while True:
            self._uplink.publish_canaries(Canary(self._origin, round(time.monotonic() * _MS)))
            await asyncio.sleep(self._period_s)
            await self.look()

    async def look(self) -> None:
        """One look; without a broker it proves nothing, as all that is silent waits for it."""
        try:
            await self._look()
        except AWAY:
            self._deafness.forget()
            self.problem = None

    async def _look(self) -> None:
        unread = await self._unread()
        still = self._deafness.look(time.monotonic(), {**self._sights(), **unread})
        if not still:
            self.problem = None
            return
        self.problem = f"{still[0]} has stood still for three periods of CANARY_S"
        if not self._surrender.is_stopping and await cluster.may_give_up(self._broker, _SERVICE, self._gateway):
            log.error("this gateway hangs: it leaves, to be started again", what=still)
            self._surrender.begin(self.problem)

    def _sights(self) -> dict[str, Sight]:
        sights = {"the heartbeat": Sight(self._beats(), _A_BEAT_S)}
        if len(self._uplink):
            sights["the uplink"] = Sight(self._uplink.tries)
        return sights

    async def _unread(self) -> dict[str, Sight]:
        """The first entry of each of our streams that is not read yet: one that stays there is not going to be.

        Who tries to read, and fails, does not hang.
        """
        positions = dict(self._read_up_to())
        replies = await self._broker.batch(
            [("XRANGE", stream, f"({position}", "+", "COUNT", 1) for stream, position in positions.items()]
        )
        found: dict[str, Sight] = {}
        for stream, entries in zip(positions, replies, strict=True):
            if isinstance(entries, Exception):
                raise entries
            if entries:
                what = f"the reader of {stream.rpartition(':')[2]}"
                found[what] = Sight((entries[0][0], self._read_failures()))
        return found
