"""The books: whether everything that was sent has arrived."""

from hypothesis import given
from hypothesis import strategies as st

from loadtests.people.ledger import Books, Ledger
from loadtests.people.letters import Letter
from loadtests.people.village import Village

_PEOPLE = 6
_EVERYONE = range(1, _PEOPLE + 1)
_key = Letter("run", "g50-0", 1, 1, 0.0).key


def _ledger(here: range = _EVERYONE) -> Ledger:
    ledger = Ledger()
    for number in here:
        ledger.came(number)
    return ledger


def _books(*ledgers: Ledger) -> Books:
    books = Books(Village(_PEOPLE))
    for worker, ledger in enumerate(ledgers):
        books.add(str(worker), ledger.take())
    return books


def test_what_everyone_got_is_good() -> None:
    """In whatever worker they are, and in whatever order it was reported."""
    one, other = _ledger(range(1, 4)), _ledger(range(4, 7))
    for number in (2, 3):
        one.arrived(_key, number)
    for number in (4, 5, 6):
        other.arrived(_key, number)
    books = _books(other, one)
    one.sent(_key)
    books.add("1", one.take())
    verdict = books.judge(_PEOPLE)
    assert verdict.is_good
    assert (verdict.sent, verdict.owed, verdict.lost) == (1, 5, 0)
    assert books.is_settled(_PEOPLE)


def test_one_message_that_one_person_did_not_get_is_lost() -> None:
    """The verdict is bad, and says which it was."""
    ledger = _ledger()
    ledger.sent(_key)
    for number in (2, 3, 4, 5):
        ledger.arrived(_key, number)
    verdict = _books(ledger).judge(_PEOPLE)
    assert not verdict.is_good
    assert (verdict.lost, verdict.examples) == (1, [f"{_key} to 1"])


def test_who_is_not_here_is_owed_nothing_and_missed() -> None:
    """What they did not get is still due to them; that they did not come back is bad all the same."""
    ledger = _ledger()
    ledger.sent(_key)
    for number in (2, 3, 4, 5):
        ledger.arrived(_key, number)
    ledger.went(6)
    verdict = _books(ledger).judge(_PEOPLE)
    assert (verdict.lost, verdict.absent) == (0, 1)
    assert not verdict.is_good


def test_nothing_sent_is_not_good() -> None:
    """A test that tested nothing has not passed."""
    assert not _books(_ledger()).judge(_PEOPLE).is_good


def test_what_has_no_answer_is_waited_for() -> None:
    """It is no loss, but the test is not over yet."""
    ledger = _ledger()
    ledger.sent(_key)
    for number in _EVERYONE:
        ledger.arrived(_key, number)
    ledger.unanswered = 1
    books = _books(ledger)
    assert books.judge(_PEOPLE).is_good
    assert not books.is_settled(_PEOPLE)


@given(st.lists(st.sets(st.integers(2, _PEOPLE)), min_size=1, max_size=20))
def test_closing_the_books_changes_no_verdict(who_got_it: list[set[int]]) -> None:
    """What is done is forgotten, and counted."""
    ledger = _ledger()
    for number, got_it in enumerate(who_got_it):
        key = Letter("run", "g50-0", 1, number, 0.0).key
        ledger.sent(key)
        for person in got_it:
            ledger.arrived(key, person)
    entries = ledger.take()
    left_open, closed = Books(Village(_PEOPLE)), Books(Village(_PEOPLE))
    left_open.add("w", entries)
    closed.add("w", entries)
    closed.close()
    assert closed.judge(_PEOPLE) == left_open.judge(_PEOPLE)
    assert left_open.judge(_PEOPLE).lost == sum(_PEOPLE - 1 - len(got_it) for got_it in who_got_it)


def test_what_was_taken_is_not_taken_again() -> None:
    """A report holds what is new."""
    ledger = _ledger()
    ledger.sent(_key)
    ledger.arrived(_key, 2)
    assert ledger.take()["sent"] == [_key]
    again = ledger.take()
    assert (again["sent"], again["arrived"]) == ([], {})
    assert int.from_bytes(again["here"], "little") == (1 << _PEOPLE) - 1
