"""What Firestore charges for, counted, and beside it what the server before this one asked for: `docs/firestore.md`.

A router's calls are made as it makes them: people it has looked at are trusted for five seconds, receipts are written
together each second, those of a conversation that goes on every fifth (`RECEIPT_REST_S=5`). What only compares a
version counts as a read. The clock is told.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from libs.clock import now_ms
from libs.storage.firestore.ids import readable
from libs.storage.firestore.values import Stamp
from libs.wire import names
from libs.wire.frames import Places
from services.presence.firestore import FirestoreLastSeen
from services.router.firestore import FirestoreStore, documents
from services.router.firestore.due import _LATE_S, Look
from services.router.firestore.marks import CLOSE_AFTER_S, Marks
from services.router.store import Broadcast, Group, Receipt, ReceiptRow, User, UserRow
from tests.contracts.conftest import FirestoreRecord, rows
from tests.contracts.test_store import message

PAGE: Final = Path(__file__).parents[2] / "docs" / "firestore.md"
# Dollars for 100,000 of each, in asia-south1 as elsewhere outside of multi-regions.
_READ, _WRITE, _DELETE = 0.06, 0.18, 0.02
# The setting RECEIPT_REST_S, as docs/firestore.md advises.
_RECEIPT_REST_S: Final = 5


class Cost(NamedTuple):
    """Documents read, written and deleted."""

    reads: float
    writes: float
    deletes: float = 0

    @property
    def dollars(self) -> float:
        """For 100,000 times."""
        return self.reads * _READ + self.writes * _WRITE + self.deletes * _DELETE


# A query of the last minute's messages for the rate limit, a membership read, an add, an update, and an add for each
# recipient who is away; at a sync a query and an update for each message. None: there is nothing to compare.
BEFORE: Final[dict[str, Cost | None]] = {
    "a direct message, now and then": Cost(1 + 1, 2),
    "a direct message of an active sender": Cost(60 + 1, 2),
    "a message to a group of 100, 10 here": Cost(60 + 1, 2 + 90),
    "a message to a group of 1,000, 100 here": Cost(60 + 1, 2 + 900),
    "a sign-in, nothing due, 50 conversations": Cost(1, 0),
    "the same again, at the same router": Cost(1, 0),
    "a sign-in, 10 messages due in 2 of 50 conversations": Cost(10, 10),
    "a receipt by itself": Cost(0, 1),
    "a broadcast to 100,000": Cost(100_000, 1 + 100_000),
    "to push a direct message": None,
    "to push a message to the 90 of 100 who are away": None,
    "to push a message to the 900 of 1,000 who are away": None,
    "a phone that nobody has any more": None,
    "when somebody was last here": None,
    "a message that the auditor compares, of 100 in as many new conversations": None,
    "the same, of 100 in conversations that it met before": None,
    "the same by itself": None,
}


class Meter:
    """A store, a clock that is told the time, and what was asked since the last look."""

    def __init__(self, store: FirestoreStore) -> None:
        self.store = store
        self.now = 0.0
        client = store._client
        store._marks = Marks(lambda where: client.name(documents.CONVERSATIONS, readable(where)), lambda: self.now)
        store._closing._marks = store._marks
        self._seen = Cost(0, 0)

    def since(self) -> Cost:
        """What was asked since the last look."""
        bill = self.store._client.bill
        now = Cost(bill.reads, bill.writes, bill.deletes)
        cost = Cost(*(each - seen for each, seen in zip(now, self._seen, strict=True)))
        self._seen = now
        return cost

    async def send(self, where: str, seq: int, *, here: list[str], is_fresh: bool = True) -> None:
        """What a router asks for one message, from its judgement to the receipts of those who are here."""
        if is_fresh:
            group = names.group_of(where)
            await self.store.users(["rama", *(names.direct_pair(where) or ("",))[1:]])
            await self.store.groups([group] if group else [])
        one = message(seq, where)
        await self.store.find([one.key])
        await self.store.save([one])
        await self.store.save_receipts([ReceiptRow(where, user, Receipt(seq)) for user in here])


@pytest.fixture
async def meter(firestore_record: FirestoreRecord) -> AsyncIterator[Meter]:
    """Of an empty store."""
    async with firestore_record.open() as store:
        assert isinstance(store, FirestoreStore)
        yield Meter(store)


async def counted(meter: Meter) -> dict[str, Cost]:
    """Everything in the table."""
    store = meter.store
    people = [f"user{number}" for number in range(1000)]
    await store.put_users(rows([User(user, user) for user in ("rama", "sita", "lata", *people)]))
    found: dict[str, Cost] = {}

    direct = names.direct("rama", "sita")
    await meter.send(direct, 1, here=["sita"])
    meter.now += CLOSE_AFTER_S
    await store._closing.close_idle()
    meter.now += 60
    meter.since()
    await meter.send(direct, 2, here=["sita"])
    found["a direct message, now and then"] = meter.since()

    for second in range(60):
        meter.now += 1
        told = ["sita"] if second % _RECEIPT_REST_S == 0 else []  # whose receipt is of all until then
        await meter.send(direct, 3 + second, here=told, is_fresh=second % 5 == 0)
    meter.now += CLOSE_AFTER_S
    await store._closing.close_idle()
    minute = meter.since()
    found["a direct message of an active sender"] = Cost(*(round(each / 60, 2) for each in minute))

    for size, here in ((100, 10), (1000, 100)):
        group = f"g{size}"
        await store.put_groups([Group(group, group, frozenset(["rama", *people[: size - 1]]))])
        await meter.send(names.group(group), 1, here=people[:here])
        meter.now += CLOSE_AFTER_S
        await store._closing.close_idle()
        meter.now += 60
        meter.since()
        await meter.send(names.group(group), 2, here=people[:here])
        found[f"a message to a group of {size:,}, {here} here"] = meter.since()

    await store.put_groups([Group(f"s{number}", "S", frozenset(["lata", "rama"])) for number in range(10)])
    for number in range(40):
        where = names.direct("lata", f"user{number}")
        await store.save([message(1, where, f"user{number}")])
        await store.save_receipts([ReceiptRow(where, "lata", Receipt(1))])
    meter.now += CLOSE_AFTER_S
    while await store._closing._close(is_end=False):
        pass
    meter.since()
    await store.users(["lata"])
    assert await store.due_to(["lata"]) == frozenset()
    found["a sign-in, nothing due, 50 conversations"] = meter.since()
    _an_hour_passes(store, "lata")
    await store.users(["lata"])
    assert await store.due_to(["lata"]) == frozenset()
    found["the same again, at the same router"] = meter.since()

    _an_hour_passes(store, "lata")
    for number in range(2):
        where = names.direct("lata", f"user{number}")
        await store.save([message(seq, where, f"user{number}") for seq in range(2, 7)])
    meter.now += CLOSE_AFTER_S
    await store._closing.close_idle()
    meter.since()
    await store.users(["lata"])
    assert await store.due_to(["lata"])
    _an_hour_passes(store, "lata")
    assert await store.due_broadcasts("lata", 32) == []
    assert len((await store.due("lata", 51)).rows) == 10
    has = [ReceiptRow(names.direct("lata", f"user{number}"), "lata", Receipt(6)) for number in range(2)]
    await store.save_receipts(has)
    found["a sign-in, 10 messages due in 2 of 50 conversations"] = meter.since()

    await store.save_receipts([ReceiptRow(direct, "sita", Receipt(62, 62))])
    found["a receipt by itself"] = meter.since()

    found["a broadcast to 100,000"] = await _broadcast(meter, people)
    return found | await _besides(meter, people)


async def _besides(meter: Meter, people: list[str]) -> dict[str, Cost]:
    """What is asked beside messages. Of one that is pushed its router has the text and the receipts at hand."""
    store = meter.store
    await store.put_users([UserRow("sita", "Sita", push_tokens=frozenset({"phone"}))])
    found: dict[str, Cost] = {}
    meter.since()
    for name, away in (("a direct message", ["sita"]), ("100", people[9:99]), ("1,000", people[99:999])):
        await store.users(away)
        number = f"a message to the {len(away)} of {name} who are away"
        found[f"to push {name if name.startswith('a') else number}"] = meter.since()
    await store.forget_push_tokens("sita", ["phone"])
    found["a phone that nobody has any more"] = meter.since()
    await FirestoreLastSeen(store._client).save({"sita": 1000})
    found["when somebody was last here"] = meter.since()
    said = {message(1, where).key: where for where in (names.direct("asha", user) for user in people[:100])}
    await store.save([message(1, where) for where in said.values()])
    meter.since()
    for what in ("a message that the auditor compares, of 100 in as many new", "the same, of 100 in"):
        assert await store.settled(said) == said.keys()
        name = f"{what} conversations" + (" that it met before" if what.startswith("the same") else "")
        found[name] = Cost(meter.since().reads / 100, 0)
    assert len(await store.settled(dict([*said.items()][:1]))) == 1
    found["the same by itself"] = meter.since()
    return found


def _an_hour_passes(store: FirestoreStore, user_id: str) -> None:
    """Since it was looked what is due: what was said before is old by then."""
    look = store._looks[user_id]
    store._looks[user_id] = Look(Stamp(look.at.seconds + _LATE_S, look.at.nanos), look.news)


async def _broadcast(meter: Meter, people: list[str]) -> Cost:
    """Counted with a hundred, and with none: the rest is theirs a thousand times."""
    store = meter.store
    await store.put_users(rows([User(user, user, places=Places(village="v1")) for user in people[:100]]))
    alarm = Broadcast("0" * 32, "lata", "village", ("v1",), "high", now_ms() + 60_000, b"{}")
    meter.since()
    await store.audience("village", ["v1"])
    await store.save_broadcasts([alarm])
    once = meter.since()
    await store.save_receipts([ReceiptRow(names.broadcast(alarm.id), user, Receipt(1)) for user in people[:100]])
    each = meter.since()
    await store.tally(alarm.id)
    tally = meter.since()
    # An aggregation costs a read for a thousand; there are two of them, and one before.
    return Cost(once.reads + tally.reads + 297 + each.reads * 1000, once.writes + each.writes * 1000)


def row(name: str, cost: Cost, before: Cost | None) -> str:
    """A line of the table."""
    ours = [f"{each:,g}" for each in (*cost[:2], round(cost.dollars, 2) or round(cost.dollars, 3))]
    theirs = [""] * 4
    if before is not None:
        theirs = [f"{each:,g}" for each in (*before[:2], round(before.dollars, 2))]
        theirs.append(f"{before.dollars / cost.dollars:.1f}")
    return f"| {name} | " + " | ".join([*ours, *theirs]) + " |"


async def test_what_it_costs_is_as_the_page_says(meter: Meter) -> None:
    """Line by line; nothing of it deletes anything."""
    found = await counted(meter)
    assert found.keys() == BEFORE.keys()
    assert {cost.deletes for cost in found.values()} == {0}
    lines = [row(name, cost, BEFORE[name]) for name, cost in found.items()]
    page = PAGE.read_text(encoding="utf-8")
    missing = [line for line in lines if line not in page]
    assert not missing, "docs/firestore.md should say:\n" + "\n".join(lines)
