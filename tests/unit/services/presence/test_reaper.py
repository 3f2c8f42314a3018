"""The reaper's turn: who is reaped, whose downlink is dropped, and what it says of itself."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from redis.exceptions import ConnectionError as RedisConnectionError

from libs import keys
from services.presence import reaper as module
from services.presence.metrics import PresenceMetrics
from services.presence.reaper import Reaper

BOUND = 1000


class FakeDirectory:
    """Who lives and who lapsed, in sets."""

    def __init__(self) -> None:
        self.names = {"g1", "g2"}
        self.gone: dict[str, int] = {}
        self.reaped: list[str] = []
        self.is_away = False

    async def live(self) -> frozenset[str]:
        return frozenset(self.names)

    async def lapsed(self) -> frozenset[str]:
        if self.is_away:
            raise RedisConnectionError
        return frozenset(self.gone)

    async def reap(self, gateway: str) -> int:
        self.reaped.append(gateway)
        return self.gone.pop(gateway)


class FakeBroker:
    """The lengths of downlinks, and what was asked for."""

    def __init__(self) -> None:
        self.lengths: dict[str, int | Exception] = {}
        self.commands: list[tuple[Any, ...]] = []

    async def command(self, *command: Any) -> int:
        self.commands.append(command)
        return 1

    async def batch(self, commands: list[tuple[Any, ...]]) -> list[int | Exception]:
        assert all(name == "XLEN" for name, _ in commands)
        return [self.lengths.get(key, 0) for _, key in commands]


class Watch:
    """A reaper with its fakes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.directory = FakeDirectory()
        self.broker = FakeBroker()
        self.reaper = Reaper(
            self.broker,  # type: ignore[arg-type]
            self.directory,  # type: ignore[arg-type]
            PresenceMetrics(self.registry),
            downlink_max_entries=BOUND,
        )

    def value(self, series: str) -> float | None:
        return self.registry.get_sample_value(f"talowa_presence_{series}")


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def watch() -> Watch:
    return Watch()


async def test_nobody_is_reaped_while_all_live(watch: Watch) -> None:
    """A quiet turn takes nothing from anyone."""
    await watch.reaper.turn()
    assert watch.directory.reaped == []
    assert watch.broker.commands == []
    assert watch.value("gateways") == 2


async def test_a_lapsed_gateway_is_reaped(watch: Watch, clock: Clock) -> None:
    """Once: its seats are counted."""
    watch.directory.gone = {"g3": 120, "g4": 3}
    await watch.reaper.turn()
    clock.now += module._GRACE_S
    await watch.reaper.turn()
    await watch.reaper.turn()
    assert sorted(watch.directory.reaped) == ["g3", "g4"]
    assert watch.value("gateways_reaped_total") == 2
    assert watch.value("seats_reaped_total") == 123


async def test_a_gateway_that_lapsed_has_a_while_to_beat_again(watch: Watch, clock: Clock) -> None:
    """It was not heard because the broker was away, perhaps; who beats in time is not reaped later for it."""
    watch.directory.gone = {"g3": 1}
    await watch.reaper.turn()
    clock.now += module._GRACE_S - 0.1
    await watch.reaper.turn()
    watch.directory.gone = {}
    await watch.reaper.turn()
    watch.directory.gone = {"g3": 1}
    clock.now += module._GRACE_S
    await watch.reaper.turn()
    assert watch.directory.reaped == []


async def test_a_downlink_nobody_reads_is_dropped_whole(watch: Watch) -> None:
    """Beyond the bound, and not at it; the others' are left."""
    watch.broker.lengths = {keys.downlink("g1"): BOUND + 1, keys.downlink("g2"): BOUND}
    await watch.reaper.turn()
    assert watch.broker.commands == [("DEL", keys.downlink("g1"))]
    assert watch.value("downlinks_dropped_total") == 1


async def test_broadcasts_nobody_takes_are_dropped_whole_too(watch: Watch) -> None:
    """They are due; the gateway makes the stream anew when it lives."""
    watch.broker.lengths = {keys.alarms("g1"): BOUND + 1, keys.alarms("g2"): BOUND}
    await watch.reaper.turn()
    assert watch.broker.commands == [("DEL", keys.alarms("g1"))]


async def test_a_downlink_that_cannot_be_measured_is_left(watch: Watch) -> None:
    """An error of one command stands in its place; the next downlink is judged all the same."""
    watch.broker.lengths = {keys.downlink("g1"): RedisConnectionError(), keys.downlink("g2"): BOUND + 1}
    await watch.reaper.turn()
    assert watch.broker.commands == [("DEL", keys.downlink("g2"))]


async def test_presence_is_ready_as_long_as_it_looks(watch: Watch, clock: Clock) -> None:
    """Not before its first look, and not when the last is too long ago."""
    problems = [watch.reaper.problem]
    await watch.reaper.turn()
    problems.append(watch.reaper.problem)
    clock.now += module._STALE_S
    problems.append(watch.reaper.problem)
    assert problems == ["the broker does not answer", None, "the broker does not answer"]


class Over(Exception):
    """A test has seen enough."""


async def test_what_lapsed_while_the_broker_was_away_gets_its_time(
    watch: Watch, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop goes on when the broker is away; then all names have lapsed, and who lives beats again soon."""
    reaped_at: list[tuple[float, list[str]]] = []

    async def sleep(duration_s: float) -> None:
        clock.now += duration_s
        reaped_at.append((clock.now, list(watch.directory.reaped)))
        watch.directory.is_away = clock.now == 1003.0
        if watch.directory.reaped:
            raise Over

    watch.directory.gone = {"g3": 1}
    monkeypatch.setattr(f"{module.__name__}.asyncio.sleep", sleep)
    with pytest.raises(Over):
        await watch.reaper.run()
    # Seen at 1000, away at 1003, seen anew at 1004, reaped three seconds after that.
    assert reaped_at[-1] == (1004.0 + module._GRACE_S + 1.0, ["g3"])
