"""What a turn of the loop has for a socket is written in one call; what may wait goes along, or a little later."""

import asyncio
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.compression import NO_COMPRESSION, Compression
from services.gateway.engine import packets
from services.gateway.engine import websocket as module
from services.gateway.engine.packets import Packet
from services.gateway.engine.websocket import WebSocket, Writes
from tests.unit.services.gateway import fakes
from tests.unit.services.gateway.engine import wire
from tests.unit.services.gateway.fakes import FakeTransport, FakeWheel

_PATIENCE_S: Final = 0.2


class Scene:
    """WebSockets that share their writes."""

    def __init__(self) -> None:
        self.wheel = FakeWheel()
        self.writes = Writes(self.wheel, _PATIENCE_S)

    def open(
        self, compression: Compression = NO_COMPRESSION, *, window_bits: int = 0
    ) -> tuple[WebSocket, FakeTransport]:
        """A WebSocket, and what it writes to."""
        return fakes.websocket(self.wheel, self.writes, compression, window_bits=window_bits)


def _packet(text: str) -> Packet:
    return Packet(f"4{text}".encode())


def _frames(*texts: str) -> bytes:
    return b"".join(_packet(text).frame() for text in texts)


async def _turn() -> None:
    """The loop has gone round."""
    await asyncio.sleep(0)


# --- in one call --------------------------------------------------------------------------------------------


async def test_what_is_sent_in_a_turn_is_written_at_its_end_in_one_call() -> None:
    """Most of what it costs to write is the call; another turn's is another."""
    scene = Scene()
    websocket, transport = scene.open()
    for text in ("one", "two", "three"):
        websocket.send(_packet(text))
    assert transport.writes == []
    await _turn()
    assert transport.writes == [_frames("one", "two", "three")]
    websocket.send(_packet("four"))
    await _turn()
    assert transport.writes[1:] == [_frames("four")]
    await _turn()
    scene.wheel.turn(10.0)
    assert len(transport.writes) == 2


async def test_one_frame_alone_is_written_as_it_is() -> None:
    """The same bytes for every socket it is for: nothing is copied."""
    scene = Scene()
    packet = _packet("to all")
    opened = [scene.open() for _ in range(3)]
    written: list[bytes] = []
    for websocket, transport in opened:
        transport.write = written.append  # type: ignore[method-assign, assignment] # to see the object itself
        websocket.send(packet)
    await _turn()
    assert [one is packet.frame() for one in written] == [True] * 3


async def test_each_socket_has_a_call_of_its_own_in_the_same_turn() -> None:
    """Whoever was the first to have something."""
    scene = Scene()
    (one, ones), (two, twos), (_, silents) = scene.open(), scene.open(), scene.open()
    for number in range(3):
        one.send(_packet(f"one {number}"))
        two.send(_packet(f"two {number}"))
    await _turn()
    assert ones.writes == [_frames("one 0", "one 1", "one 2")]
    assert twos.writes == [_frames("two 0", "two 1", "two 2")]
    assert silents.writes == []


async def test_large_packets_are_compressed_on_their_way() -> None:
    """For who offered it, beside small ones that are not."""
    scene = Scene()
    websocket, transport = scene.open(Compression(500, lambda: None), window_bits=15)
    small, large = _packet("small"), _packet("large" * 200)
    websocket.send(small)
    websocket.send_soon(large)
    await _turn()
    assert transport.writes == [small.frame() + large.deflated(15)]


# --- what may wait ------------------------------------------------------------------------------------------


async def test_what_may_wait_goes_before_the_next_packet_in_the_same_call() -> None:
    """It was said before it."""
    scene = Scene()
    websocket, transport = scene.open()
    websocket.send_soon(_packet("tick"))
    websocket.send_soon(_packet("tick tick"))
    await _turn()
    scene.wheel.turn(_PATIENCE_S - 0.01)
    assert transport.writes == []
    websocket.send(_packet("message"))
    await _turn()
    assert transport.writes == [_frames("tick", "tick tick", "message")]
    scene.wheel.turn(10.0)
    assert len(transport.writes) == 1


