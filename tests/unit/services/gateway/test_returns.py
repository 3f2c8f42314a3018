"""Sockets are closed in even stages, never more than may sign in elsewhere; clients are told to come back likewise."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway import returns
from services.gateway.returns import STAGE_S, Bound


def _stages(bound: Bound, sockets: int, window_s: float) -> list[int]:
    stages, left, at_s = [], sockets, 0.0
    while left:
        stages.append(bound.next(left, window_s - at_s))
        left -= stages[-1]
        at_s += STAGE_S
    return stages


@settings(deadline=None)
@given(st.integers(1, 20_000), st.floats(0, 600))
def test_stages_are_of_equal_size_and_end_in_time(sockets: int, window_s: float) -> None:
    """No stage is larger than its share by more than one socket, which is what rounding brings."""
    stages = _stages(Bound(0), sockets, window_s)
    assert sum(stages) == sockets
    assert len(stages) <= max(1, window_s / STAGE_S + 2)
    assert max(stages) <= sockets * STAGE_S / max(window_s, STAGE_S) + 1 + returns._ROUNDING


@settings(deadline=None)  # a long drain has many stages
@given(st.integers(1, 5_000), st.floats(0, 60), st.integers(5, 5_000))
def test_no_second_closes_more_than_may_sign_in(sockets: int, window_s: float, per_s: int) -> None:
    """Whatever the window: the drain takes longer instead, and no longer than it says."""
    bound = Bound(per_s)
    takes_s = max(window_s, bound.takes_s(sockets))
    stages = _stages(bound, sockets, window_s)
    a_second = round(1 / STAGE_S)
    assert sum(stages) == sockets
    assert max(sum(stages[at : at + a_second]) for at in range(len(stages))) <= per_s
    assert len(stages) <= takes_s / STAGE_S + 2


@given(st.integers(1, 20_000), st.integers(1, 5_000), st.data())
def test_clients_of_one_stage_are_back_spread_over_as_long_as_the_bound_wants(
    sockets: int, per_s: int, data: st.DataObject
) -> None:
    """Later ones later, nobody sooner than a client by itself, nobody out for longer than half a minute and a bit."""
    bound = Bound(per_s)
    first, last = (bound.back_after_s(place, sockets, data.draw(st.floats(0, 1))) for place in (0, sockets - 1))
    spread_s = min(bound.takes_s(sockets), returns._LONGEST_S)
    for after_s in (first, last):
        assert returns.SOONEST_S <= after_s <= returns.LATEST_S + spread_s
    assert last - first >= spread_s * (sockets - 1) / sockets - (returns.LATEST_S - returns.SOONEST_S)


def test_of_a_thousand_closed_at_once_no_second_sees_more_than_may_sign_in() -> None:
    """If all do as they are told, and none of them is late."""
    bound = Bound(100)
    backs = [bound.back_after_s(place, 1000, place * 0.618 % 1) for place in range(1000)]
    assert max(sum(second <= back < second + 1 for back in backs) for second in range(13)) <= 100


def test_without_a_bound_all_may_be_closed_at_once() -> None:
    """And are told to come back as clients do by themselves."""
    bound = Bound(0)
    assert bound.next(20_000) == 20_000
    assert bound.takes_s(20_000) == 0
    assert bound.back_after_s(19_999, 20_000, 0.0) == returns.SOONEST_S
