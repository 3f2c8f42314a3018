"""What a person reads in the end."""

from loadtests.people.ledger import Verdict
from loadtests.people.summary import Failure, Row, Worker, summary

_GOOD = Verdict(sent=2, owed=1200, lost=0, unanswered=0, again=1, absent=0, examples=[])
_ROWS = [
    Row("deliver", "direct", 1200, 0, 4, 150, 137),
    Row("send", "direct", 1203, 3, 5, 20, 31),
    Row("a new kind", "of thing", 1, 0, 1, 1, 1),
]


def test_sending_comes_before_delivering_and_what_is_unknown_last() -> None:
    """In the order in which one asks."""
    lines = summary(_ROWS, [], _GOOD, [], 60).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["send", "deliver", "a"]


def test_no_percentile_is_above_the_longest() -> None:
    """Locust keeps two digits: 137 is kept as 140."""
    line = next(line for line in summary(_ROWS, [], _GOOD, [], 60).splitlines() if line.startswith("deliver"))
    assert line.split()[-2:] == ["137", "137"]


def test_failures_are_told_by_code_the_most_frequent_first() -> None:
    """Codes are the server's own."""
    failures = [Failure("send", "direct", "overloaded", 2), Failure("sign-in", "with a token", "token_expired", 40)]
    text = summary(_ROWS, failures, _GOOD, [], 60)
    assert text.index("40 token_expired") < text.index("2 overloaded")


def test_a_loss_is_told_as_a_failure() -> None:
    """And an early stop as what it is."""
    lost = Verdict(sent=2, owed=4, lost=1, unanswered=0, again=0, absent=2, examples=["run.d.1.1.0 to 1"])
    text = summary(_ROWS, [], lost, [], 60)
    assert "FAILED: answered as sent, and not come to who is here: run.d.1.1.0 to 1" in text
    assert "FAILED: some could not sign in" in text
    assert "FAILED" not in summary(_ROWS, [], _GOOD, [], 60)
    assert "not judged" in summary(_ROWS, [], None, [], 60)


def test_what_the_workers_used_is_told_by_person() -> None:
    """So that one can say how many people a machine can play."""
    text = summary(_ROWS, [], _GOOD, [Worker(100, 6.0), Worker(100, 3.0)], 60)
    assert "workers: 10% and 5% of a core in 60 s, 0.75 ms a person and second" in text
