"""The composition root of presence: read top to bottom."""

import asyncio
import os
import secrets

import structlog
from prometheus_client import CollectorRegistry

from libs import broker, lifecycle, settings
from libs.directory import Directory
from libs.figures import PresenceFigures, Reporter
from libs.telemetry import health, logs, vitals
from services.presence.metrics import PresenceMetrics
from services.presence.reaper import Reaper
from services.presence.settings import PresenceSettings

log = structlog.get_logger(__name__)


async def main(stop: asyncio.Event) -> None:
    """Run presence until `stop` is set."""
    s = settings.load(PresenceSettings)
    presence = f"{s.presence_id}-{secrets.token_hex(4)}"
    errors = logs.configure("presence", presence, s.log_level)
    registry = CollectorRegistry()
    metrics = PresenceMetrics(registry)
    async with broker.connect(s.redis_url) as commands:
        await broker.wait_until_usable(commands, stop)
        reaper = Reaper(commands, Directory(commands), metrics, downlink_max_entries=s.downlink_max_entries)
        reporter = Reporter(commands, presence, lambda: own_figures(presence, errors))
        internal = health.internal_app(registry, {"broker": lambda: reaper.problem})
        async with (
            health.serve(internal, s.internal_host, s.internal_port, "INTERNAL_PORT") as port,
            asyncio.TaskGroup() as tasks,
        ):
            log.info("started", internal_port=port)
            running = [tasks.create_task(work) for work in (reaper.run(), reporter.run())]
            await stop.wait()
            await lifecycle.cancel(running)
            await reporter.forget()
        log.info("stopped")


def own_figures(presence: str, errors: logs.ErrorCount) -> PresenceFigures:
    """What this copy says of itself, for operators' `GET /status`."""
    return PresenceFigures(
        id=presence,
        pid=os.getpid(),
        uptime_seconds=vitals.uptime_s(),
        memory_bytes=vitals.memory_bytes(),
        errors=errors.lines,
    )
