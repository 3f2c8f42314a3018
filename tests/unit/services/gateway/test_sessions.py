"""Sessions by socket and by user, and what an acknowledgement confirms."""

from services.gateway.sessions import Expected, Sessions
from tests.unit.services.gateway.fakes import session


def test_the_first_session_of_a_user_takes_a_seat_and_the_last_leaves_it() -> None:
    """However many there are between."""
    sessions = Sessions()
    one, _ = session("asha", "one")
    two, _ = session("asha", "two")
    other, _ = session("bala", "three")
    assert [sessions.add(one), sessions.add(two), sessions.add(other)] == [True, False, True]
    assert sorted(sessions.users) == ["asha", "bala"]
    assert sessions.of_user("asha") == [one, two]
    assert sessions.by_socket("two") is two
    assert len(sessions) == 3
    assert [sessions.remove(one), sessions.remove(one), sessions.remove(two)] == [False, False, True]
    assert one.is_gone
    assert sessions.of_user("asha") == []
    assert sessions.by_socket("one") is None
    assert list(sessions) == [other]


def test_a_session_that_was_never_added_can_be_removed() -> None:
    """Its sign-in may have failed at any step."""
    sessions = Sessions()
    one, _ = session()
    assert sessions.remove(one) is False


def test_an_acknowledgement_confirms_once() -> None:
    """A second one, or one that nobody asked for, confirms nothing."""
    one, socket = session()
    one.emit_due("new_message", b'{"seq":1}', "group:g", 1)
    one.emit_due("new_message", b'{"seq":2}', "group:g", 2)
    (_, _, first), (_, _, second) = socket.emitted
    assert first is not None
    assert second is not None
    expected = one.take_expected(second)
    assert expected is not None
    assert expected.confirms == (("group:g", (2,)),)
    assert one.take_expected(second) is None
    assert one.take_expected(999) is None
    assert one.take_expected(first) is not None


def test_acknowledgements_that_never_come_are_forgotten() -> None:
    """The oldest first; what they would have confirmed stays due."""
    one, _ = session()
    acks = [one.expect(Expected(())) for _ in range(1_100)]
    assert one.take_expected(acks[0]) is None
    assert one.take_expected(acks[-1]) is not None
