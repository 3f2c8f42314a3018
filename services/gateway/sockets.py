"""Socket.IO: the only file that knows python-socketio.

The library's server joins clients to the namespace: it names them, asks the application, answers CONNECT or
CONNECT_ERROR. Beneath it, in the place of its Engine.IO server, is `engine/`; packets of a client that has joined
are read here, where the frame arrives, and answered or refused. `Application` is what stands behind: the gateway,
or in a protocol test an echo.

Over 400 lines, for it is the only file that may know the library (docs/adr/0016).

Socket.IO protocol 5: https://socket.io/docs/v4/socket-io-protocol/
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Protocol

import msgspec
import socketio
import structlog
from aiohttp import WSCloseCode, web

from libs.wheel import Wheel
from libs.wire import events, payloads
from libs.wire.codes import Code, Refusal
from services.gateway import packets
from services.gateway.compression import NO_COMPRESSION, Compression
from services.gateway.engine import server as engine
from services.gateway.engine.connection import Breach, Carrier, Connection, Rules
from services.gateway.pace import Pace

log = structlog.get_logger(__name__)

# What clients do wrong is no error of ours: of what the library logs, only its own stack traces count.
_library_log: Final = logging.getLogger("socketio")
_library_log.addFilter(lambda record: record.exc_info is not None)
# kind, attachments, namespace, acknowledgement id, payload
_PACKET: Final = re.compile(r"([0-6])(?:(\d{1,4})-)?(?:(/[^,]*),?)?(\d{1,15})?(.*)", re.DOTALL | re.ASCII)
_NAMESPACE: Final = "/"
# Who joins at the same time, where nobody says.
_TURNS: Final = 1000
# The library hands it to whoever asks; nothing of a request is kept for the life of a socket.
_NO_ENVIRON: Final[dict[str, Any]] = {}


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


class Socket(Connection):
    """One connection. `id` is what the client knows as its socket id."""

    __slots__ = ("_attachments", "_joining", "_server", "_waiting", "id", "is_open", "pace")

    def __init__(self, server: "Server", rules: Rules, sid: str, address: str) -> None:
        super().__init__(rules, sid, address)
        self._server = server
        self.id = ""
        self.pace: Pace | None = None
        self.is_open = False
        # While it joins the namespace, what comes waits.
        self._joining: asyncio.Task[None] | None = None
        self._waiting: list[str | bytes] = []
        # Binary frames that will follow an event which was refused.
        self._attachments = 0

    # --- what the gateway says -------------------------------------------------------------------

    def emit(self, event: str, body: bytes, ack: int | None = None) -> None:
        """Send an event; `body` is JSON. With `ack`, the client's acknowledgement comes back under it."""
        self.say(packets.event(event, body, ack))

    def answer(self, ack: int, body: bytes) -> None:
        """Send the acknowledgement of a client's event; `body` is JSON."""
        self.say(packets.answer(ack, body))

    def close_for_retry(self) -> None:
        """Close so that the client comes back at once, to any gateway."""
        self.close(WSCloseCode.SERVICE_RESTART)

    def close_for_good(self) -> None:
        """Tell the client not to come back by itself, and close."""
        self.say(packets.DISCONNECT)
        self.close(WSCloseCode.OK)

    def close_for_breach(self) -> None:
        """Close on a client that goes on breaking the rules."""
        self.close(WSCloseCode.POLICY_VIOLATION)

    # --- services.gateway.engine.connection.Connection -------------------------------------------

    def carry(self, carrier: Carrier) -> None:
        """Nothing more is read of a client that joins, whatever it goes over to meanwhile."""
        super().carry(carrier)
        if self._joining is not None:
            carrier.pause_reading()

    def begun(self) -> None:
        """Opened: it is expected to join."""
        self._server.expect(self)

    def message(self, text: str) -> None:
        """One Socket.IO packet. What is none is refused, and closes the connection."""
        try:
            if self._joining is None:
                self._read(text)
            elif text[:1] == "0" and "1" not in self._waiting:  # it joins already, and has not said that it leaves
                raise Refusal(Code.MALFORMED)
            else:
                self._waiting.append(text)
        except Refusal as refusal:
            self._breach(refusal)

    def binary(self, data: bytes) -> None:
        """An attachment. No event of the contract has any."""
        if self._joining is not None:
            self._waiting.append(data)
            return
        self._attachments -= 1
        if self._attachments >= 0:
            return
        try:
            self._server.wasted(self)
            self._refuse_binary(None)
        except Refusal as refusal:
            self._breach(refusal)

    async def settled(self) -> None:
        """Returns once what was asked so far is decided."""
        while self._joining is not None:
            await asyncio.wait((self._joining,))

    def gone(self) -> None:
        """The connection is closed."""
        self._waiting.clear()
        self._server.leave(self)
        self._server.engine.forget(self)

    # --- packets ---------------------------------------------------------------------------------

    def _read(self, text: str) -> None:
        match = _PACKET.fullmatch(text)
        if match is None:
            raise Refusal(Code.MALFORMED)
        kind, attachments, namespace, ack, data = match.groups()
        if kind == "0":
            self._connect(namespace, data)
        elif (namespace is not None and namespace != _NAMESPACE) or not self.is_open:
            raise Refusal(Code.MALFORMED)
        elif kind == "2" and data:
            self._server.application.event(self, int(ack) if ack else None, data.encode())
        elif kind == "3" and ack and data.startswith("["):
            self._server.application.acknowledged(self, int(ack))
        elif kind == "1":
            self._server.leave(self)
            self._server.expect(self)
        elif kind in "56" and attachments:
            self._server.wasted(self)
            self._attachments = int(attachments)
            self._refuse_binary(int(ack) if ack and kind == "5" else None)
        else:
            raise Refusal(Code.MALFORMED)

    def _connect(self, namespace: str | None, data: str) -> None:
        if self.id or namespace not in (None, _NAMESPACE):  # the first is what a socket is for
            self._server.wasted(self)
        auth = _auth(data)
        if namespace not in (None, _NAMESPACE):
            self.say(packets.unknown_namespace(namespace or ""))
        elif self.is_open:
            raise Refusal(Code.MALFORMED)
        else:
            if self.carrier is not None:
                self.carrier.pause_reading()
            self._joining = self._server.spawn(self._join(auth))

    async def _join(self, auth: dict[str, Any]) -> None:
        try:
            await self._server.join(self, auth)
        except Exception as error:
            log.exception("a client could not join", session=self.id, error=type(error).__name__)
            self.close(WSCloseCode.INTERNAL_ERROR)
        self._joining = None
        if self.is_open:
            self._server.application.opened(self)
        self._take_waiting()

    def _take_waiting(self) -> None:
        """What came meanwhile, in order; the client may leave and join again by it."""
        waiting, self._waiting = self._waiting, []
        if self.carrier is not None:
            self.carrier.resume_reading()
        for said in waiting:
            try:
                if self.closed:
                    return
                if isinstance(said, str):
                    self.message(said)
                else:
                    self.binary(said)
            except Breach:
                self.break_off()

    def _refuse_binary(self, ack: int | None) -> None:
        refusal = Refusal(Code.BINARY_NOT_ACCEPTED)
        if ack is not None:
            self.answer(ack, payloads.encode(payloads.refused(refusal)))
        self._say_error(refusal)

    def _breach(self, refusal: Refusal) -> None:
        self._say_error(refusal)
        raise Breach from refusal

    def _say_error(self, refusal: Refusal) -> None:
        if self.is_open:
            body = payloads.ErrorEvent(refusal.code.value, refusal.message, "")
            self.emit("error", payloads.encode(body))


