"""A WebSocket on a real port, by hand: RFC 6455 to the letter, on each event loop; what is malformed has its code."""

import asyncio
import gc
import json
import weakref
import zlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest
import structlog.testing
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from services.gateway.compression import Compression
from services.gateway.engine import connection as connection_module
from services.gateway.engine import websocket as module
from services.gateway.pace import Paces
from services.gateway.sockets import Socket
from tests.support.waiting import until
from tests.unit.services.gateway.echo import FRAME_MAX_BYTES, Place, serving
from tests.unit.services.gateway.engine import wire as wires
from tests.unit.services.gateway.engine.wire import (
    BINARY,
    CLOSE,
    COMPRESSED,
    FINAL,
    PING,
    PONG,
    TEXT,
    Wire,
    dial,
    frame,
    joined,
    opened,
    request,
    text,
)
from tests.unit.services.gateway.fakes import FakeWheel

_SOON_S: Final = 10.0
_PATH: Final = "/socket.io/?EIO=4&transport=websocket"
_DEFLATE: Final = "Sec-WebSocket-Extensions: permessage-deflate"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not answer a close is not waited for."""
    for each in (connection_module, module):
        monkeypatch.setattr(each, "CLOSE_TIMEOUT_S", 0.05)


def _is_of(place: Place, one: Socket | module.WebSocket) -> bool:
    wheel = one._rules.wheel if isinstance(one, Socket) else one._wheel
    return wheel is place.server._wheel


def _the_socket(place: Place) -> Socket:
    (socket,) = place.connections.values()
    return socket


async def _wait_gone(place: Place) -> None:
    await until(lambda: not place.connections and not place.server.engine._websockets, _SOON_S, "it to be gone")


def _deflated(body: bytes) -> bytes:
    deflater = zlib.compressobj(9, wbits=-15)
    return (deflater.compress(body) + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


# --- the handshake ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quiet")
async def test_a_handshake_is_answered_and_the_first_packet_follows() -> None:
    """RFC 6455, 4.2.2; the packet says what will be."""
    async with serving() as place, dial(place) as wire:
        wire.write(request(_PATH))
        head = await wire.head()
        assert head.startswith("HTTP/1.1 101 Switching Protocols\r\n")
        assert f"Sec-WebSocket-Accept: {wires.ACCEPT}\r\n" in head
        hello = json.loads((await wire.text()).removeprefix("0"))
        assert hello == {
            "sid": _the_socket(place).sid,
            "upgrades": [],
            "pingInterval": 25_000,
            "pingTimeout": 60_000,
            "maxPayload": FRAME_MAX_BYTES,
        }


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    "handshake",
    [
        request(_PATH).replace(b"Version: 13", b"Version: 12"),
        request(_PATH).replace(b"Sec-WebSocket-Key: ", b"X-Key: "),
        request(_PATH, key="c2hvcnQ="),
        request(_PATH, key="=="),
        request(_PATH, key="భూమి"),
        request(_PATH).replace(b"keep-alive, Upgrade", b"keep-alive"),
        request(_PATH).replace(b"WebSocket\r\n", b"h2c\r\n"),
    ],
    ids=["version", "no key", "short key", "no base64", "no ASCII", "no upgrade", "another upgrade"],
)
async def test_a_handshake_that_is_none_is_refused(handshake: bytes) -> None:
    """And leaves nothing behind."""
    async with serving() as place, dial(place) as wire:
        wire.write(handshake)
        assert (await wire.head()).startswith("HTTP/1.1 400 ")
        assert not place.connections
        assert not place.server.engine._websockets


@pytest.mark.usefixtures("quiet")
async def test_what_comes_with_the_handshake_is_taken() -> None:
    """A client in a hurry sends all it has in one segment."""
    async with serving() as place, dial(place) as wire:
        wire.write(request(_PATH), text("40"), text('421["one",{"x":1}]'), frame(PING, b"?"))
        await wire.head()
        heard = [await wire.frame() for _ in range(5)]
        assert [body[:2] for kind, body in heard if kind == TEXT] == [b"0{", b"40", b"42", b"43"]
        assert (PONG, b"?") in heard
        assert ("one", 1) in place.application.seen


@pytest.mark.usefixtures("quiet")
async def test_what_comes_while_the_handshake_waits_is_taken() -> None:
    """However much it is: it is kept until somebody takes it."""
    may_come = asyncio.Event()

    async def admit(_: str) -> int:
        await may_come.wait()
        return 0

    async with serving(admit=admit) as place, dial(place) as wire:
        wire.write(request(_PATH), text("40"))
        long = "x" * 60_000
        for number in range(10):
            wire.write(text(f'42{number}["one","{long}"]'))
        await asyncio.sleep(0)
        may_come.set()
        await wire.head()
        heard = [await wire.text() for _ in range(13)]
        assert [said[:3] for said in heard[3:]] == [f"43{number}" for number in range(10)]


@pytest.mark.usefixtures("quiet")
async def test_what_comes_byte_by_byte_is_taken() -> None:
    """A segment ends anywhere."""
    async with serving() as place, dial(place) as wire:
        said = request(_PATH) + text("40") + text('421["one",{"x":1}]')
        for number in range(len(said)):
            wire.write(said[number : number + 1])
            await asyncio.sleep(0)
        await wire.head()
        assert [(await wire.text())[:2] for _ in range(4)] == ["0{", "40", "42", "43"]


@pytest.mark.usefixtures("quiet")
async def test_a_client_that_is_gone_before_it_is_admitted_is_no_error() -> None:
    """Nobody hears the answer, and nothing is left behind."""
    asked, may_come = asyncio.Event(), asyncio.Event()

    async def admit(_: str) -> int:
        asked.set()
        await may_come.wait()
        return 0

    async with serving(admit=admit) as place:
        async with dial(place) as wire:
            wire.write(request(_PATH))
            await asked.wait()
        server = place.runner.server
        assert server is not None
        await until(lambda: all(one.transport is None for one in server.connections), _SOON_S, "aiohttp to notice")
        may_come.set()
        await _wait_gone(place)
    assert not place.connections


# --- messages -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quiet")
async def test_a_message_may_come_in_fragments_and_a_ping_between_them() -> None:
    """RFC 6455, 5.4: the ping is answered first."""
    async with serving() as place, joined(place) as wire:
        said = '421["one","భూమి హక్కులు"]'.encode()
        wire.write(frame(TEXT, said[:20], flags=0))  # in the middle of a letter
        wire.write(frame(0, b"", flags=0), frame(PING, b"between"))
        assert await wire.frame() == (PONG, b"between")
        wire.write(frame(0, said[20:]))
        assert await wire.text() == '431["భూమి హక్కులు"]'


@pytest.mark.usefixtures("quiet")
async def test_pings_of_the_websocket_are_answered_and_pongs_are_none_of_ours() -> None:
    """With the ping's own data, up to all it may have."""
    async with serving() as place, joined(place) as wire:
        wire.write(frame(PING), frame(PONG, b"unasked"), frame(PING, b"x" * 125))
        assert await wire.frame() == (PONG, b"")
        assert await wire.frame() == (PONG, b"x" * 125)


