"""permessage-deflate as RFC 7692 has it, and nothing kept between messages; on a real WebSocket, without a gateway."""

import gc
import gzip
import struct
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.compression import Accepted, Compression, WebSocketResponse, accept

_FORGET: Final = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
_FRAME_MAX: Final = 65_536
_TELUGU: Final = "భూమి హక్కులు " * 200


# --- the offer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "offers",
    [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",  # browsers, ws
        "permessage-deflate; client_max_window_bits=15; server_no_context_takeover",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        "x-webkit-deflate-frame, Permessage-Deflate ; client_max_window_bits = 10",
        "permessage-deflate; server_max_window_bits=8, permessage-deflate",
    ],
)
def test_an_offer_is_answered_with_a_promise_to_forget(offers: str) -> None:
    """Whatever else is offered, and whichever offer can be kept."""
    assert accept(offers) == Accepted(15, _FORGET)


def test_a_smaller_window_is_promised_to_who_asks_for_it() -> None:
    """RFC 7692, 7.1.2.1: the answer has the parameter, and no more than was asked."""
    assert accept('permessage-deflate; server_max_window_bits="10"') == Accepted(
        10, f"{_FORGET}; server_max_window_bits=10"
    )


@pytest.mark.parametrize(
    "offers",
    [
        "",
        "permessage-bzip2",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=8",  # zlib has none so small
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=१२",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; unheard",
        "permessage-deflate;",
    ],
)
def test_an_offer_that_cannot_be_kept_is_declined(offers: str) -> None:
    """The WebSocket goes on without compression."""
    assert accept(offers) is None


@given(st.text())
def test_no_offer_is_an_error(offers: str) -> None:
    """Anything may stand in a header."""
    for text in (offers, f"permessage-deflate; {offers}", f"permessage-deflate; server_max_window_bits={offers}"):
        accepted = accept(text)
        assert accepted is None or 9 <= accepted.window_bits <= 15


def test_a_polled_body_is_gzipped() -> None:
    """As any client reads it."""
    assert gzip.decompress(Compression(1, lambda: None).gzip(_TELUGU.encode())) == _TELUGU.encode()


# --- messages ----------------------------------------------------------------------------------------------


