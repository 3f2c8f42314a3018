"""HTTP connections that keep the gateway waiting: they are closed, and one address keeps only so many idle.

aiohttp waits an hour for the first request of a connection, and for ever for the rest of a body or for somebody to
read an answer: a thousand such connections cost their owner nothing, and a gateway its files. What became a WebSocket
is not here any more: pings find out about that one. Where a proxy says first whose connection it is (`preface`), that
is read here, before aiohttp sees a byte.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from services.gateway import addresses, preface

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
    """aiohttp's, but for whose it is, and what is answered to what is no HTTP: not its own words, maybe a token."""

    __slots__ = ()

    def begin(self, transport: asyncio.Transport, client: tuple[str, int] | None, early: bytes) -> None:
        """Take over a connection that its proxy says is this client's, or its own; `early` came with that."""
        if client is not None:
            self._cache["peername"] = client  # where aiohttp keeps it
        transport.set_protocol(self)
        self.connection_made(transport)
        if early:
            self.data_received(early)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what aiohttp could not read, or we could not answer."""
        return super().handle_error(request, status, exc, message and "This is no request.")


class Prefaced(asyncio.Protocol):
    """A connection of a trusted proxy, until it has said whose it is."""

    def __init__(self, doorstep: "Doorstep", arrive: Callable[[], Http]) -> None:
        self._doorstep = doorstep
        self._arrive = arrive
        self._transport: asyncio.Transport | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """What comes from anybody else is a request, as it is; if it has a header, that is no HTTP."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none of asyncio's classes
        peer = transport.get_extra_info("peername")
        if self._doorstep.trusts(peer):
            self._doorstep.unsaid[self] = time.monotonic()
        else:
            self._arrive().begin(self._transport, None, b"")

    def data_received(self, data: bytes) -> None:
        """More of the header, or all of it."""
        if self._transport is None:
            return
        self._data += data
        try:
            said = preface.read(self._data)
        except preface.Wrong:
            self.close()
            return
        if said is not None:
            del self._doorstep.unsaid[self]
            self._arrive().begin(self._transport, said.client, self._data[said.length :])

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """Nobody's."""
        self._transport = None
        self._doorstep.unsaid.pop(self, None)

    def close(self) -> None:
        """It said something else, or nothing for too long."""
        if self._transport is not None:
            self._doorstep.closed("preface")
            self._transport.abort()
            self._transport = None


class Doorstep:
    """Of the socket port. `closed` is told why, for each connection that is closed here.

    What comes from `trusted` proxies is not counted by address: they hold connections for whom they like. Where they
    are `prefacing`, each of theirs begins with a header of the PROXY protocol, and is then its client's.
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
        prefacing: bool = False,
    ) -> None:
        self._trusted = trusted
        self._is_prefaced = prefacing
        self.closed = closed
        # Connections that have not said whose they are, and since when, by the monotonic clock.
        self.unsaid: dict[Prefaced, float] = {}
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

        def make() -> Http:
            return Http(server, loop=loop, **server._kwargs)  # noqa: SLF001 - as the server would make its own

        def arrive() -> asyncio.BaseProtocol:
            self.arrived += 1
            return Prefaced(self, make) if self._is_prefaced else make()

        return arrive

    def trusts(self, peer: object) -> bool:
        """Whether this is the address of a trusted proxy."""
        return isinstance(peer, tuple) and addresses.is_in(peer[0], self._trusted)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            self.look(time.monotonic())

    def look(self, now: float) -> None:
        """Close who is waited for too long."""
        for silent in [each for each, since in self.unsaid.items() if now - since > self._patience_s[Wait.FIRST_HEAD]]:
            silent.close()
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
        return "" if self.trusts(peer) or not isinstance(peer, tuple) else addresses.client(peer[0], (), ())

    def _close(self, http: RequestHandler, why: str) -> None:
        if http.transport is not None:  # else it is on its way out
            self.closed(why)
            http.transport.abort()