@pytest.mark.usefixtures("quiet")
async def test_a_frame_as_large_as_the_bound_is_taken() -> None:
    """To the byte, and answered with another."""
    async with serving() as place, joined(place) as wire:
        head, tail = '421["one","', '"]'
        said = f"{head}{'x' * (FRAME_MAX_BYTES - len(head) - len(tail))}{tail}"
        assert len(said) == FRAME_MAX_BYTES
        wire.write(text(said))
        assert await wire.text() == said.replace('421["one",', "431[")


@pytest.mark.usefixtures("quiet")
async def test_large_messages_are_compressed_for_who_offered_it() -> None:
    """And read where they come compressed; small ones go as they are."""
    async with serving(compression=Compression(500, lambda: None)) as place, joined(place, _DEFLATE) as wire:
        said = '421["one","' + "x" * 1_000 + '"]'
        wire.write(frame(TEXT, _deflated(said.encode()), flags=FINAL | COMPRESSED))
        kind, body = await wire.frame()
        assert kind == TEXT | COMPRESSED
        assert zlib.decompressobj(-15).decompress(body).decode() == '431["' + "x" * 1_000 + '"]'
        wire.write(frame(TEXT, _deflated(b'422["one",5]'), flags=FINAL | COMPRESSED))
        assert await wire.text() == "432[5]"


