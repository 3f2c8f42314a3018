"""One connection: what becomes of each packet, whatever carries it. No I/O, no clock but the wheel's.

    polled ──probe, upgrade──▶ on a WebSocket ──▶ closed

What is said goes to the WebSocket while it takes more, else into an outbox, where the next poll finds it, or the
WebSocket once the phone has read. The protocol: https://socket.io/docs/v4/engine-io-protocol/
"""

import asyncio
import time
from base64 import b64decode
from collections.abc import Callable
from typing import Final, Protocol

from aiohttp import WSCloseCode

from libs.wheel import Timeout, Wheel
from services.gateway.engine import packets
from services.gateway.engine.packets import Packet
from services.gateway.outbox import Outbox, Overflow

# A close frame that a phone does not answer, or an outbox it does not read, is waited for this long.
CLOSE_TIMEOUT_S: Final = 2.0


class Breach(Exception):
    """What came is no packet, or none that may come now: the connection is closed."""


class Carrier(Protocol):
    """A WebSocket, as far as connections know it."""

    # Whether it takes more: what is sent goes on its way at once.
    is_writable: bool

    def send(self, packet: Packet) -> None: ...
    def send_soon(self, packet: Packet) -> None: ...
    def close(self, code: int) -> None: ...
    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Rules:
    """What all connections of a gateway share."""

    def __init__(
        self,
        wheel: Wheel,
        *,
        ping_interval_s: float,
        ping_timeout_s: float,
        outbox_max_bytes: int,
        frame_max_bytes: int,
        bytes_per_s: int = 0,
        overflowed: "Callable[[Connection], None]",
        wasted: "Callable[[Connection], None]",
    ) -> None:
        self.wheel = wheel
        self.ping_interval_s = ping_interval_s
        self.ping_timeout_s = ping_timeout_s
        self.outbox_max_bytes = outbox_max_bytes
        self.frame_max_bytes = frame_max_bytes
        # A WebSocket is read so fast; 0: as fast as it comes.
        self.bytes_per_s = bytes_per_s
        # An outbox was full.
        self.overflowed = overflowed
        # A packet came that is none of the application's. Raises `Breach` or a refusal when they are too many.
        self.wasted = wasted


