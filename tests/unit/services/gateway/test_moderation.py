"""A gateway naps only while it is busy, never longer than a beat, and not after its end."""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs import lifecycle
from services.gateway import moderation
from services.gateway.moderation import Moderation

_BEAT_S: Final = 0.01
# Of a core: what is too little to begin to nap, and enough to go on.
_BETWEEN: Final = 0.05


class FakeProcess:
    """The loop and the clocks of a process: time passes when it is told to, and by naps, which are remembered."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.cpu_s = 5.0
        # The share of a core that is spent, nap or not: what came meanwhile is done after it.
        self.load = 0.0
        # A turn of the loop takes so long.
        self.turn_s = 1e-5
        # When it began, and for how long.
        self.naps: list[tuple[float, float]] = []
        self._ready: deque[Callable[[], None]] = deque()
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    # --- the loop's ----------------------------------------------------------------------------

    def call_soon(self, then: Callable[[], None]) -> None:
        """Behind what is ready to run."""
        self._ready.append(then)

    def call_later(self, after_s: float, then: Callable[[], None]) -> None:
        """A timer."""
        self._count += 1
        heapq.heappush(self._waiting, (self.now_s + after_s, self._count, then))

    # --- the clocks' ---------------------------------------------------------------------------

    def monotonic(self) -> float:
        """The clock."""
        return self.now_s

    def thread_time(self) -> float:
        """CPU that was spent."""
        return self.cpu_s

    def sleep(self, for_s: float) -> None:
        """A nap."""
        assert for_s > 0
        self.naps.append((self.now_s, for_s))
        self._pass(for_s)

    # --- the tests' ----------------------------------------------------------------------------

    def begin(self, beat_s: float = _BEAT_S, arrivals: Callable[[], int] = lambda: 0) -> Moderation:
        """Moderation of this process, which does not run yet."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio, "get_running_loop", lambda: self)
            return Moderation(beat_s, arrivals)

    def go(self, by_s: float, *, load: float) -> list[tuple[float, float]]:
        """So much time passes under this load; the naps in it."""
        self.load = load
        until_s, before = self.now_s + by_s, len(self.naps)
        while self.now_s < until_s:
            while self._waiting and self._waiting[0][0] <= self.now_s:
                self._ready.append(heapq.heappop(self._waiting)[2])
            if self._ready:
                self._pass(self.turn_s)
                for _ in range(len(self._ready)):
                    self._ready.popleft()()
            else:
                next_s = self._waiting[0][0] if self._waiting else until_s
                self._pass(min(next_s, until_s) - self.now_s)
        return self.naps[before:]

    @property
    def has_work(self) -> bool:
        """Whether anything is still to be called."""
        return bool(self._ready or self._waiting)

    def _pass(self, by_s: float) -> None:
        self.now_s += by_s
        self.cpu_s += by_s * self.load


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProcess]:
    """One whose time is told."""
    process = FakeProcess()
    monkeypatch.setattr(moderation, "time", process)
    yield process
    assert all(for_s <= _BEAT_S for _, for_s in process.naps)


@pytest.mark.parametrize("load", [0.0, 0.01, _BETWEEN, 0.079])
def test_one_that_has_little_to_do_does_not_nap(process: FakeProcess, load: float) -> None:
    """Nobody waits."""
    process.begin()._look()
    assert process.go(60.0, load=load) == []


@pytest.mark.parametrize("load", [0.09, 0.5, 1.0])
def test_one_that_is_busy_naps_from_beat_to_beat(process: FakeProcess, load: float) -> None:
    """From a tenth of a second on; it looks at its sockets once a beat."""
    process.begin()._look()
    assert process.go(0.1, load=load) == []
    naps = process.go(10.0, load=load)
    assert 900 <= len(naps) <= 1_001
    ends = [at_s + for_s for at_s, for_s in naps]
    assert all(abs(end - begin - _BEAT_S) < 1e-6 for begin, end in pairwise(ends))


