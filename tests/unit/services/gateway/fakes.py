"""Fakes: a socket that remembers what it was told, a broker that remembers what was written."""

import json
from collections.abc import Sequence
from typing import Any

from libs.broker import Broker, type_of_command
from libs.identity import Claims
from libs.streams.producer import Producer
from libs.wire import codec
from libs.wire.frames import Inbound
from services.gateway.pace import Pace
from services.gateway.packets import Packet
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
        self.answered: list[tuple[int, Any]] = []
        self.closed = ""

    def emit(self, event: str, body: bytes, ack: int | None = None) -> None:
        """An event."""
        self.emitted.append((event, json.loads(body), ack))

    def say(self, packet: Packet) -> None:
        """What was made for many sockets, as this one would have been told it alone."""
        head, _, inside = packet.text[:-1].partition("[")
        if head.startswith("3"):
            self.answer(int(head[1:]), inside.encode())
        else:
            name, _, body = inside.partition(",")
            self.emit(name.strip('"'), body.encode(), int(head[1:]) if head[1:] else None)

    def emit_first(self, event: str, body: bytes, ack: int) -> None:
        """An event ahead of the others."""
        self.emitted.append((event, json.loads(body), ack))

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


class FakeBroker(Broker):
    """Takes every command; keeps the frames that were written, by stream."""

    def __init__(self) -> None:
        self.is_cluster = False
        self.frames: list[tuple[str, Inbound]] = []

    async def batch(self, commands: Sequence[type_of_command]) -> list[Any]:
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
    return Uplink(producer, partitions=16, overload_lag_s=10.0, overload_entries=1000)


def session(user_id: str = "asha", socket_id: str = "socket") -> tuple[Session, FakeSocket]:
    """A session that has just shown a good token, and its socket."""
    socket = FakeSocket(socket_id)
    return Session(socket, Claims(user_id, 0, FAR_MS)), socket
