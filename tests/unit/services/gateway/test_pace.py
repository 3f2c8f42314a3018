"""How fast a socket may send, and what becomes of one that will not hear."""

import heapq
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.wire.codes import Code, Refusal
from services.gateway.pace import Paces
from tests.unit.services.gateway.fakes import FakeSocket


class Clock:
    """A clock that a test turns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ms = 1_000_000
        monkeypatch.setattr(time, "monotonic_ns", lambda: self.now_ms * 1_000_000)


def _wait_ms(paces: Paces, socket: FakeSocket) -> int:
    """0 for a frame that passes, else how long to wait."""
    try:
        paces.frame(socket)
    except Refusal as refusal:
        return refusal.retry_after_ms or 0
    return 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time stands still unless told otherwise."""
    return Clock(monkeypatch)


def test_a_burst_passes_and_then_so_many_a_second(clock: Clock) -> None:
    """What is told to wait passes when it has waited so long, and not a moment before."""
    paces, socket = Paces(50, 200), FakeSocket()
    assert [_wait_ms(paces, socket) for _ in range(200)] == [0] * 200
    with pytest.raises(Refusal) as refused:
        paces.frame(socket)
    assert (refused.value.code, refused.value.retry_after_ms) == (Code.RATE_LIMITED, 20)
    clock.now_ms += 19
    with pytest.raises(Refusal):
        paces.frame(socket)
    clock.now_ms += 1
    assert _wait_ms(paces, socket) == 0
    clock.now_ms += 1000
    assert sum(_wait_ms(paces, socket) == 0 for _ in range(100)) == 50


def test_each_who_is_refused_is_told_a_time_of_its_own(clock: Clock) -> None:
    """All that a phone sends again at once: whoever comes back as told passes."""
    paces, socket = Paces(50, 200), FakeSocket()
    waits_ms = [_wait_ms(paces, socket) for _ in range(400)]
    assert waits_ms == [0] * 200 + [20 * (number + 1) for number in range(200)]
    for earlier_ms, later_ms in pairwise(waits_ms[199:]):
        clock.now_ms += later_ms - earlier_ms
        assert _wait_ms(paces, socket) == 0
    assert socket.pace is not None
    assert socket.pace.refusals == 200


def test_of_more_than_that_some_are_told_again_and_none_waits_longer_than_a_burst_takes(clock: Clock) -> None:
    """A phone with far too much is through in the time that it takes at its pace, and stays connected."""
    paces, socket = Paces(50, 200), FakeSocket()
    waiting = [clock.now_ms] * 700
    began_ms, told_ms = clock.now_ms, [0]
    while waiting:
        clock.now_ms = max(clock.now_ms, heapq.heappop(waiting))
        told_ms.append(_wait_ms(paces, socket))
        if told_ms[-1]:
            heapq.heappush(waiting, clock.now_ms + told_ms[-1])
    assert max(told_ms) == 4000
    assert clock.now_ms - began_ms <= 10_000 + 20
    assert socket.closed == ""


def test_who_goes_on_when_refused_is_closed(clock: Clock) -> None:
    """After ten times its burst, however many passed between."""
    paces, socket = Paces(50, 20), FakeSocket()
    refused = 0
    while not socket.closed:
        refused += _wait_ms(paces, socket) > 0
        clock.now_ms += 1
    assert refused == 201
    assert socket.closed == "breach"


def test_who_pauses_is_forgiven(clock: Clock) -> None:
    """A phone that empties its outbox now and then is never closed."""
    paces, socket = Paces(50, 20), FakeSocket()
    for _ in range(50):
        for _ in range(100):
            _wait_ms(paces, socket)
        clock.now_ms += 60_000
    assert socket.closed == ""


def test_acknowledgements_are_counted_apart_and_far_more_of_them_pass(clock: Clock) -> None:
    """A page of messages brings many at once; a flood of them closes as well."""
    paces, socket = Paces(50, 200), FakeSocket()
    taken = [paces.acknowledgement(socket) for _ in range(3000)]
    assert sum(taken) == 2000
    assert _wait_ms(paces, socket) == 0
    assert socket.closed == ""
    for _ in range(1001):
        paces.acknowledgement(socket)
    assert socket.closed == "breach"


def test_a_socket_that_sends_nothing_has_nothing(clock: Clock) -> None:
    """Ten thousand idle phones cost no memory here; with no limit, none does."""
    socket = FakeSocket()
    Paces(0, 200).frame(socket)
    assert Paces(0, 200).acknowledgement(socket)
    assert socket.pace is None


@given(
    st.integers(1, 100),
    st.integers(1, 50),
    st.lists(st.integers(0, 3000), min_size=1, max_size=200),
)
def test_no_stretch_of_time_holds_more_than_its_share(per_second: int, burst: int, pauses_ms: list[int]) -> None:
    """In any stretch, at most the burst and what the rate adds; and whoever is told to wait may then pass."""
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(patch)
        paces, socket = Paces(per_second, burst), FakeSocket()
        passed: list[int] = []
        for pause_ms in pauses_ms:
            clock.now_ms += pause_ms
            wait_ms = _wait_ms(paces, socket)
            if wait_ms == 0:
                passed.append(clock.now_ms)
            else:
                clock.now_ms += wait_ms
                assert _wait_ms(paces, socket) == 0
                passed.append(clock.now_ms)
        for first, begun in enumerate(passed):
            for last in range(first, len(passed)):
                assert last - first + 1 <= burst + (passed[last] - begun) * per_second / 1000 + 1e-3
