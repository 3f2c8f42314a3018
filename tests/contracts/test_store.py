"""What every store promises (see `services.router.store`), by effect."""

import asyncio
import multiprocessing
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from libs.lifecycle import Unstartable
from libs.wire import names
from libs.wire.frames import DuePosition, Places
from services.router.sqlite import GroupRow, UserRow, open_store
from services.router.sqlite.messages import _DUE
from services.router.sqlite.schema import SCHEMA
from services.router.store import (
    End,
    Group,
    Message,
    Receipt,
    ReceiptRow,
    Saved,
    Store,
    StoreAway,
    User,
    position_of,
)
from tests.contracts.conftest import Record
from tests.support.waiting import until

DAY_MS = 24 * 3600 * 1000
WEEK_MS = 7 * DAY_MS
RAMA_SITA = names.direct("rama", "sita")
FIELD = names.group("field")


@pytest.fixture
async def store(record: Record) -> AsyncIterator[Store]:
    """One store on the record."""
    async with record.open() as opened:
        yield opened


def message(seq: int, conversation_id: str = RAMA_SITA, sender_id: str = "rama", **fields: Any) -> Message:
    """A message that is itself by its `client_id`, which follows from its place unless given."""
    client_id = fields.pop("client_id", f"{conversation_id}/{seq}")
    return Message(
        id=names.message_id(sender_id, client_id, conversation_id),
        key=names.message_key(sender_id, client_id),
        conversation_id=conversation_id,
        seq=seq,
        sender_id=sender_id,
        sender_name=sender_id.title(),
        sender_role="member",
        type=fields.pop("type", "text"),
        content=fields.pop("content", "The survey is on Monday."),
        client_id=client_id,
        client_message_id=client_id,
        timestamp_ms=fields.pop("timestamp_ms", 5),
        server_time_ms=fields.pop("server_time_ms", 1000 + seq),
        **fields,
    )


def void(seq: int, conversation_id: str = RAMA_SITA, **fields: Any) -> Message:
    return message(seq, conversation_id, is_void=True, **fields)


async def last_seqs(store: Store, conversation_ids: list[str]) -> dict[str, int]:
    return {where: end.seq for where, end in (await store.ends(conversation_ids)).items()}


def seqs(messages: Iterable[Message]) -> list[int]:
    return [each.seq for each in messages]


async def due_places(store: Store, user_id: str, limit: int = 100, **asked: Any) -> list[tuple[str, int]]:
    return [(each.conversation_id, each.seq) for each, _ in (await store.due(user_id, limit, **asked)).rows]


async def confirm(store: Store, user_id: str, receipt: Receipt, conversation_id: str = RAMA_SITA) -> None:
    await store.save_receipts([ReceiptRow(conversation_id, user_id, receipt)])


# Saving


async def test_a_saved_message_is_there_field_by_field(record: Record) -> None:
    """What was saved is what another store reads, also in Telugu and Hindi and with odd characters."""
    full = message(
        1,
        content="భూమి మాది, हम साथ हैं 👩🏽‍🌾 \" \\ ' \0 end\n",
        type="voice",
        media_url="https://media.example/ఆడియో",
        media_metadata='{"title":"పాట","seconds":7}'.encode(),
        encryption_level="high_security",
        is_anonymous=True,
        sealed="c2VhbGVk-_",
        timestamp_ms=(1 << 53) - 1,
        server_time_ms=1 << 53,
    )
    plain = message(2)
    async with record.open() as store:
        assert await store.save([full, plain]) == [Saved.SAVED, Saved.SAVED]
    async with record.open() as other:
        found = await other.history(RAMA_SITA, 10)
        assert found == [full, plain]
        assert found[0].is_anonymous is True
        assert await other.find([full.key, plain.key, "0" * 32]) == {full.key: full, plain.key: plain}


@pytest.mark.parametrize(
    "metadata",
    ['{"":1}', '{"__x__":[[1,[2]]]}', "[[1]]", '{"n":123456789012345678901234567890}', '{"a":' * 30 + "1" + "}" * 30],
)
async def test_whatever_metadata_json_can_say_is_kept(store: Store, metadata: str) -> None:
    """What a store cannot hold as it is comes back all the same, and fails nobody's message."""
    odd = message(1, media_metadata=metadata.encode())
    assert await store.save([odd, message(2)]) == [Saved.SAVED, Saved.SAVED]
    assert (await store.history(RAMA_SITA, 1, after_seq=0))[0] == odd


async def test_saving_again_is_saved_and_changes_nothing(store: Store) -> None:
    """A replayed batch gets the same answer, and everything stands there once."""
    batch = [message(seq) for seq in range(1, 8)]
    first = await store.save(batch)
    assert await store.save(batch) == first == [Saved.SAVED] * 7
    assert await store.save([*batch, message(8)]) == [Saved.SAVED] * 8
    assert seqs(await store.history(RAMA_SITA, 100)) == list(range(1, 9))


async def test_a_message_sent_again_elsewhere_is_a_repeat(store: Store) -> None:
    """A key is taken once: the same message at another place, or in another conversation, writes nothing."""
    await store.save([message(1, client_id="once")])
    again = message(2, client_id="once")
    elsewhere = message(1, FIELD, client_id="once")
    assert await store.save([again, elsewhere, message(3)]) == [Saved.REPEAT, Saved.REPEAT, Saved.SAVED]
    assert seqs(await store.history(RAMA_SITA, 10)) == [1, 3]
    assert await last_seqs(store, [FIELD]) == {FIELD: 0}


