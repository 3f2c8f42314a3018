"""A gateway drains in equal stages, the most idle first; it can be hastened, started again, and left for good."""

import asyncio
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs import lifecycle
from libs.wire.codes import Refusal
from services.gateway import drain as module
from services.gateway.drain import Drain, State, share
from tests.support.waiting import until

_SOON_S: Final = 5.0


class FakeSocket:
    """Open until it is told to go."""

    def __init__(self, active_at: float, closings: list[float]) -> None:
        self.active_at = active_at
        self.closed = False
        self._closings = closings

    def close_for_retry(self) -> None:
        self.closed = True
        self._closings.append(self.active_at)


class FakeServer:
    """Sockets that were active at 5, 0, 6, 1, 7, 2, …"""

    def __init__(self, count: int) -> None:
        self.closings: list[float] = []
        self.sockets: dict[str, Any] = {str(n): FakeSocket(n * 5 % count, self.closings) for n in range(1, count + 1)}
        self.is_accepting = True
        self.engine = self

    def accept(self, *, is_accepting: bool) -> None:
        self.is_accepting = is_accepting

    async def wait_silent(self) -> None:
        """Nothing is on its way."""


class Farewell:
    """The confirmations, the uplink and the heartbeat of a gateway that leaves."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.is_draining = False

    def flush(self) -> None:
        self.said.append("confirmed")

    async def wait_written(self) -> None:
        self.said.append("written")

    async def leave(self) -> None:
        self.said.append("left")


def _drain(server: FakeServer, tasks: asyncio.TaskGroup, farewell: Farewell | None = None) -> Drain:
    return Drain(server, (), farewell or Farewell(), tasks.create_task)  # type: ignore[arg-type]


async def test_the_most_idle_are_closed_first_and_then_it_is_drained(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what it does, and takes nobody meanwhile."""
    monkeypatch.setattr(module, "_STAGE_S", 0.01)
    async with asyncio.TaskGroup() as tasks:
        server = FakeServer(23)
        drain = _drain(server, tasks)
        assert drain.stop(0.1)[0] == 23
        assert (drain.state, server.is_accepting) == (State.DRAINING, False)
        await until(lambda: drain.state is State.DRAINED, _SOON_S, "a drained gateway")
        assert server.closings == sorted(server.closings)
        assert len(server.closings) == 23
        assert drain.problem is not None
        assert drain.stop(1.0)[0] == 0


async def test_a_drain_can_be_hastened_and_not_put_off() -> None:
    """Asking again is harmless."""
    async with asyncio.TaskGroup() as tasks:
        server = FakeServer(3)
        drain = _drain(server, tasks)
        drain.stop(60.0)
        left, left_s = drain.stop(600.0)
        assert left == 3
        assert left_s <= 60.0
        assert drain.stop(0.0) == (3, 0.0)
        await until(lambda: drain.state is State.DRAINED, _SOON_S, "a drained gateway")


async def test_a_start_keeps_those_that_are_left() -> None:
    """And it can be stopped anew."""
    async with asyncio.TaskGroup() as tasks:
        server = FakeServer(4)
        drain = _drain(server, tasks)
        drain.stop(600.0)
        server.sockets["1"].close_for_retry()
        assert drain.start() == 3
        assert (drain.state, server.is_accepting, drain.problem) == (State.ACCEPTING, True, None)
        assert drain.start() == 3
        drain.stop(0.0)
        await until(lambda: drain.state is State.DRAINED, _SOON_S, "a drained gateway")
        assert drain.start() == 0


async def test_who_comes_while_it_drains_is_closed_too() -> None:
    """A bridge to another gateway's socket may: it is passed on, not taken."""
    async with asyncio.TaskGroup() as tasks:
        server = FakeServer(4)
        drain = _drain(server, tasks)
        drain.stop(0.0)
        await asyncio.sleep(0)
        server.sockets["late"] = FakeSocket(9.0, server.closings)
        await until(lambda: drain.state is State.DRAINED, _SOON_S, "a drained gateway")
        assert server.closings[-1] == 9.0


async def test_who_leaves_for_good_is_not_started_again() -> None:
    """SIGTERM in the middle of a long drain has its own window, and says goodbye."""
    async with asyncio.TaskGroup() as tasks:
        server, farewell = FakeServer(4), Farewell()
        drain = _drain(server, tasks, farewell)
        drain.stop(600.0)
        leaving = tasks.create_task(drain.leave(farewell, farewell, 0.1))  # type: ignore[arg-type]
        await until(lambda: server.closings, _SOON_S, "a socket to be closed")
        with pytest.raises(Refusal):
            drain.start()
        await leaving
        assert farewell.said == ["confirmed", "written", "left"]
        assert len(server.closings) == 4
        await lifecycle.cancel([leaving])


@given(st.integers(1, 20_000), st.floats(0, 600))
def test_stages_are_of_equal_size_and_end_in_time(sockets: int, window_s: float) -> None:
    """No stage is larger than its share by more than one socket, which is what rounding brings."""
    stage_s = module._STAGE_S
    left, quota, at_s, stages = sockets, 0.0, 0.0, []
    while left:
        quota += share(left - quota, window_s - at_s)
        count = int(quota + module._ROUNDING)
        quota -= count
        left -= count
        stages.append(count)
        at_s += stage_s
    assert sum(stages) == sockets
    assert len(stages) <= max(1, window_s / stage_s + 2)
    assert max(stages) <= sockets * stage_s / max(window_s, stage_s) + 1 + module._ROUNDING
