"""Entries of several streams with one blocking read.

Reading takes nothing away: what was read is there until its reader trims it. So a reader that was
paused and wakes up, its lease long gone, steals nothing from the one that took over.

A read may ask who holds each stream, right behind it and of the same server. While one primary replaces another
a process may have connections to both, and a lease at the one says nothing of streams at the other.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from libs.broker import AWAY, Broker, Call, Script, type_of_command
from libs.streams.producer import FIELD

_trim: Final = Script("libs.streams", "trim.lua")

BEGINNING: Final = "0-0"
NOT_HELD: Final[Mapping[str, tuple[str, str]]] = {}
# The last number that an entry of one millisecond can have.
_LAST: Final = (1 << 64) - 1


class Entry(NamedTuple):
    """One entry: its id, and its packed frames (None for an entry that only keeps the stream in being)."""

    id: str
    frames: bytes | None


_Found = dict[str, list[Entry]] | Exception


async def read(reader: Broker, positions: Mapping[str, str], *, count: int, block_ms: int) -> dict[str, list[Entry]]:
    """New entries of each stream after its position; empty after `block_ms` without any. Raises `AWAY`.

    A cluster refuses one read over several slots: there, the streams of each hash tag have a blocking read of their
    own, and all are waited for (`reading` does not).
    """
    if reader.is_cluster:
        reads = (_read(reader, of_tag, count, block_ms) for of_tag in _by_tag(positions).values())
        return {stream: entries for found in await asyncio.gather(*reads) for stream, entries in found.items()}
    return await _read(reader, positions, count, block_ms)


class Reads:
    """Reads one after another. Made by `reading`."""

    def __init__(self, reader: Broker, tasks: asyncio.TaskGroup) -> None:
        self._reader = reader
        self._tasks = tasks
        # In a cluster: by hash tag, the read that waits there, and from where.
        self.waiting: dict[str, tuple[Mapping[str, str], asyncio.Task[_Found]]] = {}
        self._under = 0

    async def read(
        self,
        positions: Mapping[str, str],
        *,
        count: int,
        block_ms: int,
        under: int = 0,
        held: Mapping[str, tuple[str, str]] = NOT_HELD,
    ) -> dict[str, list[Entry]]:
        """As `read`; in a cluster, what one hash tag brings is given at once, and the reads of the others go on.

        What was asked `under` other terms (leases that were lost since) is dropped. `held` gives each stream a key and
        what that holds while the stream is ours. Where it holds something else, the stream has an empty list.
        """
        if not self._reader.is_cluster:
            return await _read(self._reader, positions, count, block_ms, held)
        tags = _by_tag(positions)
        if under != self._under:
            self._under = under
            self.stop()
        for tag, of_tag in tags.items():
            if tag in self.waiting and self.waiting[tag][0] != of_tag:
                self.waiting.pop(tag)[1].cancel()
            if tag not in self.waiting:
                self.waiting[tag] = of_tag, self._tasks.create_task(self._settled(of_tag, count, block_ms, held))
        asked = [self.waiting[tag][1] for tag in tags]
        await asyncio.wait(asked, timeout=block_ms / 1000, return_when=asyncio.FIRST_COMPLETED)
        done = [self.waiting.pop(tag)[1].result() for tag in tags if self.waiting[tag][1].done()]
        found: dict[str, list[Entry]] = {}
        for result in done:
            if isinstance(result, Exception):
                self.stop()  # the others may have failed too, or will
                raise result
            found |= result
        return found

    def stop(self) -> None:
        """Give up what waits: nobody is to be told of it later."""
        for _, task in self.waiting.values():
            task.cancel()
        self.waiting.clear()

    async def _settled(
        self, positions: Mapping[str, str], count: int, block_ms: int, held: Mapping[str, tuple[str, str]]
    ) -> "_Found":
        try:
            return await _read(self._reader, positions, count, block_ms, held)
        except AWAY as error:
            return error  # whoever reads next is told


@asynccontextmanager
async def reading(reader: Broker) -> AsyncIterator[Reads]:
    """Reads, some of which go on while what others brought is worked on. They end with the block."""
    async with asyncio.TaskGroup() as tasks:
        reads = Reads(reader, tasks)
        try:
            yield reads
        finally:
            reads.stop()


def trim(positions: Mapping[str, str]) -> Call:
    """The script that takes what was read off streams of one hash tag.

    Gives for each 1, 0 if it is gone, or -1 if it never came so far: it is another server's, and to be read anew.
    """
    return _trim.call(list(positions), *positions.values())


def at_ns(entry_id: str) -> int:
    """When an entry was written, by the broker's clock, in nanoseconds since 1970."""
    return parts(entry_id)[0] * 1_000_000


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


def _by_tag(positions: Mapping[str, str]) -> dict[str, dict[str, str]]:
    tags: dict[str, dict[str, str]] = {}
    for stream, position in positions.items():
        tags.setdefault(stream.partition("{")[2].partition("}")[0], {})[stream] = position
    return tags


def parts(entry_id: str) -> tuple[int, int]:
    """An entry id as its entries are sorted."""
    ms, _, number = entry_id.partition("-")
    return int(ms), int(number)


async def _read(
    reader: Broker,
    positions: Mapping[str, str],
    count: int,
    block_ms: int,
    held: Mapping[str, tuple[str, str]] = NOT_HELD,
) -> dict[str, list[Entry]]:
    commands: list[type_of_command] = [
        ("XREAD", "COUNT", count, "BLOCK", block_ms, "STREAMS", *positions.keys(), *positions.values())
    ]
    asked = [stream for stream in positions if stream in held]
    if asked:
        commands.append(("MGET", *(held[stream][0] for stream in asked)))
    replies = await reader.batch(commands)
    for failed in (reply for reply in replies if isinstance(reply, Exception)):
        raise failed
    reply: Any = replies[0]
    if not reply:
        return {}
    streams = reply.items() if isinstance(reply, dict) else reply
    found = {
        _text(stream): [Entry(_text(entry_id), _frames(fields)) for entry_id, fields in _flat(entries)]
        for stream, entries in streams
    }
    holders = dict(zip(asked, replies[1], strict=True)) if asked else {}
    for stream in found.keys() & holders.keys():
        if holders[stream] is None or _text(holders[stream]) != held[stream][1]:
            found[stream] = []
    return found


def _flat(entries: Any) -> Any:
    """RESP3 wraps the entries of a stream in one list more."""
    return entries[0] if entries and isinstance(entries[0], list) else entries


def _frames(fields: Any) -> bytes | None:
    return fields.get(FIELD) if isinstance(fields, dict) else None


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
