"""The ledger on real brokers, and what the auditor asks of every store."""

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from libs import keys
from libs.broker import Broker, Script
from libs.streams import consumer
from libs.wire import names
from services.router import ledger
from services.router.ledger import Lines, Notes
from services.router.partition import Candidate, Partition
from services.router.store import Group, Message, Place, Receipt, ReceiptRow, Store
from tests.contracts.conftest import Record

P: Final = 3
RAMA_SITA: Final = names.direct("rama", "sita")
FIELD: Final = names.group("field")

_lease: Final = Script("libs.streams", "lease.lua")


def key(number: int) -> str:
    return f"{number:032x}"


def message(number: int, seq: int, conversation_id: str = RAMA_SITA, sender_id: str = "rama", **fields: Any) -> Message:
    return Message(
        names.message_id_of(key(number), conversation_id),
        key(number),
        conversation_id,
        seq,
        sender_id,
        "Rama",
        "member",
        "text",
        "Monday",
        "c",
        "c",
        0,
        1000 + seq,
        **fields,
    )


# --- the scripts that write it ----------------------------------------------------------------------


async def owned(broker: Broker, notes: Notes | None = None) -> Partition:
    call = _lease.call([keys.lease(P), keys.lease_token(P)], "r1", 60_000, "0", 1)
    owner = Partition(P, int(await broker.script(call)), "r1", notes)
    owner.note_end(RAMA_SITA, 0)
    owner.note_end(FIELD, 0)
    return owner


async def lines(broker: Broker) -> Lines:
    return ledger.read(await broker.command("XRANGE", keys.ledger(P), "-", "+"))


def candidate(notes: Notes, number: int, members: frozenset[str] | None = None, *, may: bool = True) -> Candidate:
    where = RAMA_SITA if members is None else FIELD
    line = notes.placed(key(number), where, members, is_anonymous=False)
    return Candidate(key(number), where, may=may, line=line)


async def test_a_message_is_entered_in_the_step_that_gives_it_its_place(broker: Broker) -> None:
    """Once: a replay, a refused one and one whose owner keeps no ledger enter nothing."""
    notes = Notes(10)
    owner = await owned(broker, notes)
    first, second = candidate(notes, 1), candidate(notes, 2, frozenset({"rama", "sita", "lata"}))
    await broker.script(owner.order([first, second, candidate(notes, 3, may=False)], is_store_away=False))
    await broker.script(owner.order([first], is_store_away=False))
    await broker.script((await owned(broker)).order([Candidate(key(4), FIELD, may=True)], is_store_away=False))
    found = await lines(broker)
    assert [(one.key, one.seq, one.line.conversation_id, one.line.recipients) for one in found.entered] == [
        (key(1), 1, RAMA_SITA, 1),
        (key(2), 1, FIELD, 2),
    ]
    assert found.rolls == {found.entered[1].line.roll: ("lata", "rama", "sita")}
    places = dict(await broker.command("HGETALL", keys.assigned(P)))
    placed_ms = int(places[key(1).encode()].split()[1])
    assert abs(found.entered[0].at_ms - placed_ms) < 100


async def test_who_lost_the_lease_writes_nothing_into_the_ledger(broker: Broker) -> None:
    """Neither step: what a paused router believes is not what became of a message."""
    notes = Notes(10)
    paused = await owned(broker, notes)
    await owned(broker)
    assert await broker.script(paused.order([candidate(notes, 1)], is_store_away=False)) is None
    assert await broker.script(paused.acknowledge(None, line=b"x")) is None
    assert await broker.command("EXISTS", keys.ledger(P)) == 0


async def test_ten_thousand_messages_are_entered_in_one_call(broker: Broker) -> None:
    """In entries that Lua's stack holds, in their order."""
    notes = Notes(10)
    owner = await owned(broker, notes)
    asked = [candidate(notes, number) for number in range(10_000)]
    await broker.script(owner.order(asked, is_store_away=False))
    found = await lines(broker)
    assert [one.seq for one in found.entered] == list(range(1, 10_001))
    assert await broker.command("XLEN", keys.ledger(P)) == 10


async def test_what_became_of_a_batch_is_written_as_it_leaves_the_stream(broker: Broker) -> None:
    """In the same step; an acknowledgement without anything to say writes no line."""
    notes = Notes(10)
    owner = await owned(broker, notes)
    entry = (await broker.command("XADD", keys.inbound(P), "*", "f", b"")).decode()
    notes.done(message(1, 1), "g1", took_ms=1000, read_ms=1003, saved_ms=1010, published_ms=1012, told=1)
    notes.confirmed(message(1, 1), ("sita",), "g2", 1100)
    await broker.script(owner.acknowledge(entry, line=notes.take_settled()))
    await broker.script(owner.acknowledge(None, line=notes.take_settled()))
    assert await broker.command("XLEN", keys.inbound(P)) == 0
    (settled,) = (await lines(broker)).settled
    (done,), (confirmed,) = settled.done, settled.confirmed
    assert (done.key.hex(), settled.base_ms + done.took, done.read, done.save, done.publish) == (
        key(1),
        1000,
        3,
        10,
        12,
    )
    assert (settled.gateway(done.gateway), done.told) == ("g1", 1)
    assert (confirmed.users, settled.base_ms + confirmed.at) == ((), 1100)
    assert settled.gateway(confirmed.gateway) == "g2"


