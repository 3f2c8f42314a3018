"""Confirmations as sets: one pass over who acknowledged a message, and one status for who wrote it."""

import json
from typing import Any

import msgspec
import pytest

from libs import keys
from libs.broker import Broker
from libs.wire import names
from libs.wire.frames import Confirm, Confirms, Emit, Inbound, Origin
from services.router.batch import Work
from services.router.partition import Partition
from services.router.store import Group, Receipt, ReceiptRow, User
from tests.unit.services.router.fakes import EVERYTHING, FIELD, RAMA_SITA, FakeStore, message
from tests.unit.services.router.test_delivery import Desk, confirm, emits, send

BIG = names.group("big")
MEMBERS = tuple(f"member{number}" for number in range(150))


@pytest.fixture
def desk(store: FakeStore, broker: Broker) -> Desk:
    store.people |= {user: User(user, user.title()) for user in MEMBERS}
    store.teams["big"] = Group("big", "Big", frozenset({"rama", *MEMBERS}))
    return Desk(store, broker)


def confirms(seq: int, *users: str, conversation_id: str = FIELD) -> Confirms:
    return Confirms(Origin("g2", "gathered"), conversation_id, seq, users)


async def statuses(desk: Desk) -> list[dict[str, Any]]:
    """What rama is told of messages, since it was last asked."""
    return [json.loads(frame.body) for frame in emits(await desk.heard("g1"), "message_delivery_status")]


async def prepared(desk: Desk, *frames: Inbound) -> Partition:
    """A partition in which these were sent."""
    partition = await desk.open()
    await desk.deliver(partition, *frames)
    await desk.heard("g1")
    return partition


async def test_several_who_have_a_message_are_one_status(desk: Desk) -> None:
    """With all of them counted, and each of them noted."""
    partition = await prepared(desk, send("a", FIELD))
    await desk.deliver(partition, confirms(1, "sita", "lata"))
    (status,) = await statuses(desk)
    assert (status["status"], status["recipients"]) == ("delivered", {"total": 2, "delivered": 2, "read": 0})
    assert await desk.broker.command("HLEN", keys.receipts(0)) == 2
    await desk.deliver(partition, confirms(1, "lata", "sita"))
    assert await statuses(desk) == []


async def test_who_is_no_member_is_passed_over(desk: Desk) -> None:
    """The others count: a member who was removed meanwhile takes nothing from them."""
    partition = await prepared(desk, send("a", FIELD))
    await desk.deliver(partition, confirms(1, "ravi", "sita"))
    (status,) = await statuses(desk)
    assert status["recipients"] == {"total": 2, "delivered": 1, "read": 0}
    assert partition.receipts.receipt(FIELD, "ravi") == Receipt()
    await desk.deliver(partition, confirms(1, "ravi", conversation_id=RAMA_SITA))
    assert await statuses(desk) == []


async def test_out_of_order_they_wait_for_what_is_before(desk: Desk) -> None:
    """The watermark moves when the gap is closed, and each message is told once."""
    partition = await prepared(desk, send("a"), send("b"), send("c"))
    for seq in (3, 1, 2):
        await desk.deliver(partition, confirms(seq, "sita", conversation_id=RAMA_SITA))
    assert [status["seq"] for status in await statuses(desk)] == [3, 1, 2]
    assert partition.receipts.receipt(RAMA_SITA, "sita") == Receipt(3)


async def test_between_ones_own_messages_nothing_is_missing(desk: Desk) -> None:
    """Who answers what they get has all before it, though nobody confirms their own."""
    partition = await prepared(desk, send("a"), send("b", sender="sita"), send("c"))
    for seq in (1, 3):
        await desk.deliver(partition, confirms(seq, "sita", conversation_id=RAMA_SITA))
    assert partition.receipts.receipt(RAMA_SITA, "sita") == Receipt(3)
    assert [status["seq"] for status in await statuses(desk)] == [1, 3]


async def test_in_a_large_group_the_first_to_have_a_message_is_news(desk: Desk) -> None:
    """One status without counts, and all of them noted; the others after them are none."""
    partition = await prepared(desk, send("a", BIG))
    await desk.deliver(partition, confirms(1, *MEMBERS[:100], conversation_id=BIG))
    (status,) = await statuses(desk)
    assert status["status"] == "delivered"
    assert "recipients" not in status
    await desk.deliver(partition, confirms(1, *MEMBERS[100:], conversation_id=BIG))
    assert await statuses(desk) == []
    assert await desk.broker.command("HLEN", keys.receipts(0)) == len(MEMBERS)


async def test_a_batch_asks_the_store_once_for_all_receipts(desk: Desk) -> None:
    """However many conversations its confirmations are about."""
    partition = await desk.open()
    desk.store.put(message(1), message(1, FIELD), message(1, BIG))
    desk.store.marks[FIELD, "lata"] = Receipt(1, 1)
    desk.store.asked.clear()
    await desk.deliver(
        partition, confirms(1, "sita"), confirm("sita", 1), confirms(1, MEMBERS[0], MEMBERS[1], conversation_id=BIG)
    )
    assert desk.store.asked.count("receipts") == 1
    assert [(status["status"], status["conversationId"]) for status in await statuses(desk)] == [
        ("read", FIELD),
        ("delivered", RAMA_SITA),
        ("delivered", BIG),
    ]


