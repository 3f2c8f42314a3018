"""A gateway drains the most idle first, at a bounded rate; it can be hastened, started again, and left for good."""

import asyncio
from collections.abc import Collection
from typing import Any, Final

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from libs import lifecycle
from libs.wire.codes import Refusal
from services.gateway import drain as module
from services.gateway.bridge import Bridge
from services.gateway.drain import Drain, State
from services.gateway.metrics import GatewayMetrics
from services.gateway.returns import Bound
from tests.support.waiting import until

_SOON_S: Final = 5.0


class FakeSocket:
    """Open until it is told to go."""

    def __init__(self, active_at: float, closings: list[float]) -> None:
        self.active_at = active_at
        self.closed = False
        self._closings = closings

    def close(self) -> None:
        self.closed = True
        self._closings.append(self.active_at)


class FakeServer:
    """Sockets that were active at 5, 0, 6, 1, 7, 2, …"""

    def __init__(self, count: int) -> None:
        self.closings: list[float] = []
        self.sockets: dict[str, Any] = {str(n): FakeSocket(n * 5 % count, self.closings) for n in range(1, count + 1)}
        self.is_accepting = True
        self.engine = self
        # When each was told to be back.
        self.after_s: list[float] = []

    def send_back(self, socket: Any, after_s: float) -> None:
        self.after_s.append(after_s)
        socket.close()

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


def _drain(
    server: FakeServer,
    tasks: asyncio.TaskGroup,
    farewell: Farewell | None = None,
    *,
    sign_ins_per_s: float = 0.0,
    bridges: Collection[Bridge] = (),
    metrics: GatewayMetrics | None = None,
) -> Drain:
    return Drain(
        server,  # type: ignore[arg-type]
        bridges,
        farewell or Farewell(),  # type: ignore[arg-type]
        server.send_back,
        metrics or GatewayMetrics(CollectorRegistry()),
        tasks.create_task,
        sign_ins_per_s=sign_ins_per_s,
    )


async def test_the_most_idle_are_closed_first_and_then_it_is_drained(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what it does, and takes nobody meanwhile."""
    monkeypatch.setattr(module, "STAGE_S", 0.01)
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
        server.sockets["1"].close()
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
        leaving = tasks.create_task(drain.leave(farewell, farewell, 0.1, 60.0))  # type: ignore[arg-type]
        await until(lambda: server.closings, _SOON_S, "a socket to be closed")
        with pytest.raises(Refusal):
            drain.start()
        await leaving
        assert farewell.said == ["confirmed", "written", "left"]
        assert len(server.closings) == 4
        await lifecycle.cancel([leaving])


async def test_the_window_stretches_until_no_more_are_closed_than_may_sign_in() -> None:
    """Asked to hurry, it says how long it takes all the same, and closes no more a stage than the bound allows."""
    async with asyncio.TaskGroup() as tasks:
        server, slow = FakeServer(4), FakeServer(900)
        assert round(_drain(server, tasks, sign_ins_per_s=500).stop(3.0)[1], 3) == 3.0
        drain = _drain(slow, tasks, sign_ins_per_s=100)
        assert round(drain.stop(0.0)[1], 3) == 10.0
        await until(lambda: slow.closings, _SOON_S, "the first stage")
        assert len(slow.closings) == 9
        drain.start()
        drain._bound = Bound(0)
        server.sockets.clear()


async def test_when_no_time_is_left_the_rest_are_closed_at_once_each_with_a_time_of_its_own() -> None:
    """Who does as told comes back at the bound all the same; it is said, and counted apart."""
    metrics, server, farewell = GatewayMetrics(CollectorRegistry()), FakeServer(1000), Farewell()
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(_SOON_S):
        drain = _drain(server, tasks, farewell, sign_ins_per_s=100, metrics=metrics)
        with capture_logs() as logs:
            await drain.leave(farewell, farewell, 0.0, 0.0)  # type: ignore[arg-type]
        assert drain.state is State.DRAINED
    (warning,) = [line for line in logs if line["log_level"] == "warning"]
    assert (warning["event"], warning["sockets"]) == ("no time is left: the rest are closed at once", 1000)
    assert metrics.sent_back.labels("deadline")._value.get() == 1000
    assert metrics.sent_back.labels("drain")._value.get() == 0
    assert server.after_s[0] > 10 > server.after_s[-1], "the most idle are back last"
    assert farewell.said == ["confirmed", "written", "left"]


async def test_what_passes_through_here_to_another_gateway_is_sent_back_too() -> None:
    """A bridge has no ticket to give: its client is told when to be back."""
    nobody: Any = None
    bridge = Bridge(nobody, nobody, patience_s=1.0)
    async with asyncio.TaskGroup() as tasks:
        drain = _drain(FakeServer(2), tasks, bridges=[bridge])
        drain.stop(0.0)
        await until(lambda: drain.state is State.DRAINED, _SOON_S, "a drained gateway")
    assert bridge.closed
    assert bridge._farewell.startswith('42["reconnect",{"afterMs":')
