"""HTTP requests on the socket port → connections: opening, polls and posts, WebSockets and the upgrade to one.

The protocol: https://socket.io/docs/v4/engine-io-protocol/ · what is refused is answered in the words of the
reference server (`engine.io`, lib/server.ts): `{"code", "message"}`.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Generic, TypeVar

from aiohttp import hdrs, web

from libs.wheel import Wheel
from libs.wire import payloads
from libs.wire.codes import Code, Refusal
from services.gateway.compression import Compression
from services.gateway.engine import packets
from services.gateway.engine.connection import CLOSE_TIMEOUT_S, Breach, Connection, Rules
from services.gateway.engine.websocket import Handshake, Upgrade, WebSocket, Writes

PATH: Final = "/socket.io/"
_ID_BYTES: Final = 18
_DRAINING: Final = Refusal(Code.UNAVAILABLE, "This gateway takes nobody new. Connect again.", retry_after_ms=1000)
# Of what says how far a message has come: people do not see it, and with the next answer it costs nothing.
_PATIENCE_S: Final = 0.2
_GZIP: Final = "gzip"

# Answers what is for another gateway's socket, or None if there is none.
Elsewhere = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
T = TypeVar("T", bound=Connection)


class Refused(Exception):
    """A request that is answered 400, with a code of the protocol's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.body = b'{"code":%d,"message":"%b"}' % (code, message.encode())


_TRANSPORT_UNKNOWN: Final = 0, "Transport unknown"
_SESSION_UNKNOWN: Final = 1, "Session ID unknown"
_BAD_METHOD: Final = 2, "Bad handshake method"
_BAD_REQUEST: Final = 3, "Bad request"
_BAD_VERSION: Final = 5, "Unsupported protocol version"


