"""One bounded outbox per socket: what waits for a phone that reads slowly.

Full means the phone has not read for a long while: `Overflow` is raised, the socket is closed so that it
comes back, and what it missed is still due.
"""

import asyncio
from collections import deque
from typing import Final, Protocol

# What a packet costs beside its text: the object, its place in the queue.
_PACKET_BYTES: Final = 64


class Overflow(Exception):
    """The bound on waiting bytes is reached; the packet was not taken."""


class Packet(Protocol):
    """What waits: an Engine.IO packet."""

    data: object

    def encode(self) -> str | bytes:
        """As it goes on the socket."""
        ...


class Outbox(asyncio.Queue[Packet | None]):
    """A queue of packets, bounded by bytes; None marks its end and always fits."""

    _queue: deque[Packet | None]

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._max_bytes = max_bytes
        self.waiting_bytes = 0
        # How many at the head nothing overtakes.
        self._ahead = 0
        self._is_first = False

    def put_first_nowait(self, item: Packet) -> None:
        """Take a packet ahead of all but what was put first before it and what waited at `set_barrier`."""
        self._is_first = True
        try:
            self.put_nowait(item)
        finally:
            self._is_first = False

    def set_barrier(self) -> None:
        """Nothing overtakes what waits now: how a connection begins."""
        self._ahead = self.qsize()

    def _put(self, item: Packet | None) -> None:
        size = _size(item)
        if self.waiting_bytes + size > self._max_bytes and item is not None:
            raise Overflow
        self.waiting_bytes += size
        if self._is_first:
            self._queue.insert(self._ahead, item)
            self._ahead += 1
        else:
            super()._put(item)

    def _get(self) -> Packet | None:
        item: Packet | None = super()._get()
        self.waiting_bytes -= _size(item)
        self._ahead = max(0, self._ahead - 1)
        return item


def _size(item: Packet | None) -> int:
    if item is None:
        return 0
    return _PACKET_BYTES + (len(item.data) if isinstance(item.data, str | bytes) else 0)
