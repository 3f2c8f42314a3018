"""What locust counts, for Prometheus: with `--metrics-port` the master serves it while a test runs.

As locust has it: by what was done (`send`, `deliver`, …) and to whom (`direct`, `group of 50`, …). It keeps two digits
of each time, which is finer than the buckets here.
"""

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from locust.env import Environment  # locust changes the process that imports it: only its own is to be

_BOUNDS_MS: Final = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000)
_BOUNDS: Final = [*(f"{bound / 1000:g}" for bound in _BOUNDS_MS), "+Inf"]
_LABELS: Final = ("type", "name")
# By their names, the labels: what an expression may say of them.
SERIES: Final[dict[str, tuple[str, ...]]] = {
    "locust_users": (),
    "locust_requests_total": _LABELS,
    "locust_failures_total": _LABELS,
    "locust_response_seconds_bucket": (*_LABELS, "le"),
    "locust_response_seconds_count": _LABELS,
    "locust_response_seconds_sum": _LABELS,
}


class LocustMetrics(Collector):
    """Reads locust's statistics when it is asked."""

    def __init__(self, environment: "Environment") -> None:
        self._environment = environment

    def collect(self) -> Iterable[Metric]:
        """For the registry."""
        runner = self._environment.runner
        users = GaugeMetricFamily("locust_users", "People that are played.")
        users.add_metric([], 0 if runner is None else runner.user_count)
        requests = CounterMetricFamily("locust_requests_total", "What was done.", labels=_LABELS)
        failures = CounterMetricFamily("locust_failures_total", "What of it failed.", labels=_LABELS)
        times = HistogramMetricFamily("locust_response_seconds", "How long it took.", labels=_LABELS)
        for entry in list(self._environment.stats.entries.values()):
            labels = [entry.method, entry.name]
            requests.add_metric(labels, entry.num_requests)
            failures.add_metric(labels, entry.num_failures)
            counts = [0] * len(_BOUNDS)
            for took_ms, count in list(entry.response_times.items()):
                counts[bisect_left(_BOUNDS_MS, took_ms)] += count
            buckets = list(zip(_BOUNDS, accumulate(counts), strict=True))
            times.add_metric(labels, buckets, entry.total_response_time / 1000)
        yield from (users, requests, failures, times)
