"""Paths are timed, silence is told, and a gateway gives itself up only for what stands still in itself."""

import asyncio
import faulthandler
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from redis.exceptions import ConnectionError as RedisConnectionError

from libs import keys
from libs.broker import type_of_command
from libs.lifecycle import Surrender
from libs.wire.frames import Canary, CanaryReply, Origin
from services.gateway import canaries as module
from services.gateway.canaries import Canaries
from services.gateway.metrics import GatewayMetrics
from tests.unit.services.gateway.fakes import FakeBroker, uplink

_PERIOD_S = 5.0
_PARTITIONS = 16


class Clock:
    """Tells the time it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now


class Streams(FakeBroker):
    """What lies unread on this gateway's streams, and whether somebody of its kind has just given up."""

    def __init__(self) -> None:
        super().__init__()
        self.unread: dict[str, Any] = {}
        self.is_away = False
        self.may_give_up = True

    async def command(self, *command: Any) -> Any:
        """SET."""
        assert command[:2] == ("SET", keys.given_up("gateway"))
        return True if self.may_give_up else None

    async def batch(self, commands: Sequence[type_of_command]) -> list[Any]:
        """XRANGE, or what is published."""
        if self.is_away:
            raise RedisConnectionError
        if commands[0][0] != "XRANGE":
            return await super().batch(commands)
        return [self.unread.get(str(stream), []) for _, stream, *_ in commands]


class Scene:
    """A gateway that beats, as long as it is told to."""

    def __init__(self, clock: Clock, period_s: float = _PERIOD_S) -> None:
        self.clock = clock
        self.broker = Streams()
        self.uplink = uplink(self.broker)
        self.registry = CollectorRegistry()
        self.stop = asyncio.Event()
        self.surrender = Surrender(self.stop, 600.0)
        self.positions = {keys.alarms("g1"): "1-0", keys.downlink("g1"): "1-0"}
        self.failures = self.beats = 0
        self.canaries = Canaries(
            self.broker,
            "g1",
            self.uplink,
            GatewayMetrics(self.registry),
            self.surrender,
            partitions=_PARTITIONS,
            period_s=period_s,
            read_up_to=lambda: self.positions,
            read_failures=lambda: self.failures,
            beats=lambda: self.beats,
        )

    async def look(self, times: int = 4, *, fails: bool = False, beats: bool = True) -> str | None:
        """Looks, each a period after the one before; what is amiss after the last."""
        for _ in range(times):
            self.clock.now += _PERIOD_S
            self.failures += fails
            self.beats += beats
            await self.canaries.look()
        return self.canaries.problem

    def series(self, name: str) -> dict[str, float]:
        """The samples of a series, by partition."""
        return {
            sample.labels.get("partition", ""): sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == name
        }


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """With a clock of its own; afterwards nobody's end is awaited any more."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    yield Scene(clock)
    faulthandler.cancel_dump_traceback_later()


async def test_a_round_goes_to_every_partition_and_what_comes_back_is_timed(scene: Scene) -> None:
    """The last one is that of broadcasts; one that nobody knows is passed over."""
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(work) for work in (scene.uplink.run(), scene.canaries.run())]
        await asyncio.sleep(0)
        await scene.uplink.wait_written()
        for work in running:
            work.cancel()
    assert {stream for stream, _ in scene.broker.frames} == {keys.inbound(n) for n in range(_PARTITIONS + 1)}
    assert {frame for _, frame in scene.broker.frames} == {Canary(Origin("g1", ""), 1_000_000)}
    scene.clock.now += 0.5
    scene.canaries.heard(CanaryReply(3, 1_000_000))
    scene.canaries.heard(CanaryReply(99, 1_000_000))
    scene.clock.now += 2.0
    silent = scene.series("talowa_gateway_canary_silent_seconds")
    assert len(silent) == _PARTITIONS + 1
    assert (silent["3"], silent["16"]) == (2.0, 2.5)
    assert scene.series("talowa_gateway_canary_seconds_sum") == {"": 0.5}


async def test_silence_alone_is_nobodys_fault(scene: Scene) -> None:
    """All routers may be dead: it shows in the metric, and this gateway stays."""
    assert await scene.look(20) is None
    assert min(scene.series("talowa_gateway_canary_silent_seconds").values()) == 100.0
    assert not scene.stop.is_set()


@pytest.mark.parametrize(("stream", "name"), [(keys.downlink("g1"), "down"), (keys.alarms("g1"), "alarms")])
async def test_what_lies_unread_for_three_periods_is_not_going_to_be_read(scene: Scene, stream: str, name: str) -> None:
    """On either stream."""
    scene.broker.unread[stream] = [(b"5-0", {})]
    assert await scene.look(3) is None
    assert await scene.look(1) == f"the reader of {name} has stood still for three periods of CANARY_S"
    assert scene.surrender.reason == scene.canaries.problem


async def test_a_reader_that_gets_on_is_behind_and_not_deaf(scene: Scene) -> None:
    """However far."""
    for number in range(10):
        scene.broker.unread[keys.downlink("g1")] = [(f"{number}-0".encode(), {})]
        assert await scene.look(1) is None


async def test_a_reader_that_tries_and_fails_is_not_deaf(scene: Scene) -> None:
    """The broker answers others and not it: starting again would not mend that, and all gateways would."""
    scene.broker.unread[keys.downlink("g1")] = [(b"5-0", {})]
    assert await scene.look(10, fails=True) is None


async def test_an_uplink_that_tries_no_more_is_mute(scene: Scene) -> None:
    """Frames wait in it and the broker answers; one that tries, and is refused, is not."""
    scene.uplink.publish_canaries(Canary(Origin("g1", ""), 5))
    for _ in range(10):
        scene.uplink._producer._commit.tries += 1
        assert await scene.look(1) is None
    assert await scene.look(3) == "the uplink has stood still for three periods of CANARY_S"


async def test_a_heartbeat_that_stops_is_given_half_a_minute_more(scene: Scene) -> None:
    """A beat is several calls to a broker that may be slow."""
    assert await scene.look(9, beats=False) is None
    assert await scene.look(1, beats=False) == "the heartbeat has stood still for three periods of CANARY_S"


async def test_while_another_gives_itself_up_it_is_only_not_ready(scene: Scene) -> None:
    """Should all of them think that they hang, the cluster lives on; who gets on meanwhile stays."""
    scene.broker.may_give_up = False
    scene.broker.unread[keys.downlink("g1")] = [(b"5-0", {})]
    assert await scene.look(6)
    assert not scene.stop.is_set()
    scene.broker.unread.clear()
    assert await scene.look(1) is None


async def test_while_the_broker_is_away_nobody_is_accused(scene: Scene) -> None:
    """What was seen before counts no more."""
    scene.broker.unread[keys.downlink("g1")] = [(b"5-0", {})]
    await scene.look(3)
    scene.broker.is_away = True
    assert await scene.look(1) is None
    scene.broker.is_away = False
    assert await scene.look(3) is None
    assert await scene.look(1) is not None


async def test_without_a_period_there_are_no_canaries(scene: Scene) -> None:
    """Nor a series of how long none was heard."""
    idle = Scene(scene.clock, 0.0)
    async with asyncio.timeout(5):
        await idle.canaries.run()
    assert len(idle.uplink) == 0
    assert idle.series("talowa_gateway_canary_silent_seconds") == {}
