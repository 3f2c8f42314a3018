"""Packets as RFC 6455, RFC 7692 and the protocol have them, read back by somebody else's reader."""

import json
from typing import Any, Final

import pytest
from aiohttp import WSMsgType
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.http import WebSocketReader
from hypothesis import example, given
from hypothesis import strategies as st

from services.gateway import packets as socket_packets
from services.gateway.engine import packets
from services.gateway.engine.packets import Hello, Packet

_FRAME_MAX_BYTES: Final = 1 << 24


class Messages(WebSocketDataQueue):
    """Keeps what a reader reads."""

    def __init__(self) -> None:
        self.read_so_far: list[Any] = []

    def feed_data(self, data: Any, size: int) -> None:  # noqa: ARG002 - the reader's signature
        """A message."""
        self.read_so_far.append(data)


def _read(frames: bytes, *, compress: bool = False) -> list[tuple[WSMsgType, Any]]:
    """As aiohttp's reader has them."""
    messages = Messages()
    reader = WebSocketReader(messages, _FRAME_MAX_BYTES, compress=compress, decode_text=True)
    is_broken, _ = reader.feed_data(frames)
    assert not is_broken
    return [(message.type, message.data) for message in messages.read_so_far]


@pytest.mark.parametrize(
    ("length", "header"),
    [
        (0, "81 00"),
        (125, "81 7d"),
        (126, "81 7e 00 7e"),
        (65_535, "81 7e ff ff"),
        (65_536, "81 7f 00 00 00 00 00 01 00 00"),
    ],
)
def test_a_frame_says_its_length_in_as_few_bytes_as_will_do(length: int, header: str) -> None:
    """RFC 6455, 5.2; a server's frames are not masked, and ours are whole messages."""
    body = b"x" * length
    assert Packet(body).frame() == bytes.fromhex(header) + body


@given(st.lists(st.text(), min_size=1, max_size=5))
@example(["x" * 125, "x" * 126, "x" * 65_535, "x" * 65_536, "భూమి" * 40])
def test_what_is_framed_is_read_back(texts: list[str]) -> None:
    """Several in one go, too."""
    frames = b"".join(Packet(text.encode()).frame() for text in texts)
    assert _read(frames) == [(WSMsgType.TEXT, text) for text in texts]


@given(st.lists(st.text(), min_size=1, max_size=5), st.integers(9, 15))
@example(["భూమి హక్కులు " * 5_000, "x" * 200_000], 9)
def test_what_is_deflated_is_read_back(texts: list[str], window_bits: int) -> None:
    """Each message alone, whatever came before it, by whoever looks back that far."""
    frames = b"".join(Packet(text.encode()).deflated(window_bits) for text in texts)
    assert _read(frames, compress=True) == [(WSMsgType.TEXT, text) for text in texts]


def test_a_packet_is_made_once_for_any_number_of_sockets() -> None:
    """Its frame, and its compressed frame for those who look back equally far."""
    packet = Packet(b"4" + b"x" * 2_000)
    assert packet.frame() is packet.frame()
    assert packet.deflated(15) is packet.deflated(15)
    narrow = packet.deflated(9)
    assert narrow is packet.deflated(9)
    assert _read(packet.deflated(15) + narrow, compress=True) == [(WSMsgType.TEXT, "4" + "x" * 2_000)] * 2


@given(st.lists(st.text(st.characters(exclude_characters="\x1e", codec="utf-8")), min_size=1))
def test_a_payload_is_taken_apart_where_it_was_put_together(texts: list[str]) -> None:
    """Between packets stands what JSON escapes: no packet contains it."""
    body = packets.payload(Packet(text.encode()) for text in texts)
    assert body.decode().split(packets.SEPARATOR) == texts


@pytest.mark.parametrize("code", [1000, 1002, 1007, 1008, 1009, 1011, 1012, 4999])
def test_a_close_frame_carries_its_code(code: int) -> None:
    """And nothing else."""
    assert packets.closing(code) == b"\x88\x02" + code.to_bytes(2, "big")
    assert _read(packets.closing(code)) == [(WSMsgType.CLOSE, code)]


@given(st.binary(max_size=125))
def test_a_ping_of_the_websocket_is_answered_with_its_own_data(data: bytes) -> None:
    """RFC 6455, 5.5.3."""
    assert _read(packets.pong(data)) == [(WSMsgType.PONG, data)]


def test_the_first_packet_says_what_will_be() -> None:
    """In the words of the protocol."""
    said = packets.opening(Hello("g1.x", ("websocket",), 25_000, 60_000, 65_536)).body
    assert said[:1] == b"0"
    assert json.loads(said[1:]) == {
        "sid": "g1.x",
        "upgrades": ["websocket"],
        "pingInterval": 25_000,
        "pingTimeout": 60_000,
        "maxPayload": 65_536,
    }


def test_packets_of_socket_io_are_messages() -> None:
    """An event, one that asks for an acknowledgement, an acknowledgement, a refusal, the end."""
    body = '{"text":"నమస్తే"}'.encode()
    assert [
        socket_packets.event("hi", body).body,
        socket_packets.event("hi", body, 2**30).body,
        socket_packets.answer(5, b'{"ok":true}').body,
        socket_packets.unknown_namespace("/admin").body,
        socket_packets.DISCONNECT.body,
    ] == [
        b'42["hi",%b]' % body,
        b'421073741824["hi",%b]' % body,
        b'435[{"ok":true}]',
        b'44/admin,{"message":"Invalid namespace"}',
        b"41",
    ]
