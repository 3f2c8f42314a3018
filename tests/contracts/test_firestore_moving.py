"""Moving house: what an older database holds is looked through, told, and given its places. On Google's emulator."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from libs.storage.firestore import values
from libs.storage.firestore.values import Instant
from libs.wire import names
from services.router.firestore import FirestoreStore, moving
from services.router.firestore.moving import Moving
from services.router.store import Saved
from tests.contracts.conftest import FirestoreRecord
from tests.contracts.test_store import message

DIRECT: Final = names.direct("rama", "sita")
FIELD: Final = names.group("field")


def quiet(collection: str, done: int, total: int) -> None:
    assert 0 <= done <= total, collection


@pytest.fixture
async def store(firestore_record: FirestoreRecord) -> AsyncIterator[FirestoreStore]:
    """Two users, a group, and what they wrote before: ids are Firestore's own, the order is not that of time."""
    async with firestore_record.open() as opened:
        assert isinstance(opened, FirestoreStore)
        for user in ("rama", "sita"):
            await put(opened, f"users/{user}", name=user.title())
        await put(opened, "groups/field", name="Field", members=["rama", "sita"])
        await put(opened, "conversations/Xy1", participantIds=["rama", "sita"])
        for number, (status, sender) in enumerate(
            [("read", "rama"), ("delivered", "rama"), ("sent", "rama"), ("sent", "sita")]
        ):
            other = "sita" if sender == "rama" else "rama"
            await old(opened, f"d{9 - number}", number, senderId=sender, recipientId=other, deliveryStatus=status)
        for number in range(3):
            await old(opened, f"g{number}", number, senderId="rama", groupId="field", type="text")
        yield opened


async def put(store: FirestoreStore, path: str, **fields: Any) -> None:
    collection, _, id_ = path.partition("/")
    await store._client.commit([values.put(store._client.name(collection, id_), fields)])


async def old(store: FirestoreStore, id_: str, at_s: int, **fields: Any) -> None:
    said = {"content": id_, "createdAt": Instant(1_000_000 + at_s * 1000), **fields}
    await put(store, f"messages/{id_}", **said)


def opened(store: FirestoreStore, folder: Path) -> Moving:
    return Moving(store._client, folder / "moving.db")


async def test_old_messages_get_their_places_in_the_order_of_their_time(store: FirestoreStore, tmp_path: Path) -> None:
    """What follows is written behind them, and both are one history."""
    house = opened(store, tmp_path)
    await house.look(quiet)
    assert (house.report().fitting, house.report().conversations) == (7, 2)
    assert await house.fill(0, quiet) == moving.Filled(7, 0)
    house.close()
    assert {where: end.seq for where, end in (await store.ends([DIRECT, FIELD])).items()} == {DIRECT: 4, FIELD: 3}
    assert await store.save([message(5, DIRECT)]) == [Saved.SAVED]
    assert [one.content for one in await store.history(DIRECT, 10)][:4] == ["d9", "d8", "d7", "d6"]
    assert [one.content for one in await store.at(FIELD, [1, 3])] == ["g0", "g2"]


async def test_who_had_a_message_is_not_owed_it(store: FirestoreStore, tmp_path: Path) -> None:
    """What was not delivered yet is; of a group nobody is owed anything."""
    house = opened(store, tmp_path)
    await house.look(quiet)
    await house.fill(0, quiet)
    house.close()
    owed = {}
    for user in ("rama", "sita"):
        due = (await store.due(user, 10)).rows
        owed[user] = [one.content for one, receipt in due if not receipt.has(one.seq)]
    assert owed == {"rama": ["d6"], "sita": ["d7"]}
    assert (await store.receipts_of([(DIRECT, "sita")]))[DIRECT, "sita"].read == 1


async def test_what_is_older_than_asked_for_is_owed_to_nobody(store: FirestoreStore, tmp_path: Path) -> None:
    """However it was marked."""
    house = opened(store, tmp_path)
    await house.look(quiet)
    await house.fill(1_000_000 + 3000, quiet)
    house.close()
    assert (await store.due("sita", 10)).rows == []
    assert [one.content for one, _ in (await store.due("rama", 10)).rows] == ["d6"]


