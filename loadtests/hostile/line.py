"""One connection of an attacker: bytes as they are, and what comes back."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self
from urllib.parse import urlsplit

from loadtests import websocket
from loadtests.websocket import masked

_READ: Final = 65_536
_SMALL: Final = 4_096


class Turned(Exception):
    """Closed, cut off or refused; the message is how."""


class Line:
    """A TCP connection from an address of this machine."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: str) -> None:
        self.reader = reader
        self.writer = writer
        self.authority = authority
        self._rest = b""
        self._frames: list[tuple[int, bytes]] = []

    @classmethod
    @asynccontextmanager
    async def dial(cls, url: str, address: str, *, is_small: bool = False) -> AsyncIterator[Self]:
        """Connect; cut it off at the end. A small one takes next to nothing that is not read. Raises `Turned`."""
        target = urlsplit(url)
        made = socket.socket()
        made.setblocking(False)
        if is_small:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL)
        try:
            made.bind((address, 0))
            await asyncio.get_running_loop().sock_connect(made, (target.hostname, target.port))
        except OSError as error:
            made.close()
            raise Turned("not connected") from error
        reader, writer = await asyncio.open_connection(sock=made, limit=_READ)
        try:
            yield cls(reader, writer, target.netloc)
        except (OSError, EOFError) as error:
            raise Turned("cut off") from error
        finally:
            writer.transport.abort()

    async def send(self, data: bytes) -> None:
        """Write bytes as they are, as fast as they are taken."""
        self.writer.write(data)
        await self.writer.drain()

    async def status(self) -> str:
        """The status of an answer; all of it has been read."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                await self.reader.readexactly(int(line.partition(b":")[2]))
        return head[9:12].decode()

    async def body(self) -> bytes:
        """The body of an answer."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        (length,) = (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return await self.reader.readexactly(int(length.partition(b":")[2]))

    async def shake(self, *headers: str) -> None:
        """Open a WebSocket. Raises `Turned`."""
        request = websocket.upgrade(self.authority)
        self.writer.write(request[:-2] + "".join(f"{header}\r\n" for header in headers).encode() + b"\r\n")
        head = await self.reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            raise Turned(f"HTTP {head[9:12].decode()}")
        await self.next()

    async def sign_in(self, auth: str) -> None:
        """Open a WebSocket, and sign in on it. Raises `Turned`."""
        await self.shake()
        self.writer.write(masked(b"40" + auth.encode()))
        while not (said := await self.next()).startswith(b'42["auth_success"'):
            if said.startswith(b"44"):
                raise Turned("not signed in")

    async def next(self) -> bytes:
        """The next text. Raises `Turned` with the code of a close."""
        while True:
            while self._frames:
                kind, payload = self._frames.pop(0)
                if kind == websocket.CLOSE:
                    raise Turned(f"closed {int.from_bytes(payload[:2])}")
                if payload == b"2":
                    self.writer.write(masked(b"3"))
                elif kind == websocket.TEXT:
                    return payload
            data = await self.reader.read(_READ)
            if not data:
                raise Turned("cut off")
            self._frames, self._rest = websocket.split(self._rest + data)

    async def end(self) -> None:
        """Read until it is over. Raises `Turned`."""
        while True:
            await self.next()
