"""Operators are answered beside the batches: one message, all of a partition, or why not."""

import asyncio
import json
from typing import Any

import pytest

from libs import keys
from libs.broker import Broker
from libs.streams import producer
from libs.wire import codec, names
from libs.wire.frames import Answer, Origin, Sums, Trace
from services.router.conversations import Conversations
from services.router.people import People
from services.router.store import Message, Receipt
from services.router.traces import _WAITING_MAX, Traces
from tests.support.waiting import until
from tests.unit.services.router.fakes import FIELD, FakeStore, message
from tests.unit.services.router.test_audit import Desk

ORIGIN = Origin("g1", "?1", 0)


class Counter:
    """Where operators ask."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        conversations = Conversations(desk.store, People(desk.store, 0.0), 100)
        self.traces = Traces(desk.store, conversations, desk.broker, desk.audit, desk.metrics)

    async def ask(self, asked: Trace | Sums) -> dict[str, Any]:
        """What g1 is told."""
        broker, stream = self.desk.broker, keys.downlink("g1")
        await broker.command("XADD", stream, "*", "hello", "")
        assert self.traces.ask(self.desk.owned[0], asked) == []
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(self.traces.run())

            async def is_answered() -> bool:
                return int(await broker.command("XLEN", stream)) == 2

            await until(is_answered, 5, "an answer")
            running.cancel()
        (_, fields) = (await broker.command("XREVRANGE", stream, "+", "-", "COUNT", 1))[0]
        await broker.command("DEL", stream)
        ((answer,),) = (section.frames for section in codec.unpack_downlink(fields[producer.FIELD]))
        assert isinstance(answer, Answer)
        said: dict[str, Any] = json.loads(answer.body)
        return said

    async def trace(self, one: Message) -> dict[str, Any]:
        return await self.ask(Trace(ORIGIN, one.id))


@pytest.fixture
async def counter(store: FakeStore, broker: Broker) -> Counter:
    desk = Desk(store, broker)
    await desk.own()
    return Counter(desk)


async def test_a_message_is_told_with_its_stations(counter: Counter) -> None:
    """By the times that were written down, and the record."""
    sent = message(1, server_time_ms=5000)
    await counter.desk.send(sent)
    # The fake store's times are not the ledger's: the whole ledger is looked through all the same.
    told = await counter.trace(message(1, server_time_ms=5000))
    assert (told["ok"], told["messageId"], told["state"], told["type"]) == (True, sent.id, "saved", "text")
    assert [station["station"] for station in told["stations"]] == ["take", "read", "decide", "save", "publish"]
    assert [station["at"] for station in told["stations"]] == [1, 2, 5000, 3, 4]
    assert [station["afterMs"] for station in told["stations"]] == [0, 1, 4998, -4997, 1]
    assert told["people"] == [{"userId": "sita", "state": "due"}]


async def test_each_recipient_is_in_one_state(counter: Counter) -> None:
    """Delivered, due or refused in a group; in a direct conversation, who is owed it by nobody is not accounted for."""
    desk = counter.desk
    await desk.send(message(1, FIELD), message(1))
    desk.store.marks[FIELD, "sita"] = Receipt(1)
    desk.store.forgotten = {"lata"}
    told = await counter.trace(message(1, FIELD))
    assert {one["userId"]: one["state"] for one in told["people"]} == {"sita": "delivered", "lata": "refused"}
    assert told["recipients"] == {"total": 2, "delivered": 1, "due": 0, "expired": 0, "refused": 1, "unaccounted": 0}
    desk.store.forgotten = {"sita"}
    told = await counter.trace(message(1))
    assert (told["state"], told["recipients"]["unaccounted"]) == ("unaccounted", 1)


async def test_an_id_in_the_wrong_partition_is_nobodys(counter: Counter) -> None:
    """The key of a message under the slot of another conversation is not its id; nor is one that was never given."""
    await counter.desk.send(message(1))
    for message_id in (names.message_id_of(message(1).key, FIELD), message(9).id):
        told = await counter.ask(Trace(ORIGIN, message_id))
        assert told["error"]["code"] == "not_found"


async def test_sums_count_every_message_once(counter: Counter) -> None:
    """Saved, in flight, lost; and those whose place was given twice."""
    desk = counter.desk
    lost, waits, twice = message(3), message(4), message(5)
    await desk.send(message(1), message(1, FIELD))
    await desk.place(lost)
    await desk.acknowledge(lost)
    await desk.place(waits)
    await desk.send(twice)
    await desk.send(twice)
    desk.store.marks[FIELD, "sita"] = Receipt(1)
    told = await counter.ask(Sums(ORIGIN))
    named = ("accepted", "saved", "inFlight", "unaccounted", "abandoned")
    assert [told[name] for name in named] == [5, 3, 1, 1, 0]
    assert [told[name] for name in ("recipients", "delivered", "due", "refused")] == [4, 1, 3, 0]
    assert told["since"] > 0


async def test_what_cannot_be_told_is_refused_with_its_code(counter: Counter) -> None:
    """The store is away; a mistake of ours; a partition that has another owner."""
    await counter.desk.send(message(1))
    counter.desk.store.away = {"find"}
    assert (await counter.trace(message(1)))["error"]["code"] == "unavailable"
    counter.desk.store.away, counter.desk.store.broken = set(), {"find"}
    assert (await counter.trace(message(1)))["error"]["code"] == "internal"
    await Desk(counter.desk.store, counter.desk.broker, "r2").own()
    assert (await counter.trace(message(1)))["error"]["code"] == "unavailable"


async def test_too_many_questions_are_refused(counter: Counter) -> None:
    """At once, and the others are kept."""
    partition = counter.desk.owned[0]
    for _ in range(_WAITING_MAX):
        assert counter.traces.ask(partition, Sums(ORIGIN)) == []
    (said,) = counter.traces.ask(partition, Sums(ORIGIN))
    assert "overloaded" in repr(said)
