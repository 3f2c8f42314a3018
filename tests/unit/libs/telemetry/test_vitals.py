"""Rates over the last minute, totals of series, memory as it is now."""

import time

import pytest
from prometheus_client import CollectorRegistry, Counter

from libs.telemetry import vitals
from libs.telemetry.logs import ErrorCount


def test_a_rate_is_of_the_last_minute() -> None:
    """What was before does not count; at first there is less than a minute."""
    rate, began = vitals.Rate(), time.monotonic()
    assert rate.per_second(50, began + 10) == pytest.approx(5, rel=0.01)
    for second in range(12, 200, 2):
        last = rate.per_second(50 + (second - 10), began + second)
    assert last == pytest.approx(1, rel=0.05)
    for second in range(200, 270, 2):
        last = rate.per_second(238, began + second)
    assert last == 0


def test_a_total_is_over_labels_or_of_some() -> None:
    """When a series was made is no part of it."""
    counter = Counter("talowa_test", "A test.", ["outcome"], registry=CollectorRegistry())
    counter.labels("sent").inc(3)
    counter.labels("refused").inc(2)
    assert vitals.total(counter) == 5
    assert vitals.total(counter, "sent", "queued") == 3
    assert vitals.total(counter, "queued") == 0


def test_memory_and_uptime_are_believable() -> None:
    """More than an interpreter needs, less than the machine has."""
    assert 1 << 20 < vitals.memory_bytes() < 1 << 36
    assert vitals.uptime_s() >= 0


def test_lines_at_error_level_are_counted() -> None:
    """Others pass."""
    errors = ErrorCount()
    for level in ("info", "error", "warning", "critical"):
        assert errors(None, level, {"level": level}) == {"level": level}
    assert errors.lines == 2
