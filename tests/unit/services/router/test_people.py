"""Documents are remembered for a while, and however old when the store is away."""

import pytest

from services.router import people as module
from services.router.people import People
from services.router.store import StoreAway, User
from tests.unit.services.router.fakes import FakeStore

TRUSTED_S = 5.0


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def people(store: FakeStore, clock: Clock) -> People:
    return People(store, TRUSTED_S)


async def test_a_document_is_asked_for_once_while_it_is_trusted(people: People, store: FakeStore, clock: Clock) -> None:
    """And again when it is older than that: a block holds after so long."""
    for _ in range(3):
        await people.load(["rama", "sita"], ["field"])
    assert store.asked == ["users", "groups"]
    store.people["rama"] = User("rama", "Rama", blocked=frozenset({"sita"}))
    clock.now += TRUSTED_S
    await people.load(["rama"], [])
    user = people.user("rama")
    assert user is not None
    assert user.blocked == {"sita"}


async def test_someone_unknown_is_looked_for_again_soon(people: People, store: FakeStore, clock: Clock) -> None:
    """Who was looked for before they were created should not stay unknown for long."""
    await people.load(["new"], ["young"])
    assert people.user("new") is None
    assert people.group("young") is None
    store.people["new"] = User("new", "New")
    clock.now += module._ABSENT_S
    await people.load(["new"], [])
    assert people.user("new") == User("new", "New")


async def test_old_documents_serve_while_the_store_is_away(people: People, store: FakeStore, clock: Clock) -> None:
    """Deciding by an old document beats refusing a warning."""
    await people.load(["rama"], ["field"])
    store.away = {"users", "groups"}
    clock.now += 1_000_000
    await people.load(["rama"], ["field"])
    assert people.user("rama") is not None
    assert people.group("field") is not None
    assert await people.fresh_user("rama") is not None


async def test_who_was_never_known_is_not_decided_about_while_the_store_is_away(
    people: People, store: FakeStore
) -> None:
    """`StoreAway`, not "there is no such user"."""
    store.away = {"users", "groups"}
    await people.load(["rama"], ["field"])
    with pytest.raises(StoreAway):
        people.user("rama")
    with pytest.raises(StoreAway):
        people.group("field")
    with pytest.raises(StoreAway):
        await people.fresh_user("rama")


async def test_signing_in_looks_at_the_document_of_today(people: People, store: FakeStore) -> None:
    """A user who was disabled a moment ago does not get in by an old document."""
    await people.load(["rama"], [])
    store.people["rama"] = User("rama", "Rama", disabled=True)
    user = await people.fresh_user("rama")
    assert user is not None
    assert user.disabled
    assert people.user("rama") == user


async def test_a_forgotten_user_is_not_remembered_by_what_was_asked_before(
    people: People, store: FakeStore, clock: Clock
) -> None:
    """A read that was under way when the user was revoked may bring the document from before."""
    users = store.users
    revoked = User("rama", "Rama", valid_after_ms=5000)

    async def overtaken(ids: object) -> dict[str, User]:
        found = await users(ids)  # type: ignore[arg-type]
        if store.people["rama"] != revoked:
            store.people["rama"] = revoked
            people.forget_user("rama")
        clock.now += 0.001
        return found

    people._users._fetch = overtaken
    await people.load(["rama"], [])
    with pytest.raises(StoreAway):
        people.user("rama")
    store.people["rama"] = User("rama", "Rama")
    clock.now += 1
    assert await people.fresh_user("rama") == revoked
    store.away = {"users"}
    assert await people.fresh_user("rama") == revoked
    people.forget_user("rama")
    with pytest.raises(StoreAway):
        await people.fresh_user("rama")


async def test_only_what_is_not_at_hand_is_fetched(store: FakeStore, people: People, clock: Clock) -> None:
    """The store is asked for one stranger, not for everyone in the batch."""
    asked: list[set[str]] = []
    users = store.users

    async def noting(ids: object) -> dict[str, User]:
        asked.append(set(ids))  # type: ignore[call-overload]
        return await users(ids)  # type: ignore[arg-type]

    people._users._fetch = noting
    await people.load(["rama", "sita"], [])
    await people.load(["rama", "sita", "lata"], [])
    assert asked == [{"rama", "sita"}, {"lata"}]


async def test_what_is_remembered_is_bounded(people: People, store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was loaded longest ago is forgotten first."""
    monkeypatch.setattr(module, "_SIZE", 2)
    for user in ("rama", "sita", "lata"):
        await people.load([user], [])
    with pytest.raises(StoreAway):
        people.user("rama")
    assert people.user("lata") is not None
