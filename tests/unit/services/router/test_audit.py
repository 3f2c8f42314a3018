"""The auditor finds what is not accounted for, and nothing else."""

from collections.abc import Collection
from typing import Any, Final

import pytest
from prometheus_client import CollectorRegistry

from libs import keys
from libs.broker import Broker, Script
from libs.streams import consumer
from libs.wire import names
from services.router import audit as audits
from services.router.audit import Audit, is_sampled
from services.router.ledger import Notes
from services.router.metrics import RouterMetrics
from services.router.partition import Candidate, Partition
from services.router.store import Message, Receipt, StoreAway
from tests.unit.services.router.fakes import FIELD, RAMA_SITA, FakeStore, message

_lease: Final = Script("libs.streams", "lease.lua")


class Desk:
    """One router with one partition, its ledger and its auditor."""

    def __init__(self, store: FakeStore, broker: Broker, router: str = "r1", **settings: Any) -> None:
        self.store = store
        self.broker = broker
        self.router = router
        self.notes = Notes(10)
        self.owned: list[Partition] = []
        given = {
            "every_s": 1.0,
            "window_s": 3600,
            "max_mb": 1024,
            "partitions": 1,
            "settle_s": -1,
            "share": 1.0,
        } | settings
        self.metrics = RouterMetrics(CollectorRegistry())
        self.audit = Audit(store, broker, self.metrics, lambda: self.owned, lambda: False, **given)

    async def own(self) -> Partition:
        """Take the partition, under a new token, whoever has it."""
        await self.broker.command("DEL", keys.lease(0))
        call = _lease.call([keys.lease(0), keys.lease_token(0)], self.router, 60_000, "0", 1)
        self.owned = [Partition(0, int(await self.broker.script(call)), self.router, self.notes)]
        for where in (RAMA_SITA, FIELD):
            self.owned[0].note_end(where, 0)
        return self.owned[0]

    async def place(self, *messages: Message) -> None:
        """Give these their places, as `order.lua` does."""
        asked = []
        for one in messages:
            group = self.store.teams.get(names.group_of(one.conversation_id) or "")
            members: Collection[str] | None = group.members if group is not None else None
            line = self.notes.placed(one.key, one.conversation_id, members, is_anonymous=one.is_anonymous)
            asked.append(Candidate(one.key, one.conversation_id, may=True, line=line))
        await self.broker.script(self.owned[0].order(asked, is_store_away=False))

    async def acknowledge(self, *messages: Message, told: int = -1) -> None:
        """Take these off the stream, as `acknowledge.lua` does."""
        for one in messages:
            self.notes.done(one, "g1", took_ms=1, read_ms=2, saved_ms=3, published_ms=4, told=told)
        await self.broker.script(self.owned[0].acknowledge(None, messages, line=self.notes.take_settled()))

    async def send(self, *messages: Message, told: int = -1) -> None:
        """The whole way."""
        await self.place(*messages)
        self.store.put(*messages)
        await self.acknowledge(*messages, told=told)

    async def look(self) -> tuple[int, int]:
        """A turn: how many are not accounted for, and how many are held."""
        await self.audit.turn()
        return self.audit.unaccounted, sum(len(self.audit.walk(partition).held) for partition in self.owned)

    async def mark(self) -> bytes | None:
        found: bytes | None = await self.broker.command("GET", keys.audited(0))
        return found


@pytest.fixture
async def desk(store: FakeStore, broker: Broker) -> Desk:
    made = Desk(store, broker)
    await made.own()
    return made


async def test_what_went_all_the_way_is_accounted_for(desk: Desk) -> None:
    """In a direct conversation and in a group; the next owner need not look at it again."""
    await desk.send(message(1), message(2), told=1)
    await desk.send(message(1, FIELD), told=2)
    assert await desk.look() == (0, 0)
    newest = await desk.broker.command("XREVRANGE", keys.ledger(0), "+", "-", "COUNT", 1)
    assert await desk.mark() == newest[0][0]
    successor = Desk(desk.store, desk.broker, "r2")
    await successor.own()
    await successor.look()
    assert successor.metrics.audited._value.get() == 0


