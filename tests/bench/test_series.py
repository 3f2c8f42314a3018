"""What it costs to observe something: our histogram, and prometheus_client's."""

from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as TheirHistogram
from pytest_benchmark.fixture import BenchmarkFixture

from libs.telemetry.series import Histogram

_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30)


def test_an_observation_of_ours(benchmark: BenchmarkFixture) -> None:
    """Of each message three times, of each acknowledgement once."""
    benchmark(Histogram("a_seconds", "A.", _BOUNDS, CollectorRegistry()).of().observe, 0.07)


def test_an_observation_of_theirs(benchmark: BenchmarkFixture) -> None:
    """Of what happens once a batch."""
    benchmark(TheirHistogram("a_seconds", "A.", buckets=_BOUNDS, registry=CollectorRegistry()).observe, 0.07)
