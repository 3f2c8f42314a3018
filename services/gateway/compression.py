"""Compression without memory: permessage-deflate (RFC 7692) a message at a time, gzip for polled bodies.

aiohttp's own negotiation keeps a compressor and a decompressor for the life of a socket, about 100 KB. Here both
sides promise `no_context_takeover`: a message over the bound is compressed by a compressor of its own, one that
comes in is inflated by a decompressor of its own, bounded, and between messages there is nothing.
"""

import gzip
import sys
import zlib
from collections.abc import Callable
from typing import Any, Final

from aiohttp import WSCloseCode, WSMsgType, hdrs, web
from aiohttp.http import WebSocketError, WebSocketReader
from msgspec import Struct

# zlib's fastest, as aiohttp's for WebSockets: a page shrinks to 19 %, with 6 to 16 % at 1.7 times the CPU.
_GZIP_LEVEL: Final = 1
# What RFC 7692 takes from the end of each message, alone or after a last block.
_TAIL: Final = b"\x00\x00\xff\xff"
_TAILS: Final = frozenset({b"", _TAIL, b"\x00" + _TAIL})
_BOTH_FORGET: Final = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
# zlib makes no smaller window than this for raw deflate, and no larger than the other.
_MIN_BITS: Final = 9
_MAX_BITS: Final = 15


class Accepted(Struct, frozen=True):
    """What is answered to an offer: how far back our compressor may refer (as a power of two), and the header."""

    window_bits: int
    header: str


def accept(offers: str) -> Accepted | None:
    """The first offer of a `Sec-WebSocket-Extensions` that can be kept, None if there is none."""
    for offer in offers.split(","):
        name, *parameters = (part.strip() for part in offer.split(";"))
        if name.lower() == "permessage-deflate" and (accepted := _accept(parameters)) is not None:
            return accepted
    return None


def _accept(parameters: list[str]) -> Accepted | None:
    """An offer with a parameter that is unknown, given twice or out of its bounds is declined (RFC 7692, 7.1)."""
    given: dict[str, str] = {}
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() in given:
            return None
        given[name.strip().lower()] = value.strip().strip('"')
    if given.pop("server_no_context_takeover", "") or given.pop("client_no_context_takeover", ""):
        return None
    client_bits = given.pop("client_max_window_bits", "")  # ours to ignore: any window can be inflated
    server_bits = given.pop("server_max_window_bits", None)
    if given or (client_bits and _bits(client_bits, 8) is None):
        return None
    if server_bits is None:
        return Accepted(_MAX_BITS, _BOTH_FORGET)
    bits = _bits(server_bits, _MIN_BITS)
    return None if bits is None else Accepted(bits, f"{_BOTH_FORGET}; server_max_window_bits={bits}")


def _bits(text: str, least: int) -> int | None:
    bits = int(text) if text.isascii() and text.isdecimal() and len(text) <= 2 else 0
    return bits if least <= bits <= _MAX_BITS else None


class Compression(Struct, frozen=True):
    """Bodies of more than `min_bytes` are compressed, for who offers it; 0 compresses nothing.

    `compressed` is called for each.
    """

    min_bytes: int
    compressed: Callable[[], None]

    def gzip(self, body: bytes) -> bytes:
        """A polled body, compressed."""
        self.compressed()
        return gzip.compress(body, _GZIP_LEVEL, mtime=0)


NO_COMPRESSION: Final = Compression(0, lambda: None)


class Negotiated(web.WebSocketResponse):
    """aiohttp's handshake, with the extension negotiated as above."""

    def __init__(self, compression: Compression, **options: Any) -> None:
        super().__init__(compress=False, **options)
        self._rules = compression
        # How far back a compressor may refer, as a power of two; 0 where nothing is compressed.
        self.window_bits = 0

    def _handshake(self, request: web.BaseRequest) -> Any:
        try:
            headers, protocol, _, _ = super()._handshake(request)
        except ValueError as error:  # a key that is not ASCII: aiohttp knows only of one that is no base64
            raise web.HTTPBadRequest(text="Handshake error") from error
        offers = ",".join(request.headers.getall(hdrs.SEC_WEBSOCKET_EXTENSIONS, ()))
        if self._rules.min_bytes and (accepted := accept(offers)) is not None:
            self.window_bits = accepted.window_bits
            headers[hdrs.SEC_WEBSOCKET_EXTENSIONS] = accepted.header
        return headers, protocol, 0, False  # the writer is told of none, and so keeps no compressor


class WebSocketResponse(Negotiated):
    """aiohttp's, with the extension kept as above."""

    def _post_start(self, *of_the_request: Any) -> None:
        self._compress = self.window_bits  # the reader takes compressed messages
        super()._post_start(*of_the_request)

    async def send_str(self, data: str, compress: int | None = None) -> None:
        """Send a text message; over the bound, and if the client offered it, compressed."""
        body = data.encode()
        if self.window_bits and len(body) > self._rules.min_bytes:
            compress = self.window_bits
            self._rules.compressed()
        await self.send_frame(body, WSMsgType.TEXT, compress)


class _OneMessage:
    """Inflates whole messages; keeps nothing of one for the next. aiohttp's reader makes one a socket."""

    def __init__(self, **_options: object) -> None:
        pass

    def decompress_sync(self, data: bytes, max_length: int) -> bytes:
        """A message. `max_length` is one more than the reader's bound, which no message may reach."""
        inflater = zlib.decompressobj(wbits=-_MAX_BITS)
        try:
            inflated = inflater.decompress(data, max_length - 1)
        except zlib.error as error:
            raise WebSocketError(WSCloseCode.INVALID_TEXT, "not deflate") from error
        if len(inflated) == max_length - 1:
            raise WebSocketError(WSCloseCode.MESSAGE_TOO_BIG, "inflates to more than a frame may hold")
        if inflater.unused_data not in _TAILS:
            raise WebSocketError(WSCloseCode.INVALID_TEXT, "more than one deflate stream")
        return inflated


# The compiled reader keeps what inflates where nothing else can reach it; it finds the class by this name.
# Nobody in a gateway negotiates a context, so that it is right for every WebSocket of the process.
sys.modules[WebSocketReader.__module__].ZLibDecompressor = _OneMessage  # type: ignore[attr-defined]
