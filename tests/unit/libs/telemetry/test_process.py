"""What a process asks of the broker is counted by command, by script, by error, and timed."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from redis.exceptions import ResponseError

from libs import keys
from libs.broker import AWAY, connect
from libs.directory import Directory
from libs.telemetry.logs import ErrorCount
from libs.telemetry.process import ProcessMetrics
from tests.support.broker import live_broker


async def test_commands_scripts_errors_and_round_trips_are_counted(tmp_path: Path) -> None:
    """Each command of a batch; a batch is one round trip; a read that waits is a command and no round trip."""
    registry = CollectorRegistry()
    series = ProcessMetrics(registry)
    async with (
        live_broker(tmp_path) as server,
        connect(server.url) as broker,
        connect(server.url, blocking_s=1) as reader,
    ):
        errors = ErrorCount()
        errors(None, "", {"level": "error"})
        series.watch(errors, (broker, reader))
        await broker.batch([("SET", "a", 1), ("SET", "b", 2), ("GET", "a")])
        with pytest.raises(ResponseError):
            await broker.command("INCR", keys.positions(), "one too many")
        await broker.script(Directory(broker).beat("g1"))
        await reader.command("XREAD", "BLOCK", 1, "STREAMS", "s", "$")
        assert (await broker.each("INFO", "memory"))[""]["used_memory"] > 0
        took = registry.get_sample_value("talowa_redis_seconds_count")
        server.kill()
        with pytest.raises(AWAY):
            await broker.command("PING")

    def count(series: str, **labels: str) -> float:
        return registry.get_sample_value(series, labels) or 0

    assert count("talowa_redis_commands_total", command="SET") == 2
    assert count("talowa_redis_commands_total", command="XREAD") == 1
    assert count("talowa_redis_scripts_total", script="beat.lua") == 1
    # The script was not known at first: it was loaded, and called once more.
    assert count("talowa_redis_commands_total", command="EVALSHA") == 2
    assert took == 6
    assert count("talowa_redis_errors_total", error="NoScriptError") == 1
    assert count("talowa_redis_errors_total", error="ResponseError") == 1
    assert count("talowa_redis_errors_total", error="ConnectionError") == 1
    assert count("talowa_log_errors_total") == 1
