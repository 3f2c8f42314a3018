"""A bare application behind the sockets: no broker, and with `serving` a real port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from libs.telemetry import health  # noqa: F401 - it says what is no error of ours
from libs.wheel import Wheel
from libs.wire import events
from libs.wire.codes import Code, Refusal
from services.gateway.sockets import Server, Socket

FRAME_MAX_BYTES = 65_536


class Echo:
    """Answers events with their own text; refuses the token `bad`, and holds up the token `slow`."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.may_join = asyncio.Event()

    async def handshake(self, socket: Socket, auth: dict[str, Any]) -> None:  # noqa: ARG002 - the contract's signature
        """A client connects."""
        if auth.get("token") == "bad":
            raise Refusal(Code.TOKEN_INVALID)
        self.seen.append(("handshake", auth))
        if auth.get("token") == "slow":
            await self.may_join.wait()

    def opened(self, socket: Socket) -> None:
        """It is told."""
        socket.emit("welcome", b"{}")

    def event(self, socket: Socket, ack: int | None, text: bytes) -> None:
        """An event."""
        name, argument = events.split(text)
        self.seen.append((name, ack))
        if ack is not None:
            socket.answer(ack, bytes(argument))

    def acknowledged(self, socket: Socket, ack: int) -> None:  # noqa: ARG002 - the contract's signature
        """An acknowledgement."""
        self.seen.append(("ack", ack))

    def closed(self, socket: Socket) -> None:  # noqa: ARG002 - the contract's signature
        """It is gone."""
        self.seen.append("closed")


def server(application: Echo, tasks: asyncio.TaskGroup, wheel: Wheel, **options: Any) -> Server:
    """A server with that application behind it, bounded as a gateway is."""
    return Server(
        application,
        tasks,
        wheel,
        **{
            "gateway": "g1",
            "ping_interval_s": 25,
            "ping_timeout_s": 60,
            "frame_max_bytes": FRAME_MAX_BYTES,
            "outbox_max_bytes": FRAME_MAX_BYTES,
            "allowed_origins": "*",
            "connect_timeout_s": 60,
            **options,
        },
    )


class Place:
    """Where it is served."""

    def __init__(self, runner: web.AppRunner, server: Server, application: Echo) -> None:
        self.runner = runner
        self.server = server
        self.application = application
        self.port: int = runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}/socket.io/"

    @property
    def connections(self) -> dict[str, Socket]:
        """Who is connected."""
        return self.server.engine.connections

    @property
    def polling(self) -> str:
        """Where a connection is opened that is polled."""
        return f"{self.url}?EIO=4&transport=polling"

    @property
    def websocket(self) -> str:
        """Where a connection is opened on a WebSocket."""
        return f"{self.url}?EIO=4&transport=websocket"

    def of(self, sid: str, transport: str = "polling") -> str:
        """Where a connection goes on."""
        return f"{self.url}?EIO=4&transport={transport}&sid={sid}"


@asynccontextmanager
async def serving(*middlewares: Any, wheel: Wheel | None = None, **options: Any) -> AsyncIterator[Place]:
    """Serve an echo on a port of its own; whoever is left at the end is cut off."""
    application = Echo()
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        app = web.Application(client_max_size=FRAME_MAX_BYTES, middlewares=middlewares)
        served = server(application, tasks, wheel or Wheel(), **options)
        served.attach(app)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield Place(runner, served, application)
        finally:
            application.may_join.set()
            for connection in list(served.engine.connections.values()):
                connection.break_off()
            for websocket in list(served.engine._websockets):
                websocket.abort()
            await served.engine.wait_silent()
            await runner.cleanup()