async def test_a_repeat_within_one_batch_is_told_as_one(store: Store) -> None:
    """Messages of a batch are judged in their order."""
    batch = [message(1, client_id="once"), message(2, client_id="once"), message(1, client_id="late")]
    assert await store.save(batch) == [Saved.SAVED, Saved.REPEAT, Saved.TAKEN]


async def test_a_place_is_taken_once(store: Store) -> None:
    """Another message at a place that is taken writes nothing; the first stays."""
    first = message(1)
    await store.save([first])
    late = message(1, client_id="late")
    assert await store.save([late, message(2)]) == [Saved.TAKEN, Saved.SAVED]
    assert (await store.history(RAMA_SITA, 10))[0] == first
    assert await store.find([late.key]) == {}


async def test_a_repeat_at_a_taken_place_is_a_repeat(store: Store) -> None:
    """That a message is already there says more than that its new place is not free."""
    await store.save([message(1, client_id="once"), message(2)])
    assert await store.save([message(2, client_id="once")]) == [Saved.REPEAT]


async def test_a_void_message_fills_a_place_and_is_never_seen(store: Store) -> None:
    """It counts for the last seq, shares its key with the message it repeats, and no read shows it."""
    first = message(1, client_id="once")
    assert await store.save([first, void(2, client_id="once"), message(3)]) == [Saved.SAVED] * 3
    assert await last_seqs(store, [RAMA_SITA]) == {RAMA_SITA: 3}
    assert await store.find([first.key]) == {first.key: first}
    assert seqs(await store.history(RAMA_SITA, 10)) == [1, 3]
    assert seqs(await store.at(RAMA_SITA, [1, 2, 3])) == [1, 3]
    assert await due_places(store, "sita") == [(RAMA_SITA, 1), (RAMA_SITA, 3)]


async def test_a_void_message_yields_to_what_is_there(store: Store) -> None:
    """A void may be saved again; it does not replace a message, nor a message it."""
    await store.save([message(1), void(2)])
    outcomes = await store.save([void(2, client_id="other"), void(1), message(2, client_id="late")])
    assert outcomes == [Saved.SAVED, Saved.TAKEN, Saved.TAKEN]
    assert seqs(await store.history(RAMA_SITA, 10)) == [1]


async def test_a_void_message_holds_no_key(store: Store) -> None:
    """Whether a message is there already is told by itself, not by a void that repeats it."""
    first = message(1, client_id="once")
    await store.save([first, void(2, client_id="once"), message(3), void(4, client_id="late")])
    assert await store.save([first, message(3, client_id="late")]) == [Saved.SAVED, Saved.TAKEN]
    assert await store.find([message(4, client_id="late").key]) == {}
    assert await store.save([message(5, client_id="late")]) == [Saved.SAVED]


async def test_an_empty_batch_is_no_work(store: Store) -> None:
    """Nothing in, nothing out."""
    assert await store.save([]) == []
    await store.save_receipts([])


@pytest.mark.parametrize("size", [1, 63, 64, 65, 500, 1300])
async def test_a_batch_may_have_any_size(store: Store, size: int) -> None:
    """Each message of a batch is saved and answered, however many there are."""
    batch = [message(seq) for seq in range(1, size + 1)]
    assert await store.save(batch) == [Saved.SAVED] * size
    assert seqs(await store.history(RAMA_SITA, size + 1)) == list(range(1, size + 1))


async def test_a_save_that_raises_wrote_nothing(record: Record) -> None:
    """A batch with a message that cannot be written leaves nothing behind, and the store goes on."""
    broken = message(2, content="\ud800")
    async with record.open() as store:
        with pytest.raises(UnicodeEncodeError):
            await store.save([message(1), *(message(seq) for seq in range(3, 200)), broken])
        assert await last_seqs(store, [RAMA_SITA]) == {RAMA_SITA: 0}
        assert await store.save([message(1)]) == [Saved.SAVED]


async def test_a_store_that_is_away_says_so_and_comes_back(record: Record) -> None:
    """Every write raises `StoreAway` and leaves nothing; afterwards the same store works."""
    async with record.open(patience_s=record.hurried_s) as store:
        with record.away():
            calls = [store.save([message(1), message(2)]), store.save([message(3)])]
            found = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(each) for each in found] == [StoreAway, StoreAway]
            with pytest.raises(StoreAway):
                await confirm(store, "sita", Receipt(1))
        assert await last_seqs(store, [RAMA_SITA]) == {RAMA_SITA: 0}
        assert await store.receipts(RAMA_SITA) == {}
        assert await store.save([message(1), message(2)]) == [Saved.SAVED, Saved.SAVED]


async def test_a_store_tells_how_long_it_has_been_at_a_call(record: Record) -> None:
    """Who waits for it hangs no more than it does."""
    async with record.open() as store, asyncio.TaskGroup() as tasks:
        assert store.busy_s == 0
        with record.away():
            saving = tasks.create_task(store.save([message(1)]))
            await until(lambda: store.busy_s > 0.1, 5, "a call that takes its time")
        assert await saving == [Saved.SAVED]
        assert store.busy_s == 0