# --- closing ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("said", "answer"),
    [(b"", 1000), (b"\x03\xe8", 1000), (b"\x03\xe9going away", 1001), (b"\x0f\xa1", 4001)],
    ids=["none", "1000", "1001", "4001"],
)
async def test_a_clients_close_is_answered_and_ends_the_connection(said: bytes, answer: int) -> None:
    """With its own code; what it says after that is not taken."""
    async with serving() as place, joined(place) as wire:
        wire.write(frame(CLOSE, said), text('421["one",1]'))
        assert await wire.frame() == (CLOSE, answer.to_bytes(2, "big"))
        assert await wire.end() == b""
        await _wait_gone(place)
        assert place.application.seen[1:] == ["closed"]


@pytest.mark.usefixtures("quiet")
async def test_a_servers_close_follows_what_was_said_and_ends_with_the_answer() -> None:
    """1012, which brings a client back; what it says in between is not taken."""
    async with serving() as place, joined(place) as wire:
        socket = _the_socket(place)
        socket.emit("last", b'"words"')
        socket.close_for_retry()
        assert await wire.text() == '42["last","words"]'
        assert await wire.frame() == (CLOSE, (1012).to_bytes(2, "big"))
        wire.write(text('421["one",1]'), frame(PING, b"?"), frame(CLOSE, (1012).to_bytes(2, "big")))
        assert await wire.end() == b""
        await _wait_gone(place)
        assert place.application.seen[1:] == ["closed"]


@pytest.mark.usefixtures("quiet", "impatient")
async def test_who_does_not_answer_a_close_is_cut_off() -> None:
    """In a while."""
    async with serving() as place, joined(place) as wire:
        _the_socket(place).close_for_retry()
        assert await wire.close_code() == 1012
        assert await wire.end() == b""
        await _wait_gone(place)


@pytest.mark.usefixtures("quiet")
async def test_nothing_is_said_after_a_close() -> None:
    """RFC 6455, 5.5.1: what is said in the same breath stays due."""
    async with serving() as place, joined(place) as wire:
        socket = _the_socket(place)
        carrier = socket.carrier
        assert carrier is not None
        wire.pause_reading()
        await until(lambda: _fill(socket), _SOON_S, "a phone that does not read")
        wire.write(b"\xf1\x80")  # a frame that is none
        await until(lambda: socket.closed, _SOON_S, "it to be closed")
        wire.resume_reading()
        code = await wire.close_code()
        assert code == 1002
        assert await wire.end() == b""


def _fill(socket: Socket) -> bool:
    carrier = socket.carrier
    for _ in range(1_000):
        if carrier is None or not carrier.is_writable:
            socket.emit("late", b'"words"')
            return True
        socket.emit("filler", b'"' + b"x" * 30_000 + b'"')
    return False


@pytest.mark.usefixtures("quiet")
async def test_a_client_that_closes_its_side_of_the_connection_hears_what_was_said_and_is_gone() -> None:
    """It cannot answer a ping any more."""
    async with serving() as place, joined(place) as wire:
        wire.write(text('421["one",1]'))
        wire.writer.write_eof()
        assert await wire.text() == "431[1]"
        assert await wire.end() == b""
        await _wait_gone(place)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("open_", [opened, joined])
async def test_a_client_that_is_cut_off_is_gone(open_: Callable[..., Any]) -> None:
    """At once; the application hears of it if it ever heard of it."""
    async with serving() as place:
        async with open_(place) as wire:
            wire.writer.transport.abort()
        await _wait_gone(place)
        assert place.application.seen[1:] == (["closed"] if open_ is joined else [])


# --- what is malformed ----------------------------------------------------------------------------------------


