"""Entries of several streams with one blocking read.

Reading takes nothing away: what was read is there until its reader trims it. So a reader that was
paused and wakes up, its lease long gone, steals nothing from the one that took over.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from libs.broker import Broker
from libs.streams.producer import FIELD

BEGINNING: Final = "0-0"
# The last number that an entry of one millisecond can have.
_LAST: Final = (1 << 64) - 1


class Entry(NamedTuple):
    """One entry: its id, and its packed frames (None for an entry that only keeps the stream in being)."""

    id: str
    frames: bytes | None


async def read(reader: Broker, positions: Mapping[str, str], *, count: int, block_ms: int) -> dict[str, list[Entry]]:
    """New entries of each stream after its position; empty after `block_ms` without any. Raises `AWAY`.

    A cluster refuses one read over several slots: there, the streams of each hash tag have a blocking read of their
    own.
    """
    if reader.is_cluster:
        slots: dict[str, dict[str, str]] = {}
        for stream, position in positions.items():
            slots.setdefault(_tag(stream), {})[stream] = position
        replies = await asyncio.gather(*(_read(reader, of_slot, count, block_ms) for of_slot in slots.values()))
        return {stream: entries for reply in replies for stream, entries in reply.items()}
    return await _read(reader, positions, count, block_ms)


def after(entry_id: str) -> str:
    """The smallest id greater than `entry_id`: what XTRIM MINID takes to drop all up to it."""
    ms, _, number = entry_id.partition("-")
    return f"{ms}-{int(number) + 1}"


def before(entry_id: str) -> str:
    """The greatest id smaller than `entry_id`: what comes after it begins there."""
    ms, number = parts(entry_id)
    return f"{ms}-{number - 1}" if number else f"{ms - 1}-{_LAST}" if ms else BEGINNING


def is_up_to(entry_id: str, last: str) -> bool:
    """Whether `entry_id` is not newer than `last`."""
    return parts(entry_id) <= parts(last)


def _tag(stream: str) -> str:
    return stream.partition("{")[2].partition("}")[0]


def parts(entry_id: str) -> tuple[int, int]:
    """An entry id as its entries are sorted."""
    ms, _, number = entry_id.partition("-")
    return int(ms), int(number)


async def _read(reader: Broker, positions: Mapping[str, str], count: int, block_ms: int) -> dict[str, list[Entry]]:
    reply: Any = await reader.command(
        "XREAD", "COUNT", count, "BLOCK", block_ms, "STREAMS", *positions.keys(), *positions.values()
    )
    if not reply:
        return {}
    streams = reply.items() if isinstance(reply, dict) else reply
    return {
        _text(stream): [Entry(_text(entry_id), _frames(fields)) for entry_id, fields in _flat(entries)]
        for stream, entries in streams
    }


def _flat(entries: Any) -> Any:
    """RESP3 wraps the entries of a stream in one list more."""
    return entries[0] if entries and isinstance(entries[0], list) else entries


def _frames(fields: Any) -> bytes | None:
    return fields.get(FIELD) if isinstance(fields, dict) else None


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
