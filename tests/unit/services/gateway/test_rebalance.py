"""An order is given once, carried out by whoever has too many, slowly, and moves nobody who has just come."""

import asyncio
from typing import Any, Final

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from libs import keys
from libs.broker import Broker
from libs.figures import GatewayFigures
from libs.identity import Claims
from libs.wire.codes import Refusal
from services.gateway import rebalance as module
from services.gateway.drain import State
from services.gateway.metrics import GatewayMetrics
from services.gateway.rebalance import Rebalance
from services.gateway.sessions import Session, Sessions
from services.gateway.sessions import State as SessionState
from tests.unit.services.gateway.fakes import FAR_MS, FakeSocket

_REST_S: Final = 60.0


class FakeBroker(Broker):
    """What gateways say of themselves, and the order."""

    def __init__(self, connections: dict[str, int]) -> None:
        self.is_cluster = False
        self.connections = connections
        self.order: bytes | None = None
        self.orders = 0

    async def command(self, *command: str | bytes | float) -> Any:
        match command:
            case ("GET", key) if key == keys.rebalance():
                return self.order
            case ("SET", key, bytes(packed), "PX", _) if key == keys.rebalance():
                self.order, self.orders = packed, self.orders + 1
        return None


class FakeDrain:
    """Whether this gateway takes sockets."""

    def __init__(self) -> None:
        self.state = State.ACCEPTING
        self.is_leaving = False


class FakeServer:
    """Its sockets, by their ids."""

    def __init__(self) -> None:
        self.sockets: dict[str, Any] = {}


class Scene:
    """Gateway g1 with so many sockets of its own; what others have is what the broker says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, own: int, others: dict[str, int], every_s: float = 0.0) -> None:
        self.broker = FakeBroker(others)
        self.server, self.sessions, self.drain = FakeServer(), Sessions(), FakeDrain()
        self.sent_back: list[str] = []
        self.metrics = GatewayMetrics(CollectorRegistry())
        for number in range(own):
            self.come(f"s{number}", number)
        monkeypatch.setattr(module, "STAGE_S", 0.0)
        monkeypatch.setattr(module, "_LOOK_S", 0.05)

        async def reported(_: Broker) -> list[GatewayFigures]:
            counts = {"g1": len(self.server.sockets)} | self.broker.connections
            return [
                GatewayFigures(
                    id=name, connections=count, state=self.drain.state.value if name == "g1" else "accepting"
                )
                for name, count in counts.items()
            ]

        monkeypatch.setattr("libs.figures.reported", reported)
        self.rebalance = Rebalance(
            self.broker,
            "g1",
            self.server,  # type: ignore[arg-type]
            self.sessions,
            self.drain,  # type: ignore[arg-type]
            self._send_back,
            self.metrics,
            sign_ins_per_s=0,
            rest_s=_REST_S,
            every_s=every_s,
        )

    def come(self, name: str, active_at: float, ago_s: float = 2 * _REST_S) -> None:
        """A socket that signed in a while ago."""
        socket: Any = FakeSocket(name)
        socket.active_at = active_at
        session = Session(socket, Claims(name, 1, FAR_MS))
        session.since -= ago_s
        session.state = SessionState.LIVE
        self.server.sockets[name] = socket
        self.sessions.add(session)

    def _send_back(self, socket: Any, after_s: float) -> None:
        assert after_s > 0
        self.sent_back.append(socket.id)
        del self.server.sockets[socket.id]
        self.broker.connections["g2"] += 1


async def test_what_is_above_the_mean_is_sent_away_the_most_idle_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """And then it is over: the same order does nothing more, whoever comes."""
    scene = Scene(monkeypatch, 100, {"g2": 0})
    given, _ = await scene.rebalance.ask()
    assert (given.target, given.shares["g1"].excess) == (50, 50)
    await scene.rebalance.look()
    assert scene.sent_back == [f"s{number}" for number in range(50)]
    assert scene.metrics.sent_back.labels("rebalance")._value.get() == 50
    await scene.rebalance.look()
    for number in range(40):
        scene.come(f"new{number}", 1000)
    await scene.rebalance.look()
    assert len(scene.sent_back) == 50


async def test_who_has_just_come_is_not_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may have been sent here: nobody is sent about twice."""
    scene = Scene(monkeypatch, 10, {"g2": 0})
    for number in range(90):
        scene.come(f"new{number}", -1.0, ago_s=_REST_S / 2)
    joining = scene.sessions.by_socket("s0")
    assert joining is not None
    joining.state = SessionState.CATCHING_UP
    await scene.rebalance.ask()
    await scene.rebalance.look()
    assert sorted(scene.sent_back) == [f"s{number}" for number in range(1, 10)]


async def test_a_gateway_that_drains_carries_nothing_out_and_one_that_leaves_orders_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It empties itself anyway."""
    scene = Scene(monkeypatch, 100, {"g2": 0})
    await scene.rebalance.ask()
    scene.drain.state = State.DRAINING
    await scene.rebalance.look()
    assert not scene.sent_back
    scene.drain.is_leaving = True
    with pytest.raises(Refusal):
        await scene.rebalance.ask()


async def test_where_all_are_near_enough_nothing_is_ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking is harmless."""
    scene = Scene(monkeypatch, 100, {"g2": 95})
    given, connections = await scene.rebalance.ask()
    assert (given.shares, connections, scene.broker.order) == ({}, {"g1": 100, "g2": 95}, None)


async def test_by_itself_it_acts_once_a_difference_has_lasted_and_ever_more_rarely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three looks in a row; an ingress that sends everyone back is not fought."""
    scene = Scene(monkeypatch, 100, {"g2": 0}, every_s=1e-12)
    rebalance = scene.rebalance
    for orders in (0, 0, 1):
        await rebalance.look()
        assert scene.broker.orders == orders
    scene.broker.order = None
    assert rebalance._wait_s == 2e-12
    scene.broker.connections["g2"] = 100
    await rebalance.look()
    assert (rebalance._uneven, rebalance._wait_s) == (0, 1e-12)
    scene.broker.connections = {"g0": 0, "g2": 100}
    for _ in range(5):
        await rebalance.look()
    assert scene.broker.orders == 1, "that is for g0 to say"


async def test_an_order_that_this_version_does_not_read_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version may be among the gateways."""
    scene = Scene(monkeypatch, 100, {"g2": 0})
    scene.broker.order = msgspec.json.encode({"target": "half"})
    await scene.rebalance.look()
    assert not scene.sent_back
    await asyncio.sleep(0)