async def test_what_may_wait_goes_along_behind_what_goes_this_turn() -> None:
    """And is not waited for."""
    scene = Scene()
    websocket, transport = scene.open()
    websocket.send(_packet("message"))
    websocket.send_soon(_packet("tick"))
    await _turn()
    assert transport.writes == [_frames("message", "tick")]
    assert scene.wheel.pending == 0


async def test_what_nothing_follows_goes_by_itself_after_the_patience() -> None:
    """Of all sockets at one time-out, each in one call."""
    scene = Scene()
    opened = [scene.open() for _ in range(3)]
    for websocket, _ in opened:
        websocket.send_soon(_packet("tick"))
        websocket.send_soon(_packet("tick tick"))
    assert scene.wheel.pending == 1
    scene.wheel.turn(_PATIENCE_S)
    assert [transport.writes for _, transport in opened] == [[_frames("tick", "tick tick")]] * 3


async def test_nothing_waits_longer_than_the_patience() -> None:
    """Also where it was preceded by others that went along with something else, or waits with another socket's."""
    scene = Scene()
    (one, ones), (two, twos) = scene.open(), scene.open()
    one.send_soon(_packet("tick"))
    one.send(_packet("message"))
    await _turn()
    scene.wheel.turn(_PATIENCE_S / 2)
    one.send_soon(_packet("tick"))
    two.send_soon(_packet("tock"))
    scene.wheel.turn(_PATIENCE_S)
    assert ones.writes == [_frames("tick", "message"), _frames("tick")]
    assert twos.writes == [_frames("tock")]
    one.send_soon(_packet("tick"))
    scene.wheel.turn(_PATIENCE_S)
    assert ones.writes[2:] == [_frames("tick")]


async def test_a_time_out_in_a_turn_that_writes_takes_all_there_is() -> None:
    """And at its end nothing is left."""
    scene = Scene()
    websocket, transport = scene.open()
    websocket.send_soon(_packet("tick"))
    websocket.send(_packet("message"))
    scene.wheel.turn(_PATIENCE_S)
    await _turn()
    assert transport.writes == [_frames("tick", "message")]


async def test_a_pong_goes_behind_what_was_said_before_it() -> None:
    """It is written at once, and so is what waits."""
    scene = Scene()
    websocket, transport = scene.open()
    websocket.begin(Outboxed(websocket), b"")
    websocket.send_soon(_packet("tick"))
    websocket.send(_packet("message"))
    websocket.data_received(wire.frame(wire.PING, b"?"))
    assert b"".join(transport.writes) == _frames("tick", "message") + packets.pong(b"?")
    await _turn()
    scene.wheel.turn(_PATIENCE_S)
    assert len(transport.writes) == 2


# --- the bound ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("send", [WebSocket.send, WebSocket.send_soon])
async def test_no_more_than_a_bound_gathers(
    monkeypatch: pytest.MonkeyPatch, send: Callable[[WebSocket, Packet], None]
) -> None:
    """Else the transport could not say that the phone does not read."""
    monkeypatch.setattr(module, "_OUT_BYTES", 100)
    websocket, transport = Scene().open()
    long = "x" * 40
    for _ in range(3):
        send(websocket, _packet(long))
    assert transport.writes == [_frames(long, long, long)]  # 129 bytes
    send(websocket, _packet(long * 3))
    assert transport.writes[1:] == [_frames(long * 3)]


_SAYS: Final = st.tuples(st.sampled_from(["send", "soon", "turn", "wait"]), st.integers(0, 300))


