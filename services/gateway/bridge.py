"""A WebSocket that reached the wrong gateway: its messages go through this one, in both directions.

Nothing waits here beyond what two connections buffer: who reads slowly holds up who writes, and the owner's
outbox is what overflows. Whoever closes, the other side hears the same code.
"""

import asyncio
from contextlib import suppress
from typing import Final

import aiohttp
from aiohttp import WebSocketError, WSCloseCode, WSMsgType, web

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

    def close_for_retry(self) -> None:
        """Close so that the client comes back at once, to any gateway."""
        self._leaving.set()

    async def run(self) -> None:
        """Until either side is gone, or does not read for `patience_s`; then both are closed."""
        async with asyncio.TaskGroup() as tasks:
            leaving = tasks.create_task(self._leave())
            ways = {
                tasks.create_task(self._carry(source, target))
                for source, target in ((self._client, self._owner), (self._owner, self._client))
            } | {leaving}
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
        codes = [code for way in done if (code := way.result()) is not None]
        # Whose owner died, or who does not read, comes back to any gateway.
        code = codes[0] if codes else WSCloseCode.SERVICE_RESTART
        for websocket in (self._client, self._owner):
            with suppress(ConnectionError, RuntimeError, TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await websocket.close(code=code)

    async def _carry(self, source: WebSocket, target: WebSocket) -> int | None:
        """Messages, until one side is gone. The code that `source` closed with, if it did."""
        with suppress(ConnectionError, RuntimeError, TimeoutError):
            while True:
                message = await source.receive()
                if message.type is WSMsgType.CLOSE:
                    return int(message.data or WSCloseCode.OK)
                if message.type is WSMsgType.ERROR and isinstance(message.data, WebSocketError):
                    return int(message.data.code)
                async with asyncio.timeout(self._patience_s):
                    if message.type is WSMsgType.TEXT:
                        await target.send_str(message.data)
                    elif message.type is WSMsgType.BINARY:
                        await target.send_bytes(message.data)
                    else:
                        return None
        return None

    async def _leave(self) -> int | None:
        await self._leaving.wait()
        return WSCloseCode.SERVICE_RESTART