async def test_what_was_acknowledged_and_is_not_in_the_store_is_found(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said once, without content; found again by whoever takes over; right as soon as the store has it."""
    lost = message(1)
    await desk.send(message(2))
    await desk.place(lost)
    await desk.acknowledge(lost)
    await desk.send(message(3))
    assert await desk.look() == (1, 0)
    assert await desk.look() == (1, 0)
    said = [line for line in capsys.readouterr().out.splitlines() if "not accounted for" in line]
    assert len(said) == 1
    assert lost.id in said[0]
    assert lost.content not in said[0]
    successor = Desk(desk.store, desk.broker, "r2")
    await successor.own()
    assert await successor.look() == (1, 0)
    desk.store.put(lost)
    assert await successor.look() == (0, 0)


async def test_what_is_not_acknowledged_is_under_way(desk: Desk) -> None:
    """Whether or not the store has it yet; it holds the mark back, and is looked at until it is through."""
    await desk.send(message(1))
    await desk.look()
    await desk.place(message(2))
    assert await desk.look() == (0, 1)
    held = await desk.mark()
    await desk.send(message(3))
    assert await desk.look() == (0, 1)
    assert await desk.mark() == held
    desk.store.put(message(2))
    await desk.acknowledge(message(2))
    assert await desk.look() == (0, 0)
    newest = await desk.broker.command("XREVRANGE", keys.ledger(0), "+", "-", "COUNT", 1)
    assert await desk.mark() == newest[0][0] != held


async def test_what_gets_no_further_is_abandoned_and_not_lost(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody was answered: its sender sends again, and it keeps its place. What is being worked on is not."""
    await desk.place(message(1))
    await desk.look()
    assert desk.audit.abandoned == 0
    monkeypatch.setattr(audits, "ABANDONED_MS", -1000)
    await desk.look()
    assert desk.audit.abandoned == 1
    desk.owned[0].unsaved[message(1).key] = message(1)
    await desk.look()
    assert (desk.audit.abandoned, desk.audit.in_flight) == (0, 1)


async def test_a_message_that_nobody_owes_its_recipient_is_found(desk: Desk) -> None:
    """In a direct conversation nobody leaves; who left a group is owed nothing."""
    desk.store.forgotten = {"sita"}
    await desk.send(message(1, FIELD), told=2)
    assert await desk.look() == (0, 0)
    await desk.send(message(1))
    assert await desk.look() == (1, 0)
    desk.store.forgotten = set()
    assert await desk.look() == (0, 0)


async def test_a_message_said_to_fewer_than_it_is_for_is_found_until_they_have_it(desk: Desk) -> None:
    """Two of three were told: one is missing until they have fetched it. Where nobody counted, nobody is missed."""
    await desk.send(message(1, FIELD), told=1)
    await desk.send(message(2, FIELD), told=2)
    await desk.send(message(3, FIELD), told=-1)
    assert await desk.look() == (1, 0)
    for user in ("sita", "lata"):
        desk.store.marks[FIELD, user] = Receipt(3)
    assert await desk.look() == (0, 0)


async def test_who_left_before_it_was_said_is_not_missed(desk: Desk) -> None:
    """They are refused it, with a reason."""
    await desk.send(message(1, FIELD), told=1)
    desk.store.forgotten = {"lata"}
    desk.store.marks[FIELD, "sita"] = Receipt(1)
    assert await desk.look() == (0, 0)


async def test_a_broker_that_was_wiped_takes_no_losses_with_it(desk: Desk) -> None:
    """What it held under way is gone with the lease: the next owner starts anew, at nothing."""
    await desk.send(message(1))
    await desk.place(message(2))
    assert await desk.look() == (0, 1)
    await desk.broker.command("FLUSHALL")
    assert await desk.look() == (0, 0)
    await desk.own()
    await desk.send(message(3))
    assert await desk.look() == (0, 0)
    assert await desk.mark() is not None


async def test_who_lost_the_partition_looks_at_nothing(desk: Desk) -> None:
    """What a successor acknowledged is its own to compare."""
    await desk.place(message(1))
    await desk.acknowledge(message(1))
    await Desk(desk.store, desk.broker, "r2").own()
    assert await desk.look() == (0, 0)
    assert await desk.mark() is None


async def test_a_store_that_is_away_is_asked_again(desk: Desk) -> None:
    """Nothing is passed over meanwhile, and nothing is called lost."""
    await desk.place(message(1))
    await desk.acknowledge(message(1))
    desk.store.away = {"settled"}
    with pytest.raises(StoreAway):
        await desk.audit.turn()
    assert (desk.audit.unaccounted, await desk.mark()) == (0, None)
    desk.store.away = set()
    assert await desk.look() == (1, 0)


async def test_a_message_sent_again_elsewhere_is_where_the_store_has_it(desk: Desk) -> None:
    """Its second place is left void: it is one message, and accounted for."""
    await desk.place(message(1), message(2))
    desk.store.put(message(1, client_id=message(2).client_id))
    await desk.acknowledge(message(2))
    desk.store.put(message(7, client_id=message(1).client_id))
    await desk.acknowledge(message(1))
    assert await desk.look() == (0, 0)


async def test_only_a_share_is_compared_where_a_look_costs_money(store: FakeStore, broker: Broker) -> None:
    """Always the same messages, and about as many as were asked for."""
    desk = Desk(store, broker, share=0.0)
    await desk.own()
    await desk.place(message(1))
    await desk.acknowledge(message(1))
    assert await desk.look() == (0, 0)
    taken = [is_sampled(bytes.fromhex(message(seq).key), 0.25) for seq in range(4000)]
    assert 800 < sum(taken) < 1200
    assert taken == [is_sampled(bytes.fromhex(message(seq).key), 0.25) for seq in range(4000)]


async def test_the_ledger_keeps_to_its_window(store: FakeStore, broker: Broker) -> None:
    """What is older goes, whole nodes at a time, and with it what nobody can account for any more."""
    desk = Desk(store, broker, window_s=10)
    await desk.own()
    for number in range(300):
        await broker.command("XADD", keys.ledger(0), f"{1000 + number}-0", "f", b"x" * 100)
    await desk.place(message(1))
    await desk.audit._trim()
    assert await broker.command("XLEN", keys.ledger(0)) < 100


async def test_the_ledger_keeps_to_its_size(store: FakeStore, broker: Broker) -> None:
    """Beyond it the oldest go, whatever their age."""
    desk = Desk(store, broker, max_mb=1)
    await desk.own()
    for _ in range(30):
        await broker.batch([("XADD", keys.ledger(0), "*", "f", b"x" * 1000)] * 100)
    await desk.audit._trim()
    length = await broker.command("XLEN", keys.ledger(0))
    assert 700 < length < 1000
    newest = await broker.command("XREVRANGE", keys.ledger(0), "+", "-", "COUNT", 1)
    await desk.audit._trim()
    assert await broker.command("XLEN", keys.ledger(0)) == length
    assert consumer.is_up_to("0-1", newest[0][0].decode())
