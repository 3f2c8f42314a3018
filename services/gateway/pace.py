"""How fast one socket may send: so many frames a second, and a burst now and then.

A few numbers a socket, and none for one that sends nothing. Each frame that is refused is told a time of its own: a
phone that sends again all that waited while its gateway stood still would come back with all of it at once, over and
over. Who goes on when refused is closed in the end; who pauses is forgiven.
"""

import time
from typing import Final, Protocol

from libs.wire.codes import Code, Refusal

# Acknowledgements answer what we sent: a page of messages may bring a thousand at once.
_ACKS_TO_A_FRAME: Final = 10
# Refused so many times its burst without a pause, a socket is closed.
_REFUSALS_TO_A_BURST: Final = 10
_S_NS: Final = 1_000_000_000
_MS_NS: Final = 1_000_000


class Pace:
    """What one socket has used: when its bursts will be whole again, in ns of the monotonic clock.

    `promised_at`: the same, once those who were refused have come back at the times they were told.
    """

    __slots__ = ("acks_whole_at", "promised_at", "refusals", "whole_at")

    def __init__(self) -> None:
        self.whole_at = 0
        self.acks_whole_at = 0
        self.promised_at = 0
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
        self._frame_ns = _S_NS // per_second if per_second else 0
        self._burst_ns = self._frame_ns * burst
        self._refusals_max = burst * _REFUSALS_TO_A_BURST

    def frame(self, socket: Paced) -> None:
        """Count a frame. Raises `Refusal` with `rate_limited`, and when to come back.

        Each is told another time, until the time of a burst is given away: then it goes around again, for many may come
        earlier than told, or not at all.
        """
        if not self._frame_ns:
            return
        now, pace = time.monotonic_ns(), _of(socket)
        if pace.whole_at <= now:
            pace.whole_at = pace.promised_at = now
            pace.refusals = pace.refusals if pace.acks_whole_at > now else 0
        if pace.whole_at + self._frame_ns - self._burst_ns > now:
            pace.promised_at = max(pace.promised_at, pace.whole_at) + self._frame_ns
            if pace.promised_at > pace.whole_at + self._burst_ns:
                pace.promised_at = pace.whole_at + self._frame_ns
            self._refused(socket, pace)
            raise Refusal(Code.RATE_LIMITED, retry_after_ms=-(-(pace.promised_at - self._burst_ns - now) // _MS_NS))
        pace.whole_at += self._frame_ns

    def acknowledgement(self, socket: Paced) -> bool:
        """Count an acknowledgement; False for one too many, which is not taken: what it confirms stays due."""
        if not self._frame_ns:
            return True
        now, pace, ack_ns = time.monotonic_ns(), _of(socket), self._frame_ns // _ACKS_TO_A_FRAME
        pace.acks_whole_at = max(pace.acks_whole_at, now)
        if pace.acks_whole_at + ack_ns - self._burst_ns > now:
            self._refused(socket, pace)
            return False
        pace.acks_whole_at += ack_ns
        return True

    def _refused(self, socket: Paced, pace: Pace) -> None:
        pace.refusals += 1
        if pace.refusals > self._refusals_max:
            socket.close_for_breach()


def _of(socket: Paced) -> Pace:
    if socket.pace is None:
        socket.pace = Pace()
    return socket.pace
