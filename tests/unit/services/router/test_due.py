"""Pages of what someone is owed: in order, each once, within their bounds, and without what was confirmed."""

import json
from typing import Any

import pytest

from libs import keys
from libs.broker import Broker
from libs.wire import names
from libs.wire.frames import Due, DuePage, Origin, Places
from services.router import bodies
from services.router.due import DuePages
from services.router.receipts import ReceiptBook, journal_field
from services.router.store import Broadcast, Receipt, StoreAway, User
from tests.unit.services.router.fakes import FIELD, RAMA_SITA, FakeStore, message

PARTITIONS = 16
ORIGIN = Origin("g1", "socket")


def pages_of(store: FakeStore, broker: Broker, *, messages: int = 3, bytes_: int = 100_000) -> DuePages:
    return DuePages(store, broker, partitions=PARTITIONS, messages=messages, bytes_=bytes_)


def places(page: DuePage) -> list[tuple[str, int]]:
    return [(one["conversationId"], one["seq"]) for one in body(page)["messages"]]


def body(page: DuePage) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(page.body)
    return found


async def walk(pages: DuePages, **asked: Any) -> list[DuePage]:
    """Page after page, as a gateway asks for them."""
    walked = [await pages.page(Due(ORIGIN, "sita", **asked))]
    while walked[-1].position is not None:
        last = walked[-1]
        walked.append(await pages.page(Due(ORIGIN, "sita", last.position, last.cursors, last.budget_bytes)))
        assert len(walked) < 1000
    return walked


async def journal(broker: Broker, receipt: Receipt, conversation_id: str = RAMA_SITA) -> None:
    """A receipt that is in the broker and not yet in the store."""
    key = keys.receipts(names.partition_of(conversation_id, PARTITIONS))
    await broker.command("HSET", key, journal_field(conversation_id, "sita"), ReceiptBook.pack(receipt))


async def test_who_is_owed_nothing_gets_an_empty_last_page(store: FakeStore, broker: Broker) -> None:
    """So that the gateway knows that there is nothing to wait for."""
    store.put(message(1, sender_id="sita"))
    page = await pages_of(store, broker).page(Due(ORIGIN, "sita"))
    assert body(page) == {"messages": [], "hasMore": False}
    assert page == DuePage("socket", page.body)


@pytest.mark.parametrize("owed", [1, 2, 3, 4, 6, 7, 20])
async def test_pages_bring_everything_once_and_in_order(store: FakeStore, broker: Broker, owed: int) -> None:
    """However the number divides; only the last page says that there is no more."""
    store.put(*(message(seq) for seq in range(1, owed + 1)))
    walked = await walk(pages_of(store, broker))
    assert [place for page in walked for place in places(page)] == [(RAMA_SITA, seq) for seq in range(1, owed + 1)]
    assert all(len(places(page)) <= 3 for page in walked)
    assert [body(page)["hasMore"] for page in walked] == [*[True] * (len(walked) - 1), False]
    assert all(places(page) for page in walked)


async def test_a_walk_is_as_of_its_first_page(store: FakeStore, broker: Broker) -> None:
    """What is saved meanwhile is live: on a page, some of it would come before what the walk has passed already."""
    for seq in range(1, 5):
        store.put(message(seq, server_time_ms=10 * seq))
    pages = pages_of(store, broker)
    first = await pages.page(Due(ORIGIN, "sita"))
    earlier = names.direct("lava", "sita")
    store.put(message(1, earlier, "lava", server_time_ms=25))
    store.put(message(2, earlier, "lava", server_time_ms=35))
    store.put(message(5, server_time_ms=50))
    second = await pages.page(Due(ORIGIN, "sita", first.position))
    assert (places(first), places(second)) == ([(RAMA_SITA, seq) for seq in (1, 2, 3)], [(RAMA_SITA, 4)])
    assert second.position is None
    assert len([place for page in await walk(pages) for place in places(page)]) == 7


async def test_emergencies_come_before_the_rest(store: FakeStore, broker: Broker) -> None:
    """Then the oldest, over all conversations."""
    store.put(
        message(1, server_time_ms=10),
        message(2, server_time_ms=40),
        message(1, FIELD, server_time_ms=20),
        message(2, FIELD, "lata", type="emergency", server_time_ms=50),
        message(3, FIELD, "lata", type="emergency", server_time_ms=30),
    )
    walked = await walk(pages_of(store, broker, messages=2))
    assert [place for page in walked for place in places(page)] == [
        (FIELD, 3),
        (FIELD, 2),
        (RAMA_SITA, 1),
        (FIELD, 1),
        (RAMA_SITA, 2),
    ]


