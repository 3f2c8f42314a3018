"""The run of retention: old notes first, then new ones; only while it is ours; again when it is time."""

import asyncio
from typing import Final

import pytest
from prometheus_client import CollectorRegistry

from libs import lifecycle
from services.router import retention as module
from services.router.metrics import RouterMetrics
from services.router.retention import Retention
from services.router.store import StoreAway
from tests.support.waiting import until
from tests.unit.services.router.fakes import FIELD, RAMA_SITA, FakeStore, message

_DAY_MS: Final = 24 * 3600 * 1000


class Turns:
    """A retention with its fakes, and whether it is ours."""

    def __init__(self, *, every_s: float = 3600.0) -> None:
        self.store = FakeStore()
        self.store.put(message(1), message(1, FIELD))
        self.is_ours = True
        self.registry = CollectorRegistry()
        metrics = RouterMetrics(self.registry)
        self.retention = Retention(self.store, metrics, lambda: self.is_ours, days=7.0, every_s=every_s)

    def value(self, series: str) -> float | None:
        return self.registry.get_sample_value(f"talowa_router_{series}")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE_S", 0.0)
    monkeypatch.setattr(module, "_LOOK_S", 0.0)


async def test_what_is_noticed_is_retired_by_a_run_a_week_later() -> None:
    """And counted, with the time of the run."""
    turns = Turns()
    await turns.retention.turn(_DAY_MS)
    assert turns.store.retired == []
    await turns.retention.turn(8 * _DAY_MS)
    assert sorted(turns.store.retired) == sorted([RAMA_SITA, FIELD])
    assert turns.value("retired_messages_total") == 2
    assert turns.value("retention_run_timestamp_seconds") == 8 * _DAY_MS / 1000


async def test_a_lease_that_goes_ends_the_run() -> None:
    """Nothing is asked of the store any more, and the run does not count as one."""
    turns = Turns()
    turns.is_ours = False
    await turns.retention.turn(_DAY_MS)
    assert turns.store.asked == []
    assert turns.value("retention_run_timestamp_seconds") == 0


async def test_it_runs_when_it_becomes_ours_and_not_again_before_it_is_time() -> None:
    """Whoever had it before may not have come to it."""
    turns = Turns()
    turns.is_ours = False
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(turns.retention.run())
        turns.is_ours = True
        await until(lambda: turns.store.asked.count("notice") == 2, 5, "a run")
        for _ in range(50):
            await asyncio.sleep(0)
        assert turns.store.asked.count("retire") == 1
        await lifecycle.cancel([running])


async def test_a_store_that_is_away_is_asked_again_at_the_next_run() -> None:
    """The run is given up, the loop lives."""
    turns = Turns(every_s=0.01)
    turns.store.away = {"retire"}
    with pytest.raises(StoreAway):
        await turns.retention.turn(0)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(turns.retention.run())
        await until(lambda: turns.store.asked.count("retire") >= 3, 5, "another try")
        turns.store.away = set()
        await until(lambda: "notice" in turns.store.asked, 5, "a run to its end")
        await lifecycle.cancel([running])