MALFORMED: Final[dict[str, tuple[bytes, int]]] = {
    "too large": (frame(TEXT, b"4" + b"x" * FRAME_MAX_BYTES), 1009),
    "said to be too large": (b"\x81\xff" + (1 << 62).to_bytes(8, "big") + b"mask", 1009),
    "said to be larger than any": (b"\x81\xff" + b"\xff" * 8 + b"mask", 1009),
    "too large in fragments": (
        frame(TEXT, b"4" + b"x" * 40_000, flags=0) + frame(0, b"x" * 40_000),
        1009,
    ),
    "no UTF-8": (frame(TEXT, b"4\xff\xfe"), 1007),
    "half a letter": (frame(TEXT, b"4\xe0\xb0"), 1007),
    "a reserved bit": (frame(TEXT, b"4x", flags=FINAL | 0x20), 1002),
    "another reserved bit": (frame(TEXT, b"4x", flags=FINAL | 0x10), 1002),
    "compressed without leave": (frame(TEXT, _deflated(b"4x"), flags=FINAL | COMPRESSED), 1002),
    "no kind": (frame(3, b"x"), 1002),
    "no kind of control": (frame(11), 1002),
    "a ping in fragments": (frame(PING, b"x", flags=0), 1002),
    "a ping that is too long": (frame(PING, b"x" * 126), 1002),
    "a close of one byte": (frame(CLOSE, b"\x03"), 1002),
    "a close with a code for nobody": (frame(CLOSE, (1005).to_bytes(2, "big")), 1002),
    "a close that is no UTF-8": (frame(CLOSE, (1000).to_bytes(2, "big") + b"\xff"), 1007),
    "the rest of nothing": (frame(0, b"x"), 1002),
    "a beginning in the middle": (frame(TEXT, b"4x", flags=0) + frame(TEXT, b"4x"), 1002),
    "no packet": (text("x"), 1008),
    "an empty frame": (frame(TEXT), 1008),
    "an open packet": (text("0{}"), 1008),
    "a message that is no packet": (text("4x"), 1008),
}


@pytest.mark.usefixtures("quiet", "impatient")
@pytest.mark.parametrize(("said", "code"), MALFORMED.values(), ids=MALFORMED)
async def test_what_is_malformed_closes_with_its_code(said: bytes, code: int) -> None:
    """It is the client's mistake: nothing is logged, and nothing that follows is taken."""
    async with serving() as place, joined(place) as wire:
        wire.write(said, text('421["one",1]'))
        assert await wire.close_code() == code
        assert await wire.end() == b""
        await _wait_gone(place)
        assert place.application.seen[1:] == ["closed"]


@pytest.mark.usefixtures("quiet", "impatient")
@pytest.mark.parametrize("cut", [1, 2, 40])
async def test_who_does_not_mask_is_no_client(cut: int) -> None:
    """RFC 6455, 5.1: closed with 1002 at the first frame, in however many segments it comes."""
    said = b"\x81\x02" + b"40"
    async with serving() as place, opened(place) as wire:
        for part in (said[:cut], said[cut:]):
            wire.write(part)
            await wire.writer.drain()
            await asyncio.sleep(0)
        assert await wire.close_code() == 1002
        await _wait_gone(place)
        assert place.application.seen == []


@pytest.mark.usefixtures("quiet", "impatient")
@pytest.mark.parametrize("kind", [PING, PONG])
async def test_pings_and_pongs_of_the_websocket_are_counted(kind: int) -> None:
    """As all that asks nothing of the application: who sends no end of them is closed."""
    paces = Paces(50, 20)
    async with serving(wasted=paces.frame) as place, joined(place) as wire:
        wire.write(frame(kind, b"x") * 10, text('421["one",1]'))
        while await wire.frame() != (TEXT, b"431[1]"):
            pass
        wire.write(frame(kind, b"x") * 1_000)
        assert await wire.close_code() == 1008


@pytest.mark.usefixtures("quiet")
async def test_a_flood_on_one_socket_lets_others_have_their_turns() -> None:
    """Twenty thousand events at once: another socket's is answered before the last of them, which come in order."""
    async with serving() as place, joined(place) as flood, joined(place) as other:
        flood.write(b"".join(text(f'42["n{number}",1]') for number in range(20_000)))
        await until(lambda: ("n0", None) in place.application.seen, _SOON_S, "it to begin")
        other.write(text('421["other",1]'))
        assert await other.text() == "431[1]"
        await until(lambda: ("n19999", None) in place.application.seen, _SOON_S, "all to be taken")
        names = [seen[0] for seen in place.application.seen if isinstance(seen, tuple) and seen[0] != "handshake"]
        assert names.index("other") < 19_999
        names.remove("other")
        assert names == [f"n{number}" for number in range(20_000)]