async def test_the_id_before_an_entry_begins_with_that_entry(broker: Broker) -> None:
    """So that who goes on from there reads it again, also where it is the first of its millisecond."""
    first = (await broker.command("XADD", keys.ledger(P), "5-0", "f", b"")).decode()
    second = (await broker.command("XADD", keys.ledger(P), "5-1", "f", b"")).decode()
    for entry, rest in ((first, 2), (second, 1)):
        found = await broker.command("XRANGE", keys.ledger(P), f"({consumer.before(entry)}", "+")
        assert len(found) == rest
    assert consumer.before("0-0") == consumer.BEGINNING


# --- what a store answers the auditor ----------------------------------------------------------------


@pytest.fixture
async def store(record: Record) -> AsyncIterator[Store]:
    """One store on the record, with a message in a direct conversation and two in a group."""
    await record.put_groups([Group("field", "Field", frozenset({"rama", "sita", "lata"}))])
    async with record.open() as opened:
        await opened.save([message(1, 1), message(2, 1, FIELD), message(3, 2, FIELD)])
        yield opened


async def test_places_tell_what_was_written(store: Store) -> None:
    """By key; what was never written, or fills a place only, is not there."""
    await store.save([message(4, 3, FIELD, is_void=True)])
    assert await store.places([key(1), key(3), key(4), key(5)]) == {
        key(1): Place(RAMA_SITA, 1, "rama"),
        key(3): Place(FIELD, 2, "rama"),
    }
    assert await store.places([]) == {}


async def test_what_is_written_and_has_whom_to_wait_for_is_settled(record: Record, store: Store) -> None:
    """Not what is void or was never written. Who left a group is owed nothing, be it everyone."""
    await store.save([message(4, 3, FIELD, is_void=True)])
    written = {key(1): RAMA_SITA, key(2): FIELD, key(3): FIELD}
    assert await store.settled(written) == written.keys()
    assert await store.settled(written | {key(4): FIELD, key(5): RAMA_SITA}) == written.keys()
    await record.put_groups([Group("field", "Field", frozenset({"rama"}))])
    assert await store.settled(written) == written.keys()
    assert await store.settled({}) == frozenset()


async def test_of_many_messages_those_that_are_missing_are_told(store: Store) -> None:
    """One by one, however many there are besides, in as many conversations; another one's name for it is as good."""
    said = [message(number, 1, names.direct("rama", f"user{number}")) for number in range(10, 80)]
    missing = {key(number): names.direct("rama", f"user{number}") for number in (9, 80)}
    await store.save(said)
    written = {one.key: one.conversation_id for one in said}
    assert await store.settled(written) == written.keys()
    assert await store.settled(written | missing) == written.keys()
    assert await store.settled(written | {key(10): names.direct("rama", "nobody")}) == written.keys()


async def test_members_are_told_though_they_confirmed_nothing(store: Store) -> None:
    """Strangers are not; and `due` finds the message for exactly those who are and have not confirmed it."""
    everyone = [(where, user) for where in (RAMA_SITA, FIELD) for user in ("rama", "sita", "lata", "nobody")]
    await store.save_receipts([ReceiptRow(FIELD, "lata", Receipt(1))])
    found = await store.memberships(everyone)
    assert found == {
        (RAMA_SITA, "rama"): Receipt(),
        (RAMA_SITA, "sita"): Receipt(),
        (FIELD, "rama"): Receipt(),
        (FIELD, "sita"): Receipt(),
        (FIELD, "lata"): Receipt(1),
    }
    for user in ("sita", "lata", "nobody"):
        due = {(one.conversation_id, one.seq) for one, _ in (await store.due(user, 10)).rows}
        written = {(RAMA_SITA, 1), (FIELD, 1), (FIELD, 2)}
        assert due == {place for place in written if not found.get((place[0], user), Receipt(99)).has(place[1])}
    assert await store.memberships([]) == {}


async def test_who_was_removed_is_no_member(record: Record, store: Store) -> None:
    """And is owed nothing."""
    await record.put_groups([Group("field", "Field", frozenset({"rama", "sita"}))])
    assert await store.memberships([(FIELD, "lata")]) == {}
    assert (await store.due("lata", 10)).rows == []


async def test_the_reach_of_a_message_counts_marks_and_what_lies_ahead(store: Store) -> None:
    """Besides one, who wrote it; in a conversation of nobody there is nobody."""
    rows = [ReceiptRow(FIELD, "sita", Receipt(2)), ReceiptRow(FIELD, "lata", Receipt(0, 0, (2,)))]
    await store.save_receipts(rows)
    assert await store.reach(FIELD, 2, "rama") == (2, 2)
    assert await store.reach(FIELD, 1, "rama") == (2, 1)
    assert await store.reach(FIELD, 2, "anon-0123456789abcdef0123") == (3, 2)
    assert await store.reach(names.group("none"), 1, "rama") == (0, 0)
