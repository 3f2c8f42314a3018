"""Sockets on transports that only remember, and a loop whose turns are taken by hand."""

import asyncio
from collections.abc import Callable
from typing import Any

from services.gateway.engine.websocket import WebSocket
from services.gateway.sockets import Socket
from tests.unit.services.gateway import echo, fakes
from tests.unit.services.gateway.engine import wire
from tests.unit.services.gateway.fakes import FakeTransport, FakeWheel


class Echo(echo.Echo):
    """Answers, and remembers nothing."""

    def event(self, socket: Socket, ack: int | None, text: bytes) -> None:
        """An event."""
        socket.answer(ack or 0, text)

    def acknowledged(self, socket: Socket, ack: int) -> None:
        """An acknowledgement."""


class Turns:
    """What is to be called at the end of a turn of the loop."""

    def __init__(self) -> None:
        self._soon: list[Callable[[], object]] = []

    def call_soon(self, then: Callable[[], object]) -> None:
        """Behind what is ready to run."""
        self._soon.append(then)

    def turn(self) -> None:
        """The turn ends."""
        soon, self._soon = self._soon, []
        for then in soon:
            then()


class Place:
    """A server with an echo behind it."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.wheel = FakeWheel()
        self._server = echo.server(Echo(), tasks, self.wheel)
        self._turns = Turns()
        self.turn = self._turns.turn
        loop: Any = self._turns
        self._server.engine._writes._loop = loop

    async def joined(self) -> tuple[Socket, WebSocket, FakeTransport]:
        """A client that has joined, by a WebSocket of its own."""
        engine = self._server.engine
        socket = engine._open(engine._rules, engine.generate_id(), "203.0.113.7")
        websocket, transport = fakes.websocket(self.wheel, engine._writes)
        engine._begin(socket)
        socket.carry(websocket)
        websocket.begin(socket, wire.text("40"))
        await socket.settled()
        self.turn()
        transport.writes.clear()
        assert socket.is_open
        return socket, websocket, transport
