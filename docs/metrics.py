"""The page `docs/metrics.md`: every series of every service, as its `metrics.py` declares it. `make docs` writes it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from libs.telemetry import series
from libs.telemetry.process import ProcessMetrics
from services.gateway.metrics import GatewayMetrics
from services.presence.metrics import PresenceMetrics
from services.router.metrics import RouterMetrics

PAGE: Final = Path(__file__).with_name("metrics.md")

_EVERYWHERE: Final = "Every process"
_SERVICES: Final = {"A gateway": GatewayMetrics, "A router": RouterMetrics, "Presence": PresenceMetrics}
_HEAD: Final = """# Metrics

Made by `python -m docs.metrics` from each service's `metrics.py`. Times are in seconds, sizes in bytes; what only rises
ends in `_total` and counts since its process started. Labels are bounded: no user, socket, conversation or message is
one. Prometheus adds `job` (`gateway`, `router`, `presence`) and `instance`, one for each process.

[dashboards.md](dashboards.md) shows them, [alerts.yml](alerts.yml) calls somebody, and
[life-of-a-message.md](life-of-a-message.md#where-its-time-goes) says which series times which station.
"""


class Series(Struct, frozen=True):
    """One row. `name` is that of a counter or gauge, and what those of a histogram begin with."""

    name: str
    kind: str
    labels: tuple[str, ...]
    documentation: str

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """What an expression may name, each with its labels."""
        if self.kind != "histogram":
            return {self.name: self.labels}
        return {
            f"{self.name}_bucket": (*self.labels, "le"),
            f"{self.name}_sum": self.labels,
            f"{self.name}_count": self.labels,
        }


def catalogue() -> dict[str, list[Series]]:
    """The series by who exports them."""
    registry = CollectorRegistry()
    found = {_EVERYWHERE: [*_of_processes(), *_declared(vars(ProcessMetrics(registry)).values())]}
    for heading, metrics in _SERVICES.items():
        found[heading] = list(_declared(vars(metrics(CollectorRegistry())).values()))
    return found


def names() -> dict[str, tuple[str, ...]]:
    """Everything that an expression may name, with its labels."""
    rows = (row for rows in catalogue().values() for row in rows)
    return {name: labels for row in rows for name, labels in row.names.items()}


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for heading, rows in catalogue().items():
        parts.append(f"\n## {heading}\n\n| series | kind | labels | |\n|---|---|---|---|\n")
        for row in rows:
            labels = ", ".join(f"`{label}`" for label in row.labels)
            parts.append(f"| `{row.name}` | {row.kind} | {labels} | {row.documentation} |\n")
    return "".join(parts)


def _declared(values: Iterable[object]) -> Iterable[Series]:
    for value in values:
        match value:
            case MetricWrapperBase():
                (told,) = value.describe()
                total = "_total" if told.type == "counter" else ""
                labels: tuple[str, ...] = tuple(value._labelnames)  # noqa: SLF001 - it has no other name
                yield Series(told.name + total, told.type, labels, told.documentation)
            case series.Histogram():
                yield Series(value.name, "histogram", value.labels, value.documentation)
            case series.Totals():
                yield Series(value.name, "counter", value.labels, value.documentation)


def _of_processes() -> Iterable[Series]:
    """Those that prometheus_client has for every process; it exports them where the system tells."""
    kinds = {
        "process_cpu_seconds_total": ("counter", "User and system CPU."),
        "process_resident_memory_bytes": ("gauge", "Memory that it has now."),
        "process_virtual_memory_bytes": ("gauge", "Addresses that it has taken."),
        "process_open_fds": ("gauge", "Files and sockets that it has open."),
        "process_max_fds": ("gauge", "As many as it may open."),
        "process_start_time_seconds": ("gauge", "When it started, in seconds since 1970."),
    }
    for name, (kind, documentation) in kinds.items():
        yield Series(name, kind, (), documentation)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
