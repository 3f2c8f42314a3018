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


@asynccontextmanager
async def running(limiter: FakeLimiter, *, connects: int = 100, sign_ins: int = 100) -> AsyncIterator[Turnstile]:
    made = Turnstile(limiter, GatewayMetrics(CollectorRegistry()), connects=connects, sign_ins=sign_ins)
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


async def test_those_who_come_while_the_broker_counts_share_the_next_round_trip() -> None:
    """A thousand at once after a gateway died: the first alone, the others a few hundred at a time."""
    limiter = FakeLimiter()
    async with running(limiter, connects=5000) as gate:
        assert await asyncio.gather(*(gate.connect(f"a{number}") for number in range(1200))) == [0] * 1200
    assert sum(map(len, limiter.trips)) == 1200
    assert len(limiter.trips) <= 4


async def test_a_broker_that_is_away_keeps_nobody_out() -> None:
    """It says so at once, or says nothing for a moment; or there are too many to count."""
    limiter = FakeLimiter()
    limiter.is_away = True
    async with running(limiter, connects=1) as gate:
        assert [await gate.connect("a") for _ in range(3)] == [0, 0, 0]
        limiter.goes_on.clear()
        assert await gate.connect("a") == 0


async def test_who_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it, nobody is counted."""
    monkeypatch.setattr(turnstile, "_WAITING_MAX", 2)
    gate = Turnstile(FakeLimiter(), GatewayMetrics(CollectorRegistry()), connects=1, sign_ins=1)  # nobody runs it
    async with asyncio.TaskGroup() as tasks:
        held = [tasks.create_task(gate.connect("a")) for _ in range(2)]
        await asyncio.sleep(0)
        async with asyncio.timeout(0.2):
            assert await gate.connect("a") == 0
        assert not any(task.done() for task in held)


async def test_without_a_limit_or_an_address_nothing_is_asked() -> None:
    """0 is any number; a peer on a local socket has no address."""
    limiter = FakeLimiter()
    async with running(limiter, connects=0, sign_ins=3) as gate:
        assert await gate.connect("a") == 0
        await gate.sign_in("")
    assert limiter.trips == []
