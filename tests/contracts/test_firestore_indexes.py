"""Every query that the Firestore store asks has its index, and no index is there for nothing."""

from pathlib import Path
from typing import Any, Final

import msgspec

from libs.storage.firestore.query import Query, Shape
from libs.storage.firestore.settings import Place
from libs.wire import names
from libs.wire.events import KeyBundle, PreKey, SignedPreKey
from libs.wire.frames import DuePosition, Places
from services.router.firestore import FirestoreStore, documents, open_store
from services.router.store import Broadcast, Group, Receipt, ReceiptRow, User
from tests.contracts.conftest import QUIET, FirestoreRecord, rows
from tests.contracts.test_store import FIELD, message

_FILE: Final = Path(__file__).parents[2] / "firestore.indexes.json"
_FOR_EVER: Final = 1 << 50
_DAY_MS: Final = 24 * 3600 * 1000
_COLLECTIONS: Final = {
    documents.USERS,
    documents.GROUPS,
    documents.CONVERSATIONS,
    documents.MESSAGES,
    documents.RECEIPTS,
    documents.BROADCASTS,
    documents.BROADCAST_RECEIPTS,
    documents.RESIDENCES,
    documents.DEVICES,
    documents.TAKEN_KEYS,
}


async def _asked(store: FirestoreStore) -> set[Shape]:
    """The shapes of everything that a store asks, in all its ways of asking."""
    lives = Places("TS", "d1", "m1", "v1")
    await store.put_users(rows([User("rama", "Rama", places=lives), User("sita", "Sita", places=lives)]))
    await store.put_users(rows([User("sita", "Sita", places=Places("TS"))]))
    await store.put_groups([Group("field", "Field", frozenset({"rama", "sita"}))])
    await store.save([message(seq, FIELD, content="survey") for seq in range(1, 4)])
    await store.put_groups([Group("field", "Field", frozenset({"rama", "sita", "lata"}))])
    for asked in ({}, {"before_seq": 3}, {"before_ms": _FOR_EVER}, {"before_seq": 3, "before_ms": 9}, {"after_seq": 1}):
        await store.history(FIELD, 2, **asked)
    await store.at(FIELD, [1, 3])
    await store.receipts(FIELD)
    await store.save_receipts([ReceiptRow(FIELD, "sita", Receipt(1))])
    await store.due("sita", 1, after=DuePosition(0, 0, FIELD, 0), cursors={FIELD: 0})
    await store.due_to(["sita"])
    await store.due("sita", 1)  # once more: by what changed since
    await store.search("sita", "survey", 1)
    await store.notice(1, 1)
    await store.retire(_FOR_EVER, 1)
    alarm = Broadcast("0" * 32, "lata", "state", ("TS",), "high", _FOR_EVER, b"{}")
    await store.save_broadcasts([alarm])
    await store.due_broadcasts("sita", 1, after=DuePosition(-1, 0, "", 1))
    await store.save_receipts([ReceiptRow(names.broadcast(alarm.id), "sita", Receipt(1))])
    for level in ("state", "district", "mandal", "village"):
        await store.audience(level, ["x"])
        await store.save_broadcasts([Broadcast(f"{level:0>32}", "lata", level, ("x",), "high", 1, b"{}")])
        await store.tally(f"{level:0>32}")
    moves = await store.moves(None, 1)
    await store.moves(moves.cursor - 1, 1)
    bundle = KeyBundle("phone", "id", SignedPreKey(1, "s", "s"), [PreKey(1, "k")])
    await store.publish_keys("sita", bundle, "p1", 1)
    await store.take_keys("sita", "t1")
    return store._client.bill.shapes


def _of(index: dict[str, Any]) -> Shape:
    """The widest query that an index serves, its equalities in front."""
    fields = index["fields"]
    contains = tuple(each["fieldPath"] for each in fields if "arrayConfig" in each)
    equal: list[str] = []
    order: list[str] = []
    for each in fields:
        if "arrayConfig" in each:
            continue
        if (
            each.get("order") == "ASCENDING"
            and each["fieldPath"] in _EQUAL.get(index["collectionGroup"], ())
            and not order
        ):
            equal.append(each["fieldPath"])
        else:
            order.append(("-" if each["order"] == "DESCENDING" else "") + each["fieldPath"])
    return Shape(index["collectionGroup"], tuple(sorted(equal)), contains, tuple(order))


# Fields that indexes have in front, to be equal to something.
_EQUAL: Final = {
    "messages": ("conversationId",),
    "conversations": ("isUnsettled",),
    "residences": ("state", "district", "mandal", "village"),
}


async def test_every_query_has_its_index(firestore_record: FirestoreRecord) -> None:
    """The emulator asks for none, Google does: the first query without one would be refused in production."""
    async with firestore_record.open() as store:
        assert isinstance(store, FirestoreStore)
        shapes = await _asked(store)
    needed = {shape for shape in shapes if not shape.is_simple}
    given = msgspec.json.decode(_FILE.read_bytes())
    there = {_of(index) for index in given["indexes"]}
    assert needed == there
    # What is simple is served by the indexes that each field has; a field that has none needs one that begins so.
    exempt = {(each["collectionGroup"], each["fieldPath"]) for each in given["fieldOverrides"] if not each["indexes"]}
    for shape in shapes - needed:
        if any((shape.collection, field) in exempt for field in shape.equal):
            begins = [
                (one["collectionGroup"], {f["fieldPath"] for f in one["fields"][: len(shape.equal)]})
                for one in given["indexes"]
            ]
            assert (shape.collection, set(shape.equal)) in begins, shape


def test_fields_that_rise_have_no_index_of_their_own() -> None:
    """A collection with one bears 500 writes a second, whatever else is done."""
    overrides = msgspec.json.decode(_FILE.read_bytes())["fieldOverrides"]
    exempt = {(each["collectionGroup"], each["fieldPath"]) for each in overrides if not each["indexes"]}
    rising = {
        "timestamp",
        "createdAt",
        "serverTimeMs",
        "seq",
        "content",
        "mediaMetadata",
        "mediaMetadataJson",
        "sealed",
    }
    assert {("messages", field) for field in rising} <= exempt
    assert {("receipts", "members"), ("conversations", "lastAt"), ("conversations", "writer")} <= exempt


async def test_what_expires_has_a_policy_and_no_index_of_its_time(firestore_record: FirestoreRecord) -> None:
    """Of every document that says when it goes Firestore is told to look at that; nothing else goes by itself."""
    overrides = msgspec.json.decode(_FILE.read_bytes())["fieldOverrides"]
    policies = {(each["collectionGroup"], each["fieldPath"]) for each in overrides if each.get("ttl")}
    assert all(not each["indexes"] for each in overrides if each.get("ttl"))
    place = Place(firestore_record.project_id, emulator=f"127.0.0.1:{firestore_record.port}")
    async with open_store(place, QUIET, broadcast_days=30) as store:
        await _asked(store)
        found = [
            (collection, one)
            for collection in sorted(_COLLECTIONS)
            for one in await store._client.query(Query(collection=collection))
        ]
    assert {collection for collection, _ in found} == _COLLECTIONS
    expiring = {(collection, documents.EXPIRES) for collection, one in found if documents.EXPIRES in one.fields}
    assert expiring == policies
    begins = {"broadcasts": "atMs", "residences": "untilMs"}
    for collection, one in found:
        if documents.EXPIRES in one.fields and one.fields[begins[collection]] < _FOR_EVER:
            assert one.fields[documents.EXPIRES].us // 1000 == one.fields[begins[collection]] + 30 * _DAY_MS
