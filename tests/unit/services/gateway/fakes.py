"""Fakes: a socket that remembers what it was told, what carries one, a broker, a wheel that is turned by hand."""

import asyncio
import heapq
import json
from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry

from libs.broker import Broker, type_of_command
from libs.identity import Claims
from libs.lives import Lives
from libs.streams.producer import Producer
from libs.wheel import Timeout, Wheel
from libs.wire import codec
from libs.wire.frames import Inbound
from services.gateway.compression import NO_COMPRESSION, Compression
from services.gateway.engine.packets import Packet
from services.gateway.engine.websocket import WebSocket, Writes
from services.gateway.metrics import GatewayMetrics
from services.gateway.pace import Pace
from services.gateway.sessions import Session
from services.gateway.uplink import Uplink

FAR_MS = 1 << 45


class FakeSocket:
    """What a session knows of its socket."""

    def __init__(self, socket_id: str = "socket") -> None:
        self.id = socket_id
        self.address = "203.0.113.7"
        self.pace: Pace | None = None
        self.emitted: list[tuple[str, Any, int | None]] = []
        # Of those, what might wait.
        self.patient: list[str] = []
        self.answered: list[tuple[int, Any]] = []
        self.closed = ""

    def emit(self, event: str, body: bytes, ack: int | None = None) -> None:
        """An event."""
        self.emitted.append((event, json.loads(body), ack))

    def say(self, packet: Packet) -> None:
        """What was made for many sockets, as this one would have been told it alone."""
        head, _, inside = packet.body.decode()[1:-1].partition("[")
        if head.startswith("3"):
            self.answer(int(head[1:]), inside.encode())
        else:
            name, _, body = inside.partition(",")
            self.emit(name.strip('"'), body.encode(), int(head[1:]) if head[1:] else None)

    def say_soon(self, packet: Packet) -> None:
        """One that may wait."""
        self.say(packet)
        self.patient.append(self.emitted[-1][0])

    def say_first(self, packet: Packet) -> None:
        """One ahead of the others."""
        self.say(packet)

    def set_barrier(self) -> None:
        """The end of the beginning."""

    def answer(self, ack: int, body: bytes) -> None:
        """An acknowledgement."""
        self.answered.append((ack, json.loads(body)))

    def close_for_retry(self) -> None:
        """A close."""
        self.closed = "retry"

    def close_for_good(self) -> None:
        """A close."""
        self.closed = "good"

    def close_for_breach(self) -> None:
        """A close."""
        self.closed = "breach"


class FakeCarrier:
    """A WebSocket: what went by it, and whether it takes more."""

    def __init__(self) -> None:
        self.is_writable = True
        self.paused = self.resumed = 0
        self.sent: list[Packet] = []
        # What waits for the next one.
        self.soon: list[Packet] = []
        self.closed_with: int | None = None
        self.is_aborted = False

    @property
    def texts(self) -> list[str]:
        """What went by it."""
        return [packet.body.decode() for packet in self.sent]

    def send(self, packet: Packet) -> None:
        """A packet."""
        assert self.is_writable
        assert self.closed_with is None
        self.sent += [*self.soon, packet]
        self.soon.clear()

    def send_soon(self, packet: Packet) -> None:
        """A packet that may wait."""
        assert self.is_writable
        assert self.closed_with is None
        self.soon.append(packet)

    def close(self, code: int) -> None:
        """A close; the first counts."""
        if self.closed_with is None:
            self.closed_with = code

    def abort(self) -> None:
        """A cut."""
        self.is_aborted = True

    def pause_reading(self) -> None:
        """Nothing more for now."""
        self.paused += 1

    def resume_reading(self) -> None:
        """Go on."""
        self.resumed += 1


class FakeTransport(asyncio.Transport):
    """A connection of TCP: what was written, call by call. Nothing comes by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = ""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Whom the loop would call."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """A call to the kernel."""
        assert not self.closed
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return bool(self.closed)

    def pause_reading(self) -> None:
        """Nothing is read."""

    def resume_reading(self) -> None:
        """Anything is read."""

    def close(self) -> None:
        """What was written is sent before."""
        self.closed = self.closed or "closed"

    def abort(self) -> None:
        """What was written is lost."""
        self.closed = "aborted"


def websocket(
    wheel: Wheel, writes: Writes, compression: Compression = NO_COMPRESSION, *, window_bits: int = 0
) -> tuple[WebSocket, FakeTransport]:
    """A WebSocket whose handshake is over, and what it writes to."""
    transport = FakeTransport()
    made = WebSocket(
        transport,
        b"101",
        wheel,
        writes,
        compression,
        lambda _: None,
        window_bits=window_bits,
        frame_max_bytes=65_536,
    )
    writes._write_now()
    transport.writes.clear()
    return made, transport


class FakeWheel(Wheel):
    """Its time passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._count = 0
        self._waiting: list[tuple[float, int, Timeout]] = []

    @property
    def pending(self) -> int:
        """Time-outs that have not come."""
        return len(self._waiting)

    def after(self, delay_s: float, then: Callable[[], object]) -> Timeout:
        """Something to be done."""
        self._count += 1
        timeout = Timeout(set(), then)
        heapq.heappush(self._waiting, (self.now_s + delay_s, self._count, timeout))
        return timeout

    def turn(self, by_s: float) -> None:
        """So much time passes."""
        until_s = self.now_s + by_s
        while self._waiting and self._waiting[0][0] <= until_s:
            self.now_s, _, timeout = heapq.heappop(self._waiting)
            timeout.run()
        self.now_s = until_s


class FakeBroker(Broker):
    """Takes every command; keeps the frames that were written, by stream."""

    def __init__(self) -> None:
        self.is_cluster = False
        self._lives = Lives()
        self.frames: list[tuple[str, Inbound]] = []

    async def attempt(self, commands: Sequence[type_of_command]) -> list[Any]:
        """Commands."""
        for name, stream, _, _, entry in commands:
            assert (name, type(entry)) == ("XADD", bytes)
            frames, unreadable = codec.unpack_inbound(bytes(entry) if isinstance(entry, bytes) else b"")
            assert not unreadable
            self.frames += [(str(stream), frame) for frame in frames]
        return [b"1-1"] * len(commands)


def uplink(broker: Broker, *, limit: int = 100) -> Uplink:
    """An uplink of 16 partitions."""
    producer = Producer(broker, limit=limit, linger_s=0)
    return Uplink(
        producer, partitions=16, overload_lag_s=10.0, overload_entries=1000, metrics=GatewayMetrics(CollectorRegistry())
    )


def session(user_id: str = "asha", socket_id: str = "socket") -> tuple[Session, FakeSocket]:
    """A session that has just shown a good token, and its socket."""
    socket = FakeSocket(socket_id)
    return Session(socket, Claims(user_id, 0, FAR_MS)), socket
