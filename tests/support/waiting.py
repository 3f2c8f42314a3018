"""Wait for a condition that nobody announces: a page over HTTP, a key in Redis, a process that goes.

The only place where tests pause. What a client receives is announced, so clients wait without polling.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, overload

# Short against what is waited for (hundreds of milliseconds and more), long against the cost of asking.
PAUSE_S: Final = 0.05

T = TypeVar("T")


@overload
async def until(
    predicate: Callable[[], Awaitable[T]],
    timeout_s: float,
    what: str,
    *,
    despite: tuple[type[Exception], ...] = ...,
) -> T: ...


@overload
async def until(
    predicate: Callable[[], T],
    timeout_s: float,
    what: str,
    *,
    despite: tuple[type[Exception], ...] = ...,
) -> T: ...


async def until(
    predicate: Callable[[], Any],
    timeout_s: float,
    what: str,
    *,
    despite: tuple[type[Exception], ...] = (),
) -> Any:
    """The first true value of `predicate`, which may be a coroutine function.

    Exceptions named in `despite` count as "not yet". Raises AssertionError with `what`, and the last
    value or exception, after `timeout_s`; a predicate that hangs is cut off then.
    """
    last: object = "nothing yet"
    deadline = asyncio.timeout(timeout_s)
    try:
        async with deadline:
            while True:
                try:
                    value = await _value(predicate)
                except despite as error:
                    last = error
                else:
                    if value:
                        return value
                    last = value
                await asyncio.sleep(PAUSE_S)
    except TimeoutError:
        if not deadline.expired():
            raise  # the predicate's own
    raise AssertionError(f"not within {timeout_s} s: {what} (last seen: {last!r})")


async def _value(predicate: Callable[[], Any]) -> Any:
    value = predicate()
    return await value if inspect.isawaitable(value) else value