async def test_calls_that_wait_do_not_add_up_their_patience(record: Record) -> None:
    """While the store is away, thirty calls hear of it in a few patiences and not in thirty."""
    patience_s = record.hurried_s
    async with record.open(patience_s=patience_s) as store:
        with record.away():
            began = time.monotonic()
            calls = [store.save([message(seq)]) for seq in range(1, 31)]
            found = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(each) for each in found} == {StoreAway}
            assert time.monotonic() - began < 10 * patience_s


async def test_two_writers_never_share_a_place(record: Record) -> None:
    """Of two stores that race for the same places, exactly one wins each."""
    async with record.open() as one, record.open() as other:
        for start in range(1, 201, 10):
            batches = [
                [message(seq, client_id=f"{name}{seq}") for seq in range(start, start + 10)]
                for name in ("one", "other")
            ]
            outcomes = await asyncio.gather(one.save(batches[0]), other.save(batches[1]))
            for pair in zip(*outcomes, strict=True):
                assert sorted(outcome.value for outcome in pair) == ["saved", "taken"]
        there = await one.history(RAMA_SITA, 1000)
        assert seqs(there) == list(range(1, 201))
        assert there == await other.history(RAMA_SITA, 1000)


async def test_two_writers_never_save_a_message_twice(record: Record) -> None:
    """Of two stores that save one message at different places, one saves it and one is told of a repeat."""
    async with record.open() as one, record.open() as other:
        for seq in range(1, 41, 2):
            outcomes = await asyncio.gather(
                one.save([message(seq, client_id=f"once{seq}")]), other.save([message(seq + 1, client_id=f"once{seq}")])
            )
            assert sorted(outcome.value for (outcome,) in outcomes) == ["repeat", "saved"]


async def test_many_may_open_a_new_record_at_once(record: Record) -> None:
    """Routers that start together find one record, not a half-made one."""
    async with AsyncExitStack() as stack:
        stores = await asyncio.gather(*(stack.enter_async_context(record.open()) for _ in range(8)))
        outcomes = await asyncio.gather(*(store.save([message(n + 1)]) for n, store in enumerate(stores)))
        assert outcomes == [[Saved.SAVED]] * 8
        assert seqs(await stores[0].history(RAMA_SITA, 10)) == list(range(1, 9))


def save_without_end(record: Record, report: "Connection[int, int]") -> None:
    """Runs in a process of its own: saves batch after batch, and reports each only once it is saved."""

    async def save() -> None:
        async with record.open() as store:
            last = 0
            while True:
                outcomes = await store.save([message(seq) for seq in range(last + 1, last + 6)])
                last += outcomes.count(Saved.SAVED)
                report.send(last)

    asyncio.run(save())


async def test_what_was_reported_survives_the_death_of_its_writer(record: Record) -> None:
    """After kill -9 in the middle of writing, everything that was reported is there, and nothing torn."""
    spawn = multiprocessing.get_context("spawn")
    reports, report = spawn.Pipe(duplex=False)
    with reports:
        writer = spawn.Process(target=save_without_end, args=(record, report), daemon=True)
        writer.start()
        report.close()
        reported = 0
        while reported < 200:
            reported = await asyncio.to_thread(reports.recv)
        writer.kill()
        try:
            while True:
                reported = reports.recv()
        except EOFError:
            writer.join()
    async with record.open() as store:
        last = (await store.ends([RAMA_SITA]))[RAMA_SITA].seq
        assert last >= reported
        assert last % 5 == 0
        assert await store.history(RAMA_SITA, last + 1) == [message(seq) for seq in range(1, last + 1)]
        assert await store.save([message(last + 1)]) == [Saved.SAVED]


# Users and groups


async def test_users_and_groups_are_found_among_those_asked_for(record: Record, store: Store) -> None:
    """Those that exist come back whole; unknown ids are left out."""
    rama = User("rama", "రామ", "coordinator", disabled=True, blocked=frozenset({"ravana"}), valid_after_ms=7)
    await record.put_users([rama, User("sita", "सीता")])
    await record.put_groups([Group("field", "పొలం", frozenset({"rama", "sita"})), Group("empty", "Empty", frozenset())])
    found = await store.users(["rama", "sita", "nobody"])
    assert found == {"rama": rama, "sita": User("sita", "सीता")}
    assert found["rama"].disabled is True
    groups = await store.groups(["field", "empty", "nowhere"])
    assert groups["field"] == Group("field", "పొలం", frozenset({"rama", "sita"}))
    assert groups["empty"].members == frozenset()
    assert set(groups) == {"field", "empty"}
    assert await store.users([]) == {}


# Reading a conversation


async def test_ends_answers_for_every_conversation(store: Store) -> None:
    """The last seq of each and its server time, whatever times came before; zeros for one without messages."""
    await store.save(
        [message(1, server_time_ms=9000), message(2, server_time_ms=8000), message(1, FIELD), void(2, FIELD)]
    )
    asked = [RAMA_SITA, FIELD, names.group("none")]
    assert await store.ends(asked) == {RAMA_SITA: End(2, 8000), FIELD: End(2, 1002), names.group("none"): End()}
    assert await store.ends([]) == {}


