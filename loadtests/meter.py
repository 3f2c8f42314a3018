"""CPU of a cluster's processes while something is done, by role, with what they use when idle taken off."""

import asyncio
import time
from collections.abc import Awaitable
from statistics import mean, median
from typing import Final, TypeVar

from loadtests.processes import by_role, cpu_s
from services.local.cluster import Cluster

_IDLE_S: Final = 5
_ODD_S: Final = 0.01
Done = TypeVar("Done")


class Meter:
    """What a cluster uses, and what of it is idling. A process that dies meanwhile is left out."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.idle_per_s: dict[str, float] = {}

    async def rest(self) -> None:
        """Measure what it uses with nothing to do, a second at a time.

        A second that stands out is left aside: it is garbage of the work before, collected late, and no idling.
        """
        seconds = []
        before = cpu_s(self.cluster)
        for _ in range(_IDLE_S):
            await asyncio.sleep(1)
            after = cpu_s(self.cluster)
            seconds.append(self._used(before, after))
            before = after
        usual = median(sum(each.values()) for each in seconds)
        kept = [each for each in seconds if sum(each.values()) <= 2 * usual + _ODD_S]
        self.idle_per_s = {role: mean(each[role] for each in kept) for role in seconds[0]}

    async def during(self, work: Awaitable[Done]) -> tuple[Done, dict[str, float]]:
        """What came of some work, and the CPU seconds, by role, that it took beyond idling."""
        before, began = cpu_s(self.cluster), time.perf_counter()
        done = await work
        took_s, used = time.perf_counter() - began, self._used(before, cpu_s(self.cluster))
        return done, {role: seconds - self.idle_per_s.get(role, 0.0) * took_s for role, seconds in used.items()}

    def _used(self, before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
        return by_role(self.cluster, {name: after[name] - before[name] for name in after if name in before})
