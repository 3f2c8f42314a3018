"""What is due goes first, live messages after it, each once."""

import json

from libs.wire.codes import Code, Refusal
from libs.wire.frames import Due, DuePage, DuePosition, Inbound
from services.gateway.catchup import CatchUp
from services.gateway.sessions import HELD_MAX, Acks, Session, Sessions, State
from services.gateway.uplink import Uplink
from tests.unit.services.gateway.fakes import FakeBroker, FakeSocket, FakeWheel, session, uplink

_POSITION = DuePosition(1, 5, "group:g", 3)


class FakeUplink(Uplink):
    """Keeps what it is given, or refuses."""

    def __init__(self) -> None:
        self.asked: list[Due] = []
        self.refuses = False

    def publish_for_user(self, user_id: str, frame: Inbound) -> None:
        """A frame."""
        if self.refuses:
            raise Refusal(Code.UNAVAILABLE)
        assert isinstance(frame, Due)
        assert frame.user_id == user_id
        self.asked.append(frame)


class Walker:
    """A session that signs in, and what it asks for and is sent."""

    def __init__(self) -> None:
        self.uplink = FakeUplink()
        sessions = Sessions()
        self.session: Session
        self.socket: FakeSocket
        self.session, self.socket = session()
        sessions.add(self.session)
        self.acks = Acks()
        self.wheel = FakeWheel()
        self.catchup = CatchUp("g1", sessions, self.uplink, self.acks, self.wheel, page_timeout_s=60.0)

    def live(self, seq: int) -> None:
        """A live message arrives."""
        due = self.acks.message("new_message", json.dumps({"seq": seq}).encode(), "group:g", seq)
        if not self.catchup.hold(self.session, due):
            self.session.emit_due(due)

    def page(self, *seqs: int, position: DuePosition | None = None) -> None:
        """A page arrives."""
        body = json.dumps({"seqs": seqs}).encode()
        confirms = (("group:g", seqs),) if seqs else ()
        self.catchup.page(self.session, DuePage("socket", body, confirms, position, walk=self.walk))

    @property
    def walk(self) -> int:
        """The number of the walk that was asked for last."""
        return self.uplink.asked[-1].walk

    @property
    def seen(self) -> list[tuple[str, object]]:
        """What the device was sent."""
        return [(event, body) for event, body, _ in self.socket.emitted]


async def test_live_messages_wait_for_what_is_due() -> None:
    """Then they follow, but for those that a page has brought."""
    walker = Walker()
    walker.catchup.start(walker.session)
    assert [frame.position for frame in walker.uplink.asked] == [None]
    walker.live(3)
    walker.live(4)
    walker.page(1, 2, 3)
    assert walker.seen == [("offline_messages", {"seqs": [1, 2, 3]}), ("new_message", {"seq": 4})]
    assert walker.session.state is State.LIVE
    walker.live(5)
    assert walker.seen[-1] == ("new_message", {"seq": 5})
    walker.session.stop_timers()


async def test_what_was_held_goes_out_by_seq() -> None:
    """A router that starts over says earlier ones again, behind what was said before."""
    walker = Walker()
    walker.catchup.start(walker.session)
    for seq in (5, 3, 4):
        walker.live(seq)
    walker.page()
    assert walker.seen == [("new_message", {"seq": seq}) for seq in (3, 4, 5)]
    walker.session.stop_timers()


async def test_the_next_page_is_asked_for_when_one_is_confirmed() -> None:
    """From where that one ended."""
    walker = Walker()
    walker.catchup.start(walker.session)
    walker.page(1, position=_POSITION)
    assert len(walker.uplink.asked) == 1
    ack = walker.socket.emitted[0][2]
    assert ack is not None
    expected = walker.session.take_expected(ack)
    assert expected is not None
    assert expected.is_page
    walker.catchup.page_confirmed(walker.session)
    assert walker.uplink.asked[-1].position == _POSITION
    assert walker.session.state is State.CATCHING_UP
    walker.page()
    assert walker.session.walk is None
    walker.session.stop_timers()


async def test_nothing_due_is_not_mentioned() -> None:
    """Unless the device asked with `sync`: then it hears that this is all."""
    walker = Walker()
    walker.catchup.start(walker.session)
    walker.page()
    assert walker.seen == []
    walker.catchup.sync(walker.session, {"group:g": 3}, 4096)
    assert (walker.uplink.asked[-1].cursors, walker.uplink.asked[-1].budget_bytes) == ({"group:g": 3}, 4096)
    walker.page()
    assert walker.seen == [("offline_messages", {"seqs": []})]
    walker.session.stop_timers()


async def test_more_live_messages_than_may_be_held_are_fetched_by_a_second_walk() -> None:
    """They are due as well; none is sent out of order."""
    walker = Walker()
    walker.catchup.start(walker.session)
    for seq in range(1, HELD_MAX + 3):
        walker.live(seq)
    walker.page()
    assert walker.seen == []
    assert [frame.position for frame in walker.uplink.asked] == [None, None]
    assert walker.session.state is State.CATCHING_UP
    walker.page(*range(1, HELD_MAX + 3))
    assert [event for event, _ in walker.seen] == ["offline_messages"]
    walker.session.stop_timers()


async def test_a_page_of_a_walk_before_is_too_late() -> None:
    """A device that said what it has is not sent what it was owed before it did."""
    walker = Walker()
    walker.catchup.start(walker.session)
    before = walker.walk
    walker.catchup.sync(walker.session, {"group:g": 9}, None)
    walker.catchup.page(walker.session, DuePage("socket", b"{}", (("group:g", (1,)),), walk=before))
    assert walker.seen == []
    walker.session.stop_timers()


