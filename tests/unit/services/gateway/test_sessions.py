"""Sessions by socket and by user, and what an acknowledgement confirms."""

from services.gateway.sessions import Acks, Expected, Sessions
from tests.unit.services.gateway.fakes import session


def test_the_first_session_of_a_user_takes_a_seat_and_the_last_leaves_it() -> None:
    """However many there are between."""
    sessions = Sessions()
    one, _ = session("asha", "one")
    two, _ = session("asha", "two")
    other, _ = session("bala", "three")
    assert [sessions.add(one), sessions.add(two), sessions.add(other)] == [True, False, True]
    assert sorted(sessions.users) == ["asha", "bala"]
    assert list(sessions.of_user("asha")) == [one, two]
    assert sessions.by_socket("two") is two
    assert len(sessions) == 3
    assert [sessions.remove(one), sessions.remove(one), sessions.remove(two)] == [False, False, True]
    assert one.is_gone
    assert not sessions.of_user("asha")
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
    acks = Acks()
    one.emit_due(acks.message("new_message", b'{"seq":1}', "group:g", 1))
    one.emit_due(acks.message("new_message", b'{"seq":2}', "group:g", 2))
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
    for ack in range(1, 1_101):
        one.expect(ack, Expected(()))
    assert one.take_expected(1) is None
    assert one.take_expected(1_100) is not None


def test_sockets_that_are_told_the_same_are_told_it_under_one_number() -> None:
    """One packet for all of them; what one of them confirms, the others still owe."""
    acks = Acks()
    due = acks.message("new_message", b"{}", "group:g", 7)
    one, first = session("asha", "one")
    two, second = session("bala", "two")
    for each in (one, two):
        each.emit_due(due)
    assert first.emitted == second.emitted == [("new_message", {}, due.ack)]
    assert one.take_expected(due.ack) is due.expected
    assert one.take_expected(due.ack) is None
    assert two.take_expected(due.ack) is due.expected


def test_a_number_is_not_given_twice_but_after_all_others() -> None:
    """Clients read it as an integer of 32 bits, and 0 is none of them."""
    acks = Acks()
    assert [acks.next() for _ in range(3)] == [1, 2, 3]
    acks._last = 2**30 - 1
    assert [acks.next() for _ in range(2)] == [2**30, 1]
