"""Frames survive the way over Redis, and what cannot be read harms nothing beside it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.wire import codec
from libs.wire.events import Draft
from libs.wire.frames import (
    Answer,
    Canary,
    CanaryReply,
    Confirm,
    Due,
    DuePage,
    DuePosition,
    Emit,
    History,
    Join,
    Origin,
    Profile,
    SealedFrame,
    SealedReply,
    Section,
    Send,
    Sender,
    SignedIn,
    SignIn,
)

_SIZES = st.integers(min_value=0, max_value=1 << 53)
_TEXTS = st.text(max_size=20)
_ORIGINS = st.builds(Origin, _TEXTS, _TEXTS, st.none() | _SIZES, st.booleans())
_DRAFTS = st.builds(
    Draft,
    *[_TEXTS] * 5,
    st.none() | _TEXTS,
    st.none() | st.binary(max_size=20),
    _TEXTS,
    st.booleans(),
    st.none() | _SIZES,
    st.none() | _TEXTS,
)
_POSITIONS = st.builds(DuePosition, _SIZES, _SIZES, _TEXTS, _SIZES)
_CURSORS = st.none() | st.dictionaries(_TEXTS, _SIZES, max_size=3)
_SEQS = st.lists(_SIZES, max_size=4).map(tuple)
INBOUND = st.one_of(
    st.builds(SignIn, _ORIGINS, _TEXTS, st.none() | _TEXTS, _SIZES),
    st.builds(Send, _ORIGINS, st.builds(Sender, _TEXTS, _TEXTS, _TEXTS), _DRAFTS, _SIZES, _TEXTS),
    st.builds(Confirm, _ORIGINS, _TEXTS, _TEXTS, _SEQS, _SIZES, st.none() | _TEXTS, st.booleans(), _SIZES),
    st.builds(Due, _ORIGINS, _TEXTS, st.none() | _POSITIONS, _CURSORS, st.none() | _SIZES),
    st.builds(History, _ORIGINS, _TEXTS, _TEXTS, _SIZES, st.none() | _SIZES, st.none() | _SIZES, st.none() | _TEXTS),
    st.builds(Join, _ORIGINS, _TEXTS, _TEXTS, _TEXTS, st.none() | _TEXTS),
    st.builds(SealedFrame, _ORIGINS, st.binary(max_size=40)),
    st.builds(Canary, _ORIGINS, _SIZES),
)
_BODIES = st.binary(max_size=40)
_DOWNLINK = st.one_of(
    st.builds(SignedIn, _TEXTS, _TEXTS, st.none() | st.builds(Profile, _TEXTS, _TEXTS, _TEXTS), st.none() | _TEXTS),
    st.builds(Answer, _TEXTS, st.none() | _SIZES, _BODIES, st.lists(st.tuples(_TEXTS, _BODIES), max_size=2).map(tuple)),
    st.builds(
        Emit,
        st.lists(_TEXTS, max_size=3).map(tuple),
        _TEXTS,
        _BODIES,
        _TEXTS,
        _SIZES,
        st.none() | _TEXTS,
        _SIZES,
        _TEXTS,
    ),
    st.builds(
        DuePage, _TEXTS, _BODIES, st.lists(st.tuples(_TEXTS, _SEQS), max_size=2).map(tuple), st.none() | _POSITIONS
    ),
    st.builds(SealedReply, _BODIES),
    st.builds(CanaryReply, _SIZES, _SIZES),
)
SECTIONS = st.builds(Section, _SIZES, _SIZES, st.lists(_DOWNLINK, max_size=4).map(tuple))


@given(st.lists(INBOUND, max_size=5))
def test_inbound_frames_come_out_as_they_went_in(frames: list[Any]) -> None:
    """All of them, in order."""
    assert codec.unpack_inbound(codec.pack_inbound(frames)) == (frames, 0)


@given(st.lists(SECTIONS, max_size=4))
def test_downlink_sections_come_out_as_they_went_in(sections: list[Section]) -> None:
    """All of them, in order, bodies untouched."""
    assert codec.unpack_downlink(codec.pack_downlink(sections)) == sections


@given(st.lists(INBOUND, max_size=3), st.lists(INBOUND, max_size=3), st.sampled_from([["unheard-of", 1], 5, "x", None]))
def test_a_frame_of_a_newer_version_is_left_out_alone(before: list[Any], after: list[Any], strange: Any) -> None:
    """An older reader counts it and goes on with the rest."""
    entry = msgspec.msgpack.encode([*before, strange, *after])
    assert codec.unpack_inbound(entry) == ([*before, *after], 1)


@given(st.lists(SECTIONS, min_size=1, max_size=3), st.data())
def test_a_downlink_frame_of_a_newer_version_is_left_out_alone(sections: list[Section], data: st.DataObject) -> None:
    """An older gateway hands on what stands beside it, of all sections, under their tokens."""
    raw = msgspec.msgpack.decode(codec.pack_downlink(sections))
    for section in raw:
        section[2].insert(data.draw(st.integers(0, len(section[2]))), ["unheard-of", 1])
        section.append("a newer field")
    entry = msgspec.msgpack.encode(raw)
    with pytest.raises(codec.Unreadable):
        codec.unpack_downlink(entry)
    assert codec.unpack_downlink_by_frame(entry) == (sections, len(sections))


@given(INBOUND)
def test_a_frame_with_a_newer_field_is_read(frame: Any) -> None:
    """Readers ship before writers: a field they do not know is ignored."""
    longer = [*msgspec.msgpack.decode(msgspec.msgpack.encode(frame)), "a newer field"]
    read, unreadable = codec.unpack_inbound(msgspec.msgpack.encode([longer]))
    assert (read, unreadable) == ([frame], 0) or len(longer) < 1 + len(frame.__struct_fields__) + 1


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_counted(entry: bytes) -> None:
    """Nothing on a stream can stop its reader."""
    frames, unreadable = codec.unpack_inbound(entry)
    assert frames or unreadable or msgspec.msgpack.decode(entry) == []
    sections, unreadable = codec.unpack_downlink_by_frame(entry)
    assert sections or unreadable or msgspec.msgpack.decode(entry) == []
    try:
        codec.unpack_downlink(entry)
    except codec.Unreadable:
        return


@pytest.mark.parametrize("entry", [b"\x91" * 5000, b"\x91\x92\xa4send\xa1\xff"])
def test_what_is_nested_without_end_or_no_text_is_counted_like_all_else(entry: bytes) -> None:
    """It stops no reader."""
    assert codec.unpack_inbound(entry) == ([], 1)
    assert codec.unpack_downlink_by_frame(entry) == ([], 1)
    with pytest.raises(codec.Unreadable):
        codec.unpack_downlink(entry)
    with pytest.raises(codec.Unreadable):
        codec.unpack_inbound_frame(entry)
    with pytest.raises(codec.Unreadable):
        codec.unpack_downlink_frame(entry)


def test_a_downlink_entry_that_cannot_be_read_says_so() -> None:
    """With the one exception that its reader counts."""
    with pytest.raises(codec.Unreadable):
        codec.unpack_downlink(b"\xc1")


@given(INBOUND, _DOWNLINK)
def test_a_frame_by_itself_comes_out_as_it_went_in(inbound: Any, downlink: Any) -> None:
    """As it does to be sealed; what is no frame says so."""
    assert codec.unpack_inbound_frame(codec.pack_frame(inbound)) == inbound
    assert codec.unpack_downlink_frame(codec.pack_frame(downlink)) == downlink
    for unpack in (codec.unpack_inbound_frame, codec.unpack_downlink_frame):
        with pytest.raises(codec.Unreadable):
            unpack(b"\xc1")