async def test_history_turns_pages_in_both_directions(store: Store) -> None:
    """The newest before a point, or the first after a seq; oldest first; the points themselves left out."""
    await store.save([message(seq) for seq in range(1, 11)] + [message(seq, FIELD) for seq in range(1, 4)])
    assert seqs(await store.history(RAMA_SITA, 3)) == [8, 9, 10]
    assert seqs(await store.history(RAMA_SITA, 3, before_seq=8)) == [5, 6, 7]
    assert seqs(await store.history(RAMA_SITA, 3, before_seq=2)) == [1]
    assert await store.history(RAMA_SITA, 3, before_seq=1) == []
    assert seqs(await store.history(RAMA_SITA, 3, before_ms=1008)) == [5, 6, 7]
    assert await store.history(RAMA_SITA, 3, before_ms=1001) == []
    assert seqs(await store.history(RAMA_SITA, 3, after_seq=0)) == [1, 2, 3]
    assert seqs(await store.history(RAMA_SITA, 3, after_seq=8)) == [9, 10]
    assert await store.history(RAMA_SITA, 3, after_seq=10) == []
    assert await store.history(names.group("none"), 3) == []


async def test_history_fills_its_page_past_void_messages(store: Store) -> None:
    """A void takes no room on a page."""
    await store.save([message(1), message(2), void(3), void(4), message(5)])
    assert seqs(await store.history(RAMA_SITA, 2)) == [2, 5]
    assert seqs(await store.history(RAMA_SITA, 2, after_seq=1)) == [2, 5]


async def test_messages_are_found_by_their_places(store: Store) -> None:
    """In the order of the conversation, without those that do not exist."""
    await store.save([message(seq) for seq in range(1, 6)] + [message(9, FIELD)])
    assert seqs(await store.at(RAMA_SITA, [5, 2, 9])) == [2, 5]
    assert await store.at(RAMA_SITA, []) == []


# Receipts


async def test_receipts_never_go_back(store: Store) -> None:
    """A receipt that says less, or comes late, changes nothing."""
    await store.save([message(1)])
    await confirm(store, "sita", Receipt(5, 3, (8,)))
    await confirm(store, "sita", Receipt(2, 1))
    assert await store.receipts(RAMA_SITA) == {"sita": Receipt(5, 3, (8,))}
    await confirm(store, "sita", Receipt(6, 0))
    assert await store.receipts(RAMA_SITA) == {"sita": Receipt(6, 3, (8,))}


async def test_receipts_ahead_are_folded_into_the_mark(store: Store) -> None:
    """Once a gap is closed, what stood beyond it counts."""
    await confirm(store, "sita", Receipt(4, 0, (7, 6)))
    await confirm(store, "sita", Receipt(0, 0, (5, 9)))
    assert await store.receipts(RAMA_SITA) == {"sita": Receipt(7, 0, (9,))}
    await confirm(store, "sita", Receipt(0, 8, (8,)))
    assert await store.receipts(RAMA_SITA) == {"sita": Receipt(9, 8)}


async def test_receipts_of_one_call_are_merged_too(store: Store) -> None:
    """Rows of the same member in one call count together."""
    rows = [ReceiptRow(RAMA_SITA, "sita", Receipt(0, 0, (seq,))) for seq in (3, 2, 1)]
    await store.save_receipts([*rows, ReceiptRow(RAMA_SITA, "rama", Receipt(1))])
    assert await store.receipts(RAMA_SITA) == {"sita": Receipt(3), "rama": Receipt(1)}


async def test_receipts_are_answered_for_those_asked_about(store: Store) -> None:
    """Of the members who have any, all or the named; of one conversation only."""
    await store.save([message(1), message(1, names.direct("rama", "lava"))])
    await store.save_receipts([ReceiptRow(RAMA_SITA, "sita", Receipt(1, 1)), ReceiptRow(RAMA_SITA, "rama", Receipt(1))])
    assert await store.receipts(RAMA_SITA) == {"sita": Receipt(1, 1), "rama": Receipt(1)}
    assert await store.receipts(RAMA_SITA, ["sita", "nobody"]) == {"sita": Receipt(1, 1)}
    assert await store.receipts(RAMA_SITA, []) == {}
    asked = [(RAMA_SITA, "sita"), (RAMA_SITA, "nobody"), (names.direct("rama", "lava"), "sita")]
    assert await store.receipts_of(asked) == {(RAMA_SITA, "sita"): Receipt(1, 1)}
    assert await store.receipts(names.direct("rama", "lava")) == {}


async def test_a_receipt_that_overtakes_its_message_counts(store: Store) -> None:
    """Delivery may come before saving; what was confirmed then is not due later."""
    await confirm(store, "sita", Receipt(1))
    await store.save([message(1), message(2)])
    assert await due_places(store, "sita") == [(RAMA_SITA, 2)]


