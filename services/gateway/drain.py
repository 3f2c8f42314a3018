"""Empty this gateway without a stampede, and perhaps take sockets again.

    accepting ──stop──▶ draining ──all closed──▶ drained
        ▲──────────start──────┴──────────start──────┘

Sockets are closed in stages of equal size, spread over a window, the most idle first; each with 1012, which
brings its client back within a second or two, to another gateway. A drained gateway keeps its name and its
downlink, so that it can be started again; who leaves for good says so (`leave`).
"""

import asyncio
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
from services.gateway.sockets import Server, Socket
from services.gateway.uplink import Uplink

log = structlog.get_logger(__name__)

_STAGE_S: Final = 0.1
# Shares add up to whole sockets but for this much.
_ROUNDING: Final = 1e-6
# What is said last: the close frames' answers, the uplink's last write, the seats.
_FAREWELL_S: Final = 3.0


class State(StrEnum):
    """Whether this gateway takes sockets."""

    ACCEPTING = "accepting"
    DRAINING = "draining"
    DRAINED = "drained"


class Drain:
    """Stops and starts this gateway. `spawn` makes a task of the gateway's own group."""

    def __init__(
        self,
        server: Server,
        bridges: Collection[Bridge],
        heartbeat: Heartbeat,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._server = server
        self._bridges = bridges
        self._heartbeat = heartbeat
        self._spawn = spawn
        self._closing: asyncio.Task[None] | None = None
        # When the last socket will have been closed, by the monotonic clock.
        self._ends_at = 0.0
        self._is_leaving = False
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
        """Take nobody new, and close every socket within `window_s`.

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
        return len(self._open), max(0.0, self._ends_at - now)

    def start(self) -> int:
        """Take sockets again; those that were not closed yet stay. Gives how many. Raises `Refusal` when leaving."""
        if self._is_leaving:
            raise Refusal(Code.UNAVAILABLE, "This gateway leaves for good. Start a new one.")
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
            log.info("accepting", sockets=len(self._open))
        self.state = State.ACCEPTING
        self._heartbeat.is_draining = False
        self._server.accept(is_accepting=True)
        return len(self._open)

    async def leave(self, confirmations: Confirmations, uplink: Uplink, window_s: float) -> None:
        """Empty this gateway for good and say goodbye. Returns when that is done, or when there is no more time."""
        self._is_leaving = True
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
        quota = 0.0
        # Bridges may come meanwhile: the last look is at who is open then.
        while left := [socket for socket in left if not socket.closed] or self._untold(told):
            quota += share(len(left) - quota, self._ends_at - time.monotonic())
            count = int(quota + _ROUNDING)
            quota -= count
            for socket in left[:count]:
                socket.close_for_retry()
            told.update(left[:count])
            del left[:count]
            await asyncio.sleep(_STAGE_S)
        self.state = State.DRAINED
        log.info("drained")


def most_idle_first(sockets: Sequence[Socket | Bridge]) -> list[Socket | Bridge]:
    """Whoever is in the middle of something is closed last."""
    return sorted(sockets, key=lambda socket: socket.active_at)


def share(sockets: float, left_s: float) -> float:
    """How many to close in this stage, so that all are of equal size and the last one ends in `left_s`."""
    return sockets * min(1.0, _STAGE_S / max(left_s, _STAGE_S))
