"""Acknowledgements that wait for company: nothing is acknowledged early, twice over, or never."""

import pytest
from redis import exceptions

from libs import keys
from libs.broker import AWAY, Broker
from services.router import owed as module
from services.router.batch import Work
from services.router.partition import Partition
from services.router.store import Receipt
from tests.unit.services.router.fakes import RAMA_SITA, FakeStore
from tests.unit.services.router.test_delivery import Desk, confirm, send


@pytest.fixture
def desk(store: FakeStore, broker: Broker) -> Desk:
    return Desk(store, broker)


async def deliver(desk: Desk, partition: Partition, *frames: object) -> Work:
    """A batch through both stages, while more is to come."""
    work = await desk.take(partition, *frames)  # type: ignore[arg-type]
    await desk.delivery.decide([work])
    await desk.delivery.complete([work], is_more=True)
    return work


async def test_while_more_is_to_come_a_batch_is_done_and_stays_on_the_stream(desk: Desk) -> None:
    """It is under way until it is acknowledged, so its partition is not handed over."""
    partition = await desk.open()
    await deliver(desk, partition, send("a"))
    assert len(await desk.answers()) == 1
    assert (await desk.waiting(), partition.under_way, desk.delivery.owes) == (1, 1, True)
    await deliver(desk, partition, send("b"))
    assert (await desk.waiting(), partition.under_way) == (2, 2)
    await desk.delivery.settle()
    assert (await desk.waiting(), partition.under_way, desk.delivery.owes) == (0, 0, False)
    assert await desk.broker.command("EXISTS", keys.seqs(0), keys.assigned(0)) == 0


async def test_it_goes_with_a_later_batch(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it has waited long enough: what travels with a batch is not that batch's own acknowledgement."""
    partition = await desk.open()
    await deliver(desk, partition, send("a"))
    monkeypatch.setattr(module, "SETTLE_S", -1.0)
    work = await desk.take(partition, send("b"))
    await desk.delivery.decide([work])
    left: list[int] = []

    class Watching:
        """The broker, and what was left on the stream after each of its batches."""

        is_cluster = False

        async def scripts(self, *args: object, **options: object) -> object:
            replies = await desk.broker.scripts(*args, **options)  # type: ignore[arg-type]
            left.append(await desk.waiting())
            return replies

    monkeypatch.setattr(desk.delivery, "_broker", Watching())
    await desk.delivery.complete([work], is_more=True)
    assert left == [1, 0]


async def test_the_last_batch_is_acknowledged_at_once(desk: Desk) -> None:
    """With all that waits, and its receipts."""
    partition = await desk.open()
    await deliver(desk, partition, send("a"))
    await deliver(desk, partition, confirm("sita", 1))
    assert await desk.broker.command("HLEN", keys.receipts(0)) == 0
    await desk.deliver(partition, send("b"))
    assert (await desk.waiting(), partition.under_way) == (0, 0)
    assert await desk.broker.command("HLEN", keys.receipts(0)) == 1


async def test_a_router_that_dies_meanwhile_is_followed_by_one_that_finds_all_done(desk: Desk) -> None:
    """The same message, at the same place, once; and the receipt is confirmed again."""
    partition = await desk.open()
    await deliver(desk, partition, send("a"))
    await deliver(desk, partition, confirm("sita", 1))
    successor = Desk(desk.store, desk.broker, router="r1")
    owned = await successor.own()
    work = await successor.read(owned)
    await successor.delivery.decide([work])
    await successor.delivery.complete([work])
    assert [saved.seq for saved in desk.store.log()] == [1]
    assert owned.receipts.receipt(RAMA_SITA, "sita") == Receipt(1)
    assert await desk.waiting() == 0
    await desk.delivery.settle()
    assert partition.is_lost


async def test_a_broker_that_is_away_makes_what_is_owed_start_over(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows whether it was acknowledged: the partition is read from its beginning."""
    partition = await desk.open()
    await deliver(desk, partition, send("a"))

    class Away:
        is_cluster = False

        async def scripts(self, *_: object, **__: object) -> object:
            raise exceptions.ConnectionError

    monkeypatch.setattr(desk.delivery, "_broker", Away())
    with pytest.raises(AWAY):
        await desk.delivery.settle()
    assert partition.is_lost
    assert not desk.delivery.owes
