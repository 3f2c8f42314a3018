"""What this router says of itself, for operators' `GET /status`."""

import os
import time

from libs.figures import RouterFigures
from libs.telemetry import vitals
from libs.telemetry.logs import ErrorCount
from services.router.metrics import RouterMetrics


class OwnFigures:
    """Takes the figures from where they are kept anyway."""

    def __init__(self, router: str, metrics: RouterMetrics, errors: ErrorCount) -> None:
        self._router = router
        self._metrics = metrics
        self._errors = errors
        self._messages = vitals.Rate()

    def __call__(self) -> RouterFigures:
        """As they are now."""
        taken = vitals.total(self._metrics.messages, "sent", "queued")
        return RouterFigures(
            id=self._router,
            pid=os.getpid(),
            uptime_seconds=vitals.uptime_s(),
            memory_bytes=vitals.memory_bytes(),
            errors=self._errors.lines,
            partitions=int(vitals.total(self._metrics.partitions_owned)),
            messages_per_second=self._messages.per_second(taken, time.monotonic()),
            parked_frames=int(vitals.total(self._metrics.parked)),
            store_away=vitals.total(self._metrics.store_away) > 0,
            unaccounted=int(vitals.total(self._metrics.unaccounted)),
            in_flight=int(vitals.total(self._metrics.in_flight)),
            refusals=int(vitals.total(self._metrics.refusals)),
        )
