"""New traffic begins slowly and grows by half every five minutes in which there is any."""

from libs.storage.firestore.ramp import Ramp


class Clock:
    """Says the time it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_second_of_writes_may_go_at_once_and_the_rest_waits() -> None:
    """No faster than the rate."""
    ramp = Ramp(500.0, Clock())
    assert ramp.delay_s(500) == 0.0
    assert ramp.delay_s(250) == 0.5
    assert ramp.delay_s(500) == 1.5


def test_it_grows_by_half_every_five_minutes_of_use() -> None:
    """Silence earns nothing."""
    clock = Clock()
    ramp = Ramp(500.0, clock)
    for minute in range(26):
        clock.now = minute * 60.0
        ramp.delay_s(100)
    assert round(ramp.per_s) == round(500 * 1.5**5)
    clock.now += 3600.0
    ramp.delay_s(100)
    assert round(ramp.per_s) == round(500 * 1.5**6)


def test_without_a_ramp_nothing_waits() -> None:
    """For a database that is used to it."""
    ramp = Ramp(0.0, Clock())
    assert ramp.delay_s(1_000_000) == 0.0