class Engine(Generic[T]):
    """Every connection of this gateway."""

    def __init__(
        self,
        open_: Callable[[Rules, str, str], T],
        rules: Rules,
        *,
        gateway: str,
        allowed_origins: str,
        came_from: Callable[[web.Request], str],
        admit: Callable[[str], Awaitable[int]],
        compression: Compression,
        elsewhere: Elsewhere,
    ) -> None:
        self._open = open_
        self._rules = rules
        self._wheel: Wheel = rules.wheel
        self._gateway = gateway
        self._allowed_origins = None if allowed_origins == "*" else frozenset(allowed_origins.split(","))
        self._came_from = came_from
        self._admit = admit
        self._compression = compression
        self._elsewhere = elsewhere
        self.is_accepting = True
        # Requests so far.
        self.requests = 0
        # Every connection by its id; one that was polled stays a while, for who fetches what was said last.
        self.connections: dict[str, T] = {}
        self._writes = Writes(rules.wheel, _PATIENCE_S)
        self._websockets: set[WebSocket] = set()
        # One of either is gone.
        self._lost = asyncio.Event()

    def generate_id(self) -> str:
        """Names the gateway, so that any other knows whom a poll is for; the rest is a secret."""
        return f"{self._gateway}.{secrets.token_urlsafe(_ID_BYTES)}"

    def forget(self, connection: Connection) -> None:
        """A connection is closed. A poll may still fetch what was said to it last."""
        if connection.carrier is not None:
            self._drop(connection.sid)
        else:
            self._wheel.after(CLOSE_TIMEOUT_S, partial(self._drop, connection.sid))

    async def wait_silent(self) -> None:
        """Wait until every client has heard what there was to say: by its WebSocket, or the poll that fetches it."""
        while self._websockets or self.connections:
            self._lost.clear()
            await self._lost.wait()

    def _drop(self, sid: str) -> None:
        self.connections.pop(sid, None)
        self._lost.set()

    def _lose(self, websocket: WebSocket) -> None:
        self._websockets.discard(websocket)
        self._lost.set()

    # --- requests ------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """A request on the socket port: answered here, or by the gateway that holds its connection."""
        self.requests += 1
        sid = request.query.get("sid")
        if not sid or sid in self.connections or request.method == hdrs.METH_OPTIONS:
            return await self._answer(request, sid)
        return await self._elsewhere(request) or await self._answer(request, sid)

    async def handle_relayed(self, request: web.Request) -> web.StreamResponse:
        """A request that another gateway passed on: answered here, whatever it is, and never passed on again."""
        return await self._answer(request, request.query.get("sid", ""))

    async def _answer(self, request: web.Request, sid: str | None) -> web.StreamResponse:
        try:
            response = await self._respond(request, sid)
        except Refused as refused:
            response = web.Response(status=400, body=refused.body, content_type="application/json")
        except ConnectionError:
            response = web.Response()  # the client is gone: nobody hears it
        if not response.prepared:
            response.headers.update(self._cross_origin(request))
        return response

    async def _respond(self, request: web.Request, sid: str | None) -> web.StreamResponse:
        query, method = request.query, request.method
        origin = request.headers.get(hdrs.ORIGIN)
        if origin and self._allowed_origins is not None and origin not in self._allowed_origins:
            raise Refused(*_BAD_REQUEST)
        if method == hdrs.METH_OPTIONS:
            return web.Response(body=b"OK", content_type="text/plain")
        transport = query.get("transport", "polling")
        if transport not in ("polling", "websocket") or "j" in query:  # JSONP: no client of this protocol uses it
            raise Refused(*_TRANSPORT_UNKNOWN)
        if sid is None:
            if query.get("EIO") != "4":
                raise Refused(*_BAD_VERSION)
            if method != hdrs.METH_GET:
                raise Refused(*_BAD_METHOD)
            return await self._connect(request, transport)
        connection = self.connections.get(sid)
        if connection is None:
            raise Refused(*_SESSION_UNKNOWN)
        return await self._go_on(request, connection, transport)

    async def _go_on(self, request: web.Request, connection: T, transport: str) -> web.StreamResponse:
        if connection.carrier is not None or request.method == hdrs.METH_HEAD:  # not polled any more, or not fetched
            raise Refused(*_BAD_REQUEST)
        if request.method == hdrs.METH_POST:
            if connection.closed:  # only what was said last is still to be had
                raise Refused(*_BAD_REQUEST)
            return await self._post(request, connection)
        if _is_upgrade(request):
            return self._upgrade(request, connection)
        if transport != "polling":
            raise Refused(*_BAD_REQUEST)
        return await self._poll(request, connection)

    async def _connect(self, request: web.Request, transport: str) -> web.StreamResponse:
        is_websocket = transport == "websocket"
        if is_websocket and not _is_upgrade(request):
            raise Refused(*_BAD_REQUEST)
        if self._is_closed():
            return _turned_away(503, _DRAINING)
        address = self._came_from(request)
        if wait_ms := await self._admit(address):
            return _turned_away(429, Refusal(Code.RATE_LIMITED, retry_after_ms=wait_ms))
        if self._is_closed():  # since this one was counted: who empties this gateway does not know of it
            return _turned_away(503, _DRAINING)
        connection = self._open(self._rules, self.generate_id(), address)
        if not is_websocket:
            connection.say(self._hello(connection.sid, is_polled=True))
            self._begin(connection)
            return await self._poll(request, connection)
        handshake, websocket, early = self._shake_hands(request)
        self._begin(connection)
        connection.carry(websocket)
        connection.say(self._hello(connection.sid, is_polled=False))
        websocket.begin(connection, early)
        return handshake

    def _is_closed(self) -> bool:
        return not self.is_accepting

    def _begin(self, connection: T) -> None:
        self.connections[connection.sid] = connection
        connection.expect_ping()
        connection.begun()

    def _hello(self, sid: str, *, is_polled: bool) -> packets.Packet:
        rules = self._rules
        return packets.opening(
            packets.Hello(
                sid,
                ("websocket",) if is_polled else (),
                int(rules.ping_interval_s * 1000),
                int(rules.ping_timeout_s * 1000),
                rules.frame_max_bytes,
            )
        )

    def _shake_hands(self, request: web.Request) -> tuple[Handshake, WebSocket, bytes]:
        handshake = Handshake(self._compression)
        transport, head, early = handshake.take_over(request)
        websocket = WebSocket(
            transport,
            head,
            self._wheel,
            self._writes,
            self._compression,
            self._lose,
            window_bits=handshake.window_bits,
            frame_max_bytes=self._rules.frame_max_bytes,
            bytes_per_s=self._rules.bytes_per_s,
        )
        self._websockets.add(websocket)
        return handshake, websocket, early

    def _upgrade(self, request: web.Request, connection: T) -> web.StreamResponse:
        if not connection.is_upgradable:
            raise Refused(*_BAD_REQUEST)
        handshake, websocket, early = self._shake_hands(request)
        websocket.begin(Upgrade(connection, websocket, self._wheel), early)
        return handshake

    async def _poll(self, request: web.Request, connection: T) -> web.Response:
        try:
            body = await connection.poll()
        except Breach as breach:
            connection.break_off()
            self._drop(connection.sid)
            raise Refused(*_BAD_REQUEST) from breach
        if connection.closed:  # and all was said
            self._drop(connection.sid)
        headers = {}
        if self._compression.min_bytes and len(body) > self._compression.min_bytes:
            accepted = request.headers.get(hdrs.ACCEPT_ENCODING, "")
            if _GZIP in {encoding.partition(";")[0].strip() for encoding in accepted.split(",")}:
                body = self._compression.gzip(body)
                headers[hdrs.CONTENT_ENCODING] = _GZIP
        return web.Response(body=body, headers=headers, content_type="text/plain", charset="utf-8")

    async def _post(self, request: web.Request, connection: T) -> web.Response:
        """Packets polled in. A body that is none closes the connection, as the protocol has it."""
        try:
            body = (await request.read()).decode()
            for text in body.split(packets.SEPARATOR):
                if connection.closed:
                    break
                connection.take_polled(text)
                await connection.settled()
        except (Breach, UnicodeError, web.RequestPayloadError, web.HTTPRequestEntityTooLarge) as error:
            connection.break_off()
            raise Refused(*_BAD_REQUEST) from error
        except ConnectionError:
            pass  # nobody hears the answer, and half a body is none
        return web.Response(body=b"OK", content_type="text/plain")

    def _cross_origin(self, request: web.Request) -> dict[str, str]:
        origin = request.headers.get(hdrs.ORIGIN)
        headers: dict[str, str] = {hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS: "true"}
        if origin and (self._allowed_origins is None or origin in self._allowed_origins):
            headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        if request.method == hdrs.METH_OPTIONS:
            headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = "OPTIONS, GET, POST"
        if asked := request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS):
            headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = asked
        return headers


def _turned_away(status: int, refusal: Refusal) -> web.Response:
    """A connection that is not made."""
    after_s = -(-(refusal.retry_after_ms or 0) // 1000)
    body = payloads.encode(payloads.refused(refusal))
    return web.Response(
        status=status, body=body, headers={hdrs.RETRY_AFTER: str(after_s)}, content_type="application/json"
    )


def _is_upgrade(request: web.Request) -> bool:
    """Whether a proxy left the headers of a WebSocket handshake in place."""
    tokens = {token.strip() for token in request.headers.get(hdrs.CONNECTION, "").lower().split(",")}
    return "upgrade" in tokens and request.headers.get(hdrs.UPGRADE, "").lower() == "websocket"


def attach(app: web.Application, handle: Callable[[web.Request], Awaitable[Any]]) -> None:
    """Serve connections from an application."""
    app.router.add_get(PATH, handle)
    app.router.add_post(PATH, handle)
    app.router.add_route(hdrs.METH_OPTIONS, PATH, handle)
