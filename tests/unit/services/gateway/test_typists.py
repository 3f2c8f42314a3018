"""Who types, as sockets are told: each start once, its end once, whatever becomes of the typist."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from libs.wire.frames import TypingNotice
from services.gateway import typists
from services.gateway.sessions import Session, Sessions, State
from services.gateway.typists import Typists
from tests.support.waiting import until
from tests.unit.services.gateway.fakes import FakeSocket, session


class Room:
    """Sessions on one gateway, and what they are told."""

    def __init__(self, typing_s: float = 10.0) -> None:
        self.sessions = Sessions()
        self.typists = Typists(self.sessions, typing_s=typing_s)

    def enter(self, user: str, socket_id: str = "", state: State = State.LIVE) -> tuple[Session, FakeSocket]:
        """A device of `user`."""
        made, socket = session(user, socket_id or user)
        made.state = state
        self.sessions.add(made)
        return made, socket

    def say(self, *users: str, is_typing: bool = True, typist: str = "asha", where: str = "group:g") -> None:
        """A notice for `users`."""
        self.typists.notice(TypingNotice(users, where, typist, typist.title(), is_typing, 5))


def _told(socket: FakeSocket) -> list[bool]:
    return [body["isTyping"] for event, body, _ in socket.emitted if event == "typing_indicator"]


async def test_each_start_and_stop_is_told_once_to_all_devices() -> None:
    """In the words of the contract; repeats are not told again."""
    room = Room()
    (_, phone), (_, tablet), (_, other) = room.enter("bala"), room.enter("bala", "tablet"), room.enter("chitra")
    for _ in range(3):
        room.say("bala")
    room.say("bala", is_typing=False)
    room.say("bala", is_typing=False)
    assert _told(phone) == _told(tablet) == [True, False]
    assert _told(other) == []
    assert phone.emitted[0] == (
        "typing_indicator",
        {"userId": "asha", "userName": "Asha", "conversationId": "group:g", "isTyping": True, "timestamp": 5},
        None,
    )
    assert len(room.typists) == 0


async def test_a_stop_that_nobody_needs_is_not_told() -> None:
    """Nobody was told of a start."""
    room = Room()
    _, bala = room.enter("bala")
    room.say("bala", is_typing=False)
    assert bala.emitted == []


async def test_who_comes_later_is_told_with_the_next_start_and_only_they() -> None:
    """And who has left, or has not come in yet, is told nothing."""
    room = Room()
    _, bala = room.enter("bala")
    early, dina = room.enter("dina", state=State.JOINING)
    room.say("bala", "chitra", "dina")
    chitra_session, chitra = room.enter("chitra")
    early.state = State.LIVE
    room.say("bala", "chitra", "dina")
    assert (_told(bala), _told(chitra), _told(dina)) == ([True], [True], [True])
    room.sessions.remove(chitra_session)
    room.say("bala", is_typing=False)
    assert (_told(bala), _told(chitra), _told(dina)) == ([True, False], [True], [True, False])


async def test_typing_ends_by_itself() -> None:
    """Though nobody says so: the typist's gateway or the router may be gone."""
    room = Room(typing_s=0.05)
    _, bala = room.enter("bala")
    room.say("bala")
    assert _told(bala) == [True]
    await until(lambda: _told(bala) == [True, False], 5.0, "the end")
    assert len(room.typists) == 0


async def test_a_repeated_start_puts_the_end_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timer of the start before is gone."""
    room, timers = Room(), list[Any]()
    room.enter("bala")

    class Loop:
        """Keeps its timers."""

        def call_later(self, after_s: float, then: Callable[..., None], *args: Any) -> Any:  # noqa: ARG002 - the loop's signature
            """A timer."""
            timers.append(Timer())
            return timers[-1]

    class Timer:
        """A timer that may be cancelled."""

        is_cancelled = False

        def cancel(self) -> None:
            """No more."""
            self.is_cancelled = True

    monkeypatch.setattr(asyncio, "get_running_loop", Loop)
    room.say("bala")
    room.say("bala")
    room.say("bala", where="group:h")
    assert [timer.is_cancelled for timer in timers] == [True, False, False]
    room.say("bala", is_typing=False)
    assert [timer.is_cancelled for timer in timers] == [True, True, False]


async def test_those_who_type_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it nobody is told, and nothing is kept."""
    monkeypatch.setattr(typists, "_TYPISTS_MAX", 1)
    room = Room()
    _, bala = room.enter("bala")
    room.say("bala")
    room.say("bala", typist="chitra")
    assert len(room.typists) == 1
    assert len(_told(bala)) == 1
    room.say("bala", is_typing=False)
