"""When waiting for company pays: under load a stage takes what came in a while, and when it is quiet, at once.

What decides is an estimate of the rate, not one look: a stage that lingers on the sight of four in one read alternates
between large and small reads. Of a few at once it costs the last a moment of waiting.
"""

import math
import time
from typing import Final

# Fewer than this many to a batch are not worth anybody's waiting.
_WORTH: Final = 4.0
# However long the linger: what comes one at a time, each after the answer to the last, would only be slowed down.
_WORTH_WITHIN_S: Final = 0.05
# The memory of the estimate: lingering begins a tenth of a second into a load, and ends half a second after it.
_MEMORY_S: Final = 0.2


class Pace:
    """How fast things come, and how long to wait for more of them."""

    def __init__(self, linger_s: float) -> None:
        self._linger_s = linger_s
        self._rate = 0.0
        self._noted_at = self._began_at = -math.inf

    @property
    def is_busy(self) -> bool:
        """Whether so much comes that a batch is worth waiting for."""
        expected = self._rate_at(time.monotonic()) * min(self._linger_s, _WORTH_WITHIN_S)
        return self._linger_s > 0 and expected >= _WORTH

    def note(self, count: int) -> None:
        """So many came."""
        now = time.monotonic()
        self._rate = self._rate_at(now) + count / _MEMORY_S
        self._noted_at = now

    def pause_s(self) -> float:
        """How long to wait before the next batch begins, so that under load one begins each `linger_s`."""
        now = time.monotonic()
        if not self.is_busy:
            self._began_at = now
            return 0.0
        pause_s = max(0.0, self._began_at + self._linger_s - now)
        self._began_at = now + pause_s
        return pause_s

    def _rate_at(self, now: float) -> float:
        """A second, by what came lately."""
        return self._rate * math.exp((self._noted_at - now) / _MEMORY_S)
