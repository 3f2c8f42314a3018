"""Series that prometheus_client has no cheap kind for. Both are written by one thread, and read by it.

Its `Histogram` takes a lock for each bucket that it passes, two to five microseconds an observation: too much for what
each message and each acknowledgement does (`tests/bench/test_series.py`).
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Spread:
    """How many observations came to at most each bound, and their sum."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count it."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class Histogram(Collector):
    """A histogram for each value of one label, or a single one. Its values are all known from the beginning."""

    def __init__(
        self,
        name: str,
        documentation: str,
        buckets: Sequence[float],
        registry: CollectorRegistry,
        *,
        label: str | None = None,
        values: Iterable[str] = ("",),
    ) -> None:
        self.name = name
        self.documentation = documentation
        self.names = [*map(floatToGoString, buckets), "+Inf"]
        self.labels = () if label is None else (label,)
        self._spreads = {value: Spread(tuple(buckets)) for value in values}
        registry.register(self)

    def of(self, value: str = "") -> Spread:
        """What counts for this value of the label."""
        return self._spreads[value]

    def collect(self) -> Iterable[Metric]:
        """For the registry."""
        family = HistogramMetricFamily(self.name, self.documentation, labels=self.labels)
        for value, spread in self._spreads.items():
            counts = zip(self.names, accumulate(spread.counts), strict=True)
            family.add_metric([value] if self.labels else [], list(counts), spread.total)
        yield family


class Totals(Collector):
    """Counts that somebody else keeps, by one label or none. `name` ends in `_total`."""

    def __init__(self, name: str, documentation: str, label: str | None, registry: CollectorRegistry) -> None:
        self.name = name
        self.documentation = documentation
        self.labels = () if label is None else (label,)
        self._read: Callable[[], Mapping[str, float]] = dict
        registry.register(self)

    def set_function(self, read: Callable[[], Mapping[str, float]]) -> None:
        """Where they are read: a count by each value of the label, or by "" where there is none."""
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """For the registry."""
        family = CounterMetricFamily(self.name, self.documentation, labels=self.labels)
        for value, count in sorted(self._read().items()):
            family.add_metric([value] if self.labels else [], count)
        yield family
