"""Who comes is counted by address, many in one round trip, and nobody waits for a broker that is away."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry
from redis import exceptions

from libs.limits import Limiter, Take
from libs.wire.codes import Code, Refusal
from services.gateway import turnstile
from services.gateway.metrics import GatewayMetrics
from services.gateway.turnstile import Turnstile
from tests.unit.services.gateway.fakes import FakeWheel


class FakeLimiter(Limiter):
    """Takes as many as a limit says of each; remembers its round trips."""

    def __init__(self) -> None:
        self.trips: list[list[Take]] = []
        self.is_away = False
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def take(self, takes: Sequence[Take]) -> list[int]:
        """One round trip."""
        self.trips.append(list(takes))
        await self.goes_on.wait()
        if self.is_away:
            raise exceptions.ConnectionError
        return [self._wait_ms(take) for take in takes]

    def _wait_ms(self, take: Take) -> int:
        alike = {t.member for trip in self.trips for t in trip if (t.limit, t.whose) == (take.limit, take.whose)}
        return 0 if len(alike) <= take.most else 1500


async def _turn() -> None:
    """What was asked of the loop is done, and what that asked of it."""
    for _ in range(5):
        await asyncio.sleep(0)


@asynccontextmanager
async def running(
    limiter: FakeLimiter, wheel: FakeWheel | None = None, *, connects: int = 100, sign_ins: int = 100
) -> AsyncIterator[Turnstile]:
    metrics = GatewayMetrics(CollectorRegistry())
    made = Turnstile(limiter, metrics, wheel or FakeWheel(), connects=connects, sign_ins=sign_ins)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        work = tasks.create_task(made.run())
        yield made
        work.cancel()


async def test_what_is_over_a_limit_is_told_when_to_come_back() -> None:
    """A connection by a number, a sign-in by a refusal; each limit is counted apart."""
    async with running(FakeLimiter(), connects=1, sign_ins=1) as gate:
        assert [await gate.connect("a"), await gate.connect("a"), await gate.connect("b")] == [0, 1500, 0]
        await gate.sign_in("a")
        with pytest.raises(Refusal) as refused:
            await gate.sign_in("a")
        assert (refused.value.code, refused.value.retry_after_ms) == (Code.RATE_LIMITED, 1500)


async def test_who_was_told_when_to_come_back_is_told_again_without_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then; the other limit and other addresses are asked about, and what is kept of whom is bounded."""
    monkeypatch.setattr(turnstile, "_KNOWN_MAX", 2)
    limiter = FakeLimiter()
    async with running(limiter, connects=1, sign_ins=1) as gate:
        assert [await gate.connect("a"), await gate.connect("a")] == [0, 1500]
        trips = len(limiter.trips)
        assert 0 < await gate.connect("a") <= 1500
        assert len(limiter.trips) == trips
        await gate.sign_in("a")
        assert await gate.connect("b") == 0
        assert len(limiter.trips) == trips + 2
        gate._out_until["connects", "a"] = asyncio.get_running_loop().time()
        assert await gate.connect("a") == 1500
        assert len(limiter.trips) == trips + 3
        for address in "bcd":
            await gate.connect(address)
            await gate.connect(address)
        assert len(gate._out_until) <= 2


async def test_those_who_come_while_the_broker_counts_share_the_next_round_trip() -> None:
    """A thousand at once after a gateway died: the first alone, the others a few hundred at a time."""
    limiter = FakeLimiter()
    async with running(limiter, connects=5000) as gate:
        assert await asyncio.gather(*(gate.connect(f"a{number}") for number in range(1200))) == [0] * 1200
    assert sum(map(len, limiter.trips)) == 1200
    assert len(limiter.trips) <= 4


async def test_a_broker_that_is_away_keeps_nobody_out() -> None:
    """Where it says so, at once."""
    limiter = FakeLimiter()
    limiter.is_away = True
    async with running(limiter, connects=1) as gate:
        assert [await gate.connect("a") for _ in range(3)] == [0, 0, 0]


async def test_a_broker_that_says_nothing_keeps_nobody_out() -> None:
    """Not those that it is asked about, not those that wait for their turn, nor any who come later."""
    limiter, wheel = FakeLimiter(), FakeWheel()
    limiter.goes_on.clear()
    async with running(limiter, wheel, connects=1) as gate, asyncio.TaskGroup() as tasks:
        for many in (1, 2, 1200, 3, 1):
            held = [tasks.create_task(gate.connect("a")) for _ in range(many)]
            await _turn()
            assert not any(task.done() for task in held)
            wheel.turn(0.25)
            late = [tasks.create_task(gate.connect("a")) for _ in range(2)]
            await _turn()
            wheel.turn(0.5)
            await _turn()
            assert [task.result() for task in (*held, *late)] == [0] * (many + 2)


async def test_who_comes_behind_those_that_are_too_many_for_a_round_trip_is_not_kept_out() -> None:
    """Some of them are asked about, the broker falls silent, and somebody joins the rest."""
    limiter, wheel = FakeLimiter(), FakeWheel()
    async with running(limiter, wheel, connects=1) as gate, asyncio.TaskGroup() as tasks:
        limiter.goes_on.clear()
        held = [tasks.create_task(gate.connect("a")) for _ in range(700)]
        await _turn()
        wheel.turn(0.4)
        held.append(tasks.create_task(gate.connect("a")))
        await _turn()
        wheel.turn(0.5)
        await _turn()
        assert all(task.done() for task in held)


async def test_those_who_wait_together_share_one_time_out() -> None:
    """Ten thousand come at once when a gateway has died."""
    wheel = FakeWheel()
    gate = Turnstile(FakeLimiter(), GatewayMetrics(CollectorRegistry()), wheel, connects=1, sign_ins=1)
    async with asyncio.TaskGroup() as tasks:
        held = [tasks.create_task(gate.connect("a")) for _ in range(1_000)]
        await _turn()
        assert wheel.pending == 1
        wheel.turn(0.5)
    assert [task.result() for task in held] == [0] * 1_000


async def test_who_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it, nobody is counted."""
    monkeypatch.setattr(turnstile, "_WAITING_MAX", 2)
    wheel = FakeWheel()  # and nobody runs the gate
    gate = Turnstile(FakeLimiter(), GatewayMetrics(CollectorRegistry()), wheel, connects=1, sign_ins=1)
    async with asyncio.TaskGroup() as tasks:
        held = [tasks.create_task(gate.connect("a")) for _ in range(2)]
        await _turn()
        async with asyncio.timeout(1):
            assert await gate.connect("a") == 0
        assert not any(task.done() for task in held)
        wheel.turn(0.5)


async def test_without_a_limit_or_an_address_nothing_is_asked() -> None:
    """0 is any number; a peer on a local socket has no address."""
    limiter = FakeLimiter()
    async with running(limiter, connects=0, sign_ins=3) as gate:
        assert await gate.connect("a") == 0
        await gate.sign_in("")
    assert limiter.trips == []
