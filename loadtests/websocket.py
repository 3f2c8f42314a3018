"""A WebSocket client's frames, no more of RFC 6455 than servers of Socket.IO use. Pure.

Frames to a server are masked with zeros, which the RFC allows and which leaves the payload as it is.
"""

import struct
from typing import Final

TEXT: Final = 0x81  # whole, as every frame here
CLOSE: Final = 0x88
PING: Final = 0x89
PONG: Final = 0x8A
_SHORT: Final = 126
_MEDIUM: Final = 1 << 16
_short: Final = struct.Struct("!BBI").pack
_medium: Final = struct.Struct("!BBHI").pack
_long: Final = struct.Struct("!BBQI").pack


def upgrade(authority: str) -> bytes:
    """The request that opens a Socket.IO connection to `host:port`, with the headers of a phone's client (Dart)."""
    return (
        f"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nuser-agent: Dart/3.5 (dart:io)\r\n"
        "connection: Upgrade\r\ncache-control: no-cache\r\naccept-encoding: gzip\r\nsec-websocket-version: 13\r\n"
        f"host: {authority}\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nupgrade: websocket\r\n\r\n"
    ).encode()


def masked(payload: bytes, kind: int = TEXT) -> bytes:
    """One frame to a server."""
    length = len(payload)
    if length < _SHORT:
        return _short(kind, 0x80 | length, 0) + payload
    if length < _MEDIUM:
        return _medium(kind, 0x80 | 126, length, 0) + payload
    return _long(kind, 0x80 | 127, length, 0) + payload


def split(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The whole frames of a server at the head of `data`, (first byte, payload) each, and what is left."""
    found = []
    at, end = 0, len(data)
    while end - at >= 2:
        length, start = data[at + 1], at + 2
        if length == 126:
            start = at + 4
            length = data[at + 2] << 8 | data[at + 3] if start <= end else 0
        elif length == 127:
            start = at + 10
            length = int.from_bytes(data[at + 2 : start])
        stop = start + length
        if stop > end:
            break
        found.append((data[at], data[start:stop]))
        at = stop
    return found, data[at:]
