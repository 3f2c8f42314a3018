"""A WebSocket whose handshake aiohttp has done: frames in and out where the loop calls, no task, no queue.

After the handshake the transport gets this protocol instead of aiohttp's, whose request, parser, task and stream
are then free: 5 KB a socket instead of 25. aiohttp's compiled reader goes on reading frames; it hands each message to
`feed_data`, which takes it at once. What is sent in one turn of the loop is written at its end, in one call a socket.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

import structlog
from aiohttp import WSCloseCode, WSMsgType, web
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.http import WebSocketError, WebSocketReader

from libs.wheel import Wheel
from services.gateway.compression import Compression, Negotiated
from services.gateway.engine import packets
from services.gateway.engine.connection import CLOSE_TIMEOUT_S, Breach, Connection
from services.gateway.engine.packets import Packet

log = structlog.get_logger(__name__)

# No more than this gathers for one write.
_OUT_BYTES: Final = 65_536
# An upgrade that is not completed by then is given up; until it is, polls bring nothing.
_UPGRADE_TIMEOUT_S: Final = 10.0
# What may come at once, in seconds of what may come in the long run.
_BURST_S: Final = 8.0
# So much of one socket is taken in a turn of the loop, which reads 256 KB at a time: a flood of small frames would hold
# up everybody else for as long as it takes to refuse 6,000 of them.
_A_TURN_BYTES: Final = 8_192
# Of a frame's second byte.
_MASKED: Final = 0x80


Feed = Callable[[bytes], tuple[bool, bytes]]


class Taker(Protocol):
    """Who takes what a WebSocket brings: a connection, or the probe of one."""

    def take(self, text: str) -> None: ...
    def take_binary(self, data: bytes) -> None: ...
    def waste(self) -> None: ...
    def flush(self) -> None: ...
    def break_off(self) -> None: ...
    def carrier_lost(self) -> None: ...


class Writes:
    """WebSockets that have something to write: once a turn of the loop, each all it has in one call.

    What may wait (`send_soon`) waits for something else on its socket, and for `patience_s` at most: most of what it
    costs to write is the call.
    """

    def __init__(self, wheel: Wheel, patience_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._wheel = wheel
        self._patience_s = patience_s
        self._now: list[WebSocket] = []
        self._soon: list[WebSocket] = []

    def now(self, websocket: "WebSocket") -> None:
        """Something is to be written at the end of this turn."""
        if not self._now:
            self._loop.call_soon(self._write_now)
        self._now.append(websocket)

    def then(self, work: Callable[[], None]) -> None:
        """Something is to be done in the next turn, when others have had theirs."""
        self._loop.call_soon(work)

    def soon(self, websocket: "WebSocket") -> None:
        """Something is to be written within the patience."""
        if not self._soon:
            self._wheel.after(self._patience_s, self._write_soon)
        self._soon.append(websocket)

    def _write_now(self) -> None:
        websockets, self._now = self._now, []
        for websocket in websockets:
            websocket.write_out()

    def _write_soon(self) -> None:
        websockets, self._soon = self._soon, []
        for websocket in websockets:
            websocket.write_out()


class WebSocket(WebSocketDataQueue):
    """The reader's queue, which keeps nothing, and the transport's protocol, in one object."""

    __slots__ = (
        "_bytes_per_s",
        "_compression",
        "_feed",
        "_is_closing",
        "_is_due",
        "_is_held",
        "_lost",
        "_out",
        "_out_bytes",
        "_paid_until",
        "_rest",
        "_taker",
        "_transport",
        "_wheel",
        "_window_bits",
        "_writes",
        "is_writable",
    )

    # Its fields are those of a queue that is empty.
    def __init__(
        self,
        transport: asyncio.Transport,
        head: bytes,
        wheel: Wheel,
        writes: Writes,
        compression: Compression,
        lost: "Callable[[WebSocket], None]",
        *,
        window_bits: int,
        frame_max_bytes: int,
        bytes_per_s: int = 0,
    ) -> None:
        self._transport = transport
        self._wheel = wheel
        self._writes = writes
        # Frames of this turn, or that wait for others; whether they are to go this turn.
        self._out: list[bytes] | None = [head]
        self._out_bytes = len(head)
        self._is_due = True
        writes.now(self)
        self._compression = compression
        # It is closed, by either side.
        self._lost = lost
        self._window_bits = window_bits
        self._taker: Taker | None = None
        self._is_closing = False
        # Who takes from here is not to be given more.
        self._is_held = False
        # What has come is worth the time up to then, by the monotonic clock.
        self._bytes_per_s = bytes_per_s
        self._paid_until = 0.0
        # What was read, and is taken in the next turns.
        self._rest = b""
        self.is_writable = True
        # aiohttp refuses what is as large as its bound.
        reader = WebSocketReader(self, frame_max_bytes + 1, compress=window_bits > 0, decode_text=True)
        self._feed: Feed = partial(self._feed_first, reader.feed_data, b"")
        transport.set_protocol(self)  # type: ignore[arg-type] # it has what the loop calls

    def begin(self, taker: Taker, early: bytes) -> None:
        """Whoever takes from here is known; `early` came with the handshake."""
        self._taker = taker
        if early:
            self.data_received(early)

    # --- services.gateway.engine.connection.Carrier ---------------------------------------------

    def send(self, packet: Packet) -> None:
        """Write a packet with this turn; over a bound, and if the client offered it, compressed."""
        self._put(self._frame(packet))
        if not self._is_due:
            self._is_due = True
            self._writes.now(self)

    def send_soon(self, packet: Packet) -> None:
        """Write a packet with the next one, or a little later."""
        if self._out is None:
            self._writes.soon(self)
        self._put(self._frame(packet))

    def close(self, code: int) -> None:
        """Say goodbye; who does not answer it is cut off in a while."""
        if not self._is_closing:
            self._say_goodbye(code)
            self._wheel.after(CLOSE_TIMEOUT_S, self.abort)

    def write_out(self) -> None:
        """Write what has gathered."""
        out, self._out, self._out_bytes, self._is_due = self._out, None, 0, False
        if out is not None:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def _frame(self, packet: Packet) -> bytes:
        if self._window_bits and len(packet.body) > self._compression.min_bytes:
            self._compression.compressed()
            return packet.deflated(self._window_bits)
        return packet.frame()

    def _put(self, frame: bytes) -> None:
        if self._out is None:
            self._out = [frame]
        else:
            self._out.append(frame)
        self._out_bytes += len(frame)
        if self._out_bytes > _OUT_BYTES:  # so that the transport can say that the phone does not read
            self.write_out()

    def abort(self) -> None:
        """Cut it off. Harmless to repeat."""
        self._transport.abort()

    def pause_reading(self) -> None:
        """Take nothing more for now, but what has been read."""
        self._is_held = True
        self._stop_reading()

    def resume_reading(self) -> None:
        """Take what comes again."""
        self._is_held = False
        self._read_on()

    # --- the reader's queue --------------------------------------------------------------------

    def feed_data(self, data: Any, size: int) -> None:  # noqa: ARG002 - the reader's signature
        """One message."""
        kind = data.type
        if kind is WSMsgType.CLOSE:
            self._answer_close(data.data)
        elif self._is_closing or self._taker is None:
            return
        else:
            try:
                if kind is WSMsgType.TEXT:
                    self._taker.take(data.data)
                elif kind is WSMsgType.BINARY:
                    self._taker.take_binary(data.data)
                else:
                    self._taker.waste()
                    if kind is WSMsgType.PING:
                        self._answer_ping(bytes(data.data))
            except Breach:
                self._taker.break_off()

    def set_exception(self, exc: BaseException, _: object = None) -> None:
        """What came is no frame; or taking it failed, which is a mistake of ours."""
        if isinstance(exc, WebSocketError):
            self.close(exc.code)
        else:
            log.error("a frame could not be taken", error=type(exc).__name__, exc_info=exc)
            self.close(WSCloseCode.INTERNAL_ERROR)
        if self._taker is not None:
            self._taker.carrier_lost()

    def feed_eof(self) -> None:
        """Told by `connection_lost`."""

    # --- asyncio.Protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It was made before."""

    def data_received(self, data: bytes) -> None:
        """What came. Who sends faster than may be is read later: his own TCP holds him up, and nothing waits here."""
        if self._rest:
            self._rest += data
        elif len(data) > _A_TURN_BYTES:
            self._rest = data
            self._stop_reading()
            self._take_some()
        else:
            self._feed(data)
        if self._bytes_per_s:
            now = time.monotonic()
            self._paid_until = max(self._paid_until, now) + len(data) / self._bytes_per_s
            if self._paid_until - now > _BURST_S:
                self._stop_reading()
                self._read_on()

    def _take_some(self) -> None:
        data, self._rest = self._rest[:_A_TURN_BYTES], self._rest[_A_TURN_BYTES:]
        self._feed(data)
        if self._rest:
            self._writes.then(self._take_some)
        else:
            self._read_on()

    def _stop_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def _read_on(self) -> None:
        """Read again, unless whoever takes from here, a rest or the rate forbids it; the last two look again."""
        if self._is_held or self._rest or self._transport.is_closing():
            return
        over_s = self._paid_until - time.monotonic() - _BURST_S if self._bytes_per_s else 0.0
        if over_s > 0:
            self._wheel.after(over_s, self._go_on)
        else:
            self._transport.resume_reading()

    def _go_on(self) -> None:
        """The time that was over has passed."""
        self._paid_until = min(self._paid_until, time.monotonic() + _BURST_S)
        self._read_on()

    def _feed_first(self, feed: Feed, before: bytes, data: bytes) -> tuple[bool, bytes]:
        """A client masks its frames (RFC 6455, 5.1), which aiohttp does not ask: who does not mask the first is none.

        Asked of every frame it would cost more than reading it.
        """
        data = before + data
        if len(data) <= 1:
            self._feed = partial(self._feed_first, feed, data)
        elif data[1] & _MASKED:
            self._feed = feed
            return feed(data)
        else:
            self._feed = _ignore
            self.set_exception(WebSocketError(WSCloseCode.PROTOCOL_ERROR, "a frame without a mask"))
        return False, b""

    def eof_received(self) -> None:
        """The transport closes itself."""

    def pause_writing(self) -> None:
        """The phone does not read: what follows waits in the outbox."""
        self.is_writable = False

    def resume_writing(self) -> None:
        """The phone has read."""
        self.is_writable = not self._is_closing
        if self._taker is not None:
            self._taker.flush()

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002 - the loop's signature
        """The transport is closed, by either side."""
        self._lost(self)
        self.is_writable = False
        self._is_closing = True
        self._out = None
        taker, self._taker = self._taker, None
        self._rest = b""
        self._feed = _ignore  # the reader and this hold each other
        if taker is not None:
            taker.carrier_lost()

    def _answer_ping(self, data: bytes) -> None:
        self.write_out()  # what was said before goes before
        if self.is_writable:  # who does not read his pongs is not to fill our memory with them
            self._transport.write(packets.pong(data))

    def _answer_close(self, code: int) -> None:
        if not self._is_closing:
            self._say_goodbye(code or WSCloseCode.OK)
        self._transport.close()

    def _say_goodbye(self, code: int) -> None:
        self._is_closing = True
        self.is_writable = False  # nothing follows a close
        self.write_out()
        self._transport.write(packets.closing(code))