class Connection:
    """Subclassed by whoever knows what messages say: the first methods are theirs."""

    __slots__ = (
        "_close_code",
        "_is_leaving",
        "_is_pinged",
        "_outbox",
        "_poll",
        "_rules",
        "_timeout",
        "active_at",
        "address",
        "carrier",
        "closed",
        "probe",
        "sid",
    )

    def __init__(self, rules: Rules, sid: str, address: str) -> None:
        self._rules = rules
        self.sid = sid
        self.address = address
        # When anything but a pong came from here, or a packet was said, by the monotonic clock.
        self.active_at = time.monotonic()
        self.closed = False
        self.carrier: Carrier | None = None
        # A WebSocket that is on its way to be the carrier.
        self.probe: Carrier | None = None
        self._outbox: Outbox | None = None
        # Resolved when there is something for the poll that waits.
        self._poll: asyncio.Future[None] | None = None
        self._timeout: Timeout | None = None
        self._close_code: int = WSCloseCode.OK
        self._is_leaving = False
        self._is_pinged = False

    # --- for who knows what messages say -------------------------------------------------------

    def message(self, text: str) -> None:
        """A message. Raises `Breach`, after which the connection is closed."""
        raise NotImplementedError

    def binary(self, data: bytes) -> None:
        """A binary message. Raises `Breach`."""
        raise NotImplementedError

    def begun(self) -> None:
        """The connection is open."""
        raise NotImplementedError

    def gone(self) -> None:
        """The connection is closed, and nothing comes from it any more."""
        raise NotImplementedError

    async def settled(self) -> None:
        """Returns once what came so far has been taken."""
        raise NotImplementedError

    @property
    def waiting_bytes(self) -> int:
        """What waits to be read or polled."""
        return 0 if self._outbox is None else self._outbox.waiting_bytes

    # --- what is said --------------------------------------------------------------------------

    def say(self, packet: Packet, *, is_first: bool = False) -> None:
        """Send a packet that was made once for any number of connections."""
        if self.closed or self._is_leaving:
            return  # nothing after a gap, nothing after goodbye: it stays due
        self.active_at = time.monotonic()
        carrier = self.carrier
        if carrier is not None and carrier.is_writable:
            carrier.send(packet)
        else:
            self._keep(packet, is_first=is_first)

    def say_soon(self, packet: Packet) -> None:
        """Send a packet that may wait a little for the next one."""
        carrier = self.carrier
        if carrier is not None and carrier.is_writable and not self.closed and not self._is_leaving:
            self.active_at = time.monotonic()
            carrier.send_soon(packet)
        else:
            self.say(packet)

    def say_first(self, packet: Packet) -> None:
        """Send a packet ahead of all that waits since `set_barrier`, but for what was sent so before it."""
        self.say(packet, is_first=True)

    def set_barrier(self) -> None:
        """Nothing overtakes what was said so far."""
        if self._outbox is not None:
            self._outbox.set_barrier()

    def _keep(self, packet: Packet, *, is_first: bool = False) -> None:
        if self._outbox is None:
            self._outbox = Outbox(self._rules.outbox_max_bytes)
        try:
            if is_first:
                self._outbox.put_first_nowait(packet)
            else:
                self._outbox.put_nowait(packet)
        except Overflow:
            self._rules.overflowed(self)
            self._abandon()
        else:
            self._wake_poll()

    # --- what comes ----------------------------------------------------------------------------

    def take(self, text: str) -> None:
        """A packet, as text. Raises `Breach`."""
        kind = text[:1]
        if kind == "4":
            self.active_at = time.monotonic()
            self.message(text[1:])
        elif kind == "3" and self._is_pinged:
            self._is_pinged = False
            self.expect_ping()
        elif kind == "1":
            self._end()
        elif kind in ("3", "5") and kind:  # that nobody asked for: 32,000 of them fit a post
            self._rules.wasted(self)
        else:
            raise Breach

    def waste(self) -> None:
        """A ping or a pong of the WebSocket's own. Raises `Breach` when they are too many."""
        self._rules.wasted(self)

    def take_polled(self, text: str) -> None:
        """A packet of a body that was posted, where binary data is base64 after a `b`. Raises `Breach`."""
        if text[:1] != "b":
            self.take(text)
            return
        try:
            data = b64decode(text[1:], validate=True)
        except ValueError as error:
            raise Breach from error
        self.take_binary(data)

    def take_binary(self, data: bytes) -> None:
        """A binary message. Raises `Breach`."""
        self.active_at = time.monotonic()
        self.binary(data)

    # --- polls ---------------------------------------------------------------------------------

    async def poll(self) -> bytes:
        """What there is to say, as soon as there is something. Raises `Breach` beside another poll, and when closed."""
        if self._poll is not None:
            raise Breach
        if self.probe is not None and not self.closed:  # what waits goes over the WebSocket, or by the poll after it
            return packets.NOOP.body
        if not self._outbox:
            if self.closed:
                raise Breach
            self._poll = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(self._rules.ping_interval_s + self._rules.ping_timeout_s):
                    await self._poll
                    await asyncio.sleep(0)  # what this turn has to say goes together: a goodbye with what came before
            except TimeoutError as error:
                raise Breach from error
            finally:
                self._poll = None
        outbox = self._outbox
        return packets.payload([outbox.get_nowait() for _ in range(len(outbox))]) if outbox else packets.NOOP.body

    @property
    def is_upgradable(self) -> bool:
        """Whether it is polled, and no WebSocket is on its way to carry it."""
        return self.carrier is None and self.probe is None and not self.closed

    def end_poll(self) -> None:
        """A WebSocket is probed: the poll that waits, if it finds nothing else, ends with a NOOP."""
        self._wake_poll()

    def _wake_poll(self) -> None:
        if self._poll is not None and not self._poll.done():
            self._poll.set_result(None)

    # --- the WebSocket -------------------------------------------------------------------------

    def carry(self, carrier: Carrier) -> None:
        """From now on this WebSocket carries the connection; what waits goes out by it."""
        self.carrier, self.probe = carrier, None
        self.flush()

    def flush(self) -> None:
        """The WebSocket takes more again."""
        carrier, outbox = self.carrier, self._outbox
        if carrier is None:
            return
        while outbox and carrier.is_writable:
            carrier.send(outbox.get_nowait())
        if not outbox:
            self._outbox = None
            if self.closed:
                carrier.close(self._close_code)

    def carrier_lost(self) -> None:
        """The WebSocket is gone, and the connection with it."""
        self._end()

    # --- pings ---------------------------------------------------------------------------------

    def expect_ping(self) -> None:
        """The next ping, an interval after this pong."""
        self._set_timeout(self._rules.ping_interval_s, self._ping)

    def _ping(self) -> None:
        self._is_pinged = True
        self._set_timeout(self._rules.ping_timeout_s, self._abandon)
        if self.carrier is not None and self.carrier.is_writable:
            self.carrier.send(packets.PING)
        else:
            self._keep(packets.PING)

    def _set_timeout(self, after_s: float, then: Callable[[], None]) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
        if not self.closed:
            self._timeout = self._rules.wheel.after(after_s, then)

    # --- the end -------------------------------------------------------------------------------

    def close(self, code: int) -> None:
        """Send what waits, then close; a WebSocket with this code. Whoever calls goes on as if it were open."""
        if not self.closed and not self._is_leaving:
            self._is_leaving = True
            self._close_code = code
            asyncio.get_running_loop().call_soon(self._end)

    def break_off(self) -> None:
        """Close on what is no packet."""
        self._close_code = WSCloseCode.POLICY_VIOLATION
        self._end()

    def _abandon(self) -> None:
        """Close; what waits is not sent."""
        if self._outbox is not None:
            self._outbox.clear()
        self.close(WSCloseCode.SERVICE_RESTART)

    def _end(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None
        if self.probe is not None:
            self.probe.close(WSCloseCode.OK)
        if self.carrier is None:
            if self._outbox is None:
                self._outbox = Outbox(self._rules.outbox_max_bytes)
            self._outbox.put_last_nowait(packets.CLOSE)
            self._wake_poll()
        else:
            self._rules.wheel.after(2 * CLOSE_TIMEOUT_S, self.carrier.abort)
            self.flush()
        self.gone()
