"""What this gateway says of itself, for `GET /status`."""

import os
import time
from collections.abc import Callable

from libs.figures import GatewayFigures
from libs.telemetry import vitals
from libs.telemetry.logs import ErrorCount
from services.gateway.drain import Drain
from services.gateway.metrics import GatewayMetrics
from services.gateway.sessions import Sessions
from services.gateway.sockets import Server


class OwnFigures:
    """Takes the figures from where they are kept anyway."""

    def __init__(
        self,
        gateway: str,
        server: Server,
        sessions: Sessions,
        drain: Drain,
        metrics: GatewayMetrics,
        errors: ErrorCount,
        relay_address: Callable[[], str],
    ) -> None:
        self._gateway = gateway
        self._server = server
        self._sessions = sessions
        self._drain = drain
        self._metrics = metrics
        self._errors = errors
        self._relay_address = relay_address
        self._in = vitals.Rate()
        self._out = vitals.Rate()

    def __call__(self) -> GatewayFigures:
        """As they are now."""
        now_s, metrics = time.monotonic(), self._metrics
        sent = vitals.total(metrics.events, "send_message")
        return GatewayFigures(
            id=self._gateway,
            pid=os.getpid(),
            uptime_seconds=vitals.uptime_s(),
            memory_bytes=vitals.memory_bytes(),
            errors=self._errors.lines,
            connections=len(self._server.sockets),
            authenticated=len(self._sessions),
            users=len(self._sessions.users),
            messages_in_per_second=self._in.per_second(sent, now_s),
            messages_out_per_second=self._out.per_second(vitals.total(metrics.messages_sent), now_s),
            refusals=int(vitals.total(metrics.refusals)),
            sign_ins_refused=int(vitals.total(metrics.sign_ins) - vitals.total(metrics.sign_ins, "ok")),
            state=self._drain.state.value,
            relay_address=self._relay_address(),
        )