async def test_a_receipt_makes_nobody_a_member(record: Record, store: Store) -> None:
    """A late receipt of someone who was removed, or of a stranger, does not let them in."""
    await record.put_groups([Group("field", "Field", frozenset({"rama", "sita"}))])
    await record.put_groups([Group("field", "Field", frozenset({"rama"}))])
    await confirm(store, "sita", Receipt(1), FIELD)
    await confirm(store, "ravana", Receipt(1), RAMA_SITA)
    await store.save([message(1, FIELD), message(1)])
    assert (await store.groups(["field"]))["field"].members == frozenset({"rama"})
    assert await due_places(store, "sita") == [(RAMA_SITA, 1)]
    assert await due_places(store, "ravana", cursors={RAMA_SITA: 0}) == []


# What is due


async def test_a_message_is_due_to_the_other_until_confirmed(store: Store) -> None:
    """The first message of two users makes it due to the one who did not write it, with the receipt it has."""
    await store.save([message(1), message(2, sender_id="sita"), message(3)])
    assert (await store.due("sita", 10)).rows == [(message(1), Receipt()), (message(3), Receipt())]
    assert await due_places(store, "rama") == [(RAMA_SITA, 2)]
    await confirm(store, "sita", Receipt(1))
    assert (await store.due("sita", 10)).rows == [(message(3), Receipt(1))]
    await confirm(store, "sita", Receipt(3))
    assert (await store.due("sita", 10)).rows == []
    assert (await store.due("nobody", 10)).rows == []


async def test_who_is_owed_anything_is_told_of_many_at_once(store: Store) -> None:
    """Who wrote it is not, nor who has confirmed it; a void place is nothing."""
    await store.save([message(1), message(2, is_void=True)])
    people = ["rama", "sita", "nobody"]
    assert await store.due_to(people) == {"sita"}
    assert await store.due_to([]) == frozenset()
    await confirm(store, "sita", Receipt(1))
    assert await store.due_to(people) == frozenset()
    await store.save([message(3, sender_id="sita")])
    assert await store.due_to(people) == {"rama"}


async def test_a_conversation_may_begin_with_a_void_message_or_after_one_that_was_refused(store: Store) -> None:
    """Whatever stands at its first place, the two are owed what follows."""
    other = names.direct("lava", "sita")
    await store.save([message(1, client_id="once")])
    await store.save([void(1, other, client_id="once"), message(2, other, "lava")])
    assert await due_places(store, "sita") == [(RAMA_SITA, 1), (other, 2)]


async def test_what_stands_ahead_is_left_to_the_caller(store: Store) -> None:
    """A message confirmed out of order comes with a receipt that says so."""
    await store.save([message(1), message(2), message(3)])
    await confirm(store, "sita", Receipt(0, 0, (2,)))
    found = (await store.due("sita", 10)).rows
    assert [each.seq for each, receipt in found if not receipt.has(each.seq)] == [1, 3]


async def test_emergencies_are_due_first_then_by_time_and_place(store: Store) -> None:
    """In the order of `position_of`, across conversations."""
    lava, kusha = names.direct("lava", "sita"), names.direct("kusha", "sita")
    await store.save(
        [
            message(1, lava, "lava", server_time_ms=50),
            message(2, lava, "lava", server_time_ms=40),
            message(3, lava, "lava", server_time_ms=90, type="emergency"),
            message(1, kusha, "kusha", server_time_ms=50),
            message(2, kusha, "kusha", server_time_ms=50),
            message(3, kusha, "kusha", server_time_ms=80, type="emergency"),
        ]
    )
    assert await due_places(store, "sita") == [(kusha, 3), (lava, 3), (lava, 2), (kusha, 1), (kusha, 2), (lava, 1)]


async def test_cursors_say_what_a_device_has_instead_of_the_mark(store: Store) -> None:
    """In a conversation with a cursor what lies past it is owed, confirmed or not; in others past the mark."""
    lava = names.direct("lava", "sita")
    await store.save([message(seq) for seq in range(1, 5)] + [message(seq, lava, "lava") for seq in range(1, 4)])
    await store.save_receipts([ReceiptRow(RAMA_SITA, "sita", Receipt(3)), ReceiptRow(lava, "sita", Receipt(1))])
    behind = await due_places(store, "sita", cursors={RAMA_SITA: 2, names.group("none"): 0})
    assert behind == [(lava, 2), (lava, 3), (RAMA_SITA, 3), (RAMA_SITA, 4)]
    assert await due_places(store, "sita", cursors={RAMA_SITA: 4}) == [(lava, 2), (lava, 3)]
    assert len(await due_places(store, "sita", cursors={RAMA_SITA: 0, lava: 0})) == 7


async def test_a_cursor_opens_no_conversation(store: Store) -> None:
    """Naming a conversation one is no member of brings nothing of it."""
    await store.save([message(1)])
    assert await due_places(store, "ravana", cursors={RAMA_SITA: 0}) == []


async def test_ids_may_hold_any_sign_but_a_colon(store: Store) -> None:
    """Quotes, backslashes and other scripts in an id are only signs."""
    odd, other = "a\"b\\c%_'`./", "రాముడు"
    place = names.direct(odd, other)
    await store.save([message(1, place, odd)])
    assert await due_places(store, other, cursors={place: 0}) == [(place, 1)]
    await confirm(store, other, Receipt(1), place)
    assert await store.receipts(place, [other]) == {other: Receipt(1)}
    assert await last_seqs(store, [place]) == {place: 1}


