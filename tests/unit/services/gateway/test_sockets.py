"""Socket.IO packets as their text has them, with a bare application behind: no broker, no network."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog.testing
from aiohttp import hdrs, web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from libs.wire.codes import Code, Refusal
from services.gateway.engine.connection import Breach
from services.gateway.sockets import Server, Socket
from tests.unit.services.gateway import echo
from tests.unit.services.gateway.echo import Echo
from tests.unit.services.gateway.fakes import FakeCarrier, FakeWheel


class Wire:
    """One connection: what is put in, and what comes out."""

    def __init__(self, server: Server, application: Echo, socket: Socket) -> None:
        self.server = server
        self.application = application
        self.socket = socket
        self.carrier = FakeCarrier()
        self.wheel = FakeWheel()

    async def say(self, *texts: str | bytes) -> None:
        """Messages from the client. Raises `Breach` where the connection is to be closed."""
        for text in texts:
            if isinstance(text, str):
                self.socket.take(f"4{text}")
            else:
                self.socket.take_binary(text)
            await self.socket.settled()

    def heard(self) -> list[str]:
        """What the client was sent since it was asked last."""
        texts = [text[1:] for text in self.carrier.texts if text[0] == "4"]
        self.carrier.sent.clear()
        return texts


@asynccontextmanager
async def connection(*, connected: bool = True, **options: Any) -> AsyncIterator[Wire]:
    """A connection that (with `connected`) has joined the namespace."""
    application = Echo()
    async with asyncio.TaskGroup() as tasks:
        wheel = FakeWheel()
        server = echo.server(application, tasks, wheel, **options)
        socket = server.engine._open(server.engine._rules, server.engine.generate_id(), "203.0.113.7")
        wire = Wire(server, application, socket)
        wire.wheel = wheel
        server.engine._begin(socket)
        socket.carry(wire.carrier)
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
    """Whoever carries the connection closes it on a `Breach`."""
    async with connection() as wire:
        with pytest.raises(Breach):
            await wire.say(text)
        assert wire.heard()[0].startswith('2["error",{"code":"malformed"')


@given(st.one_of(st.text(max_size=60), st.text('0123456-/,[]{}"x', max_size=20), st.binary(max_size=10)))
async def test_any_message_is_taken_or_closes(message: str | bytes) -> None:
    """Nothing a client sends raises anything else."""
    async with connection() as wire:
        try:
            await wire.say(message)
        except Breach:
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


async def test_what_asks_nothing_of_the_application_is_counted() -> None:
    """Binary packets, namespaces that do not exist, connecting again; a first connect, events and answers are not."""
    async with connection(connected=False) as wire:
        counted = 0

        def count(_: Socket) -> None:
            nonlocal counted
            counted += 1
            if counted > 4:
                raise Refusal(Code.RATE_LIMITED)

        wire.server.wasted = count
        await wire.say("0", '2["one"]', "30[]")
        assert counted == 0
        await wire.say(b"x", "0/admin,", '51-["x",{}]', b"y", "1", "0")
        assert counted == 4
        wire.heard()
        with pytest.raises(Breach):
            await wire.say(b"x")
        assert '"rate_limited"' in wire.heard()[-1]


async def _open(server: Server) -> web.StreamResponse:
    return await server.engine.handle(make_mocked_request("GET", "/socket.io/?EIO=4&transport=polling"))


@pytest.mark.parametrize(("wait_ms", "status"), [(0, 200), (1, 429)])
async def test_a_connection_that_is_not_admitted_has_no_socket(wait_ms: int, status: int) -> None:
    """It is answered 429, with the whole seconds to wait; who is admitted is known by the address it came from."""

    async def admit(address: str) -> int:
        assert address == "203.0.113.7"
        return wait_ms

    async with connection(came_from=lambda _: "203.0.113.7", admit=admit) as wire:
        before = set(wire.server.sockets)
        answer = await _open(wire.server)
        assert answer.status == status
        made = [wire.server.sockets[sid] for sid in wire.server.sockets.keys() - before]
        assert [socket.address for socket in made] == ([] if wait_ms else ["203.0.113.7"])
        assert answer.headers.get(hdrs.RETRY_AFTER) == ("1" if wait_ms else None)
        assert all(socket.pace is None for socket in made)


async def test_a_connection_that_is_counted_while_a_drain_begins_has_no_socket() -> None:
    """The drain has listed who is to be closed, and would never come to it."""

    async def admit(_: str) -> int:
        wire.server.accept(is_accepting=False)
        return 0

    async with connection(admit=admit) as wire:
        before = set(wire.server.sockets)
        answer = await _open(wire.server)
        assert answer.status == 503
        assert set(wire.server.sockets) == before


async def test_a_session_id_names_its_gateway_and_is_not_guessed() -> None:
    """Any other gateway knows whom a poll is for."""
    async with connection() as wire:
        ids = {wire.server.engine.generate_id() for _ in range(100)}
        assert len(ids) == 100
        assert {identity.partition(".")[0] for identity in ids} == {"g1"}
        assert min(len(identity) for identity in ids) > 20


async def test_pongs_that_nobody_asked_for_are_counted() -> None:
    """One answers a ping; 32,000 would fit a polled body, and each sets a timer."""

    def wasted(_: Socket) -> None:
        raise Refusal(Code.RATE_LIMITED)

    async with connection(wasted=wasted) as wire:
        wire.wheel.turn(25)
        wire.socket.take("3")
        for kind in "35":
            with pytest.raises(Breach):
                wire.socket.take(kind)


# --- joining ------------------------------------------------------------------------------------------------


async def test_clients_join_in_their_turn() -> None:
    """So many at once; who is gone when its turn comes is not asked about."""
    turns = asyncio.Semaphore(1)
    async with connection(connected=False, turns=turns) as wire:
        async with turns:
            wire.socket.take("40")
            await asyncio.sleep(0)
            assert wire.application.seen == []
        await wire.socket.settled()
        assert wire.application.seen == [("handshake", {})]
    async with connection(connected=False, turns=turns) as wire:
        async with turns:
            wire.socket.take("40")
            wire.socket.carrier_lost()
        await wire.socket.settled()
        assert wire.application.seen == []
    assert not turns.locked()


async def test_what_comes_while_a_client_joins_waits_and_is_taken_in_order() -> None:
    """Nothing more is read meanwhile; what was read already, binary data too, comes after the welcome."""
    async with connection(connected=False) as wire:
        wire.socket.take('40{"token":"slow"}')
        assert wire.carrier.paused == 1
        wire.socket.take("41")
        wire.socket.take("40")
        wire.socket.take('421["one"]')
        wire.socket.take_binary(b"x")
        wire.application.may_join.set()
        await wire.socket.settled()
        assert wire.carrier.resumed == wire.carrier.paused == 2
        assert [seen if isinstance(seen, str) else seen[0] for seen in wire.application.seen] == [
            "handshake",
            "closed",
            "handshake",
            "one",
        ]
        first, welcome, second, welcome_again, answer, error = wire.heard()
        assert (first[0], welcome, second[0], welcome_again) == ("0", '2["welcome",{}]', "0", '2["welcome",{}]')
        assert first != second
        assert answer == "31[{}]"
        assert '"binary_not_accepted"' in error


async def test_a_client_that_joins_and_upgrades_is_not_read_meanwhile() -> None:
    """Else it could say any amount that waits."""
    async with connection(connected=False) as wire:
        wire.socket.carrier = None  # as if it were polled
        wire.socket.take('40{"token":"slow"}')
        wire.socket.carry(wire.carrier)
        assert (wire.carrier.paused, wire.carrier.resumed) == (1, 0)
        wire.application.may_join.set()
        await wire.socket.settled()
        assert (wire.carrier.paused, wire.carrier.resumed) == (1, 1)


@pytest.mark.parametrize("last_word", ["1", "x"])
async def test_a_client_that_is_gone_before_it_has_joined_is_no_error(last_word: str) -> None:
    """Its goodbye, or nonsense, in one segment with the connect: nothing is kept of it, and nothing is said of it."""
    with structlog.testing.capture_logs() as logs:
        async with connection(connected=False) as wire:
            wire.socket.take("40")
            try:
                wire.socket.take(last_word)
            except Breach:
                wire.socket.break_off()
            await wire.socket.settled()
            assert wire.socket.closed
            assert not wire.socket.is_open
            assert wire.heard() == []
            assert wire.server.manager._joining == {}
    assert logs == []


async def test_a_client_that_leaves_while_it_joins_has_no_session() -> None:
    """The application hears that it is gone, and of nothing before."""
    async with connection(connected=False) as wire:
        wire.socket.take('40{"token":"slow"}')
        await asyncio.sleep(0)
        wire.socket.carrier_lost()
        wire.application.may_join.set()
        await wire.socket.settled()
        assert wire.application.seen == [("handshake", {"token": "slow"}), "closed"]
        assert not wire.socket.is_open
        assert wire.server.manager._joining == {}
        assert wire.server.environ == {}


async def test_who_does_not_join_in_time_is_sent_back() -> None:
    """Also who joined and left; who stays is left alone."""
    async with connection(connected=False, connect_timeout_s=10) as wire, connection(connect_timeout_s=10) as other:
        for each in (wire, other):
            each.wheel.turn(10)
            await asyncio.sleep(0)
        assert wire.carrier.closed_with == 1012
        assert other.carrier.closed_with is None
        await other.say("1")
        other.wheel.turn(10)
        await asyncio.sleep(0)
        assert other.carrier.closed_with == 1012
