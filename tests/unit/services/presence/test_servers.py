"""What the broker's servers say of themselves is told as it is."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError

from services.presence.metrics import PresenceMetrics
from services.presence.servers import Servers

WELL: dict[str, Any] = {
    "used_memory": 1000,
    "maxmemory": 4000,
    "total_system_memory": 8000,
    "maxmemory_policy": "noeviction",
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "aof_last_bgrewrite_status": "ok",
    "rdb_last_bgsave_status": "ok",
    "connected_slaves": 2,
    "connected_clients": 7,
}


class FakeBroker:
    """Three nodes, of which one is there and may say how it is."""

    def __init__(self, **says: Any) -> None:
        self.replies: dict[str, Any] = {
            "a:1": WELL | says,
            "b:2": RedisConnectionError("gone"),
            "c:3": NoPermissionError("may not say"),
        }

    async def each(self, *_: Any) -> dict[str, Any]:
        return self.replies


async def told(**says: Any) -> dict[str, float | None]:
    """What is exported of the first node that says so."""
    registry = CollectorRegistry()
    broker: Any = FakeBroker(**says)
    await Servers(broker, PresenceMetrics(registry)).look()
    names = ("memory_bytes", "memory_max_bytes", "evicts", "persists", "write_ok", "replicas", "clients")
    for silent in ("b:2", "c:3"):
        assert registry.get_sample_value("talowa_redis_write_ok", {"node": silent}) is None
    assert registry.get_sample_value("talowa_redis_seen_timestamp_seconds", {"node": "a:1"})
    return {name: registry.get_sample_value(f"talowa_redis_{name}", {"node": "a:1"}) for name in names}


async def test_a_server_that_is_well() -> None:
    """Bytes, ones and noughts."""
    assert await told() == {
        "memory_bytes": 1000,
        "memory_max_bytes": 4000,
        "evicts": 0,
        "persists": 1,
        "write_ok": 1,
        "replicas": 2,
        "clients": 7,
    }


@pytest.mark.parametrize("write", ["aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status"])
async def test_a_disk_that_refuses_is_told(write: str) -> None:
    """Whatever was to be written."""
    assert (await told(**{write: "err"}))["write_ok"] == 0


async def test_a_server_without_a_bound_has_what_its_machine_has() -> None:
    """`maxmemory 0`."""
    assert (await told(maxmemory=0))["memory_max_bytes"] == 8000


async def test_a_server_that_forgets_what_it_likes_or_keeps_no_file_is_told() -> None:
    """Both break promises."""
    found = await told(maxmemory_policy="allkeys-lru", aof_enabled=0)
    assert (found["evicts"], found["persists"]) == (1, 0)
