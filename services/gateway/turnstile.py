"""How many connections and sign-ins an address may make in a sliding minute, over all gateways.

Many addresses come at once when a gateway has died: what is asked while the broker counts shares the next round
trip. A broker that does not answer keeps nobody out.
"""

import asyncio
import secrets
from functools import partial
from itertools import count
from typing import Final

import structlog

from libs.broker import AWAY
from libs.limits import Limiter, Take
from libs.wheel import Wheel
from libs.wire.codes import Code, Refusal
from services.gateway.metrics import GatewayMetrics

log = structlog.get_logger(__name__)

# Longer nobody waits to be counted.
_PATIENCE_S: Final = 0.5
_WAITING_MAX: Final = 10_000
_A_ROUND_TRIP: Final = 500
_NAME_BYTES: Final = 6


class Turnstile:
    """Counts who comes."""

    def __init__(
        self, limiter: Limiter, metrics: GatewayMetrics, wheel: Wheel, *, connects: int, sign_ins: int
    ) -> None:
        self._limiter = limiter
        self._metrics = metrics
        self._connects = connects
        self._sign_ins = sign_ins
        self._loop = asyncio.get_running_loop()
        self._wheel = wheel
        # Nobody is counted twice for one attempt: each has a name that no other has.
        self._name = secrets.token_urlsafe(_NAME_BYTES)
        self._numbers = count()
        self._waiting: list[tuple[Take, asyncio.Future[int]]] = []
        # Those that share a time-out: who came since the broker was asked last, or since the one before ended.
        self._together: list[asyncio.Future[int]] | None = None
        self._wake = asyncio.Event()

    async def connect(self, address: str) -> int:
        """A new connection: 0 to let it in, else the milliseconds until it may be tried again."""
        wait_ms = await self._count("connects", address, self._connects)
        if wait_ms > 0:
            self._metrics.refusals.labels(Code.RATE_LIMITED.value).inc()
        return wait_ms

    async def sign_in(self, address: str) -> None:
        """An attempt to sign in. Raises `Refusal` with `rate_limited`."""
        wait_ms = await self._count("sign_ins", address, self._sign_ins)
        if wait_ms > 0:
            self._metrics.sign_ins.labels(Code.RATE_LIMITED.value).inc()
            raise Refusal(Code.RATE_LIMITED, retry_after_ms=wait_ms)

    async def run(self) -> None:
        """Count until cancelled."""
        while True:
            await self._wake.wait()
            waiting, self._waiting = self._waiting[:_A_ROUND_TRIP], self._waiting[_A_ROUND_TRIP:]
            self._together = None
            if not self._waiting:
                self._wake.clear()
            try:
                waits = await self._limiter.take([take for take, _ in waiting])
            except AWAY as error:
                log.warning("nobody is counted: the broker is away", error=type(error).__name__)
                waits = [0] * len(waiting)
            for (_, told), wait_ms in zip(waiting, waits, strict=True):
                if not told.done():
                    told.set_result(wait_ms)

    async def _count(self, limit: str, address: str, most: int) -> int:
        if not most or not address or len(self._waiting) >= _WAITING_MAX:
            return 0
        told: asyncio.Future[int] = self._loop.create_future()
        if self._together is None:
            self._together = []
            self._wheel.after(_PATIENCE_S, partial(self._let_in, self._together))
        self._together.append(told)
        self._waiting.append((Take(limit, address, f"{self._name}{next(self._numbers)}".encode(), most), told))
        self._wake.set()
        return await told

    def _let_in(self, together: list[asyncio.Future[int]]) -> None:
        if self._together is together:
            self._together = None
        for told in together:
            if not told.done():
                told.set_result(0)
