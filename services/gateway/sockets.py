"""Socket.IO: the only file that knows it.

python-socketio speaks the handshake, polling, the upgrade and namespaces; the subclasses here take
over where the stock server departs from the protocol's text or keeps no bounds: packets are read in one
loop and answered or refused, outboxes are bounded, a socket is closed with the code that tells its
client what to do. `Application` is what stands behind: the gateway, or in a protocol test an echo.

Over 400 lines, for it is the only file that may know the library (docs/adr/0007).

Socket.IO protocol 5: https://socket.io/docs/v4/socket-io-protocol/ · Engine.IO 4:
https://socket.io/docs/v4/engine-io-protocol/
"""

import asyncio
import logging
import re
import secrets
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Protocol

import engineio
import msgspec
import socketio
import structlog
from aiohttp import WSCloseCode, WSMsgType, web
from engineio import async_socket, exceptions, packet
from engineio.async_drivers import aiohttp as driver

from libs.wire import events, payloads
from libs.wire.codes import Code, Refusal
from services.gateway import packets
from services.gateway.compression import NO_COMPRESSION, Compression, WebSocketResponse
from services.gateway.outbox import Outbox, Overflow
from services.gateway.pace import Pace

log = structlog.get_logger(__name__)

# A close frame that a phone does not answer, or an outbox it does not read, is waited for this long.
_CLOSE_TIMEOUT_S: Final = 2.0
# An upgrade that is not completed by then is given up; until it is, polls bring nothing.
_UPGRADE_TIMEOUT_S: Final = 10.0
# What clients do wrong is no error of ours: of what the library logs, only its own stack traces count.
_library_log: Final = logging.getLogger("socketio")
_library_log.addFilter(lambda record: record.exc_info is not None)
_DRAINING: Final = Refusal(Code.UNAVAILABLE, "This gateway takes nobody new. Connect again.", retry_after_ms=1000)
# kind, attachments, namespace, acknowledgement id, payload
_PACKET: Final = re.compile(r"([0-6])(?:(\d{1,4})-)?(?:(/[^,]*),?)?(\d{1,15})?(.*)", re.DOTALL | re.ASCII)
_UNKNOWN: Final[dict[str, Any]] = {
    "status": "400 Bad Request",
    "headers": [("Content-Type", "application/json")],
    "response": b'{"code":1,"message":"Session ID unknown"}',
}
# Answers what is for another gateway's socket, or None if there is none.
Elsewhere = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
# The first character of an Engine.IO text frame, and the type it stands for.
_KINDS: Final = {str(kind): kind for kind in range(7)}


async def _nowhere(_: web.Request) -> web.StreamResponse | None:
    return None


class Application(Protocol):
    """Who answers the sockets."""

    async def handshake(self, socket: "Socket", auth: dict[str, Any]) -> None:
        """A client connects. Raise `Refusal` to send it away."""
        ...

    def opened(self, socket: "Socket") -> None:
        """The client was told that it is connected."""
        ...

    def event(self, socket: "Socket", ack: int | None, text: bytes) -> None:
        """An event: its JSON array as text. Raise `Refusal` (`malformed`) when it is none."""
        ...

    def acknowledged(self, socket: "Socket", ack: int) -> None:
        """The client acknowledged an event that was emitted with `ack`."""
        ...

    def closed(self, socket: "Socket") -> None:
        """The socket is gone."""
        ...


