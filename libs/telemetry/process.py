"""The catalogue of the series that every process has: what it uses, and what it asks of the broker."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector

from libs.broker import Broker
from libs.telemetry.logs import ErrorCount
from libs.telemetry.series import Histogram, Totals

_BUCKETS: Final = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class ProcessMetrics:
    """CPU, memory and files under the names that all exporters give them (`process_…`), and the broker's side."""

    def __init__(self, registry: CollectorRegistry) -> None:
        ProcessCollector(registry=registry)
        self.errors = Totals(
            "talowa_log_errors_total", "Lines at error level in this process' log: mistakes of ours.", None, registry
        )
        self.redis_commands = Totals("talowa_redis_commands_total", "Commands sent to the broker.", "command", registry)
        self.redis_scripts = Totals(
            "talowa_redis_scripts_total", "Of these, scripts (EVALSHA), by their file.", "script", registry
        )
        self.redis_errors = Totals(
            "talowa_redis_errors_total",
            "Commands refused or not answered, by kind; of NoScriptError and MovedError we mend each at once.",
            "error",
            registry,
        )
        self.redis_s = Histogram(
            "talowa_redis_seconds",
            "Round trips to the broker, of one command or many; reads that wait for something are left out.",
            _BUCKETS,
            registry,
        )

    def watch(self, errors: ErrorCount, brokers: Sequence[Broker]) -> None:
        """Count what these do."""
        usages = [broker.usage for broker in brokers]
        self.errors.set_function(lambda: {"": errors.lines})
        self.redis_commands.set_function(lambda: sum((usage.commands for usage in usages), Counter()))
        self.redis_scripts.set_function(lambda: sum((usage.scripts for usage in usages), Counter()))
        self.redis_errors.set_function(lambda: sum((usage.errors for usage in usages), Counter()))
        for broker in brokers:
            broker.usage.timed(self.redis_s.of().observe)