@given(st.lists(_SAYS, max_size=60))
async def test_nothing_is_lost_doubled_or_reordered_and_no_more_than_a_bound_gathers(
    steps: list[tuple[str, int]],
) -> None:
    """Whatever is sent, soon or now, in one turn or in several."""
    scene = Scene()
    websocket, transport = scene.open()
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_OUT_BYTES", 500)
        for name, count in steps:
            text = f"{len(said)} {'x' * count}"
            match name:
                case "send":
                    said.append(text)
                    websocket.send(_packet(text))
                case "soon":
                    said.append(text)
                    websocket.send_soon(_packet(text))
                case "turn":
                    is_due = websocket._is_due
                    await _turn()
                    assert not is_due or websocket._out is None
                case "wait":
                    scene.wheel.turn(_PATIENCE_S)
                    assert websocket._out is None or websocket._is_due
            assert sum(map(len, websocket._out or ())) <= 500
        await _turn()
        scene.wheel.turn(_PATIENCE_S)
    assert b"".join(transport.writes) == _frames(*said)
    assert all(transport.writes)


# --- the end ------------------------------------------------------------------------------------------------


async def test_what_waits_is_written_before_a_close() -> None:
    """And nothing after it."""
    scene = Scene()
    websocket, transport = scene.open()
    websocket.send_soon(_packet("tick"))
    websocket.send(_packet("message"))
    websocket.close(1012)
    assert b"".join(transport.writes) == _frames("tick", "message") + packets.closing(1012)
    await _turn()
    scene.wheel.turn(_PATIENCE_S)
    assert b"".join(transport.writes) == _frames("tick", "message") + packets.closing(1012)


async def test_what_waits_is_written_before_a_clients_close_is_answered() -> None:
    """It may still read."""
    scene = Scene()
    websocket, transport = scene.open()
    websocket.send_soon(_packet("tick"))
    websocket.data_received(wire.frame(wire.CLOSE, (1000).to_bytes(2, "big")))
    assert b"".join(transport.writes) == _frames("tick") + packets.closing(1000)
    assert transport.closed == "closed"
    await _turn()
    scene.wheel.turn(_PATIENCE_S)


async def test_nothing_is_written_once_the_connection_is_lost() -> None:
    """At the end of the turn, or when the patience ends: there is nowhere to write to."""
    scene = Scene()
    (one, ones), (two, twos), (three, threes) = scene.open(), scene.open(), scene.open()
    one.send(_packet("message"))
    two.send_soon(_packet("tick"))
    three.send(_packet("goes on"))
    for websocket, transport in ((one, ones), (two, twos)):
        transport.abort()
        websocket.connection_lost(None)
    await _turn()
    scene.wheel.turn(_PATIENCE_S)
    assert (ones.writes, twos.writes) == ([], [])
    assert threes.writes == [_frames("goes on")]


# --- a phone that does not read -----------------------------------------------------------------------------


async def test_what_waited_when_the_phone_ceased_to_read_goes_before_what_was_kept_meanwhile() -> None:
    """It is on its way; what follows waits in the outbox."""
    scene = Scene()
    websocket, transport = scene.open()
    taker = Outboxed(websocket)
    websocket.begin(taker, b"")
    websocket.send_soon(_packet("tick"))
    websocket.pause_writing()
    taker.kept.append(_packet("kept"))
    assert not websocket.is_writable
    websocket.resume_writing()
    await _turn()
    assert transport.writes == [_frames("tick", "kept")]


class Outboxed:
    """A connection that keeps packets for its WebSocket."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self.kept: list[Packet] = []

    def flush(self) -> None:
        """It takes more again."""
        while self.kept:
            self._websocket.send(self.kept.pop(0))

    def take(self, text: str) -> None:
        """Nothing comes."""

    def take_binary(self, data: bytes) -> None:
        """Nothing comes."""

    def waste(self) -> None:
        """Pings are few."""

    def break_off(self) -> None:
        """Nothing is malformed."""

    def carrier_lost(self) -> None:
        """Nothing is lost."""
