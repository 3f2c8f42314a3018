"""Empty this gateway without a stampede, and perhaps take sockets again.

    accepting ──stop──▶ draining ──all closed──▶ drained
        ▲──────────start──────┴──────────start──────┘

Sockets are closed in stages of equal size, spread over a window, the most idle first. The window stretches until no
more are closed a second than may sign in elsewhere (`returns.py`). Each client is told when to be back (`reconnect`),
then closed with 1012, which brings it back within a second or two if it does not listen. A drained gateway keeps
its name and its downlink, so that it can be started again; who leaves for good says so (`leave`), and may be
killed: when its time is over, the rest are closed at once, each with a time of its own to be back.
"""

import asyncio
import math
import random
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from enum import StrEnum
from typing import Any, Final

import structlog

from libs.broker import AWAY
from libs.wire.codes import Code, Refusal
from services.gateway.bridge import Bridge
from services.gateway.confirmations import Confirmations
from services.gateway.heartbeat import Heartbeat
from services.gateway.metrics import GatewayMetrics
from services.gateway.returns import STAGE_S, Bound
from services.gateway.sockets import Server, Socket
from services.gateway.uplink import Uplink

log = structlog.get_logger(__name__)

# What is said last: the close frames' answers, the uplink's last write, the seats.
_FAREWELL_S: Final = 3.0


class State(StrEnum):
    """Whether this gateway takes sockets."""

    ACCEPTING = "accepting"
    DRAINING = "draining"
    DRAINED = "drained"


class Drain:
    """Stops and starts this gateway.

    `send_back` closes a socket whose client is to be back in so many seconds; `spawn` makes a task of the gateway's
    own group.
    """

    def __init__(
        self,
        server: Server,
        bridges: Collection[Bridge],
        heartbeat: Heartbeat,
        send_back: Callable[[Socket, float], None],
        metrics: GatewayMetrics,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        *,
        sign_ins_per_s: float,
    ) -> None:
        self._server = server
        self._bridges = bridges
        self._heartbeat = heartbeat
        self._send_back = send_back
        self._spawn = spawn
        self._bound = Bound(sign_ins_per_s)
        self._drained, self._hurried = (metrics.sent_back.labels(why) for why in ("drain", "deadline"))
        self._closing: asyncio.Task[None] | None = None
        # When the last socket is to have been closed, and when it must have been, by the monotonic clock.
        self._ends_at = 0.0
        self._deadline = math.inf
        self.is_leaving = False
        self.state = State.ACCEPTING

    @property
    def _open(self) -> list[Socket | Bridge]:
        connections: list[Socket | Bridge] = [*self._server.sockets.values(), *self._bridges]
        return [one for one in connections if not one.closed]

    @property
    def problem(self) -> str | None:
        """Why this gateway is not ready, if it is not."""
        match self.state:
            case State.ACCEPTING:
                return None
            case State.DRAINING:
                return "this gateway closes its sockets and takes no new ones"
            case State.DRAINED:
                return "this gateway was stopped; POST /start has it take sockets again"

    def stop(self, window_s: float) -> tuple[int, float]:
        """Take nobody new, and close every socket within `window_s`, or as soon as they may sign in elsewhere.

        Gives how many sockets are left to close, and in how many seconds they will be. A drain under way can be
        hastened by asking again, not put off: asking twice is harmless.
        """
        now = time.monotonic()
        self._server.accept(is_accepting=False)
        self._heartbeat.is_draining = True
        if self.state is not State.DRAINING:
            self.state = State.DRAINING
            self._ends_at = now + window_s
            self._closing = self._spawn(self._close_all())
            log.info("draining", sockets=len(self._open), window_s=window_s)
        self._ends_at = min(self._ends_at, now + window_s)
        left = len(self._open)
        return left, max(0.0, self._ends_at - now, self._bound.takes_s(left))

    def start(self) -> int:
        """Take sockets again; those that were not closed yet stay. Gives how many. Raises `Refusal` when leaving."""
        if self.is_leaving:
            raise Refusal(Code.UNAVAILABLE, "This gateway leaves for good. Start a new one.")
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
            log.info("accepting", sockets=len(self._open))
        self.state = State.ACCEPTING
        self._heartbeat.is_draining = False
        self._server.accept(is_accepting=True)
        return len(self._open)

    async def leave(self, confirmations: Confirmations, uplink: Uplink, window_s: float, deadline_s: float) -> None:
        """Empty this gateway for good and say goodbye. Returns when that is done, or when there is no more time.

        What is not closed after `deadline_s` is then closed at once.
        """
        self.is_leaving = True
        self._deadline = time.monotonic() + deadline_s
        self.stop(window_s)
        if self._closing is not None:
            await self._closing
        try:
            async with asyncio.timeout(_FAREWELL_S):
                await self._server.engine.wait_silent()
                confirmations.flush()
                await uplink.wait_written()
                await self._heartbeat.leave()
        except (TimeoutError, *AWAY) as error:
            log.warning("left without a farewell: presence will clear up", error=type(error).__name__)

    def _untold(self, told: Collection[Socket | Bridge]) -> list[Socket | Bridge]:
        return most_idle_first([one for one in self._open if one not in told])

    async def _close_all(self) -> None:
        left = most_idle_first(self._open)
        told: set[Socket | Bridge] = set()
        # Bridges may come meanwhile: the last look is at who is open then.
        while left := [socket for socket in left if not socket.closed] or self._untold(told):
            now = time.monotonic()
            if is_late := now >= self._deadline:
                log.warning("no time is left: the rest are closed at once", sockets=len(left))
            count = len(left) if is_late else self._bound.next(len(left), self._ends_at - now)
            self._close(left[:count], is_late=is_late)
            told.update(left[:count])
            del left[:count]
            await asyncio.sleep(STAGE_S)
        self.state = State.DRAINED
        log.info("drained")

    def _close(self, sockets: Sequence[Socket | Bridge], *, is_late: bool) -> None:
        # Whoever is in the middle of something is back first.
        for place, socket in zip(reversed(range(len(sockets))), sockets, strict=True):
            chance = random.random()  # noqa: S311 - jitter, not a secret
            after_s = self._bound.back_after_s(place if is_late else 0, len(sockets), chance)
            if isinstance(socket, Bridge):
                socket.send_back(after_s)
            else:
                self._send_back(socket, after_s)
        (self._hurried if is_late else self._drained).inc(len(sockets))


def most_idle_first(sockets: Sequence[Socket | Bridge]) -> list[Socket | Bridge]:
    """Whoever is in the middle of something is closed last."""
    return sorted(sockets, key=lambda socket: socket.active_at)
