"""Only what stands still, under looks that come in time, is found to."""

from hypothesis import given
from hypothesis import strategies as st

from libs.deafness import PERIODS, Deafness, Sight

_PERIOD_S = 5.0


def looks(deafness: Deafness, times: list[float], mark: object = 1, allowed_s: float = 0.0) -> list[bool]:
    """Whether a thing that never moves is found out, look by look."""
    return [bool(deafness.look(now, {"it": Sight(str(mark), allowed_s)})) for now in times]


def test_what_stands_still_for_three_periods_is_found_out() -> None:
    """Not before, and from then on at each look, until it moves."""
    deafness = Deafness(_PERIOD_S)
    assert looks(deafness, [100, 105, 110, 115, 120]) == [False, False, False, True, True]
    assert looks(deafness, [125], mark=2) == [False]


def test_each_is_judged_by_itself() -> None:
    """One that moves does not speak for one that does not."""
    deafness = Deafness(_PERIOD_S)
    found = [deafness.look(5.0 * n, {"still": Sight(0), "moving": Sight(n)}) for n in range(5)]
    assert found == [[], [], [], ["still"], ["still"]]


def test_who_has_much_in_hand_may_take_longer() -> None:
    """By what it was allowed at the last look."""
    assert looks(Deafness(_PERIOD_S), [0, 5, 10, 15, 20, 25], allowed_s=10.0) == [False] * 5 + [True]


def test_what_has_nothing_to_do_begins_anew() -> None:
    """It is in no look meanwhile."""
    deafness = Deafness(_PERIOD_S)
    looks(deafness, [0, 5, 10])
    deafness.look(15, {})
    assert looks(deafness, [20, 25, 30, 35]) == [False, False, False, True]


def test_a_process_that_was_paused_accuses_nobody() -> None:
    """Its own clock says that all were silent for as long; three more periods tell who really is."""
    deafness = Deafness(_PERIOD_S)
    looks(deafness, [0, 5])
    assert looks(deafness, [35, 40, 45, 50]) == [False, False, False, True]


def test_looks_that_could_not_be_made_prove_nothing() -> None:
    """As while the broker is away, which everything waits for."""
    deafness = Deafness(_PERIOD_S)
    looks(deafness, [0, 5, 10])
    deafness.forget()
    assert looks(deafness, [15, 20, 25, 30]) == [False, False, False, True]


@given(st.lists(st.tuples(st.floats(0.1, 30.0), st.booleans()), max_size=30))
def test_whoever_moved_lately_or_was_looked_at_late_is_never_found_out(history: list[tuple[float, bool]]) -> None:
    """Whatever the gaps between looks: it was seen not to move, in time, for three periods, or it is not accused."""
    deafness = Deafness(_PERIOD_S)
    now, mark, since = 1000.0, 0, 1000.0
    deafness.look(now, {"it": Sight(mark)})
    for gap_s, moves in history:
        is_late = now + gap_s > now + 2 * _PERIOD_S
        now += gap_s
        mark += moves
        if moves or is_late:
            since = now
        assert deafness.look(now, {"it": Sight(mark)}) == (["it"] if now >= since + PERIODS * _PERIOD_S else [])
