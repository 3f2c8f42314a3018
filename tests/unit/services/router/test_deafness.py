"""A router that hangs gives itself up, one of them at a time; one that waits does not."""

import asyncio
import faulthandler
from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from libs import cluster, keys
from libs.broker import Broker
from libs.deafness import Sight
from libs.lifecycle import Surrender
from services.router import deafness as module
from services.router.deafness import Watch

_PERIOD_S = 5.0


class Clock:
    """Tells the time it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now


class Scene:
    """A router whose loops turn, and whose store answers, as long as they are told to."""

    def __init__(self, broker: Any, clock: Clock, name: str = "r1") -> None:
        self.clock = clock
        self.stop = asyncio.Event()
        self.surrender = Surrender(self.stop, 600.0)
        self.turns = 0
        self.store_busy_s = 0.0
        self.watch = Watch(broker, name, self.surrender, self._sights, lambda: self.store_busy_s, period_s=_PERIOD_S)

    def _sights(self) -> dict[str, Sight]:
        return {"the reader of messages": Sight(self.turns)}

    async def look(self, times: int, *, moves: bool = False) -> str | None:
        """Looks, each a period after the one before; what is amiss after the last."""
        for _ in range(times):
            self.clock.now += _PERIOD_S
            self.turns += moves
            await self.watch.look()
        return self.watch.problem


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """The time of what is looked at; afterwards nobody's end is awaited any more."""
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    yield made
    faulthandler.cancel_dump_traceback_later()


async def test_who_turns_is_ready_and_stays(broker: Broker, clock: Clock) -> None:
    """For as long as it does."""
    scene = Scene(broker, clock)
    await scene.look(10, moves=True)
    assert (scene.watch.problem, scene.stop.is_set()) == (None, False)
    assert not await broker.command("EXISTS", keys.given_up("router"))


async def test_who_stands_still_is_not_ready_and_leaves(broker: Broker, clock: Clock) -> None:
    """After three periods, and says what stands still."""
    scene = Scene(broker, clock)
    assert await scene.look(3) is None
    assert await scene.look(1) == "the reader of messages has stood still for three periods of CANARY_S"
    assert scene.surrender.reason == scene.watch.problem
    assert scene.stop.is_set()


async def test_one_router_at_a_time_gives_itself_up(broker: Broker, clock: Clock) -> None:
    """The other is not ready, and goes when the first has had time to come back; or it moves again, and stays."""
    first, second = Scene(broker, clock), Scene(broker, Clock(), "r2")
    await first.look(4)
    second.clock = clock
    assert await second.look(5) is not None
    assert (first.stop.is_set(), second.stop.is_set()) == (True, False)
    assert await second.look(1, moves=True) is None
    await second.look(3)
    assert await broker.command("PTTL", keys.given_up("router")) > 0
    await broker.command("DEL", keys.given_up("router"))  # it lapses
    await second.look(1)
    assert second.stop.is_set()


async def test_gateways_and_routers_do_not_wait_for_each_other(broker: Broker) -> None:
    """They fail each for themselves."""
    assert [await cluster.may_give_up(broker, kind, "x") for kind in ("router", "gateway", "router", "gateway")] == [
        True,
        True,
        False,
        False,
    ]


async def test_who_waits_for_a_disk_is_let_be(broker: Broker, clock: Clock) -> None:
    """Its successor would wait for the same."""
    scene = Scene(broker, clock)
    scene.store_busy_s = 6.0
    await scene.look(10)
    assert (scene.watch.problem, scene.stop.is_set()) == (None, False)
    scene.store_busy_s = 0.0
    await scene.look(3)
    assert scene.stop.is_set()


async def test_who_leaves_already_does_not_give_itself_up(broker: Broker, clock: Clock) -> None:
    """It would leave as one that failed."""
    scene = Scene(broker, clock)
    scene.stop.set()
    await scene.look(5)
    assert scene.surrender.reason is None


async def test_while_the_broker_is_away_nobody_is_accused(clock: Clock) -> None:
    """Everything waits for it."""

    class Away:
        async def command(self, *_: Any) -> Any:
            raise RedisConnectionError

    scene = Scene(Away(), clock)
    scene.watch.problem = "before"
    assert await scene.look(10) is None
    assert not scene.stop.is_set()


async def test_without_a_period_nobody_looks(clock: Clock) -> None:
    """It is how to turn this off."""
    broker: Any = None
    watch = Watch(broker, "r1", Scene(broker, clock).surrender, dict, lambda: 0.0, period_s=0)
    async with asyncio.timeout(5):
        await watch.run()
