"""Questions of one turn are one question."""

import asyncio
from collections.abc import Collection

import pytest

from services.router.together import Together
from tests.support.waiting import until


class Oracle:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[frozenset[str]] = []
        self.error: Exception | None = None
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def __call__(self, keys: Collection[str]) -> dict[str, str]:
        """An answer for each key."""
        self.asked.append(frozenset(keys))
        await self.goes_on.wait()
        if self.error is not None:
            raise self.error
        return {key: key.upper() for key in keys}


async def test_who_asks_in_one_turn_asks_together() -> None:
    """Each hears the answer; who comes later asks anew."""
    oracle = Oracle()
    together = Together(oracle)
    answers = await asyncio.gather(*(together.about(key) for key in "abca"))
    assert [answer[key] for answer, key in zip(answers, "abca", strict=True)] == ["A", "B", "C", "A"]
    assert (await together.about("d"))["d"] == "D"
    assert oracle.asked == [frozenset("abc"), frozenset("d")]


async def test_who_asks_while_an_answer_is_waited_for_is_not_told_it() -> None:
    """It was asked for before they came, and may be older than what they want to know."""
    oracle = Oracle()
    oracle.goes_on.clear()
    together = Together(oracle)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(together.about("a"))
        await until(lambda: oracle.asked, 5, "the question")
        second = tasks.create_task(together.about("a"))
        await asyncio.sleep(0)
        oracle.goes_on.set()
    assert first.result() == second.result() == {"a": "A"}
    assert len(oracle.asked) == 2


async def test_what_cannot_be_answered_is_told_to_everyone() -> None:
    """Each may try again."""
    oracle = Oracle()
    oracle.error = ValueError("no")
    together = Together(oracle)
    told = await asyncio.gather(*(together.about(key) for key in "ab"), return_exceptions=True)
    assert [type(one) for one in told] == [ValueError, ValueError]
    with pytest.raises(ValueError, match="no"):
        await together.about("c")
    oracle.error = None
    assert await together.about("d") == {"d": "D"}


async def test_who_gives_up_leaves_the_others_their_answer() -> None:
    """Unless it was the first, who asks for all: then they are cancelled too, for the batch is."""
    oracle = Oracle()
    oracle.goes_on.clear()
    together = Together(oracle)
    async with asyncio.TaskGroup() as tasks:
        first, second, third = (tasks.create_task(together.about(key)) for key in "abc")
        await until(lambda: oracle.asked, 5, "the question")
        second.cancel()
        await asyncio.sleep(0)
        oracle.goes_on.set()
        assert (await first)["c"] == (await third)["c"] == "C"
    assert second.cancelled()
