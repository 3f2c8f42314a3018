"""Clear dead gateways away, and bound the downlinks of live ones.

A gateway whose name lapsed is reaped: nobody is on it. A live gateway that leaves more untaken than the
bound has its downlink dropped whole; it notices, makes a new one, and its sessions fetch what is due.
"""

import asyncio
import time
from typing import Final

import structlog

from libs import keys
from libs.broker import AWAY, Broker
from libs.directory import Directory
from services.presence.metrics import PresenceMetrics

log = structlog.get_logger(__name__)

_TURN_S: Final = 1.0
_STALE_S: Final = 5 * _TURN_S
# After the broker was away all names have lapsed: a gateway that lives beats again within 2 s of its return.
# With the 6 s that a name lives: a gateway killed with -9 is cleared away after 10 s at most. Promise: 15 s.
_GRACE_S: Final = 3.0


class Reaper:
    """Looks every second."""

    def __init__(
        self, broker: Broker, directory: Directory, metrics: PresenceMetrics, *, downlink_max_entries: int
    ) -> None:
        self._broker = broker
        self._directory = directory
        self._metrics = metrics
        self._downlink_max_entries = downlink_max_entries
        self._looked_at = 0.0
        # Since when each lapsed gateway was seen to be, by a broker that answered all the while.
        self._lapsed: dict[str, float] = {}

    @property
    def problem(self) -> str | None:
        """Why presence is not ready, if it is not."""
        return None if time.monotonic() - self._looked_at < _STALE_S else "the broker does not answer"

    async def run(self) -> None:
        """Reap until cancelled."""
        while True:
            began = time.monotonic()
            try:
                await self.turn()
                if time.monotonic() > began + _TURN_S:
                    self._lapsed.clear()  # it hung: others may not have been heard either
            except AWAY as error:
                self._lapsed.clear()
                log.warning("broker is away", error=type(error).__name__)
            await asyncio.sleep(_TURN_S)

    async def turn(self) -> None:
        """One look. Raises `AWAY`."""
        lapsed, now = await self._directory.lapsed(), time.monotonic()
        self._lapsed = {gateway: self._lapsed.get(gateway, now) for gateway in lapsed}
        for gateway, since in self._lapsed.items():
            if now < since + _GRACE_S:
                continue
            seats = await self._directory.reap(gateway)
            self._metrics.reaped.inc()
            self._metrics.seats_reaped.inc(seats)
            log.warning("gateway reaped", gateway=gateway, seats=seats)
        live = sorted(await self._directory.live())
        self._metrics.gateways.set(len(live))
        streams = [(gateway, key(gateway)) for gateway in live for key in (keys.downlink, keys.alarms)]
        lengths = await self._broker.batch([("XLEN", stream) for _, stream in streams])
        for (gateway, stream), length in zip(streams, lengths, strict=True):
            if isinstance(length, int) and length > self._downlink_max_entries:
                await self._broker.command("DEL", stream)
                self._metrics.downlinks_dropped.inc()
                log.warning("downlink dropped: its gateway does not read", gateway=gateway, entries=length)
        self._looked_at = time.monotonic()
