"""A WebSocket that reached the wrong gateway: its messages go through this one, in both directions.

Nothing waits here beyond what two connections buffer: who reads slowly holds up who writes, and the owner's
outbox is what overflows. Whoever closes, the other side hears the same code.
"""

import asyncio
import time
from contextlib import suppress
from typing import Final

import aiohttp
from aiohttp import WebSocketError, WSCloseCode, WSMsgType, web

from libs.wire import payloads
from services.gateway import packets

WebSocket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse

# A side that does not answer a close frame, or does not read what came before it, is waited for this long.
CLOSE_TIMEOUT_S: Final = 2.0


class Bridge:
    """One client of another gateway's. Both WebSockets are open."""

    def __init__(
        self, client: web.WebSocketResponse, owner: aiohttp.ClientWebSocketResponse, *, patience_s: float
    ) -> None:
        self._client = client
        self._owner = owner
        self._patience_s = patience_s
        self._leaving = asyncio.Event()
        # What the client is told before it is closed.
        self._farewell = ""
        # When a message last passed, by the monotonic clock.
        self.active_at = time.monotonic()
        # Who is being written to, by what ends it when it has taken too long.
        self._written: dict[asyncio.TimerHandle, WebSocket] = {}

    @property
    def closed(self) -> bool:
        """Whether it is on its way out."""
        return self._leaving.is_set()

    def send_back(self, after_s: float) -> None:
        """Close, so that the client comes back, to any gateway. The ticket it has must do: its owner makes them."""
        told = payloads.encode(payloads.Reconnect(round(after_s * 1000)))
        self._farewell = packets.event("reconnect", told).body.decode()
        self._leaving.set()

    async def run(self) -> None:
        """Until either side is gone, or does not read for `patience_s`; then both are closed."""
        async with asyncio.TaskGroup() as tasks:
            ways = (
                tasks.create_task(self._leave()),
                tasks.create_task(self._carry(self._client, self._owner)),
                tasks.create_task(self._carry(self._owner, self._client)),
            )
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for websocket in self._written.values():
                _abort(websocket)
            for way in ways:
                way.cancel()
        codes = [code for way in done if (code := way.result()) is not None]
        # Whose owner died, or who does not read, comes back to any gateway.
        code = codes[0] if codes else WSCloseCode.SERVICE_RESTART
        for websocket in (self._client, self._owner):
            asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, _abort, websocket)
            with suppress(ConnectionError, RuntimeError):
                await websocket.close(code=code)

    async def _carry(self, source: WebSocket, target: WebSocket) -> int | None:
        """Messages, until one side is gone. The code that `source` closed with, if it did."""
        with suppress(ConnectionError, RuntimeError):
            while True:
                message = await source.receive()
                if message.type is WSMsgType.CLOSE:
                    return int(message.data or WSCloseCode.OK)
                if message.type is WSMsgType.ERROR and isinstance(message.data, WebSocketError):
                    return int(message.data.code)
                if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    return None
                await self._write(target, message.data)
        return None

    async def _write(self, target: WebSocket, data: str | bytes) -> None:
        """Returns once `target` has room for more.

        Never cancelled while it waits for that: aiohttp could not wait for room again, not even to close.
        """
        self.active_at = time.monotonic()
        patience = asyncio.get_running_loop().call_later(self._patience_s, _abort, target)
        self._written[patience] = target
        try:
            await (target.send_str(data) if isinstance(data, str) else target.send_bytes(data))
        finally:
            del self._written[patience]
            patience.cancel()

    async def _leave(self) -> int | None:
        await self._leaving.wait()
        if self._client not in self._written.values():  # else it does not read, and would not hear it either
            with suppress(ConnectionError, RuntimeError):
                await self._write(self._client, self._farewell)
        return WSCloseCode.SERVICE_RESTART


def _abort(websocket: WebSocket) -> None:
    """Cut it off: what is left unread is not waited for. Harmless when it is closed."""
    if websocket._writer is not None:  # noqa: SLF001 - aiohttp gives the transport no other name
        websocket._writer.transport.abort()  # noqa: SLF001