async def test_pages_of_what_is_due_fit_together(store: Store) -> None:
    """Whatever the limit, the pages after each other are what a plain sort of all that is owed gives."""
    rng = random.Random(7)
    friends = [f"friend{number}" for number in range(6)]
    everything: list[Message] = []
    receipts: dict[str, Receipt] = {}
    for friend in friends:
        place = names.direct(friend, "sita")
        receipts[place] = Receipt().merge(Receipt(rng.randrange(10), 0, tuple(rng.sample(range(1, 30), 3))))
        for seq in range(1, 31):
            kind = "emergency" if rng.random() < 0.1 else "text"
            sender = rng.choice([friend, friend, "sita"])
            at = rng.randrange(20)
            everything.append(message(seq, place, sender, type=kind, server_time_ms=at, is_void=rng.random() < 0.1))
    assert set(await store.save(everything)) == {Saved.SAVED}
    await store.save_receipts([ReceiptRow(place, "sita", receipt) for place, receipt in receipts.items()])
    for cursors in (None, {names.direct(friend, "sita"): rng.randrange(31) for friend in friends[:3]}):
        mark = {place: receipt.delivered for place, receipt in receipts.items()} | (cursors or {})
        owed = [
            each
            for each in everything
            if each.sender_id != "sita" and not each.is_void and each.seq > mark[each.conversation_id]
        ]
        owed.sort(key=order)
        for limit in (1, 7, 1000):
            pages: list[tuple[Message, Receipt]] = []
            after: DuePosition | None = None
            while page := (await store.due("sita", limit, after=after, cursors=cursors)).rows:
                assert len(page) <= limit
                pages += page
                after = position_of(page[-1][0])
            assert pages == [(each, receipts[each.conversation_id]) for each in owed]


async def test_a_walk_goes_through_what_was_saved_when_it_began(store: Store) -> None:
    """Whatever is saved meanwhile, behind the walk or before it; the next walk has it."""
    lava, kusha = names.direct("lava", "sita"), names.direct("kusha", "sita")
    await store.save([message(seq, server_time_ms=10 * seq) for seq in (1, 2, 3)])
    begun = await store.due("sita", 2)
    assert [each.seq for each, _ in begun.rows] == [1, 2]
    after = position_of(begun.rows[-1][0], begun.as_of)
    late = [message(1, lava, "lava", server_time_ms=15), message(2, lava, "lava", server_time_ms=25)]
    await store.save([*late, message(1, kusha, "kusha", type="emergency"), message(4, server_time_ms=40)])
    gone_on = await store.due("sita", 10, after=after)
    assert [(each.conversation_id, each.seq) for each, _ in gone_on.rows] == [(RAMA_SITA, 3)]
    assert gone_on.as_of == begun.as_of
    again = await store.due("sita", 10)
    assert len(again.rows) == 7
    assert again.as_of > begun.as_of


def order(each: Message) -> tuple[int, int, bytes, int]:
    """The order of `position_of`, by the bytes of a conversation's id."""
    at = position_of(each)
    return at.rank, at.server_time_ms, at.conversation_id.encode(), at.seq


async def test_who_joins_a_group_is_owed_what_is_said_from_then_on(record: Record, store: Store) -> None:
    """Older messages are history to a new member; to those who were there they stay due."""
    await record.put_groups([Group("field", "Field", frozenset({"rama", "sita"}))])
    await store.save([message(1, FIELD), message(2, FIELD)])
    await record.put_groups([Group("field", "Field", frozenset({"rama", "sita", "lava"}))])
    await store.save([message(3, FIELD)])
    assert await due_places(store, "lava") == [(FIELD, 3)]
    assert await due_places(store, "sita") == [(FIELD, 1), (FIELD, 2), (FIELD, 3)]
    assert await store.receipts(FIELD) == {"lava": Receipt(2, 2)}


async def test_nothing_is_due_to_who_was_removed_from_a_group(record: Record, store: Store) -> None:
    """Not what came later, nor what was due before; and who comes back starts anew."""
    await record.put_groups([Group("field", "Field", frozenset({"rama", "sita"}))])
    await store.save([message(1, FIELD)])
    await record.put_groups([Group("field", "New field", frozenset({"rama"}))])
    await store.save([message(2, FIELD)])
    assert (await store.due("sita", 10)).rows == []
    assert (await store.due("sita", 10, cursors={FIELD: 0})).rows == []
    assert await store.groups(["field"]) == {"field": Group("field", "New field", frozenset({"rama"}))}
    await record.put_groups([Group("field", "Field", frozenset({"rama", "sita"}))])
    await store.save([message(3, FIELD)])
    assert await due_places(store, "sita") == [(FIELD, 3)]


async def test_putting_a_group_again_changes_nothing(record: Record, store: Store) -> None:
    """Members who stay keep their receipts and what is due to them."""
    group = Group("field", "Field", frozenset({"rama", "sita"}))
    await record.put_groups([group])
    await store.save([message(1, FIELD), message(2, FIELD)])
    await confirm(store, "sita", Receipt(1), FIELD)
    await record.put_groups([group])
    assert (await store.due("sita", 10)).rows == [(message(2, FIELD), Receipt(1))]


# Revocation


