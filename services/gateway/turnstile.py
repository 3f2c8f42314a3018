"""How many connections and sign-ins an address may make in a sliding minute, over all gateways.

Many addresses come at once when a gateway has died: what is asked while the broker counts shares the next round
trip. Who was told when to come back and comes before is told again, and the broker is not asked: an attack costs it
nothing more. A broker that does not answer keeps nobody out.
"""

import asyncio
import math
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
# Addresses that are known to be over a limit. Beyond it all are forgotten, and the broker says so again.
_KNOWN_MAX: Final = 10_000


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
        # Until when a limit keeps an address out, by the loop's clock.
        self._out_until: dict[tuple[str, str], float] = {}

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
            for (take, told), wait_ms in zip(waiting, waits, strict=True):
                if wait_ms > 0:
                    self._keep_out(take, wait_ms)
                if not told.done():
                    told.set_result(wait_ms)

    def _keep_out(self, take: Take, wait_ms: int) -> None:
        if len(self._out_until) >= _KNOWN_MAX:
            self._out_until.clear()
        self._out_until[take.limit, take.whose] = self._loop.time() + wait_ms / 1000

    def _left_ms(self, limit: str, address: str) -> int:
        """How long an address is kept out that the broker has been asked about before."""
        until = self._out_until.get((limit, address))
        if until is None:
            return 0
        left_ms = math.ceil((until - self._loop.time()) * 1000)
        if left_ms <= 0:
            del self._out_until[limit, address]
        return max(0, left_ms)

    async def _count(self, limit: str, address: str, most: int) -> int:
        if left_ms := self._left_ms(limit, address):
            return left_ms
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
