"""What a worker does with receipts whose partition was lost, and with partitions that come and go meanwhile."""

import asyncio
from collections.abc import Sequence
from typing import Any
from unittest.mock import Mock

import pytest
from prometheus_client import CollectorRegistry

from libs import keys
from libs.streams import consumer
from libs.streams.leases import LEASE_TTL_MS
from services.router.metrics import RouterMetrics
from services.router.store import ReceiptRow, StoreAway
from services.router.worker import Worker
from tests.support.waiting import until
from tests.unit.services.router.fakes import FakeStore


class Slow(FakeStore):
    """Saves receipts when it is let to."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.asks = 0

    async def save_receipts(self, rows: Sequence[ReceiptRow]) -> None:
        self.asks += 1
        await self.gate.wait()
        await super().save_receipts(rows)


class SlowBroker:
    """Answers when it is let to, with nothing."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def command(self, *command: Any) -> Any:
        await self.gate.wait()
        return {} if command[0] == "HGETALL" else []


def worker(store: FakeStore, broker: Any = None) -> Worker:
    """One with two partitions and that of broadcasts."""
    given: dict[str, Any] = {"read_entries": 9, "linger_s": 0, "receipt_gather_s": 1, "parked_frames_max": 9}
    stages: Any = None
    metrics = RouterMetrics(CollectorRegistry())
    return Worker(broker, broker, stages, stages, store, metrics, router="r1", partitions=2, **given)


def lose(made: Worker, partition: int, user: str) -> None:
    """A partition goes that has one receipt which the store has not got."""
    made.gain(partition, 1)
    made._arriving[partition].receipts.confirm_broadcast("broadcast:1", user)
    made.lose(partition)


async def test_receipts_of_a_partition_that_is_lost_while_others_are_saved_are_kept() -> None:
    """Both lines save them before they look for them; what comes meanwhile is saved too."""
    store = Slow()
    made = worker(store)
    lose(made, 0, "rama")
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        for _ in range(2):
            tasks.create_task(made._save_orphans())
        await until(lambda: store.asks, 5, "the first to be saved")
        lose(made, 1, "sita")
        store.gate.set()
    await made._save_orphans()
    assert {user for _, user in store.marks} == {"rama", "sita"}


@pytest.mark.parametrize("line", [0, 1])
async def test_a_store_that_is_away_does_not_hold_up_reading(line: int) -> None:
    """Each read would wait out its patience; broadcasts, too."""

    class Away(FakeStore):
        async def save_receipts(self, rows: Sequence[ReceiptRow]) -> None:
            await asyncio.Event().wait()
            raise StoreAway(str(rows))

    made = worker(Away())
    lose(made, 0, "rama")
    async with asyncio.timeout(5):
        await made._arrive(made._lines[line])


async def test_who_was_paused_for_longer_than_a_lease_lives_takes_nothing_it_reads() -> None:
    """Whoever owns the partition by now began with what was there when it came: the rest is its own to tell."""

    class Paused(SlowBroker):
        is_cluster = False

        async def command(self, *command: Any) -> Any:
            if command[0] == "XREAD":
                made._leases._renewed_at -= LEASE_TTL_MS / 1000
                return {keys.inbound(0): [("1-1", {b"f": b"\x90"})]}
            return await super().command(*command)

    broker = Paused()
    broker.gate.set()
    made = worker(FakeStore(), broker)
    made._lines[0].stages = Mock(parked=0)
    made.gain(0, 1)
    await made._arrive(made._lines[0])
    assert await made._read_batch(made._lines[0]) == []
    assert made._partitions[0].position == consumer.BEGINNING


async def test_a_partition_that_is_lost_and_gained_while_it_arrives_is_worked_on() -> None:
    """Its lease would be renewed for ever, and nobody would read it."""
    broker = SlowBroker()
    made = worker(FakeStore(), broker)
    made.gain(0, 1)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(made._arrive(made._lines[0]))
        await asyncio.sleep(0)
        made.lose(0)
        made.gain(0, 2)
        broker.gate.set()
    await made._arrive(made._lines[0])
    assert made._partitions[0].token == 2