async def test_a_store_that_is_away_does_not_hold_live_messages_up() -> None:
    """They go out, and the walk goes on when it can."""
    walker = Walker()
    walker.catchup.start(walker.session)
    walker.live(7)
    walker.catchup.page(walker.session, DuePage("socket", unavailable=True, walk=walker.walk))
    assert walker.seen == [("new_message", {"seq": 7})]
    assert walker.session.walk is not None
    assert walker.session.page_timer is not None
    walker.session.stop_timers()


async def test_a_refused_question_is_asked_again_later() -> None:
    """A full uplink loses nothing that is due, and live messages go on waiting for it; once more refused, no longer."""
    walker = Walker()
    walker.uplink.refuses = True
    walker.catchup.start(walker.session)
    walker.live(1)
    walker.wheel.turn(4.9)
    assert (walker.seen, walker.uplink.asked) == ([], [])
    walker.uplink.refuses = False
    walker.wheel.turn(0.2)
    assert len(walker.uplink.asked) == 1
    walker.page(0, position=_POSITION)
    walker.uplink.refuses = True
    walker.catchup.page_confirmed(walker.session)
    assert walker.seen == [("offline_messages", {"seqs": [0]})]
    walker.wheel.turn(5.1)
    assert walker.seen[1:] == [("new_message", {"seq": 1})]
    assert walker.session.page_timer is not None
    walker.session.stop_timers()


def test_the_fakes_take_real_frames() -> None:
    """An uplink over the fake broker is one like any other."""
    assert len(uplink(FakeBroker())) == 0


def _alarm_page(walker: Walker, *numbers: int) -> None:
    alarms = tuple((f"{number:032x}", b"{}") for number in numbers)
    position = DuePosition(-1, 5, f"{numbers[-1]:032x}", 1)
    walker.catchup.page(walker.session, DuePage("socket", position=position, walk=walker.walk, alarms=alarms))


async def test_the_page_after_broadcasts_is_asked_for_when_all_of_them_are_confirmed() -> None:
    """Each is an event of its own; messages wait meanwhile."""
    walker = Walker()
    walker.catchup.start(walker.session)
    _alarm_page(walker, 1, 2)
    walker.live(3)
    assert [event for event, _ in walker.seen] == ["emergency_broadcast"] * 2
    for _, _, ack in list(walker.socket.emitted):
        assert len(walker.uplink.asked) == 1
        assert ack is not None
        expected = walker.session.take_expected(ack)
        assert expected is not None
        walker.catchup.alarm_confirmed(walker.session, expected.walk)
    assert [frame.position for frame in walker.uplink.asked] == [None, DuePosition(-1, 5, f"{2:032x}", 1)]
    walker.page(1)
    assert [event for event, _ in walker.seen[2:]] == ["offline_messages", "new_message"]
    walker.session.stop_timers()


async def test_broadcasts_that_came_live_are_not_sent_again_by_a_page() -> None:
    """If that was all of them, the next page is asked for at once."""
    walker = Walker()
    walker.catchup.start(walker.session)
    assert walker.session.emit_alarm(f"{1:032x}", walker.acks.alarm(f"{1:032x}", b"{}"))
    _alarm_page(walker, 1)
    assert len(walker.seen) == 1
    assert len(walker.uplink.asked) == 2
    walker.session.stop_timers()


async def test_a_confirmation_from_a_walk_before_asks_for_nothing() -> None:
    """It is a receipt, and no more."""
    walker = Walker()
    walker.catchup.start(walker.session)
    _alarm_page(walker, 1, 2)
    before = walker.walk
    walker.catchup.start(walker.session)
    walker.catchup.alarm_confirmed(walker.session, before)
    assert len(walker.uplink.asked) == 2
    walker.session.stop_timers()


async def test_broadcasts_that_nobody_confirms_do_not_hold_messages_up_for_ever() -> None:
    """After a time the walk goes on; what was not confirmed stays due."""
    walker = Walker()
    walker.catchup.start(walker.session)
    _alarm_page(walker, 1)
    walker.wheel.turn(59.0)
    assert len(walker.uplink.asked) == 1
    walker.wheel.turn(1.0)
    assert len(walker.uplink.asked) == 2
    assert walker.session.state is State.LIVE
    walker.session.stop_timers()


async def test_a_walk_under_way_is_followed_by_another_when_more_is_due() -> None:
    """One that is over begins anew at once."""
    walker = Walker()
    walker.catchup.start(walker.session)
    walker.catchup.again(walker.session)
    assert len(walker.uplink.asked) == 1
    walker.page()
    assert len(walker.uplink.asked) == 2
    walker.page()
    walker.catchup.again(walker.session)
    assert [frame.position for frame in walker.uplink.asked] == [None] * 3
    walker.session.stop_timers()


def test_who_confirms_no_page_is_stuck_and_who_confirms_one_is_not() -> None:
    """Also when asked again and again; a session that walks nowhere is none of them."""
    walker = Walker()
    sessions = walker.catchup._sessions
    walker.catchup.start(walker.session)
    walker.page(1, position=_POSITION)
    assert (sessions.stuck(-1.0), sessions.stuck(60.0)) == (1, 0)
    walk = walker.session.walk
    assert walk is not None
    walk.moved_at -= 61
    assert sessions.stuck(60.0) == 1
    walker.catchup.sync(walker.session, {}, None)
    assert sessions.stuck(60.0) == 1
    walker.catchup.page_confirmed(walker.session)
    assert sessions.stuck(60.0) == 0
    walker.page(2)
    assert sessions.stuck(-1.0) == 0
    walker.session.stop_timers()
