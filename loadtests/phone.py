"""One phone: a socket on raw frames that signs in, acknowledges, answers pings, and tells its swarm.

No task and no decoded JSON, so that thousands of them fit a process and cost little.
"""

import asyncio
import time
from typing import Final, Protocol, cast
from urllib.parse import urlsplit

from msgspec import Struct

from loadtests import websocket
from loadtests.websocket import masked, split

_PONG: Final = masked(b"3")
_BYE: Final = masked(b"\x03\xe8", websocket.CLOSE)


class Crowd(Protocol):
    """Whom a phone tells. `greeting` is how its server says that one is signed in."""

    greeting: bytes

    def event(self, phone: "Phone", payload: bytes, start: int, now: float) -> None:
        """An event came: its name begins at `start`."""
        ...

    def answer(self, payload: bytes, now: float) -> None:
        """A message was answered."""
        ...

    def lost(self, phone: "Phone") -> None:
        """A socket that was signed in is closed."""
        ...


class Person(Struct, frozen=True):
    """Who signs in, where, and with what: `auth` is the handshake's, a JSON object."""

    uid: str
    url: str
    auth: str


class Phone(asyncio.Protocol):
    """One socket of one person."""

    __slots__ = (
        "_crowd",
        "_is_upgraded",
        "_rest",
        "_transport",
        "back_at",
        "code",
        "is_dismissed",
        "is_in",
        "is_leaving",
        "person",
        "ticket",
        "waiting",
    )

    def __init__(self, crowd: Crowd, person: Person) -> None:
        self._crowd = crowd
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._is_upgraded = False
        self.person = person
        self.ticket = b""
        self.is_in = False
        # It closes the socket itself; it was told not to come back by itself; the server's close code.
        self.is_leaving = False
        self.is_dismissed = False
        self.code = 0
        # When it was told to be back and does as it was told, by `time.perf_counter`; 0: by itself.
        self.back_at = 0.0
        self.waiting: asyncio.Future[str] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none of asyncio's classes
        self._rest, self._is_upgraded = b"", False
        self.is_leaving, self.is_dismissed, self.code, self.back_at = False, False, 0, 0.0
        self._transport.write(websocket.upgrade(urlsplit(self.person.url).netloc))

    def data_received(self, data: bytes) -> None:
        """Take what came; answer all of it in one write."""
        now = time.perf_counter()
        if self._rest:
            data = self._rest + data
        if not self._is_upgraded:
            data = self._upgrade(data)
            if not self._is_upgraded:
                return
        frames, self._rest = split(data)
        replies: list[bytes] = []
        for kind, payload in frames:
            if kind == websocket.TEXT:
                self._take(payload, now, replies)
            elif kind == websocket.PING:
                replies.append(masked(payload, websocket.PONG))
            elif kind == websocket.CLOSE:
                self._hear_close(int.from_bytes(payload[:2]), replies)
            else:
                self.hang_up()  # no server of Socket.IO sends it here
        if replies:
            self.write(b"".join(replies))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """Tell who waits, or the swarm."""
        self._transport = None
        was_in, self.is_in = self.is_in, False
        self.settle(f"closed {self.code}")
        if was_in:
            self._crowd.lost(self)

    def write(self, frame: bytes) -> None:
        """Send frames as they are. Nothing on a socket that is gone."""
        if self._transport is not None:
            self._transport.write(frame)

    def sign_out(self) -> None:
        """Close as clients do; the server closes the connection."""
        self.is_leaving = True
        self.write(_BYE)

    def hang_up(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def settle(self, why: str) -> None:
        """Signed in (no reason), or why not."""
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(why)

    def _upgrade(self, data: bytes) -> bytes:
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            self._rest = data
            return b""
        if not head.startswith(b"HTTP/1.1 101"):
            self.settle(head[9:12].decode())
            self.hang_up()
            return b""
        self._is_upgraded, self._rest = True, b""
        return rest

    def _hear_close(self, code: int, replies: list[bytes]) -> None:
        """The server closes, or answers; either way it closes the connection."""
        self.code = code
        if not self.is_leaving:
            replies.append(masked(code.to_bytes(2), websocket.CLOSE))

    def _take(self, payload: bytes, now: float, replies: list[bytes]) -> None:
        kind = payload[:2]
        if kind == b"42":
            bracket = payload.index(b"[", 2)
            if bracket > 2:
                replies.append(masked(b"43%b[]" % payload[2:bracket]))
            self._crowd.event(self, payload, bracket + 1, now)
        elif kind == b"43":
            self._crowd.answer(payload, now)
        elif payload == b"2":
            replies.append(_PONG)
        elif kind == b"0{":
            ticket = b'{"resumeTicket":"%b"}' % self.ticket if self.ticket else self.person.auth.encode()
            replies.append(masked(b"40" + ticket))
        elif kind == b"44":
            self.settle("connect_error")
        elif kind == b"41" or payload == b"1":
            self.is_dismissed = True
        if not self.is_in and payload.startswith(self._crowd.greeting):
            self.is_in = True
            self.settle("")
