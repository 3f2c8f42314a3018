"""What a worker does with receipts whose partition was lost, with partitions that come and go, with what hangs."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from prometheus_client import CollectorRegistry

from libs import keys
from libs.broker import Broker, connect, type_of_command
from libs.streams import consumer, producer
from libs.streams.leases import LEASE_TTL_MS
from libs.wire.frames import Canary, Origin, Tally
from services.router.batch import Work
from services.router.line import Line, frames
from services.router.metrics import RouterMetrics
from services.router.partition import Partition
from services.router.store import ReceiptRow, StoreAway
from services.router.worker import Worker
from tests.support.broker import live_broker
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


class FakeStages:
    """Stages that do nothing, or never end."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.parked = 0
        self.owes = False
        self.is_store_away = False
        self.is_hanging = False
        self.decided = 0
        self._hangs = hangs

    async def decide(self, works: Sequence[Work]) -> None:
        """Nothing to decide."""
        self.decided += len(works)

    async def complete(self, works: Sequence[Work], *, is_more: bool = False) -> None:  # noqa: ARG002 - as `Stages`
        """Done, or never."""
        self.is_hanging = self._hangs
        if self._hangs:
            await asyncio.Event().wait()

    async def unpark(self) -> None:
        """Nothing is parked."""

    async def settle(self) -> None:
        """Nothing is owed."""


def worker(store: FakeStore, broker: Any = None, stages: Any = None, reader: Any = None) -> Worker:
    """One with two partitions and that of broadcasts."""
    given: dict[str, Any] = {
        "read_entries": 9,
        "linger_s": 0,
        "receipt_gather_s": 1,
        "receipt_rest_s": 0,
        "parked_frames_max": 9,
    }
    metrics = RouterMetrics(CollectorRegistry())
    return Worker(broker, reader or broker, stages, stages, store, metrics, router="r1", partitions=2, **given)


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


async def test_what_is_saved_is_in_the_journal_for_a_while(store: FakeStore, broker: Broker) -> None:
    """Who reads what is due asks the store, then the journal: what is saved in between is found there."""
    made, partition = worker(store, broker, FakeStages()), Partition(0, 1, "r1")
    await broker.command("SET", keys.lease(0), partition.lease)

    async def confirm(user: str) -> None:
        partition.receipts.confirm_broadcast("broadcast:1", user)
        await broker.scripts([partition.acknowledge(None, receipts=partition.receipts.take_unjournaled())])

    async def journaled() -> set[str]:
        fields = await broker.command("HKEYS", keys.receipts(0))
        return {field.decode().partition("\n")[2] for field in fields}

    await confirm("rama")
    await made._flush_receipts([partition])
    assert {user for _, user in store.marks} == {"rama"}
    assert await journaled() == {"rama"}
    await confirm("sita")
    await made._flush_receipts([partition])
    assert {user for _, user in store.marks} == {"rama", "sita"}
    assert await journaled() == {"sita"}
    await made._flush_receipts([partition])
    assert await journaled() == set()


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

        async def batch(self, commands: Sequence[type_of_command]) -> list[Any]:
            made._leases._renewed_at -= LEASE_TTL_MS / 1000
            assert [command[0] for command in commands] == ["XREAD", "MGET"]
            return [{keys.inbound(0): [("1-1", {b"f": b"\x90"})]}, [b"1 r1"]]

    broker = Paused()
    broker.gate.set()
    made = worker(FakeStore(), broker)
    made._lines[0].stages = Mock(parked=0)
    made.gain(0, 1)
    await made._arrive(made._lines[0])
    async with consumer.reading(made._reader) as reads:
        assert await made._read_batch(made._lines[0], reads) == []
    assert made._partitions[0].position == consumer.BEGINNING


async def test_what_is_read_at_another_server_than_the_leases_are_at_is_its_owners(
    store: FakeStore, broker: Broker, tmp_path: Path
) -> None:
    """Until the primary before is a replica both give leases: who has theirs at the one may read at the other."""
    stages = FakeStages()
    async with live_broker(tmp_path) as promoted, connect(promoted.url, blocking_s=1) as reader:
        for number in range(2):
            for command in producer.entries(number, [Canary(Origin("g1", ""), number)]):
                await reader.command(*command)
        await reader.command("SET", keys.lease(0), "9 r2")
        made = worker(store, broker, stages, reader)
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(made.run())
            await until(lambda: made._metrics.leases_lost._value.get() >= 2, 10, "both to be given up")
            running.cancel()
    assert stages.decided == 0


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


def test_a_line_may_take_longer_for_what_it_has_in_hand() -> None:
    """Canaries are nothing to have in hand; a store that is away makes each frame take long."""
    canary, frame = Canary(Origin("g1", ""), 1), Tally(Origin("g1", "?1"), "1")
    assert frames([Work(Partition(0, 1, "r1"), [canary, frame, canary], "1-1")]) == 1
    stages = FakeStages()
    line = Line("messages", stages, (0, 1), 0.0)
    allowed: list[list[float]] = []
    for line.deciding, line.completing, stages.parked, stages.is_store_away in (
        (0, 0, 0, False),
        (10, 20, 0, False),
        (10, 20, 1000, True),
    ):
        allowed.append([round(sight.allowed_s) for sight in line.sights.values()])
    assert allowed == [[0, 0], [3, 3], [250, 250]]


async def test_every_loop_turns_by_itself(store: FakeStore, broker: Broker) -> None:
    """Where nothing is owned and nothing comes: what does not turn then hangs."""
    made = worker(store, broker, FakeStages())
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(made.run())
        await until(lambda: made.sights, 5, "loops")
        marks = {name: sight.mark for name, sight in made.sights.items()}
        assert len(marks) == 5
        await until(lambda: all(made.sights[name].mark != mark for name, mark in marks.items()), 10, "all to turn")
        running.cancel()


async def test_a_stage_that_hangs_stands_still(store: FakeStore, broker: Broker) -> None:
    """The one that completes, and then the one that reads for it; the other line and the leases go on."""
    made = worker(store, broker, FakeStages())
    line, other = made._lines
    hangs = FakeStages(hangs=True)
    line.stages = hangs
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(made.run())
        await until(lambda: len(made._partitions) == 3, 10, "partitions")
        for number in range(4):
            for command in producer.entries(0, [Canary(Origin("g1", ""), number)]):
                await broker.command(*command)
            if number < 3:  # one is completed, one waits, one waits to wait
                await until(lambda: hangs.decided > number, 5, "a batch to be decided")  # noqa: B023 - awaited here
        await until(lambda: hangs.is_hanging and line.decided.full(), 10, "the stage to hang")
        mark, turns = line.completions, (other.reads, other.completions, made._leases.turns)
        await until(
            lambda: all(
                now > before
                for now, before in zip((other.reads, other.completions, made._leases.turns), turns, strict=True)
            ),
            10,
            "the others to go on",
        )
        assert line.completions == mark
        running.cancel()
