"""A process that keeps dying is started ever more rarely, until it lives."""

from services.local.backoff import Backoff


def test_the_wait_doubles_up_to_a_limit() -> None:
    """Half a second to fifteen."""
    backoff = Backoff()
    assert [backoff.delay_s(1) for _ in range(7)] == [0.5, 1, 2, 4, 8, 15, 15]


def test_a_long_life_is_forgiven() -> None:
    """What kills it then is something new."""
    backoff = Backoff()
    backoff.delay_s(1)
    backoff.delay_s(1)
    assert backoff.delay_s(31) == 0.5
    assert backoff.delay_s(1) == 1
