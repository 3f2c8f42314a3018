"""Packets as bytes: made once, and the same object goes to every socket that they are for. Pure.

A packet is a digit and its data. On a WebSocket it is a text frame (RFC 6455, 5.2: a server's are not masked);
polled, several go into one body.
"""

import struct
import zlib
from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct

SEPARATOR: Final = "\x1e"
_TEXT: Final = 0x81
# A message of its own deflate stream (RFC 7692).
_COMPRESSED: Final = 0x40
_CLOSE: Final = 0x88
_PONG: Final = 0x8A
_SHORT: Final = 126
_MEDIUM: Final = 1 << 16
# zlib's fastest, as for what is polled.
_LEVEL: Final = 1
_TAIL: Final = b"\x00\x00\xff\xff"


class Packet:
    """One packet on its way out."""

    __slots__ = ("_deflated", "_frame", "body")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self._frame: bytes | None = None
        self._deflated: tuple[int, bytes] | None = None

    def frame(self) -> bytes:
        """The WebSocket frame; made when it is first asked for."""
        if self._frame is None:
            self._frame = _header(_TEXT, len(self.body)) + self.body
        return self._frame

    def deflated(self, window_bits: int) -> bytes:
        """The WebSocket frame, compressed for who looks back that far (a power of two); no context is kept."""
        if self._deflated is None or self._deflated[0] != window_bits:
            deflater = zlib.compressobj(_LEVEL, wbits=-window_bits)
            body = (deflater.compress(self.body) + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_TAIL)
            self._deflated = window_bits, _header(_TEXT | _COMPRESSED, len(body)) + body
        return self._deflated[1]


CLOSE: Final = Packet(b"1")
PING: Final = Packet(b"2")
PROBED: Final = Packet(b"3probe")
NOOP: Final = Packet(b"6")


class Hello(Struct, rename="camel", frozen=True):
    """What the first packet says; times in milliseconds."""

    sid: str
    upgrades: tuple[str, ...]
    ping_interval: int
    ping_timeout: int
    max_payload: int


def opening(hello: Hello) -> Packet:
    """The first packet."""
    return Packet(b"0" + msgspec.json.encode(hello))


def payload(packets: Iterable[Packet]) -> bytes:
    """What a poll is answered."""
    return b"\x1e".join(packet.body for packet in packets)


def closing(code: int) -> bytes:
    """The WebSocket frame that closes."""
    return _header(_CLOSE, 2) + code.to_bytes(2)


def pong(data: bytes) -> bytes:
    """The WebSocket frame that answers a WebSocket ping; its data is at most 125 bytes."""
    return _header(_PONG, len(data)) + data


def _header(first: int, length: int) -> bytes:
    if length < _SHORT:
        return bytes((first, length))
    if length < _MEDIUM:
        return struct.pack("!BBH", first, 126, length)
    return struct.pack("!BBQ", first, 127, length)
