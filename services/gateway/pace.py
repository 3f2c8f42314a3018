"""How fast one socket may send: so many frames a second, and a burst now and then.

Two numbers a socket, and none for one that sends nothing. Who goes on when refused is closed in the end; who pauses is
forgiven.
"""

import math
import time
from typing import Final, Protocol

from libs.wire.codes import Code, Refusal

# Acknowledgements answer what we sent: a page of messages may bring a thousand at once.
_ACKS_TO_A_FRAME: Final = 10
# Refused so many times its burst without a pause, a socket is closed.
_REFUSALS_TO_A_BURST: Final = 10


class Pace:
    """What one socket has used. `full_at`: when its burst will be whole again, in seconds of the monotonic clock."""

    __slots__ = ("acks_full_at", "full_at", "refusals")

    def __init__(self) -> None:
        self.full_at = 0.0
        self.acks_full_at = 0.0
        self.refusals = 0


class Paced(Protocol):
    """A socket, as far as its pace goes."""

    pace: Pace | None

    def close_for_breach(self) -> None:
        """Close as for a breach of the protocol."""
        ...


class Paces:
    """Holds sockets to `per_second` frames and `burst` at once; 0 a second: any number."""

    def __init__(self, per_second: int, burst: int) -> None:
        self._per_second = per_second
        self._burst = burst

    def frame(self, socket: Paced) -> None:
        """Count a frame. Raises `Refusal` with `rate_limited`."""
        if not self._per_second:
            return
        now, pace = time.monotonic(), _of(socket)
        if pace.full_at <= now:
            pace.full_at, pace.refusals = now, 0
        over_s = pace.full_at + 1 / self._per_second - now - self._burst / self._per_second
        if over_s > 0:
            self._refused(socket, pace)
            raise Refusal(Code.RATE_LIMITED, retry_after_ms=math.ceil(over_s * 1000))
        pace.full_at += 1 / self._per_second

    def acknowledgement(self, socket: Paced) -> bool:
        """Count an acknowledgement; False for one too many, which is not taken: what it confirms stays due."""
        if not self._per_second:
            return True
        now, pace = time.monotonic(), _of(socket)
        pace.acks_full_at = max(pace.acks_full_at, now)
        if pace.acks_full_at - now > self._burst / self._per_second:
            self._refused(socket, pace)
            return False
        pace.acks_full_at += 1 / (self._per_second * _ACKS_TO_A_FRAME)
        return True

    def _refused(self, socket: Paced, pace: Pace) -> None:
        pace.refusals += 1
        if pace.refusals > self._burst * _REFUSALS_TO_A_BURST:
            socket.close_for_breach()


def _of(socket: Paced) -> Pace:
    if socket.pace is None:
        socket.pace = Pace()
    return socket.pace