async def test_a_page_says_what_its_acknowledgement_confirms(store: FakeStore, broker: Broker) -> None:
    """Exactly what is in it, by conversation."""
    store.put(message(1), message(2), message(7, FIELD, server_time_ms=1500))
    (page,) = await walk(pages_of(store, broker))
    assert dict(page.confirms) == {RAMA_SITA: (1, 2), FIELD: (7,)}


async def test_what_was_confirmed_does_not_come_again(store: FakeStore, broker: Broker) -> None:
    """By the store's receipts: the watermark, and the marks ahead of it."""
    store.put(*(message(seq) for seq in range(1, 10)))
    store.marks[RAMA_SITA, "sita"] = Receipt(2, 0, (4, 5, 9))
    walked = await walk(pages_of(store, broker))
    assert [seq for page in walked for _, seq in places(page)] == [3, 6, 7, 8]


async def test_what_was_just_confirmed_does_not_come_again(store: FakeStore, broker: Broker) -> None:
    """A phone that drops and returns at once: its receipts are in the broker, and the store has not got them."""
    store.put(*(message(seq) for seq in range(1, 6)), message(1, FIELD))
    await journal(broker, Receipt(2, 0, (4,)))
    walked = await walk(pages_of(store, broker))
    assert {place for page in walked for place in places(page)} == {(RAMA_SITA, 3), (RAMA_SITA, 5), (FIELD, 1)}


async def test_many_confirmed_messages_are_passed_over_within_one_page(store: FakeStore, broker: Broker) -> None:
    """A page is not cut short, and none is empty, by what is left out."""
    store.put(*(message(seq) for seq in range(1, 41)))
    await journal(broker, Receipt(30))
    walked = await walk(pages_of(store, broker))
    assert [len(places(page)) for page in walked] == [3, 3, 3, 1]
    assert places(walked[0])[0] == (RAMA_SITA, 31)


async def test_a_page_keeps_to_its_bytes(store: FakeStore, broker: Broker) -> None:
    """What does not fit comes with the next page."""
    store.put(*(message(seq, content="భూమి" * 100) for seq in range(1, 8)))
    one = size_of_one(store)
    walked = await walk(pages_of(store, broker, messages=50, bytes_=3 * one + 10))
    assert [len(places(page)) for page in walked] == [3, 3, 1]


async def test_a_message_that_is_over_the_bytes_comes_alone(store: FakeStore, broker: Broker) -> None:
    """Else it would never come."""
    store.put(*(message(seq, content="x" * 5000) for seq in range(1, 4)))
    walked = await walk(pages_of(store, broker, messages=50, bytes_=1024))
    assert [len(places(page)) for page in walked] == [1, 1, 1]


async def test_a_client_may_ask_for_less_and_not_for_more(store: FakeStore, broker: Broker) -> None:
    """Its budget holds for the whole walk."""
    store.put(*(message(seq, content="x" * 1000) for seq in range(1, 7)))
    one = size_of_one(store)
    pages = pages_of(store, broker, messages=50, bytes_=2 * one + 10)
    assert [len(places(page)) for page in await walk(pages, budget_bytes=one + 10)] == [1] * 6
    assert [len(places(page)) for page in await walk(pages, budget_bytes=100 * one)] == [2] * 3


def size_of_one(store: FakeStore) -> int:
    """How many bytes a message of the store is as a body."""
    return len(bodies.new_message(store.log()[0]))


async def test_with_cursors_a_device_gets_what_it_has_not(store: FakeStore, broker: Broker) -> None:
    """Confirmed by another device or not; conversations it does not name go by their receipts."""
    store.put(*(message(seq) for seq in range(1, 6)), *(message(seq, FIELD) for seq in range(1, 4)))
    store.marks[RAMA_SITA, "sita"] = Receipt(5)
    store.marks[FIELD, "sita"] = Receipt(2)
    walked = await walk(pages_of(store, broker), cursors={RAMA_SITA: 3})
    assert {place for page in walked for place in places(page)} == {(RAMA_SITA, 4), (RAMA_SITA, 5), (FIELD, 3)}


