"""What delivery writes into the ledger of a message's way: once it went through, and not before."""

import pytest

from libs import keys
from libs.broker import Broker
from libs.wire.frames import Confirm, Confirms, Origin
from services.router import ledger
from services.router.ledger import Lines, Notes
from services.router.partition import Partition
from services.router.store import Group
from tests.unit.services.router.fakes import FIELD, RAMA_SITA, FakeStore
from tests.unit.services.router.test_delivery import Desk, send


@pytest.fixture
def desk(store: FakeStore, broker: Broker) -> Desk:
    return Desk(store, broker)


async def opened(desk: Desk) -> Partition:
    partition = await desk.open()
    partition.notes = Notes(10)
    return partition


async def lines(desk: Desk) -> Lines:
    return ledger.read(await desk.broker.command("XRANGE", keys.ledger(0), "-", "+"))


async def test_a_message_is_written_down_when_it_is_placed_and_when_it_went_through(desk: Desk) -> None:
    """With its stations in order, the gateway that took it, and to how many it was said."""
    partition = await opened(desk)
    await desk.deliver(partition, send("a"), send("b", FIELD))
    found = await lines(desk)
    assert [(one.line.conversation_id, one.seq, one.line.recipients) for one in found.entered] == [
        (RAMA_SITA, 1, 1),
        (FIELD, 1, 2),
    ]
    (settled,) = found.settled
    assert [done.told for done in settled.done] == [1, 2]
    assert {settled.gateway(done.gateway) for done in settled.done} == {"g1"}
    for done in settled.done:
        assert done.save is not None
        assert settled.base_ms + done.took == 1000, "as its frame says"
        assert 0 < done.read <= done.save <= done.publish


async def test_what_is_queued_is_not_through(desk: Desk) -> None:
    """It is told once the store has it; it was said when it was queued."""
    partition = await opened(desk)
    await desk.deliver(partition, send("before"))
    desk.store.away = {"save"}
    await desk.deliver(partition, send("a"))
    assert [len(settled.done) for settled in (await lines(desk)).settled] == [1]
    desk.come_back()
    await desk.delivery.unpark()
    (_, settled) = (await lines(desk)).settled
    (done,) = settled.done
    assert done.told == 1
    assert done.save is not None
    assert done.save >= done.publish


@pytest.mark.parametrize(("members", "told"), [({"rama", "sita", "lata"}, 2), ({"rama", "sita"}, ledger.UNCOUNTED)])
async def test_to_how_many_is_counted_where_the_group_is_as_it_was(desk: Desk, members: set[str], told: int) -> None:
    """Though it was read again since the message was decided. Of one that changed nobody can say."""
    partition = await opened(desk)
    work = await desk.take(partition, send("a", FIELD))
    await desk.delivery.decide([work])
    desk.store.teams["field"] = Group("field", "Field", frozenset(members))
    await desk.delivery.complete([work])
    ((done,),) = (settled.done for settled in (await lines(desk)).settled)
    assert done.told == told


async def test_a_replay_that_finds_everything_done_says_so(desk: Desk) -> None:
    """Its router died between the save and the acknowledgement: who saved it when, nobody knows any more."""
    partition = await opened(desk)
    work = await desk.take(partition, send("a"))
    await desk.delivery.decide([work])
    await desk.store.save(work.new_messages)
    successor = await desk.own()
    successor.notes = Notes(10)
    replay = await desk.read(successor)
    await desk.delivery.decide([replay])
    await desk.delivery.complete([replay])
    found = await lines(desk)
    assert len(found.entered) == 1
    ((done,),) = (settled.done for settled in found.settled)
    assert (done.save, done.told) == (None, ledger.UNCOUNTED)


async def test_a_message_sent_again_is_written_down_once(desk: Desk) -> None:
    """It has its place already, and went through."""
    partition = await opened(desk)
    await desk.deliver(partition, send("a"))
    await desk.deliver(partition, send("a", ack=2))
    found = await lines(desk)
    assert len(found.entered) == len([done for settled in found.settled for done in settled.done]) == 1


async def test_confirmations_are_written_down_with_what_is_new(desk: Desk) -> None:
    """Of one device or of many at once, one by one or by a watermark; what was known is no news."""
    partition = await opened(desk)
    await desk.deliver(partition, send("a", FIELD), send("b", FIELD), send("c"))
    many = Confirms(Origin("g2", ""), FIELD, 1, ("sita", "lata"), 5000)
    watermark = Confirm(Origin("g3", "s"), "lata", FIELD, up_to=2, at_ms=6000, event="mark_as_read", read=True)
    direct = Confirm(Origin("g2", ""), "sita", RAMA_SITA, (1,), at_ms=7000)
    for frame in (many, many, watermark, direct):
        await desk.deliver(partition, frame)
    found = await lines(desk)
    names = {one.line.key: (one.line.conversation_id, one.seq) for one in found.entered}
    assert [
        (*names[one.key], one.users, settled.base_ms + one.at, settled.gateway(one.gateway))
        for settled in found.settled
        for one in settled.confirmed
    ] == [
        (FIELD, 1, ("sita", "lata"), 5000, "g2"),
        (FIELD, 2, ("lata",), 6000, "g3"),
        (RAMA_SITA, 1, (), 7000, "g2"),
    ]
