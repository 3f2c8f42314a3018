"""Frames come out as they went in, however the network cut them."""

from hypothesis import given
from hypothesis import strategies as st

from loadtests.websocket import CLOSE, PING, TEXT, masked, split, upgrade

# Lengths around those at which a frame's head grows, and any other.
_LENGTHS = st.one_of(st.integers(0, 300), st.sampled_from([125, 126, 127, 65_535, 65_536, 70_000]))
_FRAMES = st.lists(st.tuples(st.sampled_from([TEXT, CLOSE, PING]), _LENGTHS), max_size=8)


def _from_server(kind: int, payload: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        return bytes((kind, length)) + payload
    if length < 1 << 16:
        return bytes((kind, 126)) + length.to_bytes(2) + payload
    return bytes((kind, 127)) + length.to_bytes(8) + payload


@given(_FRAMES, st.data())
def test_frames_survive_any_chunking(frames: list[tuple[int, int]], data: st.DataObject) -> None:
    """Whatever a read brings, whole frames come out once, in order, and what is left waits for the next read."""
    sent = [(kind, bytes((number % 251,)) * length) for number, (kind, length) in enumerate(frames)]
    stream = b"".join(_from_server(kind, payload) for kind, payload in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    found: list[tuple[int, bytes]] = []
    rest = b""
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        frames_of_read, rest = split(rest + stream[start:stop])
        found += frames_of_read
    assert found == sent
    assert rest == b""


@given(st.binary(max_size=300) | st.sampled_from([b"x" * 65_535, b"x" * 65_536]))
def test_a_masked_frame_carries_its_payload_as_it_is(payload: bytes) -> None:
    """The mask is zero: length, four zeros, payload."""
    frame = masked(payload)
    assert frame[0] == TEXT
    assert frame[1] & 0x80
    head = {126: 4, 127: 10}.get(frame[1] & 0x7F, 2)
    length = frame[1] & 0x7F if head == 2 else int.from_bytes(frame[2:head])
    assert length == len(payload)
    assert frame[head : head + 4] == bytes(4)
    assert frame[head + 4 :] == payload


def test_an_upgrade_names_where_it_goes() -> None:
    """The request is whole, and has the host."""
    request = upgrade("127.0.0.1:3001")
    assert request.endswith(b"\r\n\r\n")
    assert b"\r\nhost: 127.0.0.1:3001\r\n" in request
