"""New traffic begins slowly and grows by half every five minutes in which there is any."""

import pytest

from libs.storage import StoreAway
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


async def test_who_would_wait_too_long_is_told() -> None:
    """Their messages are queued, and delivered all the same; what did not go is not counted."""
    ramp = Ramp(500.0, Clock())
    await ramp.pace(500, 1.0)
    with pytest.raises(StoreAway, match=r"4\.0 s off.*FIRESTORE_WRITES_PER_S"):
        await ramp.pace(2000, 1.0)
    assert ramp.delay_s(250) == 0.5