async def test_a_revocation_is_never_taken_back(record: Record, store: Store) -> None:
    """The latest moment stands, whatever the order of calls; who does not exist is not revoked."""
    await record.put_users([User("rama", "Rama"), User("sita", "Sita")])
    assert await store.revoke("rama", 5000)
    assert await store.revoke("rama", 3000)
    assert not await store.revoke("ravana", 5000)
    users = await store.users(["rama", "sita", "ravana"])
    assert {user.id: user.valid_after_ms for user in users.values()} == {"rama": 5000, "sita": 0}


# Retention


async def retire(store: Store, at_ms: int, keep_ms: int = WEEK_MS) -> int:
    """A whole run, in steps as small as can be: how many messages left the hot log."""
    retired = 0
    while (count := await store.retire(at_ms - keep_ms, 1)) is not None:
        retired += count
    after: str | None = ""
    while after is not None:
        after = await store.notice(at_ms, 1, after=after)
    return retired


async def all_due(store: Store, user_id: str, *conversations: str) -> list[tuple[str, int]]:
    """What a device without anything would be sent."""
    return await due_places(store, user_id, cursors=dict.fromkeys(conversations, 0))


async def test_what_all_confirmed_a_week_ago_leaves_the_hot_log_and_stays_in_the_record(store: Store) -> None:
    """Noticed at one run and retired a week later; a `sync` from nothing gets what is hot, the history has all."""
    await store.save([message(1), message(2), void(3), message(4, sender_id="sita"), message(5)])
    await confirm(store, "sita", Receipt(4))
    await confirm(store, "rama", Receipt(4))
    assert await retire(store, DAY_MS) == 0
    assert await all_due(store, "sita", RAMA_SITA) == [(RAMA_SITA, 1), (RAMA_SITA, 2), (RAMA_SITA, 5)]
    assert await retire(store, DAY_MS + WEEK_MS - 1) == 0
    assert await retire(store, DAY_MS + WEEK_MS) == 4
    assert await all_due(store, "sita", RAMA_SITA) == [(RAMA_SITA, 5)]
    assert await all_due(store, "rama", RAMA_SITA) == []
    assert await due_places(store, "sita") == [(RAMA_SITA, 5)]
    assert seqs(await store.history(RAMA_SITA, 10)) == [1, 2, 4, 5]
    assert seqs(await store.at(RAMA_SITA, [1, 2])) == [1, 2]
    assert (await store.find([message(1).key]))[message(1).key] == message(1)
    assert await store.save([message(1)]) == [Saved.SAVED]
    assert await last_seqs(store, [RAMA_SITA]) == {RAMA_SITA: 5}


async def test_what_was_confirmed_after_it_was_noticed_has_its_own_week(store: Store) -> None:
    """A note is not moved by what comes later; the next one begins when it was acted upon."""
    await store.save([message(1), message(2)])
    await confirm(store, "sita", Receipt(1))
    await retire(store, 0)
    await confirm(store, "sita", Receipt(2))
    await retire(store, 3 * DAY_MS)
    assert await retire(store, WEEK_MS) == 1
    assert await retire(store, 2 * WEEK_MS - 1) == 0
    assert await retire(store, 2 * WEEK_MS) == 1
    assert await retire(store, 9 * WEEK_MS) == 0


async def test_what_one_member_never_confirmed_stays_due_for_ever(record: Record, store: Store) -> None:
    """Whoever wrote it needs no receipt of their own; everybody else does, those who confirmed nothing as well."""
    await record.put_groups([Group("field", "Field", frozenset({"rama", "sita", "lata"}))])
    await store.save([message(seq, FIELD, "rama") for seq in (1, 2, 3)] + [message(1), message(2)])
    await confirm(store, "sita", Receipt(3), FIELD)
    await confirm(store, "lata", Receipt(1, 1, (3,)), FIELD)
    assert await retire(store, 0) == 0
    assert await retire(store, 100 * WEEK_MS) == 1
    assert await retire(store, 200 * WEEK_MS) == 0
    assert await all_due(store, "lata", FIELD) == [(FIELD, 2), (FIELD, 3)]
    assert await due_places(store, "sita") == [(RAMA_SITA, 1), (RAMA_SITA, 2)]


async def test_who_joins_after_it_was_retired_is_owed_what_is_said_from_then_on(record: Record, store: Store) -> None:
    """A new member has nothing to confirm of what left; nobody's leaving brings anything back."""
    await record.put_groups([Group("field", "Field", frozenset({"rama", "sita"}))])
    await store.save([message(1, FIELD)])
    await confirm(store, "sita", Receipt(1), FIELD)
    await retire(store, 0)
    assert await retire(store, WEEK_MS) == 1
    await record.put_groups([Group("field", "Field", frozenset({"rama", "sita", "lata"}))])
    await store.save([message(2, FIELD)])
    assert await due_places(store, "lata") == [(FIELD, 2)]
    assert await all_due(store, "lata", FIELD) == [(FIELD, 2)]


