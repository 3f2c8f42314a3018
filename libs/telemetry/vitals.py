"""What a process can say of itself whatever it does: memory, uptime, rates, the totals of its own series."""

import resource
import time
from collections import deque
from pathlib import Path
from typing import Final

from prometheus_client import Counter, Gauge

_STATM: Final = Path("/proc/self/statm")
_WINDOW_S: Final = 60.0
_STARTED: Final = time.monotonic()


class Rate:
    """How often something happens, over the last minute (at first, since the beginning)."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque([(time.monotonic(), 0.0)])

    def per_second(self, total: float, now_s: float) -> float:
        """Note how often it has happened so far, by the monotonic clock; gives how often a second."""
        self._seen.append((now_s, total))
        while self._seen[1][0] <= now_s - _WINDOW_S:
            self._seen.popleft()
        since_s, before = self._seen[0]
        return round((total - before) / (now_s - since_s), 2) if now_s > since_s else 0.0


def total(series: Counter | Gauge, *values: str) -> float:
    """The sum of a series over its labels, or over those samples that have one of `values` as a label."""
    samples = (sample for metric in series.collect() for sample in metric.samples)
    return sum(
        sample.value
        for sample in samples
        if not sample.name.endswith("_created") and (not values or not {*values}.isdisjoint(sample.labels.values()))
    )


def uptime_s() -> int:
    """For how many seconds this process has run."""
    return round(time.monotonic() - _STARTED)


def memory_bytes() -> int:
    """What this process has in memory now; the most it ever had, where the system does not say."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
