"""What every store promises of broadcasts (see `services.router.store.broadcasts`), by effect."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from libs.clock import now_ms
from libs.wire import names
from libs.wire.events import LEVELS
from libs.wire.frames import DuePosition, Places
from services.router.sqlite import open_store
from services.router.sqlite.schema import SCHEMA
from services.router.store import Broadcast, Reached, Receipt, ReceiptRow, Store, StoreAway, Tally, User
from tests.contracts.conftest import Record
from tests.support.waiting import until

_HERE = Places("TS", "d1", "m1", "v1")
_THERE = Places("TS", "d1", "m1", "v2")
# Later than any user of these tests came to live anywhere.
_SOON = 60_000


@pytest.fixture
async def store(record: Record) -> AsyncIterator[Store]:
    """One store on the record, where asha and bala live in v1 and chitra in v2."""
    await record.put_users(
        [User("asha", "Asha", places=_HERE), User("bala", "Bala", places=_HERE), User("chitra", "C", places=_THERE)]
    )
    async with record.open() as opened:
        yield opened


def broadcast(number: int, *place_ids: str, level: str = "village", at_ms: int | None = None) -> Broadcast:
    """One that is for these places, now or at `at_ms`."""
    at_ms = now_ms() + _SOON + number if at_ms is None else at_ms
    body = f'{{"title":"వరద {number}"}}'.encode()
    return Broadcast(f"{number:032x}", "lata", level, place_ids or ("v1",), "high", at_ms, body)


async def due(store: Store, user_id: str, limit: int = 100, after: DuePosition | None = None) -> list[int]:
    """The numbers of what is due."""
    return [int(one.id, 16) for one in await store.due_broadcasts(user_id, limit, after=after)]


async def confirm(store: Store, user_id: str, *numbers: int) -> None:
    rows = [ReceiptRow(names.broadcast(f"{number:032x}"), user_id, Receipt(1)) for number in numbers]
    await store.save_receipts(rows)


async def test_a_broadcast_is_due_to_those_who_live_there_until_they_have_it(store: Store) -> None:
    """Whether or not they were ever here; its body comes back as it was."""
    flood = broadcast(1, "v1", "v9")
    assert await store.save_broadcasts([flood]) == {flood.id}
    assert [await due(store, user) for user in ("asha", "bala", "chitra", "nobody")] == [[1], [1], [], []]
    assert [one.body for one in await store.due_broadcasts("asha", 1)] == [flood.body]
    await confirm(store, "asha", 1)
    await confirm(store, "asha", 1)
    assert [await due(store, user) for user in ("asha", "bala")] == [[], [1]]


async def test_who_is_owed_a_broadcast_is_owed_something(store: Store) -> None:
    """Until they have it, and whatever messages there are."""
    flood = broadcast(1, "v1", "v9")
    await store.save_broadcasts([flood])
    assert await store.due_to(["asha", "bala", "chitra", "nobody"]) == {"asha", "bala"}
    await confirm(store, "asha", 1)
    assert await store.due_to(["asha", "bala"]) == {"bala"}


@pytest.mark.parametrize(("level", "place", "numbers"), [*zip(LEVELS, ("TS", "d1", "m1", "v1"), "2221", strict=True)])
async def test_every_level_has_its_people(store: Store, level: str, place: str, numbers: str) -> None:
    """A village is not a mandal of the same id."""
    await store.save_broadcasts([broadcast(1, place, level=level)])
    assert len(await due(store, "asha") + await due(store, "chitra")) == int(numbers)
    assert await store.audience(level, [place, place]) == int(numbers) + 1  # and bala
    assert await store.audience(level, ["elsewhere"]) == 0


async def test_saving_it_again_changes_nothing(store: Store) -> None:
    """The first to come under an id stands; who saves the very same again is told that it stands."""
    one = broadcast(1)
    await store.save_broadcasts([one])
    assert await store.save_broadcasts([broadcast(1, "v2", at_ms=one.at_ms + 1), broadcast(2)]) == {f"{2:032x}"}
    assert await store.save_broadcasts([one]) == {one.id}
    assert await store.save_broadcasts([]) == frozenset()
    assert [await due(store, user) for user in ("asha", "chitra")] == [[1, 2], []]


async def test_what_is_due_comes_oldest_first_in_pages(store: Store) -> None:
    """Two of one moment are told apart by their ids."""
    at_ms = now_ms() + _SOON
    times = (at_ms + 9, at_ms, at_ms, at_ms + 3)
    await store.save_broadcasts([broadcast(number, at_ms=each) for number, each in enumerate(times)])
    assert await due(store, "asha") == [1, 2, 3, 0]
    first, second, *_ = await store.due_broadcasts("asha", 2)
    assert await due(store, "asha", 2, first.position) == [2, 3]
    assert await due(store, "asha", 2, second.position) == [3, 0]


async def test_who_moves_gets_what_is_for_the_new_place_from_then_on(record: Record, store: Store) -> None:
    """And keeps what was due from the old one, but gets nothing more from it."""
    await store.save_broadcasts([broadcast(1, at_ms=now_ms()), broadcast(2, "v2", at_ms=now_ms())])
    before = now_ms()
    await until(lambda: now_ms() > before, 1, "a millisecond to pass, for a move is known to one")
    await record.put_users([User("asha", "Asha", places=_THERE)])
    await store.save_broadcasts([broadcast(3), broadcast(4, "v2")])
    assert await due(store, "asha") == [1, 4]
    assert await due(store, "chitra") == [2, 4]
    assert (await store.audience("village", ["v1"]), await store.audience("village", ["v2"])) == (1, 2)


async def test_who_is_new_is_owed_nothing_from_before(record: Record, store: Store) -> None:
    """A place that is learned later counts from then on, too."""
    await store.save_broadcasts([broadcast(1, at_ms=now_ms() - _SOON)])
    await record.put_users([User("dev", "Dev", places=_HERE), User("esha", "Esha")])
    await record.put_users([User("esha", "Esha", places=_HERE)])
    await store.save_broadcasts([broadcast(2)])
    assert [await due(store, user) for user in ("dev", "esha")] == [[2], [2]]


async def test_who_lives_nowhere_any_more_is_owed_nothing_more(record: Record, store: Store) -> None:
    """A place can be taken back."""
    await record.put_users([User("asha", "Asha")])
    await store.save_broadcasts([broadcast(1)])
    assert await due(store, "asha") == []
    assert await store.audience("state", ["TS"]) == 2


async def test_a_tally_counts_place_by_place(record: Record, store: Store) -> None:
    """In the order they were named; who comes to live there later does not count."""
    one = broadcast(1, "v2", "v1", "v9", at_ms=now_ms())
    await store.save_broadcasts([one])
    await confirm(store, "asha", 1)
    await confirm(store, "stranger", 1)
    await record.put_users([User("dev", "Dev", places=_HERE)])
    reached = (Reached("v2", 1, 0), Reached("v1", 2, 1), Reached("v9", 0, 0))
    assert await store.tally(one.id) == Tally("village", "high", one.at_ms, reached)
    assert await store.tally(f"{2:032x}") is None


async def test_who_confirmed_before_it_was_saved_counts(store: Store) -> None:
    """It was heard while the store was away, and came to it after its receipts."""
    one = broadcast(1, "v2", "v1", at_ms=now_ms())
    await confirm(store, "asha", 1)
    await store.save_broadcasts([one])
    tally = await store.tally(one.id)
    assert tally is not None
    assert sum(each.delivered for each in tally.reached) == 1


async def test_moves_are_told_from_a_cursor_on(record: Record, store: Store) -> None:
    """Each look tells what came since the one before, as much at a time as is asked for."""
    start = await store.moves(None, 100)
    assert set(start.user_ids) == {"asha", "bala", "chitra"}  # whoever takes over looks back a little
    assert await store.moves(start.cursor, 100) == type(start)(start.cursor, ())
    await record.put_users([User("bala", "Bala", places=_HERE)])  # no move
    await record.put_users([User("asha", "Asha", places=_THERE), User("chitra", "C", places=_HERE)])
    cursor, told = start.cursor, list[str]()
    while (moves := await store.moves(cursor, 1)).user_ids:
        cursor = moves.cursor
        told += moves.user_ids
    assert sorted(told) == ["asha", "chitra"]
    await record.put_users([User("asha", "Asha")])  # to nowhere
    assert set((await store.moves(cursor, 100)).user_ids) == {"asha"}


async def test_receipts_of_messages_and_of_broadcasts_go_together(store: Store) -> None:
    """They come in one call, and each to its own."""
    pair = names.direct("asha", "bala")
    await store.save_broadcasts([broadcast(1)])
    rows = [ReceiptRow(names.broadcast(f"{1:032x}"), "asha", Receipt(1)), ReceiptRow(pair, "asha", Receipt(3))]
    await store.save_receipts(rows)
    assert await due(store, "asha") == []
    assert await store.receipts(pair) == {"asha": Receipt(3)}


async def test_a_store_that_is_away_says_so(record: Record, store: Store) -> None:
    """So that the broadcast goes out all the same, and is saved later."""
    async with record.open(patience_s=record.hurried_s) as other:
        with record.away(), pytest.raises(StoreAway):
            await other.save_broadcasts([broadcast(1)])
        assert len(await other.save_broadcasts([broadcast(1)])) == 1


async def test_a_store_of_the_first_version_learns_where_everybody_lives(tmp_path: Path) -> None:
    """They have lived there all along."""
    path = tmp_path / "store.sqlite"
    with closing(sqlite3.connect(path)) as db:
        for statement in SCHEMA.steps[0]:
            db.execute(statement)
        db.execute("INSERT INTO users VALUES ('asha', 'Asha', 'member', 0, '[]', 0, 'TS', NULL, '', 'v1')")
        db.execute("PRAGMA user_version = 1")
        db.commit()
    async with open_store(path) as store:
        await store.save_broadcasts([broadcast(1, at_ms=1), broadcast(2, "TS", level="state", at_ms=2)])
        assert await due(store, "asha") == [1, 2]
        assert await store.audience("mandal", [""]) == 0
