"""The metered store is the store: what it gives and raises comes through, counted by call."""

import pytest
from prometheus_client import CollectorRegistry

from services.router.metering import metered
from services.router.metrics import RouterMetrics
from services.router.store import StoreAway
from tests.unit.services.router.fakes import FakeStore, message


async def test_calls_are_handed_on_timed_and_their_failures_counted() -> None:
    """By the names of the contract."""
    registry = CollectorRegistry()
    behind = FakeStore()
    store = metered(behind, RouterMetrics(registry))
    await store.save([message(1)])
    assert [one.seq for one in behind.log()] == [1]
    assert list(await store.find([message(1).key])) == [message(1).key]
    behind.away = {"find"}
    with pytest.raises(StoreAway):
        await store.find(["x"])
    behind.busy_s = 3.0
    assert store.busy_s == 3.0
    counts = "talowa_router_store_seconds_count", "talowa_router_store_errors_total"
    assert [registry.get_sample_value(series, {"call": "find"}) for series in counts] == [1, 1]
    assert [registry.get_sample_value(series, {"call": "save"}) for series in counts] == [1, 0]
