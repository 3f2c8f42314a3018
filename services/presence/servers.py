"""How the broker's servers are, in their own words: memory, disk, replicas.

They have no exporter that is ours, and one look every ten seconds costs nothing. Each copy of presence looks.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import structlog

from libs.broker import AWAY, Broker
from services.presence.metrics import PresenceMetrics

log = structlog.get_logger(__name__)

_EVERY_S: Final = 10.0
# What a disk may refuse: the append-only file, its rewrite, the snapshot.
_WRITES: Final = ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")


class Servers:
    """Asks them."""

    def __init__(self, broker: Broker, metrics: PresenceMetrics) -> None:
        self._broker = broker
        self._metrics = metrics

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.look()
            except AWAY as error:
                log.debug("broker is away", error=type(error).__name__)
            await asyncio.sleep(_EVERY_S)

    async def look(self) -> None:
        """One look. Raises `AWAY`. Who does not answer, or may not say, has said nothing new."""
        for node, info in (await self._broker.each("INFO")).items():
            if isinstance(info, Mapping):
                self._note(node, info)

    def _note(self, node: str, info: Mapping[str, Any]) -> None:
        m = self._metrics
        m.redis_seen_at.labels(node).set(time.time())
        m.redis_memory_bytes.labels(node).set(_number(info, "used_memory"))
        limit = _number(info, "maxmemory") or _number(info, "total_system_memory")
        m.redis_memory_max_bytes.labels(node).set(limit)
        m.redis_evicts.labels(node).set(info.get("maxmemory_policy", "noeviction") != "noeviction")
        m.redis_persists.labels(node).set(_number(info, "aof_enabled") > 0)
        m.redis_write_ok.labels(node).set(all(info.get(write, "ok") == "ok" for write in _WRITES))
        m.redis_replicas.labels(node).set(_number(info, "connected_slaves"))
        m.redis_clients.labels(node).set(_number(info, "connected_clients"))


def _number(info: Mapping[str, Any], field: str) -> float:
    """What a server says, or 0 where it does not: some that are managed keep it to themselves."""
    value = info.get(field, 0)
    return float(value) if isinstance(value, int | float) else 0.0
