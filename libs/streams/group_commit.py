"""Gather while one write is in flight, and under load a while longer: the more is waiting, the cheaper each item.

A write that finds the broker away is tried again, with the same items, until it succeeds; items wait
in order behind it. Full means `limit` items are waiting or in flight: `put_nowait` raises `Full`, and
the caller says so to whoever asked.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from libs.broker import AWAY
from libs.streams.pace import Pace

T = TypeVar("T")

_BACKOFF_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
# Items put first have room of their own: a queue that is full of other things takes them still.
_URGENT_MAX: Final = 100


class Full(Exception):
    """The bound on waiting items is reached; nothing was taken."""


class GroupCommit(Generic[T]):
    """A bounded queue whose items are written in batches by `write`, one batch at a time."""

    def __init__(
        self, write: Callable[[list[T]], Awaitable[None]], *, limit: int, linger_s: float, batch: int = 1000
    ) -> None:
        self._write = write
        self._limit = limit
        self._pace = Pace(linger_s)
        self._batch = batch
        self._waiting: deque[T] = deque()
        # How many at the head of those waiting were put first.
        self._urgent = 0
        self._in_flight = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._barriers: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._put = 0
        self._written = 0
        # Tries to write: while something waits, more come by and by, or `run` hangs.
        self.tries = 0

    def __len__(self) -> int:
        return len(self._waiting) + self._in_flight

    @property
    def put(self) -> int:
        """How many items were taken so far."""
        return self._put

    @property
    def written(self) -> int:
        """How many of them are written."""
        return self._written

    def put_nowait(self, item: T) -> None:
        """Take an item. Raises `Full`."""
        if len(self) >= self._limit:
            raise Full
        self._waiting.append(item)
        self._put += 1
        self._idle.clear()
        self._wake.set()

    def put_first_nowait(self, item: T) -> None:
        """Take an item ahead of all that wait, but behind those that were put first before it. Raises `Full`."""
        if self._urgent >= _URGENT_MAX:
            raise Full
        self._waiting.insert(self._urgent, item)
        self._urgent += 1
        self._put += 1
        # What others wait for has one more before it.
        self._barriers = deque((goal + 1, barrier) for goal, barrier in self._barriers)
        self._idle.clear()
        self._wake.set()

    async def wait_written(self) -> None:
        """Wait until everything put so far is written."""
        if self._written < self._put:
            while self._barriers and self._barriers[0][1].done():
                self._barriers.popleft()  # whoever waited has given up: in a long outage they would pile up
            barrier: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._barriers.append((self._put, barrier))
            await barrier

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            pause_s = self._pace.pause_s()
            if pause_s > 0 and not self._urgent:
                await asyncio.sleep(pause_s)
            items = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
            self._urgent = max(0, self._urgent - len(items))
            if not self._waiting:
                self._wake.clear()
            self._in_flight = len(items)
            self._pace.note(len(items))
            await self._write_until_done(items)
            self._written += self._in_flight  # `items` may hold less by now: what is not to be written again
            self._in_flight = 0
            self._release()

    async def _write_until_done(self, items: list[T]) -> None:
        attempt = 0
        while True:
            self.tries += 1
            try:
                await self._write(items)
            except AWAY:
                pause = _BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)]
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
                attempt += 1
            else:
                return

    def _release(self) -> None:
        while self._barriers and self._barriers[0][0] <= self._written:
            _, barrier = self._barriers.popleft()
            if not barrier.done():
                barrier.set_result(None)
