"""A gateway with one user before it: it signs in, answers, and says what it is told to say."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import socketio
from aiohttp import web

from services.local.issuer import ISSUER

REFUSED = {"ok": False, "error": {"code": "access_denied", "message": "You may not.", "retryable": False}}


class FakeGateway:
    """What it was sent, and what it was told was taken."""

    def __init__(self) -> None:
        self.server: Any = socketio.AsyncServer(async_mode="aiohttp")
        self.tokens: list[str] = []
        self.sent: list[dict[str, Any]] = []
        self.read: list[dict[str, Any]] = []
        self.confirmed = asyncio.Event()
        self.url = ""
        self.refuses = False
        for event, listener in {
            "connect": self._connect,
            "send_message": self._send_message,
            "mark_as_read": self._mark_as_read,
        }.items():
            self.server.on(event, listener)

    async def say(self, event: str, payload: dict[str, Any]) -> None:
        """Send an event; `confirmed` tells when the client has acknowledged it."""
        self.confirmed.clear()
        await self.server.emit(event, payload, callback=lambda *_: self.confirmed.set())

    async def status(self, index: int, status: str) -> None:
        """Tell how far the message sent at `index` got."""
        client_id = self.sent[index]["clientId"]
        await self.server.emit("message_delivery_status", {"clientId": client_id, "seq": 1, "status": status})

    async def _connect(self, sid: str, _: dict[str, Any], auth: dict[str, str]) -> None:
        self.tokens.append(auth["token"])
        if self.refuses:
            raise socketio.exceptions.ConnectionRefusedError(
                "This account is disabled.", {"code": "user_disabled", "retryable": False}
            )
        await self.server.emit("auth_success", {"userId": "asha", "userName": f"Asha of {ISSUER}"}, to=sid)

    async def _send_message(self, _: str, message: dict[str, Any]) -> dict[str, Any]:
        self.sent.append(message)
        if message["content"] == "no":
            return REFUSED
        return {"ok": True, "status": "sent", "seq": len(self.sent)}

    async def _mark_as_read(self, _: str, mark: dict[str, Any]) -> None:
        self.read.append(mark)


@asynccontextmanager
async def fake_gateway() -> AsyncIterator[FakeGateway]:
    """A gateway that listens while the block runs."""
    gateway = FakeGateway()
    app = web.Application()
    gateway.server.attach(app)
    runner = web.AppRunner(app, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        gateway.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield gateway
    finally:
        await gateway.server.shutdown()
        await runner.cleanup()
