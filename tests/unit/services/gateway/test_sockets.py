"""Socket.IO packets as their text has them, with a bare application behind: no broker, no network."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from engineio import exceptions
from hypothesis import given
from hypothesis import strategies as st

from libs.wire import events
from libs.wire.codes import Code, Refusal
from services.gateway.sockets import Server, Socket


class Echo:
    """Answers events with their own text; refuses the token `bad`."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def handshake(self, socket: Socket, auth: dict[str, Any]) -> None:  # noqa: ARG002 - the contract's signature
        """A client connects."""
        if auth.get("token") == "bad":
            raise Refusal(Code.TOKEN_INVALID)
        self.seen.append(("handshake", auth))

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


class Wire:
    """One connection: what is put in, and what comes out."""

    def __init__(self, server: Server, application: Echo, socket: Socket) -> None:
        self.server = server
        self.application = application
        self.socket = socket

    async def say(self, *texts: str | bytes) -> None:
        """Messages from the client. Raises EngineIOError where the connection is to be closed."""
        for text in texts:
            await self.server._handle_eio_message(self.socket.sid, text)

    def heard(self) -> list[str]:
        """What the client was sent since it was asked last."""
        packets = []
        while not self.socket.queue.empty():
            packet = self.socket.queue.get_nowait()
            if packet is not None:
                packets.append(str(packet.data))
        return packets


@asynccontextmanager
async def connection(*, connected: bool = True) -> AsyncIterator[Wire]:
    """A connection that (with `connected`) has joined the namespace."""
    application = Echo()
    async with asyncio.TaskGroup() as tasks:
        server = Server(
            application,
            tasks,
            gateway="g1",
            ping_interval_s=25,
            ping_timeout_s=60,
            frame_max_bytes=65_536,
            outbox_max_bytes=65_536,
            allowed_origins="*",
            connect_timeout_s=60,
        )
        socket = Socket(server.eio, server.eio.generate_id())
        server.eio.sockets[socket.sid] = socket
        await server._handle_eio_connect(socket.sid, {})
        wire = Wire(server, application, socket)
        if connected:
            await wire.say("0")
            wire.heard()
            application.seen.clear()
        yield wire


async def test_a_connect_is_answered_with_a_name_of_its_own() -> None:
    """Then the application may speak; what the client said of itself is handed on."""
    async with connection(connected=False) as wire:
        await wire.say('0{"token":"good"}')
        connected, welcome = wire.heard()
        assert json.loads(connected[1:]) == {"sid": wire.socket.id}
        assert wire.socket.id != wire.socket.sid
        assert welcome == '2["welcome",{}]'
        assert wire.application.seen == [("handshake", {"token": "good"})]


@pytest.mark.parametrize("text", ["0", "0{}", "0/,", "0/,{}", '0/,{"token":"x"}'])
async def test_the_default_namespace_may_be_named_or_not(text: str) -> None:
    """All spellings are the same."""
    async with connection(connected=False) as wire:
        await wire.say(text)
        assert wire.heard()[0].startswith("0{")


async def test_a_refused_connect_says_why() -> None:
    """With the code in `data`, as the contract has it; another may follow."""
    async with connection(connected=False) as wire:
        await wire.say('0{"token":"bad"}')
        (refused,) = wire.heard()
        assert json.loads(refused[1:])["data"] == {"code": "token_invalid", "retryable": False}
        await wire.say("0")
        assert wire.heard()[0].startswith("0{")


async def test_events_and_answers_carry_their_ids() -> None:
    """With and without; an acknowledgement of ours comes back under the id it was sent with."""
    async with connection() as wire:
        await wire.say('2["one"]', '27["two",{"x":1}]', '2/,8["three",5]', "39[]", "3/,10[1,2]")
        assert wire.application.seen == [("one", None), ("two", 7), ("three", 8), ("ack", 9), ("ack", 10)]
        assert wire.heard() == ['37[{"x":1}]', "38[5]"]
        wire.socket.emit("four", b'{"y":2}', 11)
        assert wire.heard() == ['211["four",{"y":2}]']


async def test_a_disconnect_ends_the_session_and_another_may_begin() -> None:
    """On the same connection, under another name."""
    async with connection() as wire:
        first = wire.socket.id
        await wire.say("1")
        assert wire.application.seen == ["closed"]
        await wire.say("0")
        assert wire.socket.id != first


@pytest.mark.parametrize(
    "text",
    ["", "x", "7", "2", "2{}", "2[]", "2[1]", '2/admin,["x"]', "3[]", "31", "4{}", "5-[]", "0", "0[]", "1/admin,"],
)
async def test_what_is_no_packet_is_said_and_closes(text: str) -> None:
    """The reader closes the connection on an EngineIOError."""
    async with connection() as wire:
        with pytest.raises(exceptions.EngineIOError):
            await wire.say(text)
        assert wire.heard()[0].startswith('2["error",{"code":"malformed"')


