"""What a client says of its typing goes to the routers at once, or not at all; and ends with its socket."""

import time

import pytest

from libs.wire import events, frames
from libs.wire.codes import Code, Refusal
from libs.wire.frames import Inbound, Origin
from services.gateway.keystrokes import Keystrokes
from services.gateway.sessions import Session
from services.gateway.uplink import Lag, Uplink
from tests.unit.services.gateway.fakes import FakeBroker, session, uplink

_DIRECT = "direct:asha:bala"


class FakeUplink(Uplink):
    """Keeps what it is given, or is behind."""

    def __init__(self) -> None:
        self.told: list[frames.Typing] = []
        self.is_behind = False

    def publish_if_prompt(self, conversation_id: str, frame: Inbound) -> None:
        """A frame."""
        if self.is_behind:
            raise Refusal(Code.OVERLOADED)
        assert isinstance(frame, frames.Typing)
        assert frame.conversation_id == conversation_id
        self.told.append(frame)


class Desk:
    """A session that types."""

    def __init__(self) -> None:
        self.uplink = FakeUplink()
        self.keystrokes = Keystrokes(self.uplink, typing_s=10.0)
        self.session: Session = session("asha")[0]
        self.session.name = "Asha"

    def say(self, name: str, where: str = "bala", *, is_typing: bool | None = None) -> None:
        """An event."""
        origin = Origin("g1", self.session.id, 7)
        self.keystrokes.typed(self.session, origin, name, events.Typing(where, is_typing))

    @property
    def told(self) -> list[tuple[str, bool]]:
        """What was published: where, and whether it was a start."""
        return [(frame.conversation_id, frame.is_typing) for frame in self.uplink.told]


@pytest.mark.parametrize(
    ("name", "is_typing", "told"),
    [
        ("typing_start", None, True),
        ("typing_start", False, True),
        ("typing_stop", None, False),
        ("typing_stop", True, False),
        ("typing_indicator", None, True),
        ("typing_indicator", True, True),
        ("typing_indicator", False, False),
    ],
)
def test_every_way_to_say_it_is_understood(name: str, is_typing: bool | None, told: bool) -> None:
    """The event's name decides; an indicator says which itself."""
    desk = Desk()
    desk.say(name, is_typing=is_typing)
    (frame,) = desk.uplink.told
    assert frame.is_typing is told
    assert (frame.user_id, frame.user_name, frame.event, frame.bare_id) == ("asha", "Asha", name, "bala")
    assert frame.origin == Origin("g1", "socket", 7)


def test_typing_stops_where_it_has_not_stopped_when_the_socket_goes() -> None:
    """Nobody waits for the answer to that; a session that never typed says nothing."""
    desk = Desk()
    desk.say("typing_start", "bala")
    desk.say("typing_start", "group:g")
    desk.say("typing_start", "group:h")
    desk.say("typing_stop", "group:g")
    desk.uplink.told.clear()
    desk.keystrokes.closed(desk.session)
    assert desk.told == [(_DIRECT, False), ("group:h", False)]
    assert {frame.origin.ack for frame in desk.uplink.told} == {None}
    desk.keystrokes.closed(desk.session)
    assert len(desk.told) == 2


def test_what_has_ended_by_itself_is_not_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds after the last start the others know."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    desk = Desk()
    desk.say("typing_start", "group:g")
    now += 9
    desk.say("typing_start", "group:h")
    now += 1
    desk.uplink.told.clear()
    desk.keystrokes.closed(desk.session)
    assert desk.told == [("group:h", False)]


def test_what_is_remembered_is_bounded() -> None:
    """The last few conversations; the others stop by themselves."""
    desk = Desk()
    for number in range(100):
        desk.say("typing_start", f"group:g{number}")
    desk.uplink.told.clear()
    desk.keystrokes.closed(desk.session)
    assert desk.told == [(f"group:g{number}", False) for number in range(92, 100)]


def test_typing_does_not_wait_for_routers_that_are_behind() -> None:
    """It is refused, and not remembered; a socket that goes meanwhile says nothing."""
    desk = Desk()
    desk.say("typing_start", "group:g")
    desk.uplink.is_behind = True
    with pytest.raises(Refusal) as refused:
        desk.say("typing_start", "group:h")
    assert refused.value.code is Code.OVERLOADED
    desk.keystrokes.closed(desk.session)
    desk.uplink.is_behind = False
    desk.keystrokes.closed(desk.session)
    assert desk.told == [("group:g", True)]


def test_a_target_that_is_none_is_refused() -> None:
    """As everywhere."""
    with pytest.raises(Refusal) as refused:
        Desk().say("typing_start", "no such thing")
    assert refused.value.code is Code.INVALID_PAYLOAD


def test_prompt_means_that_little_waits_and_routers_keep_up() -> None:
    """Far below what refuses a message: two seconds of lag, or half of the frames that may wait."""
    up = uplink(FakeBroker(), limit=4)
    frame = frames.Typing(Origin("g1", "socket"), "asha", "Asha", "group:g", True, "typing_start", 5)
    up.note_lags(dict.fromkeys(range(16), Lag(1, 1.9)))
    up.publish_if_prompt("group:g", frame)
    up.note_lags(dict.fromkeys(range(16), Lag(1, 2.1)))
    with pytest.raises(Refusal) as late:
        up.publish_if_prompt("group:g", frame)
    assert (late.value.code, late.value.retry_after_ms) == (Code.OVERLOADED, 2000)
    up.note_lags({})
    up.publish_if_prompt("group:g", frame)
    with pytest.raises(Refusal) as full:
        up.publish_if_prompt("group:g", frame)
    assert full.value.code is Code.OVERLOADED
    up.publish_for_conversation("group:g", frame)
