"""One bounded outbox per socket: what waits for a phone that reads slowly, or for its next poll.

Full means the phone has not read for a long while: `Overflow` is raised, the socket is closed so that it
comes back, and what it missed is still due. A socket that keeps up has none.
"""

from collections import deque
from typing import Final

from services.gateway.engine.packets import Packet

# What a packet costs beside its text: the object, its place in the queue.
_PACKET_BYTES: Final = 64


class Overflow(Exception):
    """The bound on waiting bytes is reached; the packet was not taken."""


class Outbox:
    """A queue of packets, bounded by bytes."""

    __slots__ = ("_ahead", "_max_bytes", "_waiting", "waiting_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._waiting: deque[Packet] = deque()
        self.waiting_bytes = 0
        # How many at the head nothing overtakes.
        self._ahead = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put_nowait(self, packet: Packet) -> None:
        """Take a packet. Raises `Overflow`."""
        self._count(packet)
        self._waiting.append(packet)

    def put_first_nowait(self, packet: Packet) -> None:
        """Take a packet ahead of all but what was put first before it and what waited at `set_barrier`."""
        self._count(packet)
        self._waiting.insert(self._ahead, packet)
        self._ahead += 1

    def put_last_nowait(self, packet: Packet) -> None:
        """Take the farewell, which always fits."""
        self._waiting.append(packet)
        self.waiting_bytes += _size(packet)

    def set_barrier(self) -> None:
        """Nothing overtakes what waits now: how a connection begins."""
        self._ahead = len(self._waiting)

    def get_nowait(self) -> Packet:
        """The next packet. Raises `IndexError` when there is none."""
        packet = self._waiting.popleft()
        self.waiting_bytes -= _size(packet)
        self._ahead = max(0, self._ahead - 1)
        return packet

    def clear(self) -> None:
        """What waits is not sent."""
        self._waiting.clear()
        self.waiting_bytes = self._ahead = 0

    def _count(self, packet: Packet) -> None:
        size = _size(packet)
        if self.waiting_bytes + size > self._max_bytes:
            raise Overflow
        self.waiting_bytes += size


def _size(packet: Packet) -> int:
    return _PACKET_BYTES + len(packet.body)
