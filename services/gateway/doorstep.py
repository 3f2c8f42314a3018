"""HTTP connections that keep the gateway waiting: they are closed, and one address keeps only so many idle.

aiohttp waits an hour for the first request of a connection, and for ever for the rest of a body or for somebody to
read an answer: a thousand such connections cost their owner nothing, and a gateway its files. What became a WebSocket
is not here any more: pings find out about that one.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from services.gateway import addresses

# How often they are looked at; who has been idle for less is on his way.
_LOOK_S: Final = 1.0
# What is left of a body that was refused is read for so long, for the answer to be heard; aiohttp has 10.
_LINGER_S: Final = 2.0
# Of 8 KB at most each. Browsers and proxies send twenty; aiohttp takes twice as many.
_HEADERS: Final = 64


class Wait(Enum):
    """What a connection is waited for; the value is the label of what was closed for it."""

    FIRST_HEAD = "head"
    NEXT_HEAD = "idle"
    BODY = "body"
    READER = "answer"


def waited_for(http: RequestHandler) -> Wait | None:
    """What a connection keeps us waiting for, None while we are at work for it, or it is a poll."""
    request = http._current_request  # noqa: SLF001 - aiohttp gives its state no other names, here and below
    if request is not None:
        return None if request.content.is_eof() else Wait.BODY
    if http._request_in_progress:  # noqa: SLF001
        return Wait.READER
    return Wait.NEXT_HEAD if http._request_count else Wait.FIRST_HEAD  # noqa: SLF001


class Http(RequestHandler):
    """aiohttp's, but for what is answered to what is no HTTP: not its own words, which may be somebody's token."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what aiohttp could not read, or we could not answer."""
        return super().handle_error(request, status, exc, message and "This is no request.")


class Doorstep:
    """Of the socket port. `closed` is told why, for each connection that is closed here.

    What comes from `trusted` proxies is not counted by address: they hold connections for whom they like.
    """

    def __init__(
        self,
        trusted: Sequence[addresses.Network],
        closed: Callable[[str], None],
        *,
        request_timeout_s: float,
        keep_alive_s: float,
        answer_timeout_s: float,
        idle_per_address: int,
    ) -> None:
        self._trusted = trusted
        self._closed = closed
        self._patience_s = {
            Wait.FIRST_HEAD: request_timeout_s,
            Wait.BODY: request_timeout_s,
            Wait.READER: answer_timeout_s,
        }
        self._idle_per_address = idle_per_address
        # For the server that is watched. aiohttp closes who is idle between requests.
        self.options: Mapping[str, Any] = {
            "keepalive_timeout": keep_alive_s,
            "lingering_time": min(_LINGER_S, request_timeout_s),
            "max_headers": _HEADERS,
        }
        # Connections so far.
        self.arrived = 0
        self._server: web.Server | None = None
        # Since when each has been waited for, by the monotonic clock; and at which request that was.
        self._since: dict[RequestHandler, tuple[Wait, int, float]] = {}

    def watch(self, server: web.Server) -> Callable[[], asyncio.BaseProtocol]:
        """Watch a server's connections; makes the protocol of each."""
        self._server = server
        loop = asyncio.get_running_loop()

        def arrive() -> Http:
            self.arrived += 1
            return Http(server, loop=loop, **server._kwargs)  # noqa: SLF001 - as the server would make its own

        return arrive

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            self.look(time.monotonic())

    def look(self, now: float) -> None:
        """Close who is waited for too long."""
        before, self._since = self._since, {}
        idle: dict[str, list[tuple[float, RequestHandler]]] = {}
        for http in self._server.connections if self._server is not None else ():
            wait = waited_for(http)
            if wait is None:
                continue
            number = http._request_count  # noqa: SLF001
            since = now
            if (known := before.get(http)) is not None and known[:2] == (wait, number):
                since = known[2]
            if now - since > self._patience_s.get(wait, now):
                self._close(http, wait.value)
                continue
            self._since[http] = wait, number, since
            if wait in (Wait.FIRST_HEAD, Wait.NEXT_HEAD) and now - since >= _LOOK_S and (whose := self._whose(http)):
                idle.setdefault(whose, []).append((since, http))
        for crowd in idle.values():
            if self._idle_per_address and len(crowd) > self._idle_per_address:
                crowd.sort(key=lambda each: each[0])
                for _, http in crowd[: len(crowd) - self._idle_per_address]:
                    self._close(http, "crowd")

    def _whose(self, http: RequestHandler) -> str:
        peer = http.peername
        address = peer[0] if isinstance(peer, tuple) else None
        return "" if addresses.is_in(address, self._trusted) else addresses.client(address, (), ())

    def _close(self, http: RequestHandler, why: str) -> None:
        if http.transport is not None:  # else it is on its way out
            self._closed(why)
            http.transport.abort()
