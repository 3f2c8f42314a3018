"""Looking for what is due by what changed since the last look finds what looking at everything finds."""

import random
from typing import Final

import msgspec

from libs.wire import names
from services.router.firestore import FirestoreStore
from services.router.firestore.due import _LATE_S
from services.router.store import Group, Receipt, ReceiptRow
from tests.contracts.conftest import FirestoreRecord
from tests.contracts.test_store import message

_STEPS: Final = 40
_GROUPS: Final = ("g1", "g2")
_FRIENDS: Final = ("rama", "lava")


async def test_a_look_at_what_changed_finds_what_a_look_at_all_finds(firestore_record: FirestoreRecord) -> None:
    """Whoever else saved, confirmed, added or removed meanwhile; also without the minute that is ample."""
    rng = random.Random(11)
    seqs: dict[str, int] = {}
    async with firestore_record.open() as store, firestore_record.open() as writer:
        assert isinstance(store, FirestoreStore)
        assert isinstance(writer, FirestoreStore)
        await writer.put_groups([Group(group, group, frozenset({"rama", "sita"})) for group in _GROUPS])
        for step in range(_STEPS):
            friend = rng.choice(_FRIENDS)
            where = rng.choice([names.direct(friend, "sita"), *map(names.group, _GROUPS)])
            group = names.group_of(where)
            match rng.randrange(4):
                case 0 if group is not None:
                    members = {"rama", "lava", *(["sita"] if rng.random() < 0.7 else [])}
                    await writer.put_groups([Group(group, group, frozenset(members))])
                case 1 if seqs.get(where):
                    has = Receipt(rng.randint(1, seqs[where]))
                    await writer.save_receipts([ReceiptRow(where, "sita", has)])
                case _:
                    seqs[where] = seqs.get(where, 0) + 1
                    await writer.save([message(seqs[where], where, friend)])
            if (look := store._looks.get("sita")) is not None:
                at = msgspec.structs.replace(look.at, seconds=look.at.seconds + _LATE_S)
                store._looks["sita"] = msgspec.structs.replace(look, at=at)
            async with firestore_record.open() as fresh:
                expected = (await fresh.due("sita", 1000)).rows
            assert (await store.due("sita", 1000)).rows == expected, step
            assert (await store.due_to(["sita"]) == {"sita"}) == bool(expected), step


async def test_who_writes_to_somebody_silent_does_not_read_it_all_at_each_sign_in(
    firestore_record: FirestoreRecord,
) -> None:
    """What they wrote themselves is not due to them, however much it is, and no look at what is due is paid for it."""
    where = names.direct("rama", "sita")
    reads: list[int] = []
    async with firestore_record.open() as writer:
        for first, last in ((1, 5), (6, 100)):
            await writer.save([message(seq, where, "rama") for seq in range(first, last + 1)])
            async with firestore_record.open() as fresh:
                assert isinstance(fresh, FirestoreStore)
                assert await fresh.due_to(["rama", "sita"]) == {"sita"}
                reads.append(fresh.bill.reads)
    assert reads[0] == reads[1]
