"""Frames to bytes and back: MessagePack, many frames to a stream entry.

Encoders and decoders are built once. An entry that cannot be read raises `Unreadable`; readers count
it and go on, for a frame of a newer version must not stop an older reader.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from libs.wire.frames import Downlink, Inbound, Section

# Beside what is no frame: text that is no UTF-8, and what is nested without end.
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _RawSection(msgspec.Struct, array_like=True, frozen=True):
    """A `Section` whose frames have not been looked at."""

    partition: int
    token: int
    frames: list[msgspec.Raw]


_encoder: Final = msgspec.msgpack.Encoder()
_frame_list: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])
_inbound: Final = msgspec.msgpack.Decoder(list[Inbound])
_one_inbound: Final = msgspec.msgpack.Decoder(Inbound)
_one_downlink: Final = msgspec.msgpack.Decoder(Downlink)
_sections: Final = msgspec.msgpack.Decoder(list[Section])
_raw_sections: Final = msgspec.msgpack.Decoder(list[_RawSection])


class Unreadable(ValueError):
    """Bytes that are no frames of this version."""


def pack_inbound(frames: Sequence[Inbound]) -> bytes:
    """One entry of an inbound stream."""
    return _encoder.encode(frames)


def unpack_inbound(entry: bytes) -> tuple[list[Inbound], int]:
    """The frames of an entry, and how many in it could not be read (they are left out)."""
    try:
        return _inbound.decode(entry), 0
    except _UNREADABLE:
        return _unpack_one_by_one(entry)


def pack_downlink(sections: Sequence[Section]) -> bytes:
    """One entry of a downlink stream."""
    return _encoder.encode(sections)


def unpack_downlink(entry: bytes) -> list[Section]:
    """The sections of an entry. Raises `Unreadable`."""
    try:
        return _sections.decode(entry)
    except _UNREADABLE as error:
        raise Unreadable(str(error)) from error


def unpack_downlink_by_frame(entry: bytes) -> tuple[list[Section], int]:
    """The sections of an entry that has something unreadable in it, and how many frames are left out."""
    try:
        raw = _raw_sections.decode(entry)
    except _UNREADABLE:
        return [], 1
    sections: list[Section] = []
    unreadable = 0
    for section in raw:
        frames: list[Downlink] = []
        for item in section.frames:
            try:
                frames.append(_one_downlink.decode(item))
            except _UNREADABLE:
                unreadable += 1
        sections.append(Section(section.partition, section.token, tuple(frames)))
    return sections, unreadable


def pack_frame(frame: Inbound | Downlink) -> bytes:
    """One frame by itself, to be sealed."""
    return _encoder.encode(frame)


def unpack_inbound_frame(packed: bytes) -> Inbound:
    """One inbound frame by itself. Raises `Unreadable`."""
    try:
        frame: Inbound = _one_inbound.decode(packed)
    except _UNREADABLE as error:
        raise Unreadable(str(error)) from error
    return frame


def unpack_downlink_frame(packed: bytes) -> Downlink:
    """One downlink frame by itself. Raises `Unreadable`."""
    try:
        frame: Downlink = _one_downlink.decode(packed)
    except _UNREADABLE as error:
        raise Unreadable(str(error)) from error
    return frame


def _unpack_one_by_one(entry: bytes) -> tuple[list[Inbound], int]:
    try:
        raw = _frame_list.decode(entry)
    except _UNREADABLE:
        return [], 1
    frames: list[Inbound] = []
    unreadable = 0
    for item in raw:
        try:
            frames.append(_one_inbound.decode(item))
        except _UNREADABLE:
            unreadable += 1
    return frames, unreadable


__all__ = [
    "Downlink",
    "Unreadable",
    "pack_downlink",
    "pack_frame",
    "pack_inbound",
    "unpack_downlink",
    "unpack_downlink_by_frame",
    "unpack_downlink_frame",
    "unpack_inbound",
    "unpack_inbound_frame",
]