@pytest.mark.usefixtures("quiet")
async def test_who_sends_faster_than_may_be_is_read_later() -> None:
    """A burst is taken at once; what follows waits on the client's side, and is taken in its turn."""
    wheel, rate = FakeWheel(), 10_000
    events = [text(f'42{number}["one","{"x" * 1_000}"]') for number in range(90)]
    async with serving(bytes_per_s=rate, wheel=wheel) as place, joined(place) as wire:
        for event in events[:85]:  # 8 s worth
            wire.write(event)
        for number in range(70):
            assert (await wire.text()).startswith(f"43{number}[")
        carrier = _the_socket(place).carrier
        assert isinstance(carrier, module.WebSocket)
        await until(lambda: not carrier._transport.is_reading(), _SOON_S, "it not to be read")
        for event in events[85:]:
            wire.write(event)
        carrier.pause_reading()
        wheel.turn(9.0)
        assert not carrier._transport.is_reading()  # who takes from it has said that he is given no more
        carrier.resume_reading()
        for number in range(70, 90):
            if not carrier._transport.is_reading():
                wheel.turn(9.0)
            assert (await wire.text()).startswith(f"43{number}[")


@pytest.mark.usefixtures("quiet", "impatient")
@pytest.mark.parametrize(
    ("body", "code"),
    [(b"\xff" * 50, 1007), (_deflated(b"4" + bytes(60_000_000)), 1009)],
    ids=["no deflate", "a bomb"],
)
async def test_what_is_malformed_within_closes_with_its_code(body: bytes, code: int) -> None:
    """Once compression was agreed on."""
    async with serving(compression=Compression(500, lambda: None)) as place, joined(place, _DEFLATE) as wire:
        wire.write(frame(TEXT, body, flags=FINAL | COMPRESSED))
        assert await wire.close_code() == code
        await _wait_gone(place)


@pytest.mark.usefixtures("quiet")
async def test_binary_frames_are_refused_aloud() -> None:
    """No event of the contract has any, and the connection goes on."""
    async with serving() as place, joined(place) as wire:
        wire.write(frame(BINARY, b"\x00\x01"))
        assert '"binary_not_accepted"' in await wire.text()
        wire.write(text('421["one",1]'))
        assert await wire.text() == "431[1]"


