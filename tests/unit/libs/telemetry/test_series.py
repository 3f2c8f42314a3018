"""Series of our own are read as prometheus_client's are, and count as exactly."""

from hypothesis import given
from hypothesis import strategies as some
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as TheirHistogram

from libs.telemetry.series import Histogram, Totals

_BOUNDS = (0.01, 0.1, 1.0)


@given(some.lists(some.floats(min_value=0, max_value=10, allow_nan=False)))
def test_a_histogram_counts_as_prometheus_clients_does(values: list[float]) -> None:
    """Every bucket, the sum, the count; a value on a bound belongs to it."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine = Histogram("way_seconds", "How long.", _BOUNDS, ours, label="station", values=("read",))
    other = TheirHistogram("way_seconds", "How long.", ["station"], buckets=_BOUNDS, registry=theirs)
    for value in values:
        mine.of("read").observe(value)
        other.labels("read").observe(value)
    other.labels("read")
    samples = [
        {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for metric in each.collect()
            for sample in metric.samples
            if not sample.name.endswith("_created")
        }
        for each in (ours, theirs)
    ]
    assert samples[0] == samples[1]


def test_a_histogram_without_a_label_is_there_before_anything_is_observed() -> None:
    """So that a rate can be had from the first on."""
    registry = CollectorRegistry()
    Histogram("way_seconds", "How long.", _BOUNDS, registry)
    assert registry.get_sample_value("way_seconds_bucket", {"le": "+Inf"}) == 0


def test_totals_are_what_somebody_else_counts() -> None:
    """By label, or as one."""
    registry = CollectorRegistry()
    by_kind = Totals("frames_total", "Frames.", "kind", registry)
    alone = Totals("errors_total", "Errors.", None, registry)
    by_kind.set_function(lambda: {"send": 3, "confirm": 4})
    alone.set_function(lambda: {"": 5})
    assert registry.get_sample_value("frames_total", {"kind": "send"}) == 3
    assert registry.get_sample_value("frames_total", {"kind": "confirm"}) == 4
    assert registry.get_sample_value("errors_total") == 5