class _Names(socketio.AsyncManager):  # type: ignore[misc] # the library is untyped
    """Names for who joins. The library's own keeps two rooms a client, and looks through all of them for who leaves."""

    def __init__(self) -> None:
        super().__init__()
        # Those that are joining: the connection by the name.
        self._joining: dict[str, str] = {}

    async def pre_connect(self, eio_sid: str, namespace: str) -> str:  # noqa: ARG002 - the library's signature
        name: str = self.server.eio.generate_id()
        self._joining[name] = eio_sid
        return name

    def connection_of(self, name: str) -> str:
        """The connection that is joining under this name."""
        return self._joining[name]

    def joined(self, name: str) -> None:
        """It has joined, or was refused."""
        self._joining.pop(name, None)

    async def connect(self, sid: str, namespace: str) -> str:  # noqa: ARG002 - the library's signature
        return sid

    async def disconnect(self, sid: str, namespace: str, **_: Any) -> None:
        """Nothing is kept of who has joined."""


async def _let_in(_: str) -> int:
    return 0


async def _nowhere(_: web.Request) -> web.StreamResponse | None:
    return None


class Server(socketio.AsyncServer):  # type: ignore[misc] # the library is untyped
    """Socket.IO on one namespace, for one application."""

    def __init__(
        self,
        application: Application,
        tasks: asyncio.TaskGroup,
        wheel: Wheel,
        *,
        gateway: str,
        ping_interval_s: float,
        ping_timeout_s: float,
        frame_max_bytes: int,
        outbox_max_bytes: int,
        bytes_per_s: int = 0,
        allowed_origins: str,
        connect_timeout_s: float,
        turns: asyncio.Semaphore | None = None,
        overflowed: Callable[[], None] = lambda: None,
        came_from: Callable[[web.Request], str] = lambda _: "",
        admit: Callable[[str], Awaitable[int]] = _let_in,
        wasted: Callable[[Socket], None] = lambda _: None,
        compression: Compression = NO_COMPRESSION,
        elsewhere: engine.Elsewhere = _nowhere,
    ) -> None:
        self.application = application
        self.wasted = wasted
        self._overflowed = overflowed
        self._tasks = tasks
        self._wheel = wheel
        self._connect_timeout_s = connect_timeout_s
        # Who joins waits for one.
        self._turns = turns or asyncio.Semaphore(_TURNS)
        rules = Rules(
            wheel,
            ping_interval_s=ping_interval_s,
            ping_timeout_s=ping_timeout_s,
            outbox_max_bytes=outbox_max_bytes,
            frame_max_bytes=frame_max_bytes,
            bytes_per_s=bytes_per_s,
            overflowed=self._overflow,
            wasted=self._waste,
        )
        self.engine: engine.Engine[Socket] = engine.Engine(
            partial(Socket, self),
            rules,
            gateway=gateway,
            allowed_origins=allowed_origins,
            came_from=came_from,
            admit=admit,
            compression=compression,
            elsewhere=elsewhere,
        )
        super().__init__(client_manager=_Names(), async_handlers=False, logger=_library_log)
        self.on("connect", self._handshake)

    @property
    def sockets(self) -> dict[str, Socket]:
        """Every connection, by its Engine.IO id."""
        return self.engine.connections

    def attach(self, app: web.Application) -> None:
        """Serve sockets from an application."""
        engine.attach(app, self.engine.handle)

    def accept(self, *, is_accepting: bool) -> None:
        """Take new connections, or answer them 503."""
        self.engine.is_accepting = is_accepting

    # --- for its sockets -------------------------------------------------------------------------

    def spawn(self, coroutine: Any) -> asyncio.Task[None]:
        """A task of the gateway's own group."""
        return self._tasks.create_task(coroutine)

    def expect(self, socket: Socket) -> None:
        """A connection on which nobody joins the namespace does not stay."""
        self._wheel.after(self._connect_timeout_s, partial(self._close_unless_open, socket.sid))

    def _close_unless_open(self, sid: str) -> None:
        socket = self.sockets.get(sid)
        if socket is not None and not socket.is_open:
            socket.close_for_retry()

    async def join(self, socket: Socket, auth: dict[str, Any]) -> None:
        """Have the library join a client; it has heard the outcome then, and `is_open` tells."""
        async with self._turns:
            if socket.closed:  # it left in the same breath, or while it waited its turn
                return
            self.environ[socket.sid] = _NO_ENVIRON
            try:
                await self._handle_connect(socket.sid, _NAMESPACE, auth)
            finally:
                del self.environ[socket.sid]
                self.manager.joined(socket.id)

    def leave(self, socket: Socket) -> None:
        """A client leaves the namespace, or is gone."""
        if socket.is_open:
            socket.is_open = False
            self.application.closed(socket)

    # --- the library's seams ---------------------------------------------------------------------

    def _engineio_server_class(self) -> Callable[..., "_Beneath"]:
        return lambda **_: _Beneath(self.engine)

    async def _handshake(self, sid: str, environ: dict[str, Any], auth: dict[str, Any] | None = None) -> None:  # noqa: ARG002 - the library's signature
        socket = self.sockets[self.manager.connection_of(sid)]
        socket.id = sid
        try:
            await self.application.handshake(socket, auth or {})
        except Refusal as refusal:
            why = payloads.auth_failed(refusal)
            data: dict[str, Any] = {"code": why.code, "retryable": why.retryable}
            if refusal.retry_after_ms is not None:
                data["retryAfterMs"] = refusal.retry_after_ms
            raise socketio.exceptions.ConnectionRefusedError(why.message, data) from refusal
        if socket.closed:  # timed out, or cut off: who is gone has no session
            self.application.closed(socket)
            raise socketio.exceptions.ConnectionRefusedError("The connection is closed.")
        socket.is_open = True

    def _overflow(self, connection: Connection) -> None:
        # The id that the client was told; the other is a secret.
        log.warning("outbox is full: closing the socket", session=getattr(connection, "id", ""))
        self._overflowed()

    def _waste(self, connection: Connection) -> None:
        try:
            self.wasted(connection)  # type: ignore[arg-type] # all connections here are sockets
        except Refusal as refusal:
            raise Breach from refusal


class _Beneath:
    """What python-socketio asks of an Engine.IO server."""

    async_mode = "aiohttp"

    def __init__(self, beneath: "engine.Engine[Socket]") -> None:
        self._engine = beneath
        self.generate_id = beneath.generate_id

    def on(self, event: str, handler: object) -> None:
        """Sockets tell the server themselves."""

    async def send(self, sid: str, data: str) -> None:
        """A packet of the library's: CONNECT, or CONNECT_ERROR."""
        connection = self._engine.connections.get(sid)
        if connection is not None:  # else it was closed meanwhile
            connection.say(packets.message(data))


def _auth(text: str) -> dict[str, Any]:
    try:
        auth = msgspec.json.decode(text) if text else {}
    except events.UNREADABLE as error:
        raise Refusal(Code.MALFORMED) from error
    if not isinstance(auth, dict):
        raise Refusal(Code.MALFORMED)
    return auth
