"""When a person writes: at random moments, and as often as was asked for, whatever else takes time.

The load is open: who waits for an answer does not write less. A turn that comes too late does not shift those after
it, unless the person is `_PATIENCE_S` behind: then what was missed is given up, for nobody types a minute's messages
in a second.
"""

import random
from typing import Final

_PATIENCE_S: Final = 5.0


class Pace:
    """The turns of one person who writes `per_s` times a second in the long run."""

    def __init__(self, per_s: float, now: float, luck: random.Random) -> None:
        self._per_s = per_s
        self._luck = luck
        self._due = now

    def wait_s(self, now: float) -> float:
        """How long until the next turn. Asked once before each turn."""
        self._due = max(self._due, now - _PATIENCE_S) + self._luck.expovariate(self._per_s)
        return max(0.0, self._due - now)


def per_writer(rate: float, people: int, writing: float) -> float:
    """Messages a second of one who writes, when `people`, of whom the part `writing` writes, make `rate` together."""
    return rate / max(1.0, people * writing)
