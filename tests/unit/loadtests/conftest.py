"""A server that speaks as much of the contract as a swarm hears."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import WSMsgType, web


class Post:
    """Delivers direct messages, each with an acknowledgement asked for. `silent` users are not delivered to.

    Who sends to one of `cursed` is closed upon, once, instead of answered.
    """

    def __init__(self) -> None:
        self.url = ""
        self.sign_ins: list[str] = []
        self.acknowledged = 0
        self.silent: set[str] = set()
        self.cursed: set[str] = set()
        self.sockets: dict[str, web.WebSocketResponse] = {}

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """One socket."""
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        await socket.send_str('0{"sid":"s"}')
        auth = json.loads((await socket.receive_str())[2:])
        self.sign_ins.append(next(iter(auth)))
        uid = next(iter(auth.values()))
        if uid == "stranger":
            await socket.send_str('44{"message":"token_invalid"}')
            await socket.close()
            return socket
        self.sockets[uid] = socket
        await socket.send_str(f'42["auth_success",{{"resumeTicket":"{uid}"}}]')
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await self._take(socket, message.data)
        return socket

    async def _take(self, socket: web.WebSocketResponse, text: str) -> None:
        if text.startswith("43"):
            self.acknowledged += 1
            return
        start = text.index("[")
        number, (_, body) = text[2:start], json.loads(text[start:])
        if body["recipientId"] == "nobody":
            await socket.send_str(f'43{number}[{{"error":{{"code":"no_such_user"}},"ok":false}}]')
            return
        if body["recipientId"] in self.cursed:
            self.cursed.discard(body["recipientId"])
            await socket.close(code=1012)
            return
        if body["recipientId"] not in self.silent:
            said = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
            await self.sockets[body["recipientId"]].send_str(f'42{number}["new_message",{said}]')
        await socket.send_str(f'43{number}[{{"ok":true}}]')

    async def broadcast(self) -> None:
        """Warn everyone."""
        await asyncio.gather(*(each.send_str('421["emergency_broadcast",{}]') for each in self.sockets.values()))


@pytest.fixture
async def post() -> AsyncIterator[Post]:
    """A server on a port of its own."""
    post = Post()
    application = web.Application()
    application.router.add_get("/socket.io/", post.serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    post.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield post
    await runner.cleanup()
