"""Gathered writes: in order, one at a time, bounded, repeated whole while the broker is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis import exceptions

from libs.streams.group_commit import Full, GroupCommit


class Slow:
    """A broker that writes when it is let to, and fails as often as it is told."""

    def __init__(self, failures: int = 0) -> None:
        self.batches: list[list[int]] = []
        self.failures = failures
        self.gate = asyncio.Event()

    async def write(self, items: list[int]) -> None:
        """One write."""
        await self.gate.wait()
        self.batches.append(list(items))
        if self.failures:
            self.failures -= 1
            raise exceptions.ConnectionError


@asynccontextmanager
async def running(commit: GroupCommit[int]) -> AsyncIterator[None]:
    """The commit at work while the block runs."""
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        work = tasks.create_task(commit.run())
        try:
            yield
        finally:
            work.cancel()


async def test_what_comes_during_a_write_goes_together_in_the_next() -> None:
    """In the order it came."""
    slow = Slow()
    commit = GroupCommit(slow.write, limit=100, linger_s=0)
    async with running(commit):
        commit.put_nowait(0)
        await asyncio.sleep(0)
        for item in range(1, 10):
            commit.put_nowait(item)
        assert len(commit) == 10
        slow.gate.set()
        await commit.wait_written()
    assert slow.batches == [[0], list(range(1, 10))]
    assert len(commit) == 0


async def test_full_counts_what_is_in_flight_too() -> None:
    """The bound is on what is not yet written, wherever it is."""
    slow = Slow()
    commit = GroupCommit(slow.write, limit=3, linger_s=0)
    async with running(commit):
        commit.put_nowait(0)
        await asyncio.sleep(0)
        commit.put_nowait(1)
        commit.put_nowait(2)
        with pytest.raises(Full):
            commit.put_nowait(3)
        slow.gate.set()
        await commit.wait_written()
        commit.put_nowait(4)
        await commit.wait_written()
    assert sorted(item for batch in slow.batches for item in batch) == [0, 1, 2, 4]


async def test_a_batch_is_bounded() -> None:
    """One write takes no more than it may."""
    slow = Slow()
    slow.gate.set()
    commit = GroupCommit(slow.write, limit=100, linger_s=0, batch=4)
    for item in range(10):
        commit.put_nowait(item)
    async with running(commit):
        await commit.wait_written()
    assert slow.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_a_write_that_fails_is_repeated_before_anything_else() -> None:
    """Order holds while the broker is away, and nothing is dropped."""
    slow = Slow(failures=2)
    slow.gate.set()
    commit = GroupCommit(slow.write, limit=100, linger_s=0, batch=2)
    for item in range(4):
        commit.put_nowait(item)
    async with running(commit):
        await commit.wait_written()
    assert slow.batches == [[0, 1], [0, 1], [0, 1], [2, 3]]


async def test_waiting_ends_with_what_was_put_before_it() -> None:
    """What comes later does not hold it up."""
    slow = Slow()
    commit = GroupCommit(slow.write, limit=100, linger_s=0)
    async with running(commit), asyncio.TaskGroup() as tasks:
        await commit.wait_written()
        commit.put_nowait(0)
        waiting = tasks.create_task(commit.wait_written())
        await asyncio.sleep(0)
        assert not waiting.done()
        slow.gate.set()
        await waiting


async def test_an_error_of_our_own_ends_the_run() -> None:
    """Only a broker that is away is waited for."""

    async def fail(_: list[int]) -> None:
        raise ValueError

    commit = GroupCommit(fail, limit=1, linger_s=0)
    commit.put_nowait(0)
    with pytest.raises(ValueError, match=r"^$"):
        await commit.run()


async def test_what_is_put_first_overtakes_all_that_waits_but_its_own_kind() -> None:
    """Also when too many wait; and who waits for what was there before still waits for all of it."""
    slow = Slow()
    commit = GroupCommit(slow.write, limit=4, linger_s=0, batch=2)
    async with running(commit), asyncio.TaskGroup() as tasks:
        commit.put_nowait(0)
        await asyncio.sleep(0)
        for item in (1, 2, 3):
            commit.put_nowait(item)
        waiting = tasks.create_task(commit.wait_written())
        await asyncio.sleep(0)
        for item in (10, 11, 12):
            commit.put_first_nowait(item)
        with pytest.raises(Full):
            commit.put_nowait(4)
        slow.gate.set()
        await waiting
        assert slow.batches == [[0], [10, 11], [12, 1], [2, 3]]
        commit.put_nowait(5)
        commit.put_first_nowait(13)
        await commit.wait_written()
    assert slow.batches[4:] == [[13, 5]]


def test_what_is_put_first_is_bounded_too() -> None:
    """A hundred warnings that nobody takes are enough."""
    commit = GroupCommit(Slow().write, limit=1, linger_s=0)
    for item in range(100):
        commit.put_first_nowait(item)
    with pytest.raises(Full):
        commit.put_first_nowait(100)


async def test_who_gave_up_waiting_is_forgotten() -> None:
    """While the broker is away for an hour, sign-ins come and time out."""
    slow = Slow()
    commit = GroupCommit(slow.write, limit=100, linger_s=0)
    async with running(commit):
        commit.put_nowait(0)
        for _ in range(10):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await commit.wait_written()
        assert len(commit._barriers) == 1


async def test_who_tries_in_vain_can_be_told_from_who_hangs() -> None:
    """Tries go on while the broker is away; a write that never ends is one try."""
    slow = Slow(failures=2)
    commit = GroupCommit(slow.write, limit=100, linger_s=0)
    async with running(commit):
        commit.put_nowait(0)
        for _ in range(5):
            await asyncio.sleep(0)
        assert (commit.tries, commit.put, commit.written) == (1, 1, 0)
        slow.gate.set()
        await commit.wait_written()
    assert (commit.tries, commit.put, commit.written) == (3, 1, 1)