def _ignore(_: bytes) -> tuple[bool, bytes]:
    return True, b""


class Upgrade:
    """A WebSocket to a connection that is polled: probe, end the poll that waits, and the client's word."""

    def __init__(self, connection: Connection, websocket: WebSocket, wheel: Wheel) -> None:
        self._connection = connection
        self._websocket = websocket
        self._is_probed = False
        connection.probe = websocket
        self._timeout = wheel.after(_UPGRADE_TIMEOUT_S, self.break_off)

    def take(self, text: str) -> None:
        """`2probe`, then `5`."""
        if not self._is_probed and text == "2probe":
            self._is_probed = True
            self._websocket.send(packets.PROBED)
            self._connection.end_poll()
        elif self._is_probed and text == "5" and not self._connection.closed:
            self._timeout.cancel()
            self._websocket._taker = self._connection  # noqa: SLF001 - the same file's
            self._connection.carry(self._websocket)
        else:
            raise Breach

    def take_binary(self, _: bytes) -> None:
        """Nothing binary is said yet."""
        raise Breach

    def waste(self) -> None:
        """It counts as the connection's."""
        self._connection.waste()

    def flush(self) -> None:
        """Nothing waits here."""

    def break_off(self) -> None:
        """Polling goes on as before."""
        self._websocket.close(WSCloseCode.OK)
        self.carrier_lost()

    def carrier_lost(self) -> None:
        """The WebSocket is gone; polling goes on as before."""
        self._timeout.cancel()
        if self._connection.probe is self._websocket:
            self._connection.probe = None


class Handshake(Negotiated):
    """aiohttp's answer to a WebSocket's request, which is written with the first packet; then the transport is ours.

    For aiohttp it is a response that was sent, on a connection that is gone.
    """

    def take_over(self, request: web.Request) -> tuple[asyncio.Transport, bytes, bytes]:
        """The transport, what is to be written first, and what came by it already.

        Raises `HTTPBadRequest` for what is no such request, ConnectionResetError for who is gone.
        """
        headers, *_ = self._handshake(request)
        http, transport = request.protocol, request.transport
        if transport is None:
            raise ConnectionResetError("The client is gone.")
        http.transport = None
        http.connection_lost(None)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n".encode()
        return transport, head, http._message_tail  # noqa: SLF001 - aiohttp keeps there what no parser has been set for

    async def prepare(self, request: web.BaseRequest) -> Any:
        """What aiohttp asks at the beginning of a response."""

    async def write_eof(self, data: bytes = b"") -> None:
        """What aiohttp says at its end; this one does not end."""
