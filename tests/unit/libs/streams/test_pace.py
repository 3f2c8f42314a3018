"""When a stage lingers: under load each so often, and never when it is quiet."""

import pytest

from libs.streams import pace as module
from libs.streams.pace import Pace


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def batches(pace: Pace, clock: Clock, rate: float, seconds: float) -> list[int]:
    """The sizes of the batches of a stage, which takes what came since the last one after each pause."""
    sizes: list[int] = []
    end, owed = clock.now + seconds, 0.0
    while clock.now < end:
        began = clock.now
        clock.now += pace.pause_s() + 0.001  # and a read takes a millisecond
        owed += (clock.now - began) * rate
        pace.note(int(owed))
        sizes.append(int(owed))
        owed -= int(owed)
    return sizes


def test_when_it_is_quiet_nobody_waits(clock: Clock) -> None:
    """Fifty a second are not worth it."""
    pace = Pace(0.025)
    for _ in range(100):
        assert pace.pause_s() == 0.0
        assert not pace.is_busy
        clock.now += 0.02
        pace.note(1)


def test_under_load_a_batch_begins_each_linger(clock: Clock) -> None:
    """So that it holds what came in that time, however short each read is."""
    pace = Pace(0.025)
    sizes = batches(pace, clock, 800, 2.0)
    assert all(18 <= size <= 22 for size in sizes[-40:])


def test_lingering_begins_and_ends_with_the_load(clock: Clock) -> None:
    """Within a fraction of a second."""
    pace = Pace(0.025)
    batches(pace, clock, 800, 0.3)
    busy = [pace.is_busy]
    clock.now += 0.7
    assert [*busy, pace.is_busy] == [True, False]
    assert pace.pause_s() == 0.0


def test_a_few_at_once_after_a_quiet_time_go_at_once(clock: Clock) -> None:
    """A page that somebody opens is no load."""
    pace = Pace(0.025)
    pace.note(5)
    assert pace.pause_s() == 0.0
    clock.now += 10
    pace.note(50)
    busy = [pace.is_busy]
    clock.now += 0.5
    assert [*busy, pace.is_busy] == [True, False]


def test_without_a_linger_nobody_waits_whatever_comes(clock: Clock) -> None:
    """As with broadcasts."""
    pace = Pace(0.0)
    assert set(batches(pace, clock, 100_000, 0.2)) <= set(range(99, 103))
    assert not pace.is_busy


def test_a_long_linger_is_not_for_what_comes_one_at_a_time(clock: Clock) -> None:
    """Five in a row, each sent when the last was answered, would wait an hour for company."""
    pace = Pace(3600.0)
    for _ in range(5):
        assert pace.pause_s() == 0.0
        pace.note(1)
        clock.now += 0.001