def test_nobody_naps_while_people_come_one_after_another(process: FakeProcess) -> None:
    """The loop takes one new connection a turn; once nobody more comes, it is as before."""
    waiting = arrived = 0

    def accept() -> int:
        """One, if anybody waits: this is asked once a turn."""
        nonlocal waiting, arrived
        if waiting:
            waiting, arrived = waiting - 1, arrived + 1
        return arrived

    process.begin(arrivals=accept)._look()
    process.go(1.0, load=0.5)
    for crowd in (1, 500):
        waiting = crowd
        at_most = -(-crowd // 100)  # naps, if it took a hundred between two of them
        before = len(process.naps)
        while waiting:
            process.go(process.turn_s, load=0.5)
        assert len(process.naps) - before <= at_most
    assert len(process.go(1.0, load=0.5)) >= 90


def test_it_goes_on_until_there_is_little_to_do(process: FakeProcess) -> None:
    """Naps save most of the CPU: what is left of a load is less than what they began at."""
    process.begin()._look()
    process.go(1.0, load=0.5)
    assert len(process.go(10.0, load=_BETWEEN)) > 900
    process.go(1.0, load=0.01)  # judged over half a second, a part of which may have been busy
    assert process.go(60.0, load=0.01) == []
    assert process.go(60.0, load=_BETWEEN) == []
    process.go(0.2, load=0.5)
    assert process.go(1.0, load=0.5) != []


def test_naps_shrink_as_work_grows_and_there_is_none_where_it_takes_a_beat(process: FakeProcess) -> None:
    """A gateway that has no time sleeps no time."""
    process.begin()._look()
    process.turn_s = 0.001
    process.go(1.0, load=0.5)
    naps = process.go(1.0, load=0.5)
    assert naps
    assert all(abs(for_s - 0.006) < 1e-6 for _, for_s in naps)
    process.turn_s = 0.003
    process.go(0.1, load=1.0)
    assert process.go(10.0, load=1.0) == []


def test_what_follows_from_what_was_read_is_done_before_a_nap(process: FakeProcess) -> None:
    """A task that waits for a reply, and one that waits for the task."""
    process.begin()._look()
    process.go(1.0, load=0.5)
    hops: list[float] = []

    def hop() -> None:
        hops.append(process.now_s)
        if len(hops) < 3:
            process.call_soon(hop)

    while not process.naps or process.naps[-1][0] + process.naps[-1][1] != process.now_s:
        process.go(1e-9, load=0.5)  # until it wakes up
    process.call_soon(hop)
    naps = process.go(_BEAT_S, load=0.5)
    assert len(hops) == 3
    assert hops[-1] <= naps[0][0]


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 1), st.floats(1e-5, 0.02)), max_size=10))
def test_no_nap_is_longer_than_a_beat_and_none_begins_within_one_of_the_last(
    steps: list[tuple[float, float, float]],
) -> None:
    """However the load changes: between two looks at the sockets lie a beat, or the work that there was."""
    process = FakeProcess()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moderation, "time", process)
        process.begin()._look()
        for by_s, load, turn_s in steps:
            process.turn_s = turn_s
            process.go(by_s, load=load)
    ends = [at_s + for_s for at_s, for_s in process.naps]
    assert all(for_s <= _BEAT_S for _, for_s in process.naps)
    assert all(end - begin >= _BEAT_S - 1e-6 for begin, end in pairwise(ends))


async def test_a_beat_of_none_is_no_moderation(process: FakeProcess) -> None:
    """It does not even look."""
    await process.begin(0.0).run()
    assert not process.has_work


@pytest.mark.parametrize("load", [0.0, 0.5])
async def test_it_ends_with_its_gateway(process: FakeProcess, load: float) -> None:
    """Naps and looks both: nothing is left that the loop would call."""
    made = process.begin()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(made.run())
        await asyncio.sleep(0)
        assert bool(process.go(10.0, load=load)) == bool(load)
        assert process.has_work
        await lifecycle.cancel([running])
    assert process.go(1.0, load=load) == []
    assert not process.has_work