async def test_a_look_writes_nothing_and_tells_what_does_not_fit(store: FirestoreStore, tmp_path: Path) -> None:
    """Each kind with how many there are and where, and never what was said."""
    await put(store, "users/nameless", role="boss")
    await put(store, "groups/empty", name="Empty")
    await old(store, "gone", 1, senderId="rama", groupId="nowhere")
    await old(store, "lost", 1, senderId="rama")
    await put(store, "messages/timeless", senderId="rama", recipientId="sita", content="secret")
    before = store.bill.writes
    house = opened(store, tmp_path)
    await house.look(quiet)
    report = house.report()
    house.close()
    assert store.bill.writes == before
    assert report.documents == {"users": 3, "groups": 2, "conversations": 1, "messages": 10}
    found = {finding.what: finding.examples for finding in report.findings}
    assert found == {
        "users without a name: they are called by their id": ("nameless",),
        "users with an unknown role: they are members": ("nameless",),
        "groups without members: nobody is in them": ("empty",),
        "conversations of the app's own: each is a read at every sign-in of its members": ("Xy1",),
        "messages to groups that are gone": ("gone",),
        "messages to nobody, or to a user and a group at once": ("lost",),
        "messages without a time (`createdAt`, or `timestamp`)": ("timeless",),
    }
    assert report.fitting == 7


async def test_an_interrupted_move_goes_on(
    store: FirestoreStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it was: in the look, between two commits, or after one of which nobody heard."""
    monkeypatch.setattr(moving, "_PAGE", 2)
    monkeypatch.setattr(moving, "_COMMIT", 2)

    class Interrupted(Exception):
        pass

    def once(after: int) -> Any:
        calls = iter(range(100))

        def told(*_: Any) -> None:
            if next(calls) == after:
                raise Interrupted

        return told

    for after in (2, 4, 6):
        house = opened(store, tmp_path)
        with pytest.raises(Interrupted):
            await house.look(once(after))
        house.close()
    house = opened(store, tmp_path)
    await house.look(quiet)
    assert house.report().fitting == 7
    with pytest.raises(Interrupted):
        await house.fill(0, once(1))
    house.close()
    house = opened(store, tmp_path)
    await house.fill(0, quiet)
    house.close()
    assert [one.seq for one in await store.history(DIRECT, 10)] == [1, 2, 3, 4]
    assert [one.seq for one in await store.history(FIELD, 10)] == [1, 2, 3]
    again = Moving(store._client, tmp_path / "another.db")
    await again.look(quiet)
    assert again.report().fitting == 0
    again.close()


async def test_what_came_after_a_move_is_put_behind(store: FirestoreStore, tmp_path: Path) -> None:
    """By another look and another go, as long as no cluster has written to the conversation."""
    for number in range(2):
        house = opened(store, tmp_path)
        house.forget()
        await house.look(quiet)
        assert (await house.fill(0, quiet)).messages == (7, 1)[number]
        house.close()
        if number == 0:
            await old(store, "later", 100, senderId="rama", recipientId="sita")
    assert [one.content for one in await store.history(DIRECT, 1)] == ["later"]
    await store.save([message(6, DIRECT)])
    await old(store, "late", 101, senderId="rama", recipientId="sita")
    house = opened(store, tmp_path)
    house.forget()
    await house.look(quiet)
    assert house.report().fitting == 0
    assert "messages in conversations that a cluster writes to already" in [f.what for f in house.report().findings]
    house.close()


async def test_the_command_tells_fills_and_has_no_more_to_do(
    store: FirestoreStore, firestore_record: FirestoreRecord, tmp_path: Path
) -> None:
    """A look, a filling, and another look; of what was said nothing is printed."""
    await old(store, "gone", 1, senderId="rama", groupId="nowhere", content="[secret]")
    where = (firestore_record.project_id, "--emulator", f"127.0.0.1:{firestore_record.port}")
    environment = os.environ | {"DATA_DIR": str(tmp_path)}
    said: list[str] = []
    for more in ((), ("--fill",), ()):
        command = (sys.executable, "-m", "services.local", "import-firestore", *where, *more)
        ran = await asyncio.to_thread(
            subprocess.run, command, env=environment, capture_output=True, text=True, check=True
        )
        said.append(ran.stdout)
        assert ran.stderr == ""
        assert "secret" not in ran.stdout
    assert "messages to groups that are gone (gone)" in said[0]
    assert "7  messages of 2 conversations have no place yet" in said[0]
    assert "nothing was written" in said[0]
    assert "7 messages have their places" in said[1]
    assert "0  messages of 0 conversations" in said[2]
