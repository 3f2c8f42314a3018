"""A WebSocket by hand: bytes that no library would send, and frames as they come."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tests.unit.services.gateway.echo import Place

_KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="  # and its answer: RFC 6455, 1.3
ACCEPT: Final = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10
_MASK: Final = b"\x37\xfa\x21\x3d"
# Of a frame's first byte.
FINAL: Final = 0x80
COMPRESSED: Final = 0x40


def frame(kind: int, body: bytes = b"", *, flags: int = FINAL) -> bytes:
    """A client's frame."""
    if len(body) < 126:
        length = struct.pack("!B", 0x80 | len(body))
    elif len(body) < 1 << 16:
        length = struct.pack("!BH", 0x80 | 126, len(body))
    else:
        length = struct.pack("!BQ", 0x80 | 127, len(body))
    masked = bytes(byte ^ _MASK[number % 4] for number, byte in enumerate(body))
    return bytes([flags | kind]) + length + _MASK + masked


def text(said: str) -> bytes:
    """A text frame."""
    return frame(TEXT, said.encode())


def request(path: str, *headers: str, key: str = _KEY) -> bytes:
    """A handshake."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: gateway",
        "Connection: keep-alive, Upgrade",
        "Upgrade: WebSocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
        *headers,
        "\r\n",
    ]
    return "\r\n".join(lines).encode()


class Wire:
    """A connection of TCP."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def write(self, *data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(b"".join(data))

    async def head(self) -> str:
        """The head of a response."""
        return (await self._reader.readuntil(b"\r\n\r\n")).decode()

    async def frame(self) -> tuple[int, bytes]:
        """The next frame: its kind, with what flags it has, and its body."""
        first, length = await self._reader.readexactly(2)
        assert length < 0x80  # a server does not mask
        if length == 126:
            (length,) = struct.unpack("!H", await self._reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self._reader.readexactly(8))
        return first & ~FINAL, await self._reader.readexactly(length)

    async def text(self) -> str:
        """The next frame, which is a text frame."""
        kind, body = await self.frame()
        assert kind == TEXT
        return body.decode()

    async def close_code(self) -> int:
        """What the server closes with, whatever it says before."""
        while True:
            kind, body = await self.frame()
            if kind == CLOSE:
                return int.from_bytes(body, "big")

    async def end(self) -> bytes:
        """What comes before the server ends the connection."""
        return await self._reader.read()

    def pause_reading(self) -> None:
        """The phone does not read."""
        self.writer.transport.pause_reading()  # type: ignore[attr-defined] # it has sockets beneath

    def resume_reading(self) -> None:
        """The phone reads."""
        self.writer.transport.resume_reading()  # type: ignore[attr-defined] # it has sockets beneath


@asynccontextmanager
async def dial(place: Place) -> AsyncIterator[Wire]:
    """Connect; at the end, cut the connection off."""
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def opened(place: Place, *headers: str) -> AsyncIterator[Wire]:
    """A WebSocket on which nobody has joined yet."""
    async with dial(place) as wire:
        wire.write(request("/socket.io/?EIO=4&transport=websocket", *headers))
        assert (await wire.head()).startswith("HTTP/1.1 101 ")
        assert json.loads((await wire.text())[1:])["upgrades"] == []
        yield wire


@asynccontextmanager
async def joined(place: Place, *headers: str) -> AsyncIterator[Wire]:
    """A WebSocket on which a client has joined."""
    async with opened(place, *headers) as wire:
        wire.write(text("40"))
        assert (await wire.text()).startswith("40{")
        assert await wire.text() == '42["welcome",{}]'
        yield wire
