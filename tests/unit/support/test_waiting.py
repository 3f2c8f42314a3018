"""Waiting for a condition ends when it holds, and fails with words when it does not."""

import asyncio

import pytest

from tests.support.waiting import until


async def test_the_value_that_was_waited_for_is_returned() -> None:
    """A predicate is asked again until it says something true."""
    values = iter([0, None, "", "there"])
    assert await until(lambda: next(values), 5, "a value") == "there"


async def test_a_predicate_may_be_a_coroutine_and_may_fail_at_first() -> None:
    """A service that refuses connections while it starts is not there yet."""
    tries = iter([False, True])

    async def answers() -> str:
        if not next(tries):
            raise ConnectionRefusedError
        return "up"

    assert await until(answers, 5, "the service", despite=(ConnectionRefusedError,)) == "up"


async def test_a_condition_that_never_holds_is_named() -> None:
    """The failure says what was waited for and what was seen last."""
    with pytest.raises(AssertionError, match=r"not within 0.06 s: the moon \(last seen: 0\)"):
        await until(lambda: 0, 0.06, "the moon")


async def test_a_predicate_that_hangs_is_cut_off() -> None:
    """The deadline holds for the asking too."""
    with pytest.raises(AssertionError, match="an answer"):
        await until(asyncio.Event().wait, 0.06, "an answer")


async def test_an_error_that_nobody_named_ends_the_waiting() -> None:
    """Only what the caller expects counts as `not yet`; a predicate's own timeout does not."""

    def fails() -> bool:
        raise TimeoutError("the predicate's own")

    with pytest.raises(TimeoutError, match="own"):
        await until(fails, 5, "nothing")