@pytest.mark.usefixtures("impatient")
async def test_a_mistake_of_ours_closes_with_1011_and_is_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other sockets go on."""

    def fail(*_: object) -> None:
        raise ValueError("a mistake of ours")

    async with serving() as place, joined(place) as wire, joined(place) as other:
        with structlog.testing.capture_logs() as logs, monkeypatch.context() as patch:
            patch.setattr(place.application, "event", fail)
            wire.write(text('421["one",1]'), text('422["one",1]'))
            assert await wire.close_code() == 1011
            await until(lambda: len(place.connections) == 1, _SOON_S, "it to be gone")
        assert [(entry["log_level"], entry["error"]) for entry in logs] == [("error", "ValueError")]
        other.write(text('423["one",1]'))
        assert await other.text() == "433[1]"


# --- a phone that reads slowly --------------------------------------------------------------------------------


@pytest.mark.usefixtures("quiet")
async def test_a_phone_that_reads_again_hears_everything_in_order() -> None:
    """What did not fit waited; from then on it is as before."""
    async with serving(outbox_max_bytes=1 << 24) as place, joined(place) as wire:
        socket = _the_socket(place)
        wire.pause_reading()
        said = 0
        long = "x" * 30_000

        def is_held_up() -> bool:
            nonlocal said
            for _ in range(20):
                socket.emit("number", f'[{said},"{long}"]'.encode())
                said += 1
            return socket._outbox is not None and len(socket._outbox) > 20

        await until(is_held_up, _SOON_S, "what is said to wait")
        wire.resume_reading()
        for number in range(said):
            assert (await wire.text()).startswith(f'42["number",[{number},')
        await until(lambda: socket._outbox is None, _SOON_S, "the outbox to be let go")
        wire.write(text('421["one",1]'))
        assert await wire.text() == "431[1]"


@pytest.mark.usefixtures("impatient")
async def test_a_phone_that_does_not_read_is_sent_back() -> None:
    """Its outbox was full; what waited in it is still due."""
    overflows = 0

    def overflowed() -> None:
        nonlocal overflows
        overflows += 1

    async with serving(overflowed=overflowed) as place, joined(place) as wire:
        socket = _the_socket(place)
        wire.pause_reading()

        def is_full() -> bool:
            for _ in range(20):
                socket.emit("filler", b'"' + b"x" * 30_000 + b'"')
            return overflows > 0

        await until(is_full, _SOON_S, "its outbox to be full")
        await _wait_gone(place)
        assert overflows == 1


@pytest.mark.usefixtures("quiet")
async def test_pings_from_a_phone_that_does_not_read_fill_nothing() -> None:
    """A pong that does not fit is not sent: nobody is to make us keep what he does not fetch."""
    async with serving() as place, joined(place) as wire:
        carrier = _the_socket(place).carrier
        assert isinstance(carrier, module.WebSocket)
        wire.pause_reading()
        pings = frame(PING, b"x" * 125) * 8_000
        for _ in range(16):
            wire.write(pings)
            await wire.writer.drain()
        wire.write(text('421["one",1]'))
        await until(lambda: ("one", 1) in place.application.seen, _SOON_S, "all pings to be read")
        assert carrier._transport.get_write_buffer_size() < 1 << 20
        wire.resume_reading()
        while (await wire.frame())[0] != TEXT:
            pass


# --- memory ---------------------------------------------------------------------------------------------------


async def test_nothing_of_the_request_lives_as_long_as_the_websocket() -> None:
    """aiohttp's request, its handler and its response are garbage, and its server no longer counts the connection."""
    made: list[weakref.ref[object]] = []
    of_others = [id(one) for one in _handlers()]

    @web.middleware
    async def watch(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        response = await handler(request)
        made.extend((weakref.ref(request), weakref.ref(response)))
        return response

    async with serving(watch) as place, joined(place) as wire:
        wire.write(text('421["one",1]'))
        assert await wire.text() == "431[1]"
        assert len(made) == 2
        assert place.runner.server is not None
        assert place.runner.server.connections == []

        def is_collected() -> bool:
            gc.collect()
            ours = [one for one in _handlers() if id(one) not in of_others]
            return ours == [] and all(one() is None for one in made)

        await until(is_collected, _SOON_S, "all to be garbage")


def _handlers() -> list[RequestHandler]:
    """Every connection of aiohttp's, those that other tests left behind as well."""
    return [one for one in gc.get_objects() if isinstance(one, RequestHandler)]


@pytest.mark.usefixtures("impatient")
async def test_nothing_of_a_websocket_outlives_it() -> None:
    """But for a moment: the wheel cuts off who does not answer, and looks who has not joined."""
    async with serving(connect_timeout_s=1.0) as place:
        async with joined(place) as wire:
            _the_socket(place).close_for_retry()
            assert await wire.close_code() == 1012
        await _wait_gone(place)

        def is_collected() -> bool:
            gc.collect()
            left = [one for one in gc.get_objects() if isinstance(one, Socket | module.WebSocket)]
            return not [one for one in left if _is_of(place, one)]

        await until(is_collected, _SOON_S, "all to be garbage")
        assert place.server.manager._joining == {}
        assert place.server.environ == {}


async def test_sockets_that_come_and_go_leave_nothing() -> None:
    """Neither in the server, nor among aiohttp's connections."""

    async def one(place: Place) -> Wire:
        async with joined(place) as wire:
            return wire

    async with serving() as place:
        await asyncio.gather(*(one(place) for _ in range(50)))
        await _wait_gone(place)
        assert place.application.seen.count("closed") == 50
        assert place.runner.server is not None
        assert place.runner.server.connections == []
