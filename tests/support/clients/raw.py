"""RawClient: a WebSocket and Engine.IO by hand, for what no library would send."""

import asyncio
import json
import re
from collections import deque
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import aiohttp

from tests.support.history import History

_RECEIVE_TIMEOUT_S: Final = 10.0
_WINDOW_BITS: Final = 15
# Of a frame's first byte: what follows is compressed (RFC 7692, 6).
_COMPRESSED: Final = 0x40
_PING: Final = "2"
_PONG: Final = "3"
_EVENT: Final = re.compile(r"42\d*(?P<payload>\[.*)", re.DOTALL)

T = TypeVar("T")


class RawClient:
    """One WebSocket. What is sent and received is the frame as it is: types in digits, then JSON.

    `0{…}` open · `2` ping · `40{"sid":…}` connected · `41` disconnect · `42["name",…]` event ·
    `42<id>[…]` event that asks for an acknowledgement · `43<id>[…]` acknowledgement · `44{…}` refused.
    Pings are answered unless `answer_pings` is off; nothing else is done by itself.
    """

    def __init__(
        self, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse, name: str, history: History
    ) -> None:
        self.name = name
        self.answer_pings = True
        self.frames: list[str | bytes] = []
        """Everything received, pings included."""
        self._unread: deque[str | bytes] = deque()
        self._session = session
        self._socket = socket
        self._history = history

    @classmethod
    async def connect(
        cls,
        url: str,
        auth: dict[str, Any] | None = None,
        *,
        history: History | None = None,
        name: str = "raw",
        handshake: bool = True,
        compress: bool = False,
    ) -> Self:
        """A WebSocket to the gateway at `url` (http), opened by Engine.IO.

        With `handshake` the default namespace was asked for as well: next comes `40` or `44`. What it
        receives is recorded in `history` under `name`. With `compress` it offers permessage-deflate.
        """
        session = aiohttp.ClientSession()
        try:
            socket = await session.ws_connect(
                f"{url}/socket.io/?EIO=4&transport=websocket", compress=_WINDOW_BITS if compress else 0
            )
        except BaseException:
            await session.close()
            raise
        client = cls(session, socket, name, history or History())
        try:
            await client.expect("0{")
            if handshake:
                await client.send_text("40" if auth is None else f"40{json.dumps(auth)}")
        except BaseException:
            await client.close()
            raise
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def close_code(self) -> int | None:
        """The code the server closed with; 1006 if it went without a word, None while it is open."""
        return self._socket.close_code

    async def send_text(self, text: str) -> None:
        """Send one text frame."""
        await self._socket.send_str(text)

    @property
    def extensions(self) -> str | None:
        """What the server answered to an offer of compression."""
        return self._socket._response.headers.get("Sec-WebSocket-Extensions")

    def send_deflated_nowait(self, body: bytes) -> None:
        """Send one text frame that claims to be compressed, with `body` as it is."""
        self._socket._writer._write_websocket_frame(body, aiohttp.WSMsgType.TEXT, _COMPRESSED)

    async def send_bytes(self, data: bytes) -> None:
        """Send one binary frame."""
        await self._socket.send_bytes(data)

    async def send_event(self, event: str, payload: Any = None, ack: int | None = None) -> None:
        """Send a well-formed event; with `ack` its answer comes as a `43<ack>[…]` frame."""
        arguments = [event] if payload is None else [event, payload]
        await self.send_text(f"42{'' if ack is None else ack}{json.dumps(arguments, ensure_ascii=False)}")

    async def receive(self, timeout_s: float = _RECEIVE_TIMEOUT_S) -> str | bytes | None:
        """The next frame but pings, None once the socket is closed. Raises AssertionError."""
        if self._unread:
            return self._unread.popleft()
        return await self._within(timeout_s, "frame", self._receive())

    async def expect(self, *prefixes: str, timeout_s: float = _RECEIVE_TIMEOUT_S) -> str:
        """The next text frame that begins with one of `prefixes`; others stay for later.

        Raises AssertionError when the socket is closed or the time is up before.
        """
        return await self._expect(lambda frame: frame.startswith(prefixes), " or ".join(prefixes), timeout_s)

    async def expect_event(self, event: str, timeout_s: float = _RECEIVE_TIMEOUT_S) -> Any:
        """The first argument of the next `event`; others stay for later. Raises AssertionError."""
        frame = await self._expect(lambda frame: (_read_event(frame) or [None])[0] == event, event, timeout_s)
        _, *arguments = _read_event(frame) or [event]
        return arguments[0] if arguments else None

    async def expect_answer(self, ack: int, timeout_s: float = _RECEIVE_TIMEOUT_S) -> Any:
        """The acknowledgement of the event sent with `ack`. Raises AssertionError."""
        prefix = f"43{ack}"
        frame = await self.expect(f"{prefix}[", timeout_s=timeout_s)
        return json.loads(frame[len(prefix) :])[0]

    async def wait_closed(self, timeout_s: float = _RECEIVE_TIMEOUT_S) -> int:
        """Until the server closes the socket; its code. Raises AssertionError."""
        while await self.receive(timeout_s) is not None:
            pass
        return self.close_code or 1006

    async def close(self) -> None:
        """Close the socket, if the server has not."""
        await self._socket.close()
        await self._session.close()

    def dump(self) -> str:
        """What was received, for a person to read."""
        return "\n".join([f"{self.name} received {len(self.frames)} frames:", *(f"  {f!r:.300}" for f in self.frames)])

    async def _expect(self, wanted: Callable[[str], bool], what: str, timeout_s: float) -> str:
        for frame in self._unread:
            if isinstance(frame, str) and wanted(frame):
                self._unread.remove(frame)
                return frame
        return await self._within(timeout_s, what, self._receive_wanted(wanted, what))

    async def _within(self, timeout_s: float, what: str, received: Coroutine[Any, Any, T]) -> T:
        deadline = asyncio.timeout(timeout_s)
        try:
            async with deadline:
                return await received
        except TimeoutError:
            if not deadline.expired():
                raise
        raise AssertionError(f"{self.name}: no {what} within {timeout_s} s.\n{self.dump()}")

    async def _receive_wanted(self, wanted: Callable[[str], bool], what: str) -> str:
        while (frame := await self._receive()) is not None:
            if isinstance(frame, str) and wanted(frame):
                return frame
            self._unread.append(frame)
        raise AssertionError(f"{self.name}: closed ({self.close_code}) before {what}.\n{self.dump()}")

    async def _receive(self) -> str | bytes | None:
        while True:
            packet = await self._socket.receive()
            if packet.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                return None
            frame: str | bytes = packet.data
            self.frames.append(frame)
            if frame == _PING:
                if self.answer_pings:
                    await self.send_text(_PONG)
                continue
            if isinstance(frame, str) and (event := _read_event(frame)):
                self._history.record_event(self.name, event[0], event[1] if len(event) > 1 else None)
            return frame


def _read_event(frame: str) -> list[Any] | None:
    """The name and arguments of an event, None if `frame` is something else."""
    found = _EVENT.fullmatch(frame)
    return json.loads(found["payload"]) if found else None
