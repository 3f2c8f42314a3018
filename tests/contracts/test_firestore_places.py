"""How Firestore keeps places apart, where the contract of the store does not see it: takeovers, and what is refused."""

from collections.abc import Sequence

import pytest

from libs.storage.firestore import values
from libs.storage.firestore.client import Conflict
from libs.storage.firestore.values import Stamp
from services.router.firestore import FirestoreStore
from services.router.store import Saved
from tests.contracts.conftest import FirestoreRecord
from tests.contracts.test_store import RAMA_SITA, message, seqs


async def test_who_takes_a_conversation_over_ends_what_another_believes(firestore_record: FirestoreRecord) -> None:
    """Whoever slept meanwhile finds its next place taken, and goes on behind it once it has looked."""
    async with firestore_record.open() as sleeper, firestore_record.open() as successor:
        for seq in range(1, 4):
            await sleeper.save([message(seq)])
        assert await successor.save([message(4, client_id="new")]) == [Saved.SAVED]
        assert await successor.save([message(5, client_id="newer")]) == [Saved.SAVED]
        assert await sleeper.save([message(4)]) == [Saved.TAKEN]
        assert await sleeper.save([message(6)]) == [Saved.SAVED]
        assert await successor.save([message(6, client_id="late"), message(7)]) == [Saved.TAKEN, Saved.SAVED]
        assert seqs(await successor.history(RAMA_SITA, 10)) == list(range(1, 8))


async def test_what_a_successor_said_is_due_though_the_sleeper_closes(firestore_record: FirestoreRecord) -> None:
    """A document that another wrote since is not closed at an end that is none any more."""
    async with firestore_record.open() as reader:
        async with firestore_record.open() as sleeper:
            for seq in (1, 2, 3):
                await sleeper.save([message(seq)])
            async with firestore_record.open() as successor:
                await successor.save([message(4), message(5)])
        assert [one.seq for one, _ in (await reader.due("sita", 10)).rows] == [1, 2, 3, 4, 5]


async def test_a_message_whose_commit_had_no_answer_is_due(
    firestore_record: FirestoreRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made again and finds itself; the document is closed behind it, and not before."""
    async with firestore_record.open() as store:
        assert isinstance(store, FirestoreStore)
        await store.save([message(1)])
        await store.save([message(2)])
        commit = store._client._commit_all
        calls: list[Sequence[bytes]] = []

        async def unheard(writes: Sequence[bytes], *counts: int) -> list[Stamp]:
            calls.append(writes)
            versions = await commit(writes, *counts)
            if len(calls) == 1:
                raise Conflict("so says the second try")
            return versions

        monkeypatch.setattr(store._client, "_commit_all", unheard)
        assert await store.save([message(3)]) == [Saved.SAVED]
        assert len(calls) == 1
    async with firestore_record.open() as reader:
        assert [one.seq for one, _ in (await reader.due("sita", 10)).rows] == [1, 2, 3]
        assert await reader.save([message(4)]) == [Saved.SAVED]


async def test_a_database_that_takes_no_verify_is_told_otherwise(
    firestore_record: FirestoreRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a write that changes nothing, under the same condition: nothing but the bill is another."""

    def nonsense(name: str, version: Stamp) -> bytes:
        return values.block(b"\x2a", name[::-1].encode())

    monkeypatch.setattr(values, "verify", nonsense)
    async with firestore_record.open() as one, firestore_record.open() as other:
        assert isinstance(one, FirestoreStore)
        for seq in range(1, 6):
            assert await one.save([message(seq)]) == [Saved.SAVED]
        before = one.bill.writes
        assert await one.save([message(6)]) == [Saved.SAVED]
        assert one.bill.writes == before + 2
        assert await other.save([message(7)]) == [Saved.SAVED]
        assert await one.save([message(7, client_id="late")]) == [Saved.TAKEN]
        assert seqs(await other.history(RAMA_SITA, 10)) == list(range(1, 8))
