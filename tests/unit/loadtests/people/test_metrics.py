"""What locust counts comes out as Prometheus takes it."""

from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry

from loadtests.people.metrics import SERIES, LocustMetrics


def test_people_requests_failures_and_times_are_told() -> None:
    """By what was done and to whom; times in seconds, in buckets."""
    entry = SimpleNamespace(
        method="send",
        name="direct",
        num_requests=4,
        num_failures=1,
        response_times={3: 1, 40: 2, 70_000: 1},
        total_response_time=70_083.0,
    )
    environment: Any = SimpleNamespace(
        runner=SimpleNamespace(user_count=7), stats=SimpleNamespace(entries={("direct", "send"): entry})
    )
    registry = CollectorRegistry()
    registry.register(LocustMetrics(environment))
    told = {sample.name: sample for metric in registry.collect() for sample in metric.samples}
    assert told.keys() == SERIES.keys()
    assert all({*sample.labels} == {*SERIES[name]} for name, sample in told.items())
    of_direct = {"type": "send", "name": "direct"}
    assert registry.get_sample_value("locust_users") == 7
    assert registry.get_sample_value("locust_requests_total", of_direct) == 4
    assert registry.get_sample_value("locust_failures_total", of_direct) == 1
    within = [
        registry.get_sample_value("locust_response_seconds_bucket", of_direct | {"le": bound})
        for bound in ("0.005", "0.025", "0.05", "60", "+Inf")
    ]
    assert within == [1, 1, 3, 3, 4]
    assert registry.get_sample_value("locust_response_seconds_sum", of_direct) == 70.083
