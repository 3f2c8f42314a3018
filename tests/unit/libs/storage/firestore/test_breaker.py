"""While a store is away its callers are told at once, and one of them finds out when it is back."""

import asyncio

import pytest

from libs.storage import StoreAway
from libs.storage.firestore.breaker import Breaker

_PATIENCE_S = 2.0


@pytest.fixture
def breaker() -> Breaker:
    """One that tells within no time."""
    return Breaker(_PATIENCE_S, grace_s=0.0)


async def test_closed_it_gives_every_call_all_of_the_patience(breaker: Breaker) -> None:
    """However many there are."""
    assert [await breaker.enter() for _ in range(3)] == [_PATIENCE_S] * 3
    assert not breaker.is_open


async def test_open_one_call_tries_and_the_others_are_told(breaker: Breaker) -> None:
    """In a part of the patience, so that the one does not wait long either."""
    breaker.failed("UNAVAILABLE: gone")
    assert 0 < await breaker.enter() < _PATIENCE_S
    with pytest.raises(StoreAway, match="gone"):
        await breaker.enter()


async def test_a_try_that_fails_is_followed_by_a_pause(breaker: Breaker) -> None:
    """In which nobody waits for the store."""
    breaker.failed("gone")
    await breaker.enter()
    breaker.failed("still gone")
    with pytest.raises(StoreAway, match="still gone"):
        await breaker.enter()


async def test_tries_grow_to_the_full_patience() -> None:
    """A store that is slow is not away for ever."""
    breaker = Breaker(_PATIENCE_S, grace_s=0.0)
    breaker.failed("slow")
    tries = []
    for _ in range(6):
        breaker._try_at = 0.0
        tries.append(await breaker.enter())
        breaker.failed("slow")
    assert tries == sorted(tries)
    assert tries[-1] == _PATIENCE_S


async def test_who_waits_hears_that_it_is_back() -> None:
    """Within their grace."""
    breaker = Breaker(_PATIENCE_S, grace_s=10.0)
    breaker.failed("gone")
    await breaker.enter()
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(breaker.enter())
        await asyncio.sleep(0)
        breaker.passed()
    assert waiting.result() == _PATIENCE_S


async def test_once_it_is_known_to_be_away_nobody_waits() -> None:
    """Not even for their grace: a message asks several times, and others wait behind it."""
    breaker = Breaker(_PATIENCE_S, grace_s=0.05)
    breaker.failed("gone")
    await breaker.enter()
    with pytest.raises(StoreAway):
        await breaker.enter()  # the grace is over now
    breaker.failed("still gone")
    for _ in range(3):
        with pytest.raises(StoreAway):
            breaker.enter().send(None)


async def test_a_try_that_was_cancelled_leaves_the_next_to_another(breaker: Breaker) -> None:
    """Nothing was learned from it."""
    breaker.failed("gone")
    await breaker.enter()
    breaker.left()
    assert await breaker.enter() > 0