class Echo:
    """A WebSocket that says what it is told."""

    def __init__(self, min_bytes: int) -> None:
        self.sent_compressed = 0
        self.closed_with: int | None = None
        self._rules = Compression(min_bytes, self._count)

    def _count(self) -> None:
        self.sent_compressed += 1

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One connection."""
        websocket = WebSocketResponse(self._rules, max_msg_size=_FRAME_MAX + 1)
        await websocket.prepare(request)
        async for message in websocket:
            if message.type is WSMsgType.TEXT:
                await websocket.send_str(message.data)
        self.closed_with = websocket.close_code
        return websocket


@asynccontextmanager
async def _connected(
    *, min_bytes: int = 1024, offered_bits: int = 15
) -> AsyncIterator[tuple[Echo, aiohttp.ClientWebSocketResponse]]:
    """A client that offers compression within a window, or with 0 none."""
    echo = Echo(min_bytes)
    app = web.Application()
    app.router.add_get("/", echo.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        async with aiohttp.ClientSession() as session, session.ws_connect(url, compress=offered_bits) as websocket:
            yield echo, websocket
    finally:
        await runner.cleanup()


def _deflated(body: bytes, *, final: bool = False) -> bytes:
    """A message as RFC 7692 (7.2.1) has it."""
    deflater = zlib.compressobj(9, wbits=-15)
    if final:
        return deflater.compress(body) + deflater.flush() + b"\x00"
    return (deflater.compress(body) + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


def _frames(body: bytes, *, parts: int = 1, compressed: bool = True) -> Iterator[bytes]:
    """A text message in frames of a client, masked with zeros."""
    size = -(-len(body) // parts)
    for number in range(parts):
        part = body[number * size : (number + 1) * size]
        first = (number == parts - 1) << 7 | (compressed and number == 0) << 6 | (number == 0)
        length = struct.pack("!B", 0x80 | len(part)) if len(part) < 126 else struct.pack("!BH", 0x80 | 126, len(part))
        if len(part) > 0xFFFF:
            length = struct.pack("!BQ", 0x80 | 127, len(part))
        yield bytes([first]) + length + bytes(4) + part


def _write(websocket: aiohttp.ClientWebSocketResponse, *frames: bytes) -> None:
    for frame in frames:
        websocket._writer.transport.write(frame)


async def test_small_messages_go_as_they_are_and_large_ones_compressed() -> None:
    """By their bytes, not their letters; a client that offered nothing gets nothing compressed."""
    for offered_bits, compressed in ((15, 2), (9, 2), (0, 0)):
        async with _connected(offered_bits=offered_bits) as (echo, websocket):
            for text in ("a" * 1024, "a" * 1025, "అ" * 342):
                await websocket.send_str(text)
                assert (await websocket.receive_str()) == text
            assert echo.sent_compressed == compressed


async def test_a_bound_of_0_negotiates_nothing() -> None:
    """Compression is off."""
    async with _connected(min_bytes=0) as (_, websocket):
        assert "Sec-WebSocket-Extensions" not in websocket._response.headers


async def test_compressed_messages_are_taken_whole_or_in_fragments() -> None:
    """Ended by a flush or by a last block; none refers to the one before; uncompressed ones may stand between."""
    async with _connected() as (_, websocket):
        body = _TELUGU.encode()
        for frames in (
            _frames(_deflated(body)),
            _frames(body, compressed=False),
            _frames(_deflated(body, final=True)),
            _frames(_deflated(body), parts=3),
            _frames(_deflated(b""), parts=1),
        ):
            _write(websocket, *frames)
        answers = [await websocket.receive_str() for _ in range(5)]
        assert answers == [_TELUGU, _TELUGU, _TELUGU, _TELUGU, ""]


async def test_a_message_may_inflate_to_a_frame_and_no_more() -> None:
    """The same bound as for what comes uncompressed, to the byte."""
    async with _connected() as (_, websocket):
        _write(websocket, *_frames(_deflated(b"x" * _FRAME_MAX)))
        assert await websocket.receive_str() == "x" * _FRAME_MAX
        _write(websocket, *_frames(_deflated(b"x" * (_FRAME_MAX + 1))))
        assert (await websocket.receive()).data == 1009


@pytest.mark.parametrize(
    "bomb",
    [_deflated(bytes(60_000_000)), _deflated(bytes(60_000_000), final=True)],
    ids=["flushed", "final"],
)
async def test_a_bomb_closes_with_1009(bomb: bytes) -> None:
    """Sixty megabytes in sixty thousand bytes."""
    assert len(bomb) < _FRAME_MAX
    async with _connected() as (_, websocket):
        _write(websocket, *_frames(bomb))
        assert (await websocket.receive()).data == 1009


@pytest.mark.parametrize(
    "body",
    [b"\xff" * 50, _deflated(b"a", final=True)[:-1] + _deflated(b"b", final=True)],
    ids=["junk", "two streams"],
)
async def test_what_is_no_deflate_closes_with_1007(body: bytes) -> None:
    """It is the client's mistake, and costs nothing."""
    async with _connected() as (_, websocket):
        _write(websocket, *_frames(body))
        assert (await websocket.receive()).data == 1007


async def test_who_offered_nothing_may_not_compress() -> None:
    """The mark of a compressed message is a breach of the protocol then."""
    async with _connected(offered_bits=0) as (_, websocket):
        _write(websocket, *_frames(_deflated(b"hello")))
        assert (await websocket.receive()).data == 1002


async def test_nothing_that_deflates_or_inflates_outlives_its_message() -> None:
    """Neither side of the server keeps a zlib object, whatever was sent and received."""
    kinds = (type(zlib.compressobj()), type(zlib.decompressobj()))
    async with _connected() as (echo, websocket):
        for _ in range(3):
            _write(websocket, *_frames(_deflated(_TELUGU.encode())))
            await websocket.receive_str()
        assert echo.sent_compressed == 3
        response = next(one for one in gc.get_objects() if isinstance(one, WebSocketResponse) and not one.closed)
        assert response._writer is not None
        assert response._writer._compressobj is None
        # zlib's objects are not the collector's; what holds one is.
        holders = [one for one in gc.get_objects() if type(one).__module__ == "aiohttp.compression_utils"]
        assert [one for one in holders if isinstance(getattr(one, "_decompressor", None), kinds)] == []