async def test_sets_are_noted_while_the_store_is_away(desk: Desk) -> None:
    """What it cannot say is asked for again when it is back."""
    partition = await prepared(desk, send("a", FIELD))
    desk.store.away = set(EVERYTHING)
    await desk.deliver(partition, confirms(1, "sita", "lata"))
    assert partition.receipts.receipt(FIELD, "sita").has(1)
    assert partition.receipts.receipt(FIELD, "lata").has(1)


async def test_one_alone_is_as_a_set_of_one(desk: Desk) -> None:
    """Gateways that do not gather are told the same."""
    partition = await prepared(desk, send("a"), send("b"))
    await desk.deliver(partition, confirm("sita", 1))
    await desk.deliver(partition, confirms(2, "sita", conversation_id=RAMA_SITA))
    one, other = await statuses(desk)
    assert one["recipients"] == other["recipients"] == {"total": 1, "delivered": 1, "read": 0}


async def test_what_is_confirmed_before_it_is_saved_is_told_with_sent(desk: Desk) -> None:
    """No status overtakes `sent`."""
    partition = await desk.open()
    desk.store.away = {"save"}
    work: Work = await desk.deliver(partition, send("a"))
    await desk.heard("g1")
    await desk.deliver(partition, confirms(1, "sita", conversation_id=RAMA_SITA))
    assert await statuses(desk) == []
    desk.come_back()
    await desk.delivery.unpark()
    assert [status["status"] for status in await statuses(desk)] == ["sent", "delivered"]
    assert work.partition is partition


async def test_a_message_that_is_not_there_is_confirmed_by_nobody(desk: Desk) -> None:
    """It was lost with a broker that was wiped, and its seq goes to another: which stays due."""
    partition = await prepared(desk, send("a"))
    await desk.deliver(partition, confirms(2, "sita", conversation_id=RAMA_SITA), confirm("sita", 2, 3))
    await desk.deliver(partition, send("b"))
    assert not partition.receipts.receipt(RAMA_SITA, "sita").has(2)
    desk.store.away |= EVERYTHING
    await desk.deliver(partition, confirms(3, "sita", conversation_id=RAMA_SITA))
    assert not partition.receipts.receipt(RAMA_SITA, "sita").has(3)


@pytest.mark.parametrize("is_gathered", [True, False])
@pytest.mark.parametrize("is_saved", [True, False])
async def test_what_was_queued_and_lost_is_not_confirmed_by_what_has_its_place(
    desk: Desk, is_gathered: bool, is_saved: bool
) -> None:
    """A confirmation that comes after the other message does not mean it. What is in the store needs no mark."""

    async def said(partition: Partition, client_id: str) -> Emit:
        await desk.deliver(partition, send(client_id))
        (emit,) = emits(await desk.heard("g2"), "new_message")
        return emit

    def confirming(emit: Emit) -> Confirm | Confirms:
        gathered = confirms(emit.seq, "sita", conversation_id=RAMA_SITA)
        one = gathered if is_gathered else confirm("sita", emit.seq)
        return msgspec.structs.replace(one, mark=emit.mark)

    partition = await desk.open()
    assert (await said(partition, "before")).mark == 0
    desk.store.away = {"save"}
    lost = await said(partition, "lost")
    await desk.broker.command("FLUSHALL")
    partition.is_lost = True
    desk.come_back()
    partition = await desk.open()
    if not is_saved:
        desk.store.away = {"save"}
    other = await said(partition, "other")
    assert (other.seq, bool(other.mark)) == (lost.seq, not is_saved)
    await desk.deliver(partition, confirming(lost))
    assert not partition.receipts.receipt(RAMA_SITA, "sita").has(other.seq)
    await desk.deliver(partition, confirming(other))
    assert partition.receipts.receipt(RAMA_SITA, "sita").has(other.seq)


async def test_what_was_queued_is_confirmed_though_it_is_not_at_hand_any_more(desk: Desk) -> None:
    """It was saved, and its partition has another owner: the store says which message it is."""
    partition = await desk.open()
    await desk.deliver(partition, send("before"))
    desk.store.away = {"save"}
    await desk.deliver(partition, send("a"), send("b"))
    _, a, b = emits(await desk.heard("g2"), "new_message")
    desk.come_back()
    await desk.delivery.unpark()
    heir = await desk.own()
    await desk.deliver(heir, msgspec.structs.replace(confirm("sita", a.seq), mark=b.mark))
    assert not heir.receipts.receipt(RAMA_SITA, "sita").has(a.seq)
    await desk.deliver(heir, msgspec.structs.replace(confirm("sita", a.seq), mark=a.mark))
    assert heir.receipts.receipt(RAMA_SITA, "sita").has(a.seq)


def test_the_store_is_told_nothing_of_messages_that_it_does_not_have() -> None:
    """What is said of those before them it is told; and all of it once it has them."""
    partition = Partition(0, 1, "r1")
    receipts = {"sita": Receipt(5, 4, (7, 9)), "lata": Receipt(8, 8), "ravi": Receipt(0, 0, (9,))}
    rows = [ReceiptRow(FIELD, user, receipt) for user, receipt in receipts.items()]
    other = ReceiptRow(RAMA_SITA, "sita", Receipt(8))
    for seq in (9, 8):
        partition.unsaved[str(seq)] = message(seq, FIELD)
    assert partition.storable([*rows, other]) == [
        ReceiptRow(FIELD, "sita", Receipt(5, 4, (7,))),
        ReceiptRow(FIELD, "lata", Receipt(7, 7)),
        other,
    ]
    partition.unsaved.clear()
    assert partition.storable([*rows, other]) == [*rows, other]
