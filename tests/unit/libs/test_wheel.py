"""A wheel is never early, late by at most a tick, and one timer for all its time-outs."""

import asyncio
import heapq
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.wheel import Timeout, Wheel
from tests.support.waiting import until

_TICK_S: Final = 0.25  # exact in binary, as are its multiples


class FakeHandle:
    """A timer of the loop's."""

    def __init__(self, then: Callable[[], object]) -> None:
        self.then = then
        self.is_cancelled = False

    def cancel(self) -> None:
        """It is not to end."""
        self.is_cancelled = True


class FakeLoop:
    """What a wheel asks of a loop; its time passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.timers = 0
        self.errors: list[dict[str, Any]] = []
        self._waiting: list[tuple[float, int, FakeHandle]] = []

    def time(self) -> float:
        """The monotonic clock."""
        return self.now_s

    def call_at(self, when_s: float, then: Callable[[], object]) -> FakeHandle:
        """A timer."""
        self.timers += 1
        handle = FakeHandle(then)
        heapq.heappush(self._waiting, (when_s, self.timers, handle))
        return handle

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What a time-out raised."""
        self.errors.append(context)

    @property
    def pending(self) -> int:
        """Timers that are still to end."""
        return sum(not handle.is_cancelled for _, _, handle in self._waiting)

    def go(self, by_s: float) -> None:
        """So much time passes."""
        until_s = self.now_s + by_s
        while self._waiting and self._waiting[0][0] <= until_s:
            when_s, _, handle = heapq.heappop(self._waiting)
            self.now_s = max(self.now_s, when_s)
            if not handle.is_cancelled:
                handle.then()
        self.now_s = until_s


def _wheel() -> tuple[Wheel, FakeLoop]:
    loop = FakeLoop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "get_running_loop", lambda: loop)
        return Wheel(_TICK_S), loop


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 3)), max_size=40))
def test_a_time_out_is_never_early_and_late_by_at_most_a_tick(steps: list[tuple[float, float]]) -> None:
    """Whenever it is asked for, however long it is, whatever else there is; and it comes once."""
    wheel, loop = _wheel()
    ended: list[tuple[float, float]] = []

    def end(due_s: float) -> None:
        ended.append((due_s, loop.now_s))

    for delay_s, pause_s in steps:
        due_s = loop.now_s + delay_s
        wheel.after(delay_s, partial(end, due_s))
        loop.go(pause_s)
    loop.go(30.0)
    assert len(ended) == len(steps)
    for due_s, at_s in ended:
        assert due_s <= at_s <= due_s + _TICK_S
    assert loop.pending == 0


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=30))
def test_what_is_cancelled_does_not_come(pairs: list[tuple[int, int]]) -> None:
    """Whether before its tick or by another of the same tick; the rest all come."""
    wheel, loop = _wheel()
    came: list[int] = []
    timeouts: list[Timeout] = []
    cancelled_at: dict[int, float] = {}

    def cancel(number: int) -> None:
        if number not in came:
            cancelled_at.setdefault(number, loop.now_s)
        timeouts[number].cancel()

    for number, (ticks, cancelled_after) in enumerate(pairs):
        timeouts.append(wheel.after(ticks * _TICK_S, lambda number=number: came.append(number)))  # type: ignore[misc]
        wheel.after(cancelled_after * _TICK_S, partial(cancel, number))
    loop.go(10.0)
    assert sorted(came) == sorted(set(came))
    assert set(came) | cancelled_at.keys() == set(range(len(pairs)))
    assert set(came) & cancelled_at.keys() == set()
    for number, (ticks, cancelled_after) in enumerate(pairs):
        if ticks != cancelled_after:
            assert (number in came) == (ticks < cancelled_after)


def test_two_of_a_tick_may_cancel_each_other() -> None:
    """The first to be run stays alone."""
    wheel, loop = _wheel()
    came: list[str] = []
    timeouts: dict[str, Timeout] = {}

    def come(name: str, other: str) -> None:
        came.append(name)
        timeouts[other].cancel()

    for name, other in (("one", "two"), ("two", "one")):
        timeouts[name] = wheel.after(1.0, partial(come, name, other))
    loop.go(2.0)
    assert len(came) == 1


def test_a_cancellation_may_be_repeated_and_come_too_late() -> None:
    """It is harmless."""
    wheel, loop = _wheel()
    came: list[str] = []
    late, never = wheel.after(1.0, lambda: came.append("late")), wheel.after(1.0, lambda: came.append("never"))
    never.cancel()
    never.cancel()
    loop.go(2.0)
    late.cancel()
    assert came == ["late"]


def test_thousands_share_one_timer() -> None:
    """It is set for the next to end, and anew when one is asked for that ends before it."""
    wheel, loop = _wheel()
    came: list[int] = []
    for number in range(5_000):
        wheel.after(25.0, partial(came.append, number))
    assert (loop.pending, loop.timers) == (1, 1)
    for number in range(5_000):
        wheel.after(60.0, partial(came.append, number))
    assert (loop.pending, loop.timers) == (1, 1)
    wheel.after(5.0, lambda: came.append(-1))
    assert (loop.pending, loop.timers) == (1, 2)
    loop.go(10.0)
    assert (came, loop.pending) == ([-1], 1)
    loop.go(60.0)
    assert (len(came), loop.pending) == (10_001, 0)
    assert loop.timers <= 5


def test_one_that_fails_is_told_and_the_others_come() -> None:
    """As the event loop has it."""
    wheel, loop = _wheel()
    came: list[str] = []

    def fail() -> None:
        raise ValueError("a mistake of ours")

    wheel.after(1.0, fail)
    wheel.after(1.0, lambda: came.append("same tick"))
    wheel.after(2.0, lambda: came.append("later"))
    loop.go(3.0)
    assert came == ["same tick", "later"]
    assert [str(error["exception"]) for error in loop.errors] == ["a mistake of ours"]


def test_one_may_ask_for_the_next() -> None:
    """Of the same tick or of a later one: how pings go on."""
    wheel, loop = _wheel()
    came: list[float] = []

    def again() -> None:
        came.append(loop.now_s)
        if len(came) < 4:
            wheel.after(0.0 if len(came) % 2 else 1.0, again)

    wheel.after(1.0, again)
    loop.go(5.0)
    assert came == [1001.0, 1001.0, 1002.0, 1002.0]


async def test_it_turns_on_a_real_loop() -> None:
    """By the loop's own clock, whatever its resolution."""
    loop = asyncio.get_running_loop()
    wheel = Wheel(0.001)
    ended: list[tuple[float, float]] = []

    def end(due_s: float) -> None:
        ended.append((due_s, loop.time()))

    for number in range(100):
        due_s = loop.time() + number / 2_000
        wheel.after(number / 2_000, partial(end, due_s))
    never = wheel.after(0.01, partial(end, 0.0))
    never.cancel()
    await until(lambda: len(ended) == 100, 5.0, "all to have ended")
    assert all(due_s <= at_s for due_s, at_s in ended)