@given(st.one_of(st.text(max_size=60), st.text('0123456-/,[]{}"x', max_size=20), st.binary(max_size=10)))
async def test_any_message_is_taken_or_closes(message: str | bytes) -> None:
    """Nothing a client sends raises anything else."""
    async with connection() as wire:
        try:
            await wire.say(message)
        except exceptions.EngineIOError:
            return


async def test_attachments_of_a_refused_event_are_not_refused_again() -> None:
    """Two are announced and passed over; a third is a binary frame of its own."""
    async with connection() as wire:
        await wire.say('52-3["x",{"_placeholder":true,"num":0}]', b"one", b"two")
        answer, error = wire.heard()
        assert json.loads(answer[2:])[0]["error"]["code"] == "binary_not_accepted"
        assert error.startswith('2["error"')
        await wire.say(b"three")
        assert len(wire.heard()) == 1


async def test_a_namespace_that_does_not_exist_is_refused_under_its_own_name() -> None:
    """And nothing else happens."""
    async with connection() as wire:
        await wire.say("0/admin,", '0/a?b=c,{"x":1}')
        assert wire.heard() == ['4/admin,{"message":"Invalid namespace"}', '4/a?b=c,{"message":"Invalid namespace"}']
        assert wire.socket.is_open


async def test_what_asks_nothing_of_the_application_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Binary packets, namespaces that do not exist, connecting again; a first connect, events and answers are not."""
    async with connection(connected=False) as wire:
        counted = 0

        def count(_: Socket) -> None:
            nonlocal counted
            counted += 1
            if counted > 4:
                raise Refusal(Code.RATE_LIMITED)

        monkeypatch.setattr(wire.server, "_wasted", count)
        await wire.say("0", '2["one"]', "30[]")
        assert counted == 0
        await wire.say(b"x", "0/admin,", '51-["x",{}]', b"y", "1", "0")
        assert counted == 4
        wire.heard()
        with pytest.raises(exceptions.EngineIOError):
            await wire.say(b"x")
        assert '"rate_limited"' in wire.heard()[-1]


@pytest.mark.parametrize(("wait_ms", "status"), [(0, "200 OK"), (1, "429 Too Many Requests")])
async def test_a_connection_that_is_not_admitted_has_no_socket(wait_ms: int, status: str) -> None:
    """It is answered 429, with the whole seconds to wait; who is admitted is known by the address it came from."""
    async with connection() as wire:

        async def admit(address: str) -> int:
            assert address == "203.0.113.7"
            return wait_ms

        wire.server.eio.came_from, wire.server.eio.admit = (lambda _: "203.0.113.7"), admit
        before = set(wire.server.sockets)
        answer = await wire.server.eio._handle_connect({"aiohttp.request": None}, "polling")
        assert answer["status"] == status
        made = [wire.server.sockets[sid] for sid in wire.server.sockets.keys() - before]
        assert [socket.address for socket in made] == ([] if wait_ms else ["203.0.113.7"])
        assert (("Retry-After", "1") in answer["headers"]) == bool(wait_ms)
        assert all(socket.pace is None for socket in made)


async def test_a_connection_that_is_counted_while_a_drain_begins_has_no_socket() -> None:
    """The drain has listed who is to be closed, and would never come to it."""
    async with connection() as wire:

        async def admit(_: str) -> int:
            wire.server.accept(is_accepting=False)
            return 0

        wire.server.eio.admit = admit
        before = set(wire.server.sockets)
        answer = await wire.server.eio._handle_connect({"aiohttp.request": None}, "polling")
        assert answer["status"] == "503 Service Unavailable"
        assert set(wire.server.sockets) == before


async def test_a_session_id_names_its_gateway_and_is_not_guessed() -> None:
    """Any other gateway knows whom a poll is for."""
    async with connection() as wire:
        ids = {wire.server.eio.generate_id() for _ in range(100)}
        assert len(ids) == 100
        assert {identity.partition(".")[0] for identity in ids} == {"g1"}
        assert min(len(identity) for identity in ids) > 20


async def test_pongs_that_nobody_asked_for_are_counted() -> None:
    """One answers a ping; 32,000 would fit a polled body, and each sets a timer."""

    def wasted(_: Socket) -> None:
        raise Refusal(Code.RATE_LIMITED)

    async with connection() as wire:
        wire.server.eio.wasted = wasted
        wire.socket._ping()
        await wire.socket._take_text("3")
        for kind in "35":
            with pytest.raises(exceptions.UnknownPacketError):
                await wire.socket._take_text(kind)
