"""`docs/metrics.md` is the catalogue, and the catalogue keeps to its rules."""

import re
from typing import Final

import pytest
from prometheus_client import CollectorRegistry

from docs import metrics
from docs.metrics import Series
from libs.telemetry.process import ProcessMetrics

_ROWS: Final = [row for rows in metrics.catalogue().values() for row in rows]
# What would have as many values as there are people, sockets or messages.
_UNBOUNDED: Final = {"user", "user_id", "socket", "session", "conversation", "message", "address", "group", "token"}
# Values in another unit than seconds and bytes say so: these count things.
_OTHER_UNITS: Final = re.compile(r"_(ms|millis|minutes|hours|kb|mb|kib|mib|percent)(_|$)")


def test_the_page_is_what_the_services_declare() -> None:
    """After a change of a series: `make docs`."""
    assert metrics.PAGE.read_text(encoding="utf-8") == metrics.page()


@pytest.mark.parametrize("row", _ROWS, ids=lambda row: row.name)
def test_a_series_keeps_to_the_rules(row: Series) -> None:
    """Its name says its unit, what only rises ends in `_total`, its labels are bounded, and it has its sentence."""
    assert re.fullmatch(r"(talowa|process)_[a-z_]+", row.name)
    assert not _OTHER_UNITS.search(row.name)
    assert (row.kind == "counter") == row.name.endswith("_total")
    assert _UNBOUNDED.isdisjoint(row.labels)
    assert row.documentation.endswith(".")


def test_a_name_is_declared_once() -> None:
    """A series means the same wherever it is exported."""
    assert len({row.name for row in _ROWS}) == len(_ROWS)


def test_what_every_process_exports_is_in_the_catalogue() -> None:
    """As the registry tells it."""
    registry = CollectorRegistry()
    ProcessMetrics(registry)
    exported = {sample.name for metric in registry.collect() for sample in metric.samples}
    assert {name for name in exported if name.startswith("process_")} <= metrics.names().keys()