class Socket(async_socket.AsyncSocket):  # type: ignore[misc] # the library is untyped
    """One connection. `id` is what the client knows as its socket id."""

    server: "EngineServer"
    # The library's own marks.
    closed: bool
    closing: bool
    connected: bool
    upgraded: bool
    upgrading: bool

    def __init__(self, server: "EngineServer", sid: str) -> None:
        super().__init__(server, sid)
        self.queue = Outbox(server.outbox_max_bytes)
        self.id = ""
        self.address = ""
        self.pace: Pace | None = None
        self.is_open = False
        self.is_connecting = False
        # When anything but a pong came from here, or an event went here, by the monotonic clock.
        self.active_at = time.monotonic()
        self._websocket: web.WebSocketResponse | None = None
        self._probe: web.WebSocketResponse | None = None
        self._transport: asyncio.Transport | None = None
        self._close_code: int = WSCloseCode.OK
        self._timer: asyncio.TimerHandle | None = None
        self._is_polled = False
        self._is_leaving = False
        self._is_pinged = False
        self._attachments = 0

    # --- what the gateway says -------------------------------------------------------------------

    def emit(self, event: str, body: bytes, ack: int | None = None) -> None:
        """Send an event; `body` is JSON. With `ack`, the client's acknowledgement comes back under it."""
        self.say(packets.event(event, body, ack))

    def say(self, packet: packets.Packet) -> None:
        """Send what was made once for many sockets."""
        self._say(packet.text)

    def emit_first(self, event: str, body: bytes, ack: int) -> None:
        """Send an event ahead of all that waits since `set_barrier`."""
        self._say(packets.event(event, body, ack).text, self.queue.put_first_nowait)

    def set_barrier(self) -> None:
        """Nothing overtakes what was said so far."""
        self.queue.set_barrier()

    def answer(self, ack: int, body: bytes) -> None:
        """Send the acknowledgement of a client's event; `body` is JSON."""
        self.say(packets.answer(ack, body))

    def close_for_retry(self) -> None:
        """Close so that the client comes back at once, to any gateway."""
        self._leave(WSCloseCode.SERVICE_RESTART)

    def close_for_good(self) -> None:
        """Tell the client not to come back by itself, and close."""
        self._say("1")
        self._leave(WSCloseCode.OK)

    def close_for_breach(self) -> None:
        """Close on a client that goes on breaking the rules."""
        self._leave(WSCloseCode.POLICY_VIOLATION)

    def _say(self, text: str, put: Callable[[packet.Packet], None] | None = None) -> None:
        if self.closed or self._is_leaving:
            return  # nothing after a gap, nothing after goodbye: it stays due
        self.active_at = time.monotonic()
        try:
            (put or self.queue.put_nowait)(packet.Packet(packet.MESSAGE, text))
        except Overflow:
            log.warning("outbox is full: closing the socket", session=self.id)
            self.server.overflowed()
            self._abandon()

    def _leave(self, code: int) -> None:
        """Send what waits, then close."""
        if not self.closed and not self._is_leaving:
            self._is_leaving = True
            self._close_code = code
            self.server.spawn(self.close(wait=False, reason=self.server.reason.SERVER_DISCONNECT))

    def _abandon(self) -> None:
        """Close at once; what waits is not sent."""
        while not self.queue.empty():
            self.queue.get_nowait()
        self._leave(WSCloseCode.SERVICE_RESTART)

    # --- what the client says ----------------------------------------------------------------------

    async def handle_post_request(self, environ: dict[str, Any]) -> None:
        """Packets polled in. A body that is none closes the connection, as the protocol has it.

        The library reads what one segment brought, and takes a JSON message apart to put it together again.
        """
        request: web.Request = environ["aiohttp.request"]
        try:
            body = (await request.read()).decode()
        except web.HTTPRequestEntityTooLarge as error:
            raise exceptions.ContentTooLongError from error
        except (UnicodeError, web.RequestPayloadError) as error:
            raise exceptions.UnknownPacketError from error
        except ConnectionError:
            return  # nobody hears the answer, and half a body is none
        for text in body.split("\x1e"):
            if self.closed:
                return
            await self._take_text(text)

    async def _take_text(self, text: str) -> None:
        if text[:1] == "b":  # how polling says binary
            try:
                await self._take(packet.MESSAGE, b64decode(text[1:], validate=True))
            except ValueError as error:
                raise exceptions.UnknownPacketError from error
        elif (kind := _KINDS.get(text[:1])) is not None:
            await self._take(kind, text[1:])
        else:
            raise exceptions.UnknownPacketError

    async def handle_get_request(self, environ: dict[str, Any]) -> Any:
        """A poll, or the upgrade. Two polls at a time close the connection, as the protocol has it."""
        if environ.get("HTTP_UPGRADE"):
            return await super().handle_get_request(environ)
        if self._is_polled:
            raise exceptions.UnknownPacketError
        self._is_polled = True
        try:
            return await super().handle_get_request(environ)
        finally:
            self._is_polled = False

    async def _take(self, kind: int, data: str | bytes) -> None:
        if kind == packet.PONG and self._is_pinged:
            self._is_pinged = False
            self.schedule_ping()
        elif kind == packet.MESSAGE:
            self.active_at = time.monotonic()
            await self.server.trigger_message(self, data)
        elif kind == packet.CLOSE:
            await self.close(wait=False, abort=True, reason=self.server.reason.CLIENT_DISCONNECT)
        elif kind in (packet.PONG, packet.UPGRADE):  # that nobody asked for: 32,000 of them fit a post
            try:
                self.server.wasted(self)
            except Refusal as refusal:
                raise exceptions.UnknownPacketError from refusal
        else:
            raise exceptions.UnknownPacketError

    def expects_attachment(self) -> bool:
        """Whether this binary frame belongs to an event that was refused already."""
        self._attachments -= 1
        return self._attachments >= 0

    def expect_attachments(self, count: int) -> None:
        """Binary frames that will follow an event which was refused."""
        self._attachments = count

    # --- pings: timers, no tasks ---------------------------------------------------------------------

    def schedule_ping(self) -> None:
        """The next ping, an interval after this pong."""
        self._set_timer(self.server.ping_interval, self._ping)

    def _ping(self) -> None:
        self._is_pinged = True
        self._set_timer(self.server.ping_timeout, self._abandon)
        try:
            self.queue.put_nowait(packet.Packet(packet.PING))
        except Overflow:
            self._abandon()

    def _set_timer(self, after_s: float, then: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self.closed:
            self._timer = asyncio.get_running_loop().call_later(after_s, then)

    async def check_ping_timeout(self) -> bool:
        """The library asks before it sends; the timers have the answer."""
        if self.closed:
            raise exceptions.SocketIsClosedError
        return True

    # --- the connection ------------------------------------------------------------------------------

    async def close(self, wait: bool = True, abort: bool = False, reason: str | None = None) -> None:  # noqa: ARG002 - the library's signature
        """Close the connection; the client hears why through the close code."""
        if self.closed or self.closing:
            return
        is_websocket = self._websocket is not None
        with suppress(Overflow):  # a polled outbox with no room for the farewell
            await super().close(wait=False, abort=abort or is_websocket, reason=reason)
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.queue.put_nowait(None)
        if is_websocket:
            asyncio.get_running_loop().call_later(2 * _CLOSE_TIMEOUT_S, self._abort)
        if self._probe is not None:
            self.server.spawn(self._end(self._probe))
        self.server.forget(self)

    async def _end(self, probe: web.WebSocketResponse) -> None:
        with suppress(ConnectionError, RuntimeError):
            await probe.close()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def _websocket_handler(self, ws: "WebSocket") -> None:
        websocket = ws.response
        if self.connected and not await self._upgrade(websocket):
            return
        self.connected = self.upgraded = True
        self._websocket, self._transport = websocket, ws.transport
        writing = self.server.spawn(self._write(websocket))
        self.server.writing.add(writing)
        writing.add_done_callback(self.server.writing.discard)
        try:
            await self._read(websocket)
        finally:
            await self.close(wait=False, abort=True, reason=self.server.reason.TRANSPORT_CLOSE)
            await asyncio.wait((writing,))

    async def _upgrade(self, websocket: web.WebSocketResponse) -> bool:
        """From polling to WebSocket: probe, end the poll that waits, and the client's word."""
        if self.upgrading:
            return False
        self.upgrading, self._probe = True, websocket
        try:
            async with asyncio.timeout(_UPGRADE_TIMEOUT_S):
                if await websocket.receive_str() != "2probe":
                    return False
                await websocket.send_str("3probe")
                if self._is_polled and self.queue.empty():
                    self.queue.put_nowait(packet.Packet(packet.NOOP))
                return await websocket.receive_str() == "5" and not self.closed
        except (TypeError, ConnectionError, TimeoutError, Overflow):
            return False
        finally:
            self.upgrading, self._probe = False, None

    async def _read(self, websocket: web.WebSocketResponse) -> None:
        async for message in websocket:
            try:
                if message.type is WSMsgType.TEXT and message.data[:1] != "b":
                    await self._take_text(message.data)
                elif message.type is WSMsgType.BINARY:
                    await self._take(packet.MESSAGE, message.data)
                else:
                    raise exceptions.UnknownPacketError
            except exceptions.EngineIOError:
                self._close_code = WSCloseCode.POLICY_VIOLATION
                return

    async def _write(self, websocket: web.WebSocketResponse) -> None:
        try:
            while (waiting := await self.queue.get()) is not None:
                await self._send(websocket, waiting.encode())
            await websocket.close(code=self._close_code)
        except (ConnectionError, RuntimeError):
            self._abort()  # the phone is gone; the reader hears of it

    async def _send(self, websocket: web.WebSocketResponse, data: str | bytes) -> None:
        if isinstance(data, str):
            await websocket.send_str(data)
        else:
            await websocket.send_bytes(data)


class WebSocket:
    """The library's seam for a WebSocket transport, on aiohttp, without compression contexts."""

    def __init__(self, handler: Any, server: "EngineServer") -> None:
        self._handler = handler
        self.response = WebSocketResponse(
            server.compression,
            # aiohttp refuses what is as large as this.
            max_msg_size=server.max_http_buffer_size + 1,
            timeout=_CLOSE_TIMEOUT_S,
        )
        self.transport: asyncio.Transport | None = None

    async def __call__(self, environ: dict[str, Any]) -> web.WebSocketResponse:
        request: web.Request = environ["aiohttp.request"]
        self.transport = request.transport
        await self.response.prepare(request)
        await self._handler(self)
        return self.response


class EngineServer(engineio.AsyncServer):  # type: ignore[misc] # the library is untyped
    """Engine.IO with our sockets: named after their gateway, bounded, timed without tasks."""

    gateway: str
    outbox_max_bytes: int
    tasks: asyncio.TaskGroup
    # What is on its way to sockets.
    writing: set[asyncio.Task[None]]
    overflowed: Any
    is_accepting: bool
    came_from: Callable[[web.Request], str]
    admit: Callable[[str], Awaitable[int]]
    # Told of each frame that is none of the application's; it may raise `Refusal`.
    wasted: Callable[[Socket], None]
    compression: Compression
    elsewhere: Elsewhere
    compression_methods = ("gzip",)

    def generate_id(self) -> str:
        """Names the gateway, so that any other knows whom a poll is for; the rest is a secret."""
        return f"{self.gateway}.{secrets.token_urlsafe(18)}"

    def spawn(self, coroutine: Any) -> asyncio.Task[None]:
        """A task of the gateway's own group."""
        return self.tasks.create_task(coroutine)

    def forget(self, socket: Socket) -> None:
        """A socket is closed. A poll may still fetch what was said to it last."""
        if socket.upgraded:
            self.sockets.pop(socket.sid, None)
        else:
            asyncio.get_running_loop().call_later(_CLOSE_TIMEOUT_S, self.sockets.pop, socket.sid, None)

    def _is_draining(self) -> bool:
        return not self.is_accepting

    async def trigger_message(self, socket: Socket, data: str | bytes) -> None:
        """Hand a message on to Socket.IO, in the reader's own task: order is kept, errors are its own."""
        await self.handlers["message"](socket.sid, data)

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        """A request on the socket port: answered here, or by the gateway that holds its socket."""
        sid = request.query.get("sid")
        if not sid or sid in self.sockets or request.method == "OPTIONS":
            return await self._answer(request)
        return await self.elsewhere(request) or await self._answer_unknown(request)

    async def handle_relayed(self, request: web.Request) -> web.StreamResponse:
        """A request that another gateway passed on: answered here, whatever it is, and never passed on again."""
        known = request.query.get("sid") in self.sockets
        return await (self._answer(request) if known else self._answer_unknown(request))

    def _answer(self, request: web.Request) -> Awaitable[web.StreamResponse]:
        """No coroutine of its own: it would stay for the life of a WebSocket."""
        answer: Awaitable[web.StreamResponse] = super().handle_request(request)
        return answer

    async def _answer_unknown(self, request: web.Request) -> web.StreamResponse:
        """The protocol's own words; the client starts anew by itself."""
        answer: web.StreamResponse = await self._make_response(_UNKNOWN, self._async["translate_request"](request))
        return answer

    def _gzip(self, response: bytes) -> bytes:
        return self.compression.gzip(response)

    async def _handle_connect(self, environ: dict[str, Any], transport: str, jsonp_index: int | None = None) -> Any:
        if transport == "websocket" and not _is_upgrade(environ):
            return self._bad_request("Invalid websocket upgrade")
        if self._is_draining():
            return _refused("503 Service Unavailable", _DRAINING)
        address = self.came_from(environ["aiohttp.request"])
        if wait_ms := await self.admit(address):
            return _refused("429 Too Many Requests", Refusal(Code.RATE_LIMITED, retry_after_ms=wait_ms))
        if self._is_draining():  # since this one was counted: who empties this gateway does not know of it
            return _refused("503 Service Unavailable", _DRAINING)
        socket = Socket(self, self.generate_id())
        socket.address = address
        self.sockets[socket.sid] = socket
        hello = {
            "sid": socket.sid,
            "upgrades": self._upgrades(socket.sid, transport),
            "pingInterval": int(self.ping_interval * 1000),
            "pingTimeout": int(self.ping_timeout * 1000),
            "maxPayload": self.max_http_buffer_size,
        }
        socket.queue.put_nowait(packet.Packet(packet.OPEN, hello))
        await self.handlers["connect"](socket.sid, environ)
        socket.schedule_ping()
        if transport == "websocket":
            try:
                return await socket.handle_get_request(environ)
            finally:
                await socket.close(wait=False, abort=True)  # for a handshake that aiohttp refuses
        socket.connected = True
        return self._ok(await socket.poll(), jsonp_index=jsonp_index)


async def _let_in(_: str) -> int:
    return 0


class Server(socketio.AsyncServer):  # type: ignore[misc] # the library is untyped
    """Socket.IO on one namespace, for one application."""

    def __init__(
        self,
        application: Application,
        tasks: asyncio.TaskGroup,
        *,
        gateway: str,
        ping_interval_s: float,
        ping_timeout_s: float,
        frame_max_bytes: int,
        outbox_max_bytes: int,
        allowed_origins: str,
        connect_timeout_s: float,
        overflowed: Any = lambda: None,
        came_from: Callable[[web.Request], str] = lambda _: "",
        admit: Callable[[str], Awaitable[int]] = _let_in,
        wasted: Callable[[Socket], None] = lambda _: None,
        compression: Compression = NO_COMPRESSION,
        elsewhere: Elsewhere = _nowhere,
    ) -> None:
        super().__init__(
            async_mode="aiohttp",
            async_handlers=False,
            cors_allowed_origins="*" if allowed_origins == "*" else allowed_origins.split(","),
            monitor_clients=False,
            ping_interval=ping_interval_s,
            ping_timeout=ping_timeout_s,
            max_http_buffer_size=frame_max_bytes,
            http_compression=compression.min_bytes > 0,
            compression_threshold=compression.min_bytes + 1,
            logger=_library_log,
            engineio_logger=_library_log,
        )
        self.eio._async = {**driver._async, "websocket": WebSocket}  # noqa: SLF001 - the library's seam for transports
        self.eio.gateway = gateway
        self.eio.tasks = tasks
        self.eio.writing = set()
        self.eio.outbox_max_bytes = outbox_max_bytes
        self.eio.overflowed = overflowed
        self.eio.is_accepting = True
        self.eio.came_from = came_from
        self.eio.admit = admit
        self._wasted = self.eio.wasted = wasted
        self.eio.compression = compression
        self.eio.elsewhere = elsewhere
        self._application = application
        self._connect_timeout_s = connect_timeout_s
        self.on("connect", self._handshake)
        self.on("disconnect", self._gone)

    @property
    def sockets(self) -> dict[str, Socket]:
        """Every connection, by its Engine.IO id."""
        connections: dict[str, Socket] = self.eio.sockets
        return connections

    async def answer_relayed(self, request: web.Request) -> web.StreamResponse:
        """Answer what another gateway passed on."""
        answer: web.StreamResponse = await self.eio.handle_relayed(request)
        return answer

    def accept(self, *, is_accepting: bool) -> None:
        """Take new connections, or answer them 503."""
        self.eio.is_accepting = is_accepting

    async def wait_silent(self) -> None:
        """Wait until every socket has been sent what there was for it, its close frame included."""
        if self.eio.writing:
            await asyncio.wait(set(self.eio.writing))

    def _engineio_server_class(self) -> type[EngineServer]:
        return EngineServer

    async def _handle_eio_connect(self, eio_sid: str, environ: dict[str, Any]) -> None:
        await super()._handle_eio_connect(eio_sid, environ)
        self._expect_connect(eio_sid)

    def _expect_connect(self, eio_sid: str) -> None:
        """A connection on which nobody has connected to the namespace does not stay."""
        asyncio.get_running_loop().call_later(self._connect_timeout_s, self._close_unless_open, eio_sid)

    def _close_unless_open(self, eio_sid: str) -> None:
        socket = self.sockets.get(eio_sid)
        if socket is not None and not socket.is_open:
            socket.close_for_retry()

    async def _handle_eio_message(self, eio_sid: str, data: str | bytes) -> None:
        """One Socket.IO packet. What is no packet is refused, and closes the connection."""
        socket = self.sockets.get(eio_sid)
        if socket is None or socket.closed:
            return  # it was closed while this was on its way here
        try:
            if isinstance(data, bytes):
                if not socket.expects_attachment():
                    self._wasted(socket)
                    self._refuse_binary(socket, None)
                return
            match = _PACKET.fullmatch(data)
            if match is None:
                raise Refusal(Code.MALFORMED)
            await self._handle_packet(socket, *match.groups())
        except Refusal as refusal:
            _say_error(socket, refusal)
            raise exceptions.UnknownPacketError from refusal

    async def _handle_packet(
        self, socket: Socket, kind: str, attachments: str | None, namespace: str | None, ack: str | None, text: str
    ) -> None:
        if kind == "0":
            if socket.id or namespace not in (None, "/"):  # the first is what a socket is for
                self._wasted(socket)
            await self._handle_connect(socket.sid, namespace, _auth(text))
        elif namespace not in (None, "/") or not socket.is_open:
            raise Refusal(Code.MALFORMED)
        elif kind == "1":
            await self._handle_disconnect(socket.sid, "/", self.reason.CLIENT_DISCONNECT)
            self._expect_connect(socket.sid)
        elif kind == "2" and text:
            self._application.event(socket, int(ack) if ack else None, text.encode())
        elif kind == "3" and ack and text.startswith("["):
            self._application.acknowledged(socket, int(ack))
        elif kind in "56" and attachments:
            self._wasted(socket)
            socket.expect_attachments(int(attachments))
            self._refuse_binary(socket, int(ack) if ack and kind == "5" else None)
        else:
            raise Refusal(Code.MALFORMED)

    def _refuse_binary(self, socket: Socket, ack: int | None) -> None:
        refusal = Refusal(Code.BINARY_NOT_ACCEPTED)
        if ack is not None:
            socket.answer(ack, payloads.encode(payloads.refused(refusal)))
        _say_error(socket, refusal)

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: dict[str, Any] | None) -> None:
        socket = self.sockets[eio_sid]
        if namespace not in (None, "/"):
            socket._say(f'4{namespace},{{"message":"Invalid namespace"}}')  # noqa: SLF001 - the same file's
            return
        if socket.is_open or socket.is_connecting:
            raise Refusal(Code.MALFORMED)
        socket.is_connecting = True
        try:
            await super()._handle_connect(eio_sid, namespace, data or {})
        finally:
            socket.is_connecting = False
        if eio_sid in self.environ:
            # The headers were looked at; nothing of them is kept for the life of the socket.
            self.environ[eio_sid] = {}
        self._tell_opened(socket)

    def _tell_opened(self, socket: Socket) -> None:
        if socket.is_open:
            self._application.opened(socket)

    async def _handshake(self, sid: str, environ: dict[str, Any], auth: dict[str, Any] | None = None) -> None:  # noqa: ARG002 - the library's signature
        socket = self.sockets[self.manager.eio_sid_from_sid(sid, "/")]
        socket.id = sid
        try:
            await self._application.handshake(socket, auth or {})
        except Refusal as refusal:
            why = payloads.auth_failed(refusal)
            data: dict[str, Any] = {"code": why.code, "retryable": why.retryable}
            if refusal.retry_after_ms is not None:
                data["retryAfterMs"] = refusal.retry_after_ms
            raise socketio.exceptions.ConnectionRefusedError(why.message, data) from refusal
        if socket.closed:  # polled in beside the CONNECT, or timed out: who is gone has no session
            self._application.closed(socket)
            raise socketio.exceptions.ConnectionRefusedError("The connection is closed.")
        socket.is_open = True

    async def _gone(self, sid: str, reason: str) -> None:  # noqa: ARG002 - the library's signature
        eio_sid = self.manager.eio_sid_from_sid(sid, "/")
        socket = self.sockets.get(eio_sid)
        if socket is not None:
            socket.is_open = False
            self._application.closed(socket)


def _refused(status: str, refusal: Refusal) -> dict[str, Any]:
    """A connection that is not made, as the library has its answers."""
    after_s = str(-(-(refusal.retry_after_ms or 0) // 1000))
    headers = [("Retry-After", after_s), ("Content-Type", "application/json")]
    return {"status": status, "headers": headers, "response": payloads.encode(payloads.refused(refusal))}


def _is_upgrade(environ: dict[str, Any]) -> bool:
    """Whether a proxy left the headers of a WebSocket handshake in place."""
    tokens = {token.strip() for token in environ.get("HTTP_CONNECTION", "").lower().split(",")}
    return "upgrade" in tokens and environ.get("HTTP_UPGRADE", "").lower() == "websocket"


def _auth(text: str) -> dict[str, Any]:
    try:
        auth = msgspec.json.decode(text) if text else {}
    except events.UNREADABLE as error:
        raise Refusal(Code.MALFORMED) from error
    if not isinstance(auth, dict):
        raise Refusal(Code.MALFORMED)
    return auth


def _say_error(socket: Socket, refusal: Refusal) -> None:
    if socket.is_open:
        body = payloads.ErrorEvent(refusal.code.value, refusal.message, "")
        socket.emit("error", payloads.encode(body))