async def test_the_last_cursors_say_where_the_device_has_come_to(store: FakeStore, broker: Broker) -> None:
    """A walk of one page: what it was sent counts as what it has."""
    store.put(message(4), message(5), message(3, FIELD))
    page = await pages_of(store, broker).page(Due(ORIGIN, "sita", cursors={RAMA_SITA: 3, "group:other": 9}))
    assert body(page)["cursors"] == {RAMA_SITA: 5, FIELD: 3, "group:other": 9}


async def test_a_cursor_does_not_pass_what_is_still_to_come(store: FakeStore, broker: Broker) -> None:
    """A device that drops after the first page (with an emergency in it) and says its cursors gets the rest."""
    store.put(*(message(seq, FIELD) for seq in range(1, 6)), message(6, FIELD, "lata", type="emergency"))
    store.marks[FIELD, "sita"] = Receipt(6)  # another device has them all
    pages = pages_of(store, broker)
    first = await pages.page(Due(ORIGIN, "sita", cursors={FIELD: 0}))
    seen = {seq for _, seq in places(first)}
    for page in await walk(pages, cursors=body(first)["cursors"]):
        seen |= {seq for _, seq in places(page)}
    assert seen == {1, 2, 3, 4, 5, 6}


async def test_the_answer_belongs_to_the_walk_that_asked(store: FakeStore, broker: Broker) -> None:
    """A new walk may have begun meanwhile: its number comes back."""
    page = await pages_of(store, broker).page(Due(ORIGIN, "sita", walk=7))
    assert (page.session, page.walk) == ("socket", 7)


async def test_an_absent_store_is_said_and_not_taken_for_an_empty_one(store: FakeStore, broker: Broker) -> None:
    """`StoreAway`: the gateway asks again."""
    store.away = {"due"}
    with pytest.raises(StoreAway):
        await pages_of(store, broker).page(Due(ORIGIN, "sita"))


def _warn(store: FakeStore, *numbers: int, bytes_: int = 10) -> None:
    """Broadcasts for the village where sita lives."""
    store.people["sita"] = User("sita", "Sita", places=Places(village="v1"))
    for number in numbers:
        one = Broadcast(f"{number:032x}", "lata", "village", ("v1",), "high", number, b"x" * bytes_)
        store.broadcasts[one.id] = one


def _alarms(page: DuePage) -> list[int]:
    return [int(broadcast_id, 16) for broadcast_id, _ in page.alarms]


async def test_broadcasts_come_before_everything_else(store: FakeStore, broker: Broker) -> None:
    """On pages of their own, also before emergencies; the pages of messages follow."""
    _warn(store, *range(40))
    store.put(message(1, FIELD, "lata", type="emergency", server_time_ms=1), message(1))
    walked = await walk(pages_of(store, broker))
    assert [_alarms(page) for page in walked] == [list(range(32)), list(range(32, 40)), []]
    assert [len(page.body) > 0 for page in walked] == [False, False, True]
    assert places(walked[2]) == [(FIELD, 1), (RAMA_SITA, 1)]


async def test_a_page_of_broadcasts_keeps_to_its_bytes(store: FakeStore, broker: Broker) -> None:
    """One that is larger goes alone."""
    _warn(store, 1, 2, bytes_=3000)
    _warn(store, 3, bytes_=9000)
    _warn(store, 4)
    walked = await walk(pages_of(store, broker, bytes_=6500))
    assert [_alarms(page) for page in walked] == [[1, 2], [3], [4], []]


async def test_broadcasts_confirmed_but_not_yet_in_the_store_are_not_sent_again(
    store: FakeStore, broker: Broker
) -> None:
    """When all are, messages come at once; a walk goes on where it was."""
    _warn(store, 1, 2)
    await journal(broker, Receipt(1), names.broadcast(f"{1:032x}"))
    assert [_alarms(page) for page in await walk(pages_of(store, broker))] == [[2], []]
    await journal(broker, Receipt(1), names.broadcast(f"{2:032x}"))
    assert [_alarms(page) for page in await walk(pages_of(store, broker))] == [[]]


async def test_a_device_that_says_what_it_has_gets_broadcasts_first_too(store: FakeStore, broker: Broker) -> None:
    """Its cursors travel with the walk."""
    _warn(store, 1)
    store.put(message(1), message(2))
    walked = await walk(pages_of(store, broker), cursors={RAMA_SITA: 1})
    assert [_alarms(page) for page in walked] == [[1], []]
    assert walked[0].cursors == {RAMA_SITA: 1}
    assert places(walked[1]) == [(RAMA_SITA, 2)]
