"""What stands still: looks at things that have work to do, and says which have not moved for three periods. Pure.

A task that dies ends its process; one that hangs says nothing. What hangs takes no steps, so each look notes how many
steps were taken. A look that comes late (the process was paused, the machine is slow) or cannot be made (the broker is
away) proves nothing against anybody: three periods begin anew.
"""

from collections.abc import Hashable, Mapping
from typing import Final

from msgspec import Struct

PERIODS: Final = 3
# A look this many periods after the last one is late.
_LATE: Final = 2


class Sight(Struct, frozen=True):
    """One look at something that has work to do: `mark` is another one with every step it takes.

    `allowed_s` is how much longer than the periods a step may take.
    """

    mark: Hashable
    allowed_s: float = 0.0


class Deafness:
    """Compares looks that are made every `period_s`."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._looked_at = 0.0
        # Since when each shows the mark it shows.
        self._since: dict[str, tuple[Hashable, float]] = {}

    def look(self, now_s: float, sights: Mapping[str, Sight]) -> list[str]:
        """Those that have stood still for too long, by a monotonic clock. What has nothing to do is in no sight."""
        if now_s > self._looked_at + _LATE * self._period_s:
            self.forget()
        self._looked_at = now_s
        before, self._since = self._since, {}
        still: list[str] = []
        for name, sight in sights.items():
            mark, since_s = before.get(name, (sight.mark, now_s))
            if mark != sight.mark:
                since_s = now_s
            self._since[name] = (sight.mark, since_s)
            if now_s >= since_s + PERIODS * self._period_s + sight.allowed_s:
                still.append(name)
        return still

    def forget(self) -> None:
        """Nothing was seen."""
        self._since.clear()
