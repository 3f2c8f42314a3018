"""Send sockets to gateways that have few: on an operator's order, or by itself when the difference lasts.

The order lies in the broker for some minutes, and every gateway carries out its own part: what it holds too many is
sent away as a drain does it (`reconnect`, 1012), the most idle first, slowly. A socket that has not been here for a
while stays: it may have been sent here, and nobody is to be sent about twice.
"""

import asyncio
import heapq
import random
import secrets
import time
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from libs import figures, keys
from libs.broker import AWAY, Broker
from libs.wire.codes import Code, Refusal
from services.gateway import balance
from services.gateway.balance import Order
from services.gateway.drain import Drain, State
from services.gateway.metrics import GatewayMetrics
from services.gateway.returns import STAGE_S, Bound
from services.gateway.sessions import Sessions
from services.gateway.sessions import State as SessionState
from services.gateway.sockets import Server, Socket

log = structlog.get_logger(__name__)

_LOOK_S: Final = 2.0
# An order that is not carried out by then was made for a cluster that is no more.
_ORDER_TTL_MS: Final = 300_000
# So many looks in a row find a difference that is to be acted on without being asked.
_LOOKS: Final = 3
# An ingress that sends everyone back to where they were is not fought: looks that bring nothing become rarer.
_EVERY_MAX_S: Final = 3600.0

_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Order)


class Rebalance:
    """Gives orders, and carries out this gateway's part of them.

    `sign_ins_per_s` bounds all gateways together. A socket moves once it has been here for `rest_s`. `every_s`: how
    often to look by itself; 0: never.
    """

    def __init__(
        self,
        broker: Broker,
        gateway: str,
        server: Server,
        sessions: Sessions,
        drain: Drain,
        send_back: Callable[[Socket, float], None],
        metrics: GatewayMetrics,
        *,
        sign_ins_per_s: float,
        rest_s: float,
        every_s: float,
    ) -> None:
        self._broker = broker
        self._gateway = gateway
        self._server = server
        self._sessions = sessions
        self._drain = drain
        self._send_back = send_back
        self._moved = metrics.sent_back.labels("rebalance")
        self._sign_ins_per_s = sign_ins_per_s
        self._rest_s = rest_s
        self._every_s = every_s
        # The order that is being carried out, and how many were closed for it; one that is done is not taken up again.
        self._order: Order | None = None
        self._bound = Bound(0)
        self._closed = 0
        self._is_done = False
        # Looks in a row that found a difference, and when the next one is, by the monotonic clock.
        self._uneven = 0
        self._wait_s = every_s
        self._look_at = time.monotonic() + every_s

    async def ask(self) -> tuple[Order, dict[str, int]]:
        """Order that sockets be spread evenly; the order, and the gateways it is about. Raises `Refusal` and `AWAY`.

        One that is under way is replaced: asking twice is harmless.
        """
        if self._drain.is_leaving:
            raise Refusal(Code.UNAVAILABLE, "This gateway leaves. Ask another.")
        connections = balance.accepting(await figures.reported(self._broker))
        given = balance.order(connections, secrets.token_hex(4), self._sign_ins_per_s)
        if given.shares:
            await self._broker.command("SET", keys.rebalance(), _encoder.encode(given), "PX", _ORDER_TTL_MS)
            excess = {gateway: share.excess for gateway, share in given.shares.items()}
            log.info("sockets are to be spread evenly", target=given.target, excess=excess)
        return given, connections

    async def run(self) -> None:
        """Look for orders, and carry them out, until cancelled."""
        while True:
            began = time.monotonic()
            try:
                await self.look()
            except AWAY as error:
                log.warning("rebalance: the broker is away", error=type(error).__name__)
            await asyncio.sleep(max(STAGE_S, began + _LOOK_S - time.monotonic()))

    async def look(self) -> None:
        """Carry out the order there is, for a while; or see whether one is needed. Raises `AWAY`."""
        packed = await self._broker.command("GET", keys.rebalance())
        given = None if packed is None else _read(packed)
        if given is not None:
            self._uneven = 0
            await self._carry_out(given)
        elif self._every_s and time.monotonic() >= self._look_at:
            await self._consider()
            self._look_at = time.monotonic() + self._wait_s

    async def _consider(self) -> None:
        """One gateway looks for all of them; two that both think so do no harm."""
        connections = balance.accepting(await figures.reported(self._broker))
        if self._gateway != min(connections, default=""):
            self._uneven = 0
        elif balance.is_even(connections, balance.share_of(connections)):
            self._uneven, self._wait_s = 0, self._every_s
        else:
            self._uneven += 1
            if self._uneven >= _LOOKS:
                self._uneven, self._wait_s = 0, min(2 * self._wait_s, _EVERY_MAX_S)
                await self.ask()

    async def _carry_out(self, given: Order) -> None:
        share = given.shares.get(self._gateway)
        if share is None:
            return
        if self._order is None or self._order.number != given.number:
            self._order, self._bound, self._closed = given, Bound(share.sign_ins_per_s), 0
            self._is_done = False
        if self._is_done or self._drain.state is not State.ACCEPTING:
            return
        connections = balance.accepting(await figures.reported(self._broker))
        if self._is_over(given, connections):
            self._is_done = True
            log.info("sockets are spread evenly", closed=self._closed)
            return
        until = time.monotonic() + _LOOK_S
        movable = self._movable(self._left(given, connections))
        while movable and self._drain.state is State.ACCEPTING and time.monotonic() < until:
            count = self._bound.next(min(len(movable), self._left(given, connections)))
            for socket in movable[:count]:
                self._send_back(socket, self._bound.back_after_s(0, count, random.random()))  # noqa: S311 - jitter
            self._closed += count
            self._moved.inc(count)
            del movable[:count]
            await asyncio.sleep(STAGE_S)

    def _left(self, given: Order, connections: dict[str, int]) -> int:
        own = len(self._server.sockets)
        return balance.left_to_close(given, self._gateway, connections, own, self._closed)

    def _is_over(self, given: Order, connections: dict[str, int]) -> bool:
        """For good: near enough, or as many sent away as it takes. Who is at its share may get others back."""
        is_spent = self._closed >= given.shares[self._gateway].excess * len(connections)
        return is_spent or balance.is_even(connections, given.target)

    def _movable(self, count: int) -> list[Socket]:
        """So many of those who have been here for a while and have all that was due to them, the most idle first."""
        latest = time.monotonic() - self._rest_s
        settled = []
        for socket in self._server.sockets.values():
            session = self._sessions.by_socket(socket.id)
            if session is not None and session.state is SessionState.LIVE and session.since <= latest:
                settled.append(socket)
        return heapq.nsmallest(count, settled, key=lambda socket: socket.active_at)


def _read(packed: bytes) -> Order | None:
    try:
        return _decoder.decode(packed)
    except msgspec.DecodeError:
        log.warning("an order that this version does not read")
        return None
