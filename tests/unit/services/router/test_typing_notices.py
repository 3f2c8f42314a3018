"""Typing reaches whom a message would reach, at once, or nobody."""

import pytest

from libs.clock import now_ms
from libs.wire import names
from libs.wire.codes import Code, Refusal
from libs.wire.frames import Answer, Origin, Section, Typing, TypingNotice
from services.router import routing
from services.router.conversations import Conversations
from services.router.people import People
from services.router.routing import Saying, ToReaders, ToSession
from services.router.store import Group, StoreAway, User
from services.router.typing_notices import TypingNotices
from tests.unit.services.router.fakes import EVERYTHING, FIELD, RAMA_SITA, FakeStore


async def say(
    store: FakeStore,
    where: str,
    *,
    sender: str = "rama",
    is_typing: bool = True,
    age_ms: int = 0,
    is_replay: bool = False,
    members_max: int = 200,
) -> list[Saying]:
    """What a router says to one frame."""
    people = People(store, 0.0)
    notices = TypingNotices(people, Conversations(store, people, 100), members_max=members_max)
    frame = Typing(Origin("g1", "s", 1), sender, sender.title(), where, is_typing, "typing_start", now_ms() - age_ms)
    return list(await notices.say(3, frame, is_replay=is_replay))


async def refused(store: FakeStore, where: str, *, sender: str = "rama") -> Code:
    with pytest.raises(Refusal) as refusal:
        await say(store, where, sender=sender)
    return refusal.value.code


@pytest.mark.parametrize("is_typing", [True, False])
async def test_the_others_are_told_and_the_typist_is_answered(store: FakeStore, is_typing: bool) -> None:
    """In a direct conversation and in a group; the typist's own devices are not told."""
    for where, others in ((RAMA_SITA, ("sita",)), (FIELD, ("lata", "sita"))):
        answer, told = await say(store, where, is_typing=is_typing)
        assert isinstance(answer, ToSession)
        assert answer.frame == Answer("s", 1, b'{"ok":true}')
        assert isinstance(told, ToReaders)
        assert (told.partition, told.users) == (3, others)
        assert (told.notice.user_id, told.notice.user_name) == ("rama", "Rama")
        assert (told.notice.conversation_id, told.notice.is_typing) == (where, is_typing)


async def test_outsiders_learn_nothing_and_tell_nothing(store: FakeStore) -> None:
    """Whether or not the conversation exists."""
    assert await refused(store, RAMA_SITA, sender="lata") is Code.ACCESS_DENIED
    assert await refused(store, FIELD, sender="ravi") is Code.ACCESS_DENIED
    assert await refused(store, names.group("nobody")) is Code.ACCESS_DENIED


async def test_who_may_not_be_written_to_is_not_shown_typing(store: FakeStore) -> None:
    """Blocked by either, or not there at all."""
    ravi_rama = names.direct("ravi", "rama")
    assert await refused(store, ravi_rama) is Code.BLOCKED
    assert await refused(store, ravi_rama, sender="ravi") is Code.BLOCKED
    assert await refused(store, names.direct("rama", "nobody")) is Code.RECIPIENT_NOT_FOUND


async def test_nobody_is_named_to_or_by_a_pseudonym(store: FakeStore) -> None:
    """Even if a user were called so."""
    store.people["anon-0123456789abcdef0123"] = User("anon-0123456789abcdef0123", "Anonymous")
    assert await refused(store, names.direct("anon-0123456789abcdef0123", "rama")) is Code.ACCESS_DENIED
    assert (
        await refused(store, names.direct("anon-0123456789abcdef0123", "rama"), sender="anon-0123456789abcdef0123")
        is Code.ACCESS_DENIED
    )


async def test_what_is_late_or_said_before_is_dropped_and_refused(store: FakeStore) -> None:
    """Both may be tried again; a second is not late."""
    for age_ms, is_replay in ((3500, False), (0, True)):
        with pytest.raises(Refusal) as refusal:
            await say(store, FIELD, age_ms=age_ms, is_replay=is_replay)
        assert refusal.value.code is Code.OVERLOADED
    assert len(await say(store, FIELD, age_ms=1000)) == 2


async def test_a_large_group_is_not_told(store: FakeStore) -> None:
    """Answered as ever: up to the bound, all; beyond it, nobody."""
    store.teams["big"] = Group("big", "Big", frozenset({"rama", *(f"u{n}" for n in range(4))}))
    assert len(await say(store, names.group("big"), members_max=5)) == 2
    store.teams["big"] = Group("big", "Big", frozenset({"rama", *(f"u{n}" for n in range(5))}))
    (answer,) = await say(store, names.group("big"), members_max=5)
    assert isinstance(answer, ToSession)


async def test_a_store_that_is_away_is_said(store: FakeStore) -> None:
    """Nobody is told what cannot be checked."""
    store.away = EVERYTHING
    with pytest.raises(StoreAway):
        await say(store, FIELD)


def test_each_gateway_is_told_of_its_own_users() -> None:
    """One notice a gateway, under the partition's token; who is nowhere is told nothing."""
    notice = TypingNotice((), FIELD, "rama", "Rama", is_typing=True, at_ms=5)
    sayings = [ToReaders(3, ("lata", "sita", "uma"), notice)]
    assert routing.audience(sayings) == {"lata", "sita", "uma"}
    plan = routing.plan(sayings, {"lata": ("g1", "g2"), "sita": ("g2",)}, {3: 77})

    def section(*users: str) -> tuple[Section]:
        return (Section(3, 77, (TypingNotice(users, FIELD, "rama", "Rama", is_typing=True, at_ms=5),)),)

    assert plan == {"g1": section("lata"), "g2": section("lata", "sita")}
