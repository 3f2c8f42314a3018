"""What is kept of people, on every implementation: their phones, and since when their sign-ins count."""

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from libs.storage.firestore import values
from services.router.firestore import FirestoreStore
from services.router.store import Registry, Store, User, UserRow
from tests.contracts.conftest import FirestoreRecord, Record

PHONES: Final = frozenset({"phone-1", "phone-2", "phone-3"})


async def tokens_of(store: Store, user_id: str) -> frozenset[str]:
    return (await store.users([user_id]))[user_id].push_tokens


async def test_a_user_has_the_phones_that_were_written_last(record: Record) -> None:
    """All of them: those that are written are all there are."""
    await record.put_users([User("sita", "Sita", push_tokens=PHONES), User("rama", "Rama")])
    async with record.open() as store:
        assert await tokens_of(store, "sita") == PHONES
        assert await tokens_of(store, "rama") == frozenset()
        await record.put_users([User("sita", "Sita", push_tokens=frozenset({"phone-4"}))])
        assert await tokens_of(store, "sita") == {"phone-4"}


async def test_phones_that_nobody_has_any_more_are_forgotten(record: Record) -> None:
    """Those that are named and no others, of one user; doing it again changes nothing."""
    same = User("rama", "Rama", push_tokens=PHONES)
    await record.put_users([User("sita", "Sita", "coordinator", push_tokens=PHONES), same])
    async with record.open() as store:
        for _ in range(2):
            await store.forget_push_tokens("sita", ["phone-1", "phone-3", "never seen"])
            assert await store.users(["sita"]) == {
                "sita": User("sita", "Sita", "coordinator", push_tokens=frozenset({"phone-2"}))
            }
        await store.forget_push_tokens("sita", [])
        assert await tokens_of(store, "sita") == {"phone-2"}
        assert await store.users(["rama"]) == {"rama": same}


async def test_nobody_is_made_by_forgetting_their_phones(record: Record) -> None:
    """Whoever was deleted meanwhile stays so."""
    async with record.open() as store:
        await store.forget_push_tokens("nobody", ["phone-1"])
        await store.forget_push_tokens("a/b", ["phone-1"])
        assert await store.users(["nobody"]) == {}


async def test_the_latest_moment_of_a_revocation_stands(record: Record) -> None:
    """Whatever the order of calls; of nobody there is nothing to revoke."""
    await record.put_users([User("sita", "Sita", push_tokens=PHONES)])
    async with record.open() as store:
        assert await store.revoke("sita", 2000)
        assert await store.revoke("sita", 1000)
        assert await store.users(["sita"]) == {"sita": User("sita", "Sita", valid_after_ms=2000, push_tokens=PHONES)}
        assert not await store.revoke("nobody", 1000)


# --- documents as the app writes them -----------------------------------------------------------------


@pytest.fixture
async def firestore(firestore_record: FirestoreRecord) -> AsyncIterator[FirestoreStore]:
    async with firestore_record.open() as store:
        assert isinstance(store, FirestoreStore)
        yield store


async def put(store: FirestoreStore, user_id: str, **fields: Any) -> None:
    await store._client.commit([values.put(store._client.name("users", user_id), fields)])


async def test_the_app_may_keep_one_token_or_several(firestore: FirestoreStore) -> None:
    """In either field, or in both; what is no text is no token."""
    await put(firestore, "sita", fcmToken="phone-1", fcmTokens=["phone-2", "phone-1", 7, ""])
    await put(firestore, "rama", fcmToken=7, fcmTokens="phone-1")
    assert await tokens_of(firestore, "sita") == {"phone-1", "phone-2"}
    assert await tokens_of(firestore, "rama") == frozenset()


async def test_a_token_is_taken_out_of_the_field_that_it_is_in(firestore: FirestoreStore) -> None:
    """And nothing else is touched, whatever it is."""
    await put(firestore, "sita", name="Sita", fcmToken="phone-1", fcmTokens=["phone-2", "phone-3"], village="kept")
    await firestore.forget_push_tokens("sita", ["phone-1", "phone-2"])
    name = firestore._client.name("users", "sita")
    assert (await firestore._client.get([name]))[name].fields == {
        "name": "Sita",
        "fcmTokens": ["phone-3"],
        "village": "kept",
    }
    await put(firestore, "rama", fcmToken="phone-1", fcmTokens="odd")
    await firestore.forget_push_tokens("rama", ["phone-1"])
    name = firestore._client.name("users", "rama")
    assert (await firestore._client.get([name]))[name].fields == {"fcmTokens": "odd"}


async def test_who_writes_tokens_leaves_no_older_one(firestore: FirestoreStore) -> None:
    """An operator's row says all; the app's only one is not left beside it."""
    await put(firestore, "sita", name="Sita", fcmToken="phone-1")
    registry: Registry = firestore
    await registry.put_users([UserRow("sita", "Sita")])
    assert await tokens_of(firestore, "sita") == {"phone-1"}
    await registry.put_users([UserRow("sita", "Sita", push_tokens=frozenset({"phone-2"}))])
    assert await tokens_of(firestore, "sita") == {"phone-2"}
