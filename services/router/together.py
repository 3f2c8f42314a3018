"""Questions that come in one turn of the loop are put as one.

A batch brings dozens of sign-ins, each answered by itself; the store is asked once about all of them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Generic, TypeVar

T = TypeVar("T")


class Together(Generic[T]):
    """`ask` takes everyone's keys; each who asks is given the answer to all."""

    def __init__(self, ask: Callable[[Collection[str]], Awaitable[T]]) -> None:
        self._ask = ask
        self._asked: set[str] = set()
        self._answer: asyncio.Future[T] | None = None

    async def about(self, key: str) -> T:
        """The answer, for this key and those of the same turn. Raises what `ask` raises."""
        self._asked.add(key)
        if self._answer is not None:
            return await asyncio.shield(self._answer)
        answer = self._answer = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_look)  # perhaps nobody else asked
        try:
            told = await self._first(answer)
        except Exception as error:
            answer.set_exception(error)
            raise
        finally:
            answer.cancel()  # if it was not answered: whoever asked is on the way out
        return told

    async def _first(self, answer: "asyncio.Future[T]") -> T:
        try:
            await asyncio.sleep(0)
        finally:
            asked, self._asked, self._answer = self._asked, set(), None
        told = await self._ask(asked)
        answer.set_result(told)
        return told


def _look(answer: "asyncio.Future[T]") -> None:
    if not answer.cancelled():
        answer.exception()