async def test_every_conversation_is_noticed_once_in_steps(store: Store) -> None:
    """In the order of their ids, whatever the size of a step, so that a run can be cut short between two."""
    names_ = [names.direct("rama", f"friend{number}") for number in range(7)]
    await store.save([message(1, name) for name in names_])
    for name in names_:
        await confirm(store, names.direct_pair(name)[0], Receipt(1), name)  # type: ignore[index]
    looked_at: list[str] = []
    while (last := await store.notice(0, 3, after=looked_at[-1] if looked_at else "")) is not None:
        looked_at.append(last)
    assert looked_at == [sorted(names_)[2], sorted(names_)[5], sorted(names_)[6]]
    assert await store.retire(0, 5) == 5
    assert await store.retire(0, 5) == 2
    assert await store.retire(0, 5) is None


async def test_retention_says_that_the_store_is_away(record: Record) -> None:
    """And finds everything as it was."""
    async with record.open(patience_s=record.hurried_s) as store:
        await store.save([message(1)])
        await confirm(store, "sita", Receipt(1))
        with record.away():
            with pytest.raises(StoreAway):
                await store.notice(0, 10)
            with pytest.raises(StoreAway):
                await store.retire(0, 10)
            with pytest.raises(StoreAway):
                await store.revoke("rama", 1)
        assert await retire(store, 0) == 0
        assert await retire(store, WEEK_MS) == 1


# SQLite alone


async def test_what_is_due_is_walked_from_the_mark_and_what_is_retired_is_not(tmp_path: Path) -> None:
    """By the index of places, from a seq on: neither the record's length nor what left the hot log is paid for."""
    async with open_store(tmp_path / "store.sqlite"):
        pass
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as db:
        for view in SCHEMA.views:
            db.execute(view)
        asked = {"user_id": "", "limit": 1, "cursors": "{}", "rank": 0, "server_time_ms": 0, "conversation_id": ""}
        plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {_DUE}", {**asked, "seq": 0, "as_of": 0})]
    walk = "SEARCH messages USING INDEX sqlite_autoindex_messages_1 (conversation_id=? AND seq>?)"
    assert walk in plan
    assert "SEARCH retention USING PRIMARY KEY (conversation_id=?)" in plan
    assert not [step for step in plan if step.startswith("SCAN messages")]


async def test_reads_go_on_while_another_process_writes(tmp_path: Path) -> None:
    """A writer's lock keeps nobody from reading."""
    path = tmp_path / "store.sqlite"
    async with open_store(path, patience_s=0.02) as store:
        await store.save([message(1)])
        with_lock = sqlite3.connect(path, isolation_level=None)
        try:
            with_lock.execute("BEGIN EXCLUSIVE")
            assert await due_places(store, "sita") == [(RAMA_SITA, 1)]
        finally:
            with_lock.close()


async def test_a_new_file_that_is_busy_is_waited_for(tmp_path: Path) -> None:
    """Switching a file to its write-ahead log waits as long as any call, though SQLite by itself would not."""
    path = tmp_path / "store.sqlite"
    patience_s = 0.2
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(StoreAway):
            async with open_store(path, patience_s=patience_s):
                pass
        assert time.monotonic() - began >= patience_s
    finally:
        db.close()
    async with open_store(path, patience_s=patience_s) as store:
        assert await store.save([message(1)]) == [Saved.SAVED]


async def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """An older version refuses to start on it, and says which file and why."""
    path = tmp_path / "store.sqlite"
    async with open_store(path):
        pass
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(Unstartable, match=r"store\.sqlite.* schema 99"):
        async with open_store(path):
            pass


@pytest.mark.parametrize("place", ["text.txt", "text.txt/store.sqlite", "."])
async def test_a_file_that_cannot_hold_a_store_is_refused(tmp_path: Path, place: str) -> None:
    """Something else than a store at its place is a matter of setup, not an outage."""
    (tmp_path / "text.txt").write_text("This is a diary, not a database. " * 100)
    with pytest.raises(Unstartable, match="name another file"):
        async with open_store(tmp_path / place):
            pass


async def test_what_an_operator_does_not_name_stays(tmp_path: Path) -> None:
    """None leaves a user's field as it is; on a new user it is the default."""
    path = tmp_path / "store.sqlite"
    async with open_store(path) as store:
        await store.put_users([UserRow("rama", "Rama", "admin", blocked=frozenset({"ravana"}), village_id="v1")])
        await store.put_users([UserRow("rama", "Ramudu", disabled=True, state_id="s1"), UserRow("sita", "Sita")])
        lives_in = Places(state="s1", village="v1")
        assert await store.users(["rama", "sita"]) == {
            "rama": User("rama", "Ramudu", "admin", disabled=True, blocked=frozenset({"ravana"}), places=lives_in),
            "sita": User("sita", "Sita"),
        }
    db = sqlite3.connect(path)
    places = db.execute("SELECT state_id, district_id, village_id FROM users WHERE id = 'rama'").fetchall()
    db.close()
    assert places == [("s1", None, "v1")]


async def test_ten_thousand_users_are_quickly_written(tmp_path: Path) -> None:
    """An operator's import, with a group of all, takes seconds at most (in fact a tenth of one)."""
    async with open_store(tmp_path / "store.sqlite") as store:
        async with asyncio.timeout(5):
            await store.put_users([UserRow(f"user{number}", "Someone") for number in range(10_000)])
            await store.put_groups([GroupRow("all", "All", frozenset(f"user{number}" for number in range(10_000)))])
        assert len((await store.groups(["all"]))["all"].members) == 10_000
